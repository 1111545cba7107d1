package chats

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Match is a chat that a workspace search has found.
type Match struct {
	ID        string
	UserID    string
	Title     string
	UpdatedAt int64
	Pinned    bool
}

// Where is an SQL condition over the table chat.
type Where struct {
	SQL  string
	Args []any
}

// Matching gives the chats of which one of some conditions holds, which exclude one another, and whose title or messages
// contain all terms (in lower case, taken literally): of those, in the order that compare says, the first limit. Internal
// and archived chats are left out.
func (s *Store) Matching(ctx context.Context, where []Where, terms []string, compare func(a, b Match) int, limit int) ([]Match, error) {
	d := s.db.Dialect()
	type row struct {
		Match Match
		candidate
	}
	var list []row
	for _, w := range where {
		rows, err := s.db.Query(ctx, "SELECT chat.id, COALESCE(chat.user_id, ''), COALESCE(chat.title, ''), COALESCE(chat.updated_at, 0), COALESCE(chat.pinned, FALSE), "+
			sizesOf(d)+" FROM chat WHERE ("+w.SQL+") AND chat.archived = FALSE AND "+listed(d, "chat.meta"), w.Args...)
		found, err := store.Collect(rows, err, func(r *sql.Rows) (v row, err error) {
			err = r.Scan(&v.Match.ID, &v.Match.UserID, &v.Match.Title, &v.Match.UpdatedAt, &v.Match.Pinned, &v.size, &v.bytes)
			v.candidate = v.candidate.sized()
			return v, err
		})
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	slices.SortFunc(list, func(a, b row) int { return compare(a.Match, b.Match) })
	needles := make([]needle, len(terms))
	for i, t := range terms {
		needles[i] = literalNeedle(t)
	}
	var out []Match
	for len(list) > 0 && len(out) < limit {
		// as many as are likely to be enough
		n := min(len(list), max(64, 4*limit))
		part := list[:n]
		list = list[n:]
		candidates := make([]candidate, n)
		for i, r := range part {
			candidates[i] = candidate{Head{ID: r.Match.ID, UserID: r.Match.UserID, UpdatedAt: r.Match.UpdatedAt}, r.size, r.bytes}
		}
		var have []*sieve
		if len(terms) > 0 {
			var err error
			if have, err = s.sieves.of(ctx, candidates); err != nil {
				return nil, err
			}
		}
		var look []candidate
		var places []int
		for i, r := range part {
			if len(terms) == 0 || have[i].maySay(r.Match.Title, terms, needles) {
				look, places = append(look, candidates[i]), append(places, i)
			}
		}
		for from, to := 0, 0; from < len(look) && len(out) < limit; from = to {
			for size := int64(0); to < len(look) && to < from+32 && size < 8<<20; to++ {
				size += look[to].bytes
			}
			found, err := s.saying(ctx, look[from:to], func(i int) string { return part[places[from+i]].Match.Title }, terms)
			if err != nil {
				return nil, err
			}
			for _, i := range found {
				out = append(out, part[places[from+i]].Match)
			}
		}
	}
	return out[:min(len(out), limit)], nil
}

// saying gives those of a few candidates whose title or messages have all terms.
func (s *Store) saying(ctx context.Context, list []candidate, title func(i int) string, terms []string) (found []int, err error) {
	have := make([]*texts, len(list))
	if len(terms) > 0 {
		done, err := s.turn(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		if have, err = s.textsOf(ctx, list); err != nil {
			return nil, err
		}
	}
	for i, t := range have {
		if t.says(title(i), terms) {
			found = append(found, i)
		}
	}
	return found, nil
}

// maySay says whether says could be true.
func (v *sieve) maySay(title string, terms []string, needles []needle) bool {
	title = strings.ToLower(title)
	for i, n := range needles {
		if !v.may(n) && !strings.Contains(title, strings.ToLower(terms[i])) {
			return false
		}
	}
	return true
}

// sizeOf tells versions of a document apart: its length, or on Postgres the row's version. The length is read from the
// head of the row, and by a query of its own, so that SQLite may take the other columns from an index.
func sizeOf(d store.Dialect) string {
	return d.Pick("COALESCE((SELECT octet_length(c.chat) FROM chat c WHERE c.rowid = chat.rowid), 0)", "CAST(CAST(chat.xmin AS text) AS bigint)")
}

// sizesOf are sizeOf and, where that is not the length, about the length.
func sizesOf(d store.Dialect) string {
	return sizeOf(d) + d.Pick(", 0", ", COALESCE(pg_column_size(chat.chat), 0)")
}

func (c candidate) sized() candidate {
	if c.bytes == 0 {
		c.bytes = c.size
	}
	return c
}

// says whether the title or the shown messages contain all terms, whatever the case of their letters.
func (t *texts) says(title string, terms []string) bool {
	title = strings.ToLower(title)
	for _, term := range terms {
		term = strings.ToLower(term)
		if strings.Contains(title, term) {
			continue
		}
		if t == nil {
			return false
		}
		if _, _, _, ok := t.find(term); !ok {
			return false
		}
	}
	return true
}

// Says is says for a document that is not kept, such as that of a shared copy.
func Says(d jsondoc.Doc, title string, terms []string) bool {
	if len(terms) == 0 {
		return true
	}
	return textsIn(d).says(title, terms)
}

// Passage is the message that a search shows of a chat: the first that has all terms, or else any, or else the last.
// id is "" where none has a term.
func Passage(d jsondoc.Doc, terms []string) (content, id string) {
	history := member(member(trim(d), "history"), "messages")
	if !history.Truthy() {
		history = member(trim(d), "messages")
	}
	best := 0 // 1: has some term, 2: has all
	values(history, func(m jsondoc.Doc) bool {
		s, ok := text(member(m, "content"))
		if !ok {
			return true
		}
		n := 0
		if len(terms) > 0 {
			lower := strings.ToLower(s)
			for _, t := range terms {
				if strings.Contains(lower, t) {
					n++
				}
			}
		}
		switch {
		case n > 0 && n == len(terms):
			best, content = 2, s
		case n > 0 && best == 0:
			best, content = 1, s
		case best == 0:
			content = s
			return true
		default:
			return true
		}
		id, _ = text(member(m, "id"))
		return best < 2
	})
	if best == 0 {
		id = ""
	}
	return content, id
}

// Docs gives the documents of some chats by id.
func (s *Store) Docs(ctx context.Context, ids []string) (map[string]*Chat, error) {
	out := map[string]*Chat{}
	if len(ids) == 0 {
		return out, nil
	}
	in, args := store.In(nil, padded(ids))
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM chat WHERE id IN "+in, args...)
	list, err := store.Collect(rows, err, scanChat)
	for _, c := range list {
		out[c.ID] = c
	}
	return out, err
}
