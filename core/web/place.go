package web

// place is where in a request a value lies. Paths are chained on the stack as the binder goes down; a Loc is made only
// of one that has a problem.
type place struct {
	base  Loc // of the first of a chain
	up    *place
	name  string
	index int // of an element; -1 where name counts
}

func placeOf(base Loc) place { return place{base: base, index: -1} }

func (p *place) member(name string) place { return place{up: p, name: name, index: -1} }

func (p *place) item(i int) place { return place{up: p, index: i} }

// loc is the path in the form that clients see.
func (p *place) loc() Loc {
	n := 0
	first := p
	for ; first.up != nil; first = first.up {
		n++
	}
	l := make(Loc, len(first.base)+n)
	copy(l, first.base)
	for i := len(l) - 1; p.up != nil; p = p.up {
		if p.index >= 0 {
			l[i] = p.index
		} else {
			l[i] = p.name
		}
		i--
	}
	return l
}
