package jsondoc

// Obj is a JSON object opened one level deep: its members, raw and in order, for a document of which several members
// are read and changed.
type Obj struct {
	names  []string
	values []Doc
}

// Open reads the members of an object; anything else has none. Of equal names the last counts.
func Open(d Doc) *Obj {
	o := &Obj{}
	d.Each(func(name string, v Doc) bool {
		o.Set(name, v)
		return true
	})
	return o
}

func (o *Obj) index(name string) int {
	for i, n := range o.names {
		if n == name {
			return i
		}
	}
	return -1
}

// Get is the raw value of a member, nil where there is none.
func (o *Obj) Get(name string) Doc {
	if i := o.index(name); i >= 0 {
		return o.values[i]
	}
	return nil
}

// Has says whether the member is there, be it null.
func (o *Obj) Has(name string) bool { return o.index(name) >= 0 }

// Text is the string value of a member, "" where it is absent or no string.
func (o *Obj) Text(name string) string {
	s, _ := o.Get(name).AsText()
	return s
}

// Set replaces or adds a member.
func (o *Obj) Set(name string, v Doc) {
	if len(v) == 0 {
		v = Doc("null")
	}
	if i := o.index(name); i >= 0 {
		o.values[i] = v
		return
	}
	o.names = append(o.names, name)
	o.values = append(o.values, v)
}

// Pop removes a member and gives its value.
func (o *Obj) Pop(name string) Doc {
	i := o.index(name)
	if i < 0 {
		return nil
	}
	v := o.values[i]
	o.names = append(o.names[:i:i], o.names[i+1:]...)
	o.values = append(o.values[:i:i], o.values[i+1:]...)
	return v
}

// Clone is a copy whose members can be changed apart.
func (o *Obj) Clone() *Obj {
	return &Obj{names: append([]string(nil), o.names...), values: append([]Doc(nil), o.values...)}
}

// Len is the number of members.
func (o *Obj) Len() int { return len(o.names) }

// Each calls f for each member in order until it returns false.
func (o *Obj) Each(f func(name string, v Doc) bool) {
	for i, n := range o.names {
		if !f(n, o.values[i]) {
			return
		}
	}
}

// Doc is the object as a document.
func (o *Obj) Doc() Doc {
	n := 2
	for i, name := range o.names {
		n += len(name) + len(o.values[i]) + 6
	}
	b := Builder{buf: make([]byte, 0, n)}
	o.Each(func(name string, v Doc) bool {
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

// List gives the elements of an array, raw.
func (d Doc) List() []Doc {
	var out []Doc
	d.Items(func(_ int, v Doc) bool {
		out = append(out, v)
		return true
	})
	return out
}

// Texts gives the strings among the elements of an array.
func (d Doc) Texts() []string {
	var out []string
	d.Items(func(_ int, v Doc) bool {
		if s, ok := v.AsText(); ok {
			out = append(out, s)
		}
		return true
	})
	return out
}

// Text is a string as a document.
func Text(s string) Doc { return AppendString(nil, s) }
