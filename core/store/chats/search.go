package chats

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
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
		where += map[bool]string{true: " AND chat.share_id IS NOT NULL", false: " AND chat.share_id IS NULL"}[*q.Shared]
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
	if s.db.Dialect() == store.Postgres {
		return s.searchSQL(ctx, q)
	}
	where, args := q.where(s.db.Dialect())
	key := fmt.Sprintf("search|%q|%q|%s|%d|%d", where, args, q.Phrase, q.Offset, q.Limit)
	return recall(ctx, s.memo, key, func() ([]Found, int, error) {
		found, err := s.searchTexts(ctx, q, where, args)
		return found, 600 * len(found), err
	})
}

// candidate is a chat that a search looks at.
type candidate struct {
	Head
	size int64
}

// searchTexts looks through the kept texts of chats, newest first, and stops where the page is full. SQL would have to
// read and parse each document anew for every search.
func (s *Store) searchTexts(ctx context.Context, q Query, where string, args []any) ([]Found, error) {
	var hits, partial []Found
	enough := q.Offset + q.Limit
	for chunk, skip := 64, 0; ; chunk, skip = min(chunk*2, 1024), skip+chunk {
		list, err := s.candidates(ctx, where, fmt.Sprintf("chat.updated_at DESC, chat.id LIMIT %d OFFSET %d", chunk, skip), args)
		if err != nil {
			return nil, err
		}
		have, err := s.textsOf(ctx, list, q.Phrase != "")
		if err != nil {
			return nil, err
		}
		for i := range list {
			// a chat deleted in the meantime has no texts
			switch t := have[i]; {
			case t.has(list[i].Title, q.Phrase):
				hits = append(hits, Found{list[i].Head, t.snippet(q.Phrase, q.Terms)})
			case len(q.Terms) > 0 && t.hasAll(list[i].Title, q.Terms):
				partial = append(partial, Found{list[i].Head, t.snippet(q.Phrase, q.Terms)})
			}
		}
		if len(list) < chunk || len(hits) >= enough {
			break
		}
	}
	return window(append(hits, partial...), q.Page), nil
}

func (s *Store) candidates(ctx context.Context, where, order string, args []any) ([]candidate, error) {
	rows, err := s.db.Query(ctx, "SELECT "+headColumns+", "+sizeOf(s.db.Dialect())+" FROM chat WHERE "+where+" ORDER BY "+order, args...)
	return store.Collect(rows, err, func(r *sql.Rows) (c candidate, err error) {
		err = r.Scan(&c.ID, &c.UserID, &c.Title, &c.UpdatedAt, &c.CreatedAt, &c.LastReadAt, &c.Archived, &c.size)
		return c, err
	})
}

func window[T any](list []T, p Page) []T {
	list = list[min(p.Offset, len(list)):]
	if p.Limit > 0 {
		list = list[:min(p.Limit, len(list))]
	}
	return list
}

// textsOf gives the texts of candidates: kept ones that are still those of the chat, and the others read in one query.
func (s *Store) textsOf(ctx context.Context, list []candidate, needed bool) ([]*texts, error) {
	have := make([]*texts, len(list))
	if !needed {
		return have, nil
	}
	var missing []int
	for i := range list {
		if have[i] = s.texts.get(list[i].ID, list[i].UpdatedAt, list[i].size); have[i] == nil {
			missing = append(missing, i)
		}
	}
	// a few megabytes of documents at a time
	for len(missing) > 0 {
		n, size := 0, int64(0)
		for n < len(missing) && (n == 0 || size < 8<<20) && n < 128 {
			size += list[missing[n]].size
			n++
		}
		if err := s.readTexts(ctx, list, have, missing[:n]); err != nil {
			return nil, err
		}
		missing = missing[n:]
	}
	return have, nil
}

func (s *Store) readTexts(ctx context.Context, list []candidate, have []*texts, missing []int) error {
	ids := make([]string, len(missing))
	at := map[string]int{}
	for k, i := range missing {
		ids[k] = list[i].ID
		at[list[i].ID] = i
	}
	in, args := store.In(nil, padded(ids))
	loaded := time.Now().Unix()
	rows, err := s.db.Query(ctx, "SELECT id, COALESCE(updated_at, 0), "+sizeOf(s.db.Dialect())+", chat FROM chat WHERE id IN "+in, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var updated, size int64
		var doc jsondoc.Doc
		if err := rows.Scan(&id, &updated, &size, &doc); err != nil {
			return err
		}
		t := textsIn(doc)
		t.updated, t.size, t.loaded = updated, size, loaded
		have[at[id]] = t
		s.texts.put(id, t)
	}
	return rows.Err()
}

// searchSQL has Postgres look through documents and rows. A document whose strings it cannot read is found by its title.
func (s *Store) searchSQL(ctx context.Context, q Query) ([]Found, error) {
	d := s.db.Dialect()
	where, args := q.where(d)
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
	by := ""
	if q.Phrase != "" {
		exact := matches(q.Phrase)
		where += ` AND chat.chat::text NOT LIKE '%\\u0000%' AND (` + exact
		var all []string
		for _, t := range q.Terms {
			all = append(all, matches(t))
		}
		if len(all) > 0 {
			where += " OR " + strings.Join(all, " AND ")
			by = "CASE WHEN " + exact + " THEN 0 ELSE 1 END, "
		}
		where += ")"
	}
	list, err := s.candidates(ctx, where, by+"chat.updated_at DESC, chat.id"+q.Page.sql(), args)
	if err != nil {
		return nil, err
	}
	have, err := s.textsOf(ctx, list, q.Phrase != "")
	if err != nil {
		return nil, err
	}
	found := make([]Found, len(list))
	for i, c := range list {
		found[i] = Found{c.Head, have[i].snippet(q.Phrase, q.Terms)}
	}
	return found, nil
}
