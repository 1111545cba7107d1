package chats

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// Query is a search in a user's chats.
type Query struct {
	UserID      string
	Phrase      string   // in lower case; "" finds all
	Terms       []string // the words of the phrase: chats that have all of them come after those with the phrase
	TagIDs      []string // all of these; "none" alone or among others means no tags at all
	FolderNames []string // as written; the caller turns them into FolderIDs
	FolderIDs   []string // any of these, where FolderNames are given
	Pinned      *bool
	Archived    *bool // nil leaves archived chats out
	Shared      *bool
	Page
}

var (
	searchFilters = []string{"tag:", "folder:", "pinned:", "archived:", "shared:"}
	searchTerm    = regexp.MustCompile(`[a-z0-9]+`)
)

// ParseQuery reads what a user typed: words, and filters such as tag:x, folder:x, pinned:true, archived:false.
func ParseQuery(input string) Query {
	var q Query
	var rest []string
	for _, w := range strings.Fields(strings.ToLower(CleanText(input))) {
		if !slices.ContainsFunc(searchFilters, func(p string) bool { return strings.HasPrefix(w, p) }) {
			rest = append(rest, w)
			continue
		}
		switch {
		case strings.HasPrefix(w, "tag:"):
			q.TagIDs = append(q.TagIDs, strings.ReplaceAll(w, "tag:", ""))
		case strings.HasPrefix(w, "folder:"):
			q.FolderNames = append(q.FolderNames, strings.ReplaceAll(w, "folder:", ""))
		}
		for name, to := range map[string]**bool{"pinned": &q.Pinned, "archived": &q.Archived, "shared": &q.Shared} {
			if w == name+":true" {
				yes := true
				*to = &yes
			} else if no := false; w == name+":false" && (*to == nil || !**to) {
				*to = &no
			}
		}
	}
	q.Phrase = strings.Join(rest, " ")
	for _, t := range searchTerm.FindAllString(q.Phrase, -1) {
		if t != q.Phrase && !slices.Contains(q.Terms, t) {
			q.Terms = append(q.Terms, t)
		}
	}
	return q
}

// Found is a chat that a search has found. Snippet is the place of the message that has the text, nil where only the
// title has it.
type Found struct {
	Head
	Snippet *string
}

// where is the condition on all but the text.
func (q *Query) where(d store.Dialect) (string, []any) {
	args := []any{q.UserID}
	where := "chat.user_id = $1 AND " + listed(d, "chat.meta")
	flag := func(column string, v *bool) {
		if v != nil {
			args = append(args, *v)
			where += fmt.Sprintf(" AND %s = $%d", column, len(args))
		}
	}
	archived, no := q.Archived, false
	if archived == nil {
		archived = &no
	}
	flag("chat.archived", archived)
	flag("chat.pinned", q.Pinned)
	if q.Shared != nil {
		// with the sign SQLite does not take the unique column for one that tells a single chat
		where += map[bool]string{true: " AND chat.share_id IS NOT NULL", false: " AND " + d.Pick("+", "") + "chat.share_id IS NULL"}[*q.Shared]
	}
	if len(q.FolderNames) > 0 {
		var list string
		list, args = store.In(args, padded(q.FolderIDs))
		where += " AND chat.folder_id IN " + list
	}
	if slices.Contains(q.TagIDs, "none") {
		where += " AND NOT EXISTS (SELECT 1 FROM " + tagsOf(d) + ")"
		return where, args
	}
	for _, id := range q.TagIDs {
		args = append(args, id)
		where += " AND " + hasTag(d, fmt.Sprintf("$%d", len(args)))
	}
	return where, args
}

// Search finds a user's chats by their titles and what their messages say. Those with the whole phrase come first, then
// the last changed. The list is shared: it is not to be changed.
func (s *Store) Search(ctx context.Context, q Query) ([]Found, error) {
	where, args := q.where(s.db.Dialect())
	key := fmt.Sprintf("search|%q|%q|%s|%d|%d", where, args, q.Phrase, q.Offset, q.Limit)
	return recall(ctx, s.memo, key, func() ([]Found, int, error) {
		found, err := s.search(ctx, q, where, args)
		return found, 600 * len(found), err
	})
}

