package web

import "strings"

// place is where in a request a value lies. Places are chained on the stack as the binder goes down; a Loc is made only
// of one that has a problem.
type place struct {
	up    *place
	name  string
	index int // of an element; -1 where name counts
}

func placeNamed(name string) place { return place{name: name, index: -1} }

// placeOf is the place that a Loc says; nil for an empty one.
func placeOf(l Loc) *place {
	var p *place
	for _, step := range l {
		next := &place{up: p, index: -1}
		switch v := step.(type) {
		case string:
			next.name = v
		case int:
			next.index = v
		}
		p = next
	}
	return p
}

func (p *place) member(name string) place { return place{up: p, name: name, index: -1} }

func (p *place) item(i int) place { return place{up: p, index: i} }

// loc is the place in the form that clients see. It copies names, so that the compiler sees that no place outlives the
// binder.
func (p *place) loc() Loc {
	n := 0
	for up := p; up != nil; up = up.up {
		n++
	}
	l := make(Loc, n)
	for ; p != nil; p = p.up {
		n--
		if p.index >= 0 {
			l[n] = p.index
		} else {
			l[n] = strings.Clone(p.name)
		}
	}
	return l
}
