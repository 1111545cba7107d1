package chats

import (
	"context"
	"slices"
	"strings"
)

// Postgres folds the case of letters by rules of its own, which depend on how the database was made. Most of the time they
// do not matter: a word of ASCII letters that is there as it is, but for the case of ASCII letters, is there for Postgres
// too, and a word that is not there even in folded form is not. What is left is asked of Postgres.

// answer is what can be said of a word in a chat.
type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// lack says whether some texts are not among the messages.
func (t *texts) lack(list []string) bool {
	if len(list) == 0 {
		return false
	}
	have := make(map[string]bool, len(t.segments))
	for _, s := range t.segments {
		if s.text {
			have[t.all[s.start:s.end]] = true
		}
	}
	return slices.ContainsFunc(list, func(s string) bool { return !have[s] })
}

// certain says whether Postgres finds a word in lower case. plain says that it takes ASCII letters for what they are.
func (t *texts) certain(title, word string, plain bool) answer {
	signs := strings.ContainsAny(word, `%_\`)
	if plain && !signs && isASCII(word) && (strings.Contains(lowerASCII(title), word) || t.hasString(word)) {
		return yes
	}
	if titleMay(title, word) {
		return unknown
	}
	var f, g folder
	f.fold(t.all)
	for _, piece := range pieces(word) {
		if g.fold(piece); !strings.Contains(str(f.out), str(g.out)) {
			return no
		}
	}
	return unknown
}

// hasString looks for a text in the messages that are strings.
func (t *texts) hasString(word string) bool {
	for from := 0; from < len(t.lower); {
		n := strings.Index(t.lower[from:], word)
		if n < 0 {
			return false
		}
		seg := t.segmentAt(from + n)
		if seg.text {
			return true
		}
		from = int(seg.end)
	}
	return false
}

// plain says whether the database folds ASCII letters to ASCII letters, which with Turkish rules it does not.
func (s *Store) plain(ctx context.Context) (bool, error) {
	if v := s.folds.Load(); v != nil {
		return *v, nil
	}
	var plain bool
	if err := s.db.QueryRow(ctx, "SELECT LOWER('ABCDEFGHIJKLMNOPQRSTUVWXYZ') = 'abcdefghijklmnopqrstuvwxyz'").Scan(&plain); err != nil {
		return false, err
	}
	s.folds.Store(&plain)
	return plain, nil
}

// settle looks at chats on Postgres as far as that is certain here, and has it look at the others.
func (l *look) settle(ctx context.Context, list []candidate) error {
	have, err := l.textsOf(ctx, list)
	if err != nil {
		return err
	}
	sieves, err := l.sieves.of(ctx, list)
	if err != nil {
		return err
	}
	how := make([]answer, len(list)) // yes: the phrase
	all := make([]bool, len(list))   // all terms
	var ask []candidate
	for i := range list {
		c, t, v := &list[i], have[i], sieves[i]
		if t == nil { // deleted in the meantime
			how[i] = no
			continue
		}
		if v == nil || v.apart || t.odd || l.unfinished[c.ID] {
			ask = append(ask, *c)
			continue
		}
		if t.nul {
			how[i] = no
			continue
		}
		how[i] = t.certain(c.Title, l.Phrase, l.plainly)
		if how[i] == no && len(l.Terms) > 0 {
			worst := yes
			for _, term := range l.Terms {
				a := t.certain(c.Title, term, l.plainly)
				if a == no {
					worst = no
					break
				}
				if a == unknown {
					worst = unknown
				}
			}
			all[i] = worst == yes
			if worst == unknown {
				how[i] = unknown
			}
		}
		if how[i] == unknown {
			ask = append(ask, *c)
		}
	}
	found, err := l.ask(ctx, ask)
	if err != nil {
		return err
	}
	for i, c := range list {
		switch {
		case how[i] == yes || how[i] == unknown && found[c.ID] == 1:
			l.hits = append(l.hits, match{c, have[i].snippet(l.Phrase, l.Terms)})
		case all[i] || how[i] == unknown && found[c.ID] == 2:
			l.partial = append(l.partial, match{c, have[i].snippet(l.Phrase, l.Terms)})
		}
	}
	return nil
}