// candidate is a chat that a search looks at.
type candidate struct {
	Head
	size  int64 // see sizeOf
	bytes int64 // of the document, about
}

// search looks at chats from the last changed on, and stops where the page is full. Sieves say which chats need not be
// read; of the others SQLite's are read here, as often from the texts that are kept, and Postgres looks itself, because
// only it knows how its LIKE folds the case of letters.
func (s *Store) search(ctx context.Context, q Query, where string, args []any) ([]Found, error) {
	const order = "chat.updated_at DESC, chat.id"
	if q.Phrase == "" {
		list, err := s.candidates(ctx, where, order+q.Page.sql(), args)
		found := make([]Found, len(list))
		for i := range list {
			found[i].Head = list[i].Head
		}
		return found, err
	}
	l := &look{Store: s, Query: q, enough: q.Offset + q.Limit, phrase: newNeedle(q.Phrase)}
	for _, t := range q.Terms {
		l.terms = append(l.terms, newNeedle(t))
	}
	if s.db.Dialect() == store.Postgres {
		var err error
		if l.unfinished, err = s.unfinished(ctx, q.UserID); err != nil {
			return nil, err
		}
		if l.plainly, err = s.plain(ctx); err != nil {
			return nil, err
		}
	}
	for chunk, skip := 128, 0; ; chunk, skip = 2048, skip+chunk {
		list, err := s.candidates(ctx, where, fmt.Sprintf("%s LIMIT %d OFFSET %d", order, chunk, skip), args)
		if err != nil {
			return nil, err
		}
		if err := l.through(ctx, list); err != nil {
			return nil, err
		}
		if len(list) < chunk || l.full() {
			break
		}
	}
	return l.page(), nil
}

func (s *Store) candidates(ctx context.Context, where, order string, args []any) ([]candidate, error) {
	rows, err := s.db.Query(ctx, "SELECT "+headColumns+", "+sizesOf(s.db.Dialect())+" FROM chat WHERE "+where+" ORDER BY "+order, args...)
	return store.Collect(rows, err, func(r *sql.Rows) (c candidate, err error) {
		err = r.Scan(&c.ID, &c.UserID, &c.Title, &c.UpdatedAt, &c.CreatedAt, &c.LastReadAt, &c.Archived, &c.size, &c.bytes)
		return c.sized(), err
	})
}

func window[T any](list []T, p Page) []T {
	list = list[min(p.Offset, len(list)):]
	if p.Limit > 0 {
		list = list[:min(p.Limit, len(list))]
	}
	return list
}

// look is a search on its way.
type look struct {
	*Store
	Query
	enough     int // hits that fill the page and those before it; 0 for any number
	phrase     needle
	terms      []needle
	unfinished map[string]bool // on Postgres
	plainly    bool            // on Postgres, see plain

	hits, partial []match
}

// match is a chat that was found.
type match struct {
	candidate
	snippet *string
}

// full says whether no chat that comes later can be on the page.
func (l *look) full() bool { return l.enough > 0 && len(l.hits) >= l.enough }

// through looks at some candidates.
func (l *look) through(ctx context.Context, list []candidate) error {
	have, err := l.sieves.of(ctx, list)
	if err != nil {
		return err
	}
	// what has no sieve is read, which makes one; a few megabytes of documents at a time
	var part []candidate
	for from := 0; from < len(list) && !l.full(); {
		part = part[:0]
		for room := 32; from < len(list) && room > 0; from++ {
			c := list[from]
			switch {
			case have[from] == nil:
				room -= 2
			case l.may(&c, have[from]):
				room--
			default:
				continue
			}
			room -= int(c.bytes >> 17) // four megabytes fill a part
			part = append(part, c)
		}
		if err := l.check(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// may says whether a chat could be found and would still be on the page.
func (l *look) may(c *candidate, v *sieve) bool {
	if l.unfinished[c.ID] {
		return true
	}
	if v.may(l.phrase) || titleMay(c.Title, l.Phrase) {
		return true
	}
	if len(l.terms) == 0 || l.enough > 0 && len(l.hits)+len(l.partial) >= l.enough {
		return false
	}
	for i, n := range l.terms {
		if !v.may(n) && !titleMay(c.Title, l.Terms[i]) {
			return false
		}
	}
	return true
}

// check looks at chats themselves.
func (l *look) check(ctx context.Context, list []candidate) error {
	if len(list) == 0 {
		return nil
	}
	done, err := l.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	if l.db.Dialect() == store.Postgres {
		return l.settle(ctx, list)
	}
	have, err := l.textsOf(ctx, list)
	if err != nil {
		return err
	}
	for i, c := range list {
		// a chat deleted in the meantime has no texts
		switch t := have[i]; {
		case t.has(c.Title, l.Phrase):
			l.hits = append(l.hits, match{c, t.snippet(l.Phrase, l.Terms)})
		case len(l.terms) > 0 && t.hasAll(c.Title, l.Terms):
			l.partial = append(l.partial, match{c, t.snippet(l.Phrase, l.Terms)})
		}
	}
	return nil
}

// turn waits until few others read documents for a search: it is work for a processor, and more at once would only take
// memory.
func (s *Store) turn(ctx context.Context) (done func(), err error) {
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// textsOf gives the texts of a few candidates: kept ones that are still those of the chat, and the others read in one
// query.
func (s *Store) textsOf(ctx context.Context, list []candidate) ([]*texts, error) {
	have := make([]*texts, len(list))
	var missing []candidate
	var places []int
	for i := range list {
		if have[i] = s.texts.get(list[i].ID, list[i].UpdatedAt, list[i].size); have[i] == nil {
			missing = append(missing, list[i])
			places = append(places, i)
		}
	}
	if len(missing) == 0 {
		return have, nil
	}
	read, err := s.readTexts(ctx, missing)
	for k, t := range read {
		have[places[k]] = t
	}
	return have, err
}

// ask has Postgres look at chats: 1 for those with the phrase, 2 for those with all terms. A document whose
// strings it cannot read is found by its title.
func (l *look) ask(ctx context.Context, list []candidate) (map[string]int, error) {
	if len(list) == 0 {
		return nil, nil
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	d := l.db.Dialect()
	in, args := store.In(nil, padded(ids))
	matches := func(text string) string {
		args = append(args, "%"+text+"%")
		p := fmt.Sprintf("$%d", len(args))
		return `CASE WHEN NOT ` + d.JSONReads("chat.chat") + ` THEN chat.title ILIKE ` + p + ` ELSE (chat.title ILIKE ` + p + ` OR EXISTS (SELECT 1 FROM chat_message m WHERE m.chat_id = chat.id AND m.user_id = chat.user_id
			AND json_typeof(m.content) = 'string' AND LOWER(` + d.JSON("m.content") + ` #>> '{}') LIKE ` + p + `)
			OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_typeof(chat.chat #> '{history,messages}') = 'object' THEN chat.chat #> '{history,messages}' ELSE '{}' END) h
			WHERE json_typeof(h.value -> 'content') = 'string' AND LOWER(h.value ->> 'content') LIKE ` + p + `)
			OR EXISTS (SELECT 1 FROM json_array_elements(CASE WHEN json_typeof(chat.chat -> 'messages') = 'array' THEN chat.chat -> 'messages' ELSE '[]' END) l
			WHERE json_typeof(l -> 'content') = 'string' AND LOWER(l ->> 'content') LIKE ` + p + `)) END`
	}
	found := "CASE WHEN " + matches(l.Phrase) + " THEN 1 "
	if len(l.Terms) > 0 {
		var all []string
		for _, t := range l.Terms {
			all = append(all, matches(t))
		}
		found += "WHEN " + strings.Join(all, " AND ") + " THEN 2 "
	}
	rows, err := l.db.Query(ctx, "SELECT chat.id, "+found+"ELSE 0 END FROM chat WHERE chat.id IN "+in+` AND chat.chat::text NOT LIKE '%\\u0000%'`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	how := map[string]int{}
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		how[id] = n
	}
	return how, rows.Err()
}

// page gives what was found on the page that is asked for.
func (l *look) page() []Found {
	list := window(append(l.hits, l.partial...), l.Page)
	found := make([]Found, len(list))
	for i, m := range list {
		found[i] = Found{m.Head, m.snippet}
	}
	return found
}
