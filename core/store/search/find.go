package search

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
)

// viewer is who searches, as grants see them.
func (r *run) viewer() access.Viewer { return access.Viewer{UserID: r.UserID, GroupIDs: r.GroupIDs} }

// readable is the recursive query of the folders that the user may read.
func (r *run) readable() (string, []any) {
	given, args := r.viewer().Clause([]any{r.UserID}, "folder", "f.id", access.Read)
	return "WITH RECURSIVE readable(id) AS (SELECT f.id FROM folder f WHERE f.user_id = $1 OR " + given +
		" UNION SELECT f.id FROM folder f JOIN readable ON f.parent_id = readable.id) ", args
}

func (r *run) findFolders(ctx context.Context) error {
	with, args := r.readable()
	rows, err := r.db.Query(ctx, with+`SELECT f.id, COALESCE(f.name, ''), COALESCE(f.parent_id, ''), f.user_id,
		EXISTS (SELECT 1 FROM access_grant g WHERE g.resource_type = 'folder' AND g.resource_id = f.id AND g.permission = 'read')
		FROM folder f WHERE f.id IN (SELECT id FROM readable)`, args...)
	r.byID, r.sharedIn, r.inScope = map[string]folder{}, map[string]bool{}, map[string]bool{}
	r.folders, err = store.Collect(rows, err, func(rows *sql.Rows) (f folder, err error) {
		var shared bool
		if err = rows.Scan(&f.id, &f.name, &f.parent, &f.owner, &shared); err == nil {
			r.byID[f.id] = f
			if shared {
				r.sharedIn[f.id] = true
			}
		}
		return f, err
	})
	r.spread(r.sharedIn)
	if root, ok := strings.CutPrefix(r.Scope, "folder:"); ok {
		if _, ok := r.byID[root]; ok {
			r.inScope[root] = true
		}
		r.spread(r.inScope)
	}
	return err
}

// spread adds all folders below those of a set.
func (r *run) spread(set map[string]bool) {
	for again := len(set) > 0; again; {
		again = false
		for _, f := range r.folders {
			if !set[f.id] && set[f.parent] {
				set[f.id], again = true, true
			}
		}
	}
}

func (r *run) findChannels(ctx context.Context) error {
	given, args := r.viewer().Clause([]any{r.UserID}, "channel", "c.id", access.Read)
	rows, err := r.db.Query(ctx, `SELECT c.id, COALESCE(c.name, ''), COALESCE(c.type, '') FROM channel c WHERE c.deleted_at IS NULL AND c.archived_at IS NULL AND (
		COALESCE(c.type, '') IN ('group', 'dm') AND EXISTS (SELECT 1 FROM channel_member m WHERE m.channel_id = c.id AND m.user_id = $1 AND m.is_active = TRUE)
		OR COALESCE(c.type, '') NOT IN ('group', 'dm') AND (c.user_id = $1 OR `+given+"))", args...)
	r.channels, err = store.Collect(rows, err, func(rows *sql.Rows) (c channel, err error) {
		err = rows.Scan(&c.id, &c.name, &c.kind)
		return c, err
	})
	if err != nil {
		return err
	}
	return r.nameDirect(ctx)
}

// nameDirect names direct messages by who takes part besides the user.
func (r *run) nameDirect(ctx context.Context) error {
	var ids []string
	for _, c := range r.channels {
		if c.kind == "dm" && c.name == "" {
			ids = append(ids, c.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	list, args := store.In([]any{r.UserID}, ids)
	names := map[string][]string{}
	rows, err := r.db.Query(ctx, `SELECT m.channel_id, u.name FROM channel_member m JOIN "user" u ON u.id = m.user_id WHERE m.channel_id IN `+list+" AND u.id <> $1 ORDER BY u.name, u.id", args...)
	if _, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		var id, name string
		err = rows.Scan(&id, &name)
		names[id] = append(names[id], name)
		return struct{}{}, err
	}); err != nil {
		return err
	}
	for i := range r.channels {
		c := &r.channels[i]
		if c.kind != "dm" || c.name != "" {
			continue
		}
		if c.name = strings.Join(names[c.id], ", "); c.name == "" {
			c.name = r.UserName
		}
	}
	return nil
}

func (r *run) scopes() (out []Scope) {
	for _, f := range r.folders {
		out = append(out, Scope{"folder:" + f.id, f.name, "folder"})
	}
	for _, c := range r.channels {
		out = append(out, Scope{"channel:" + c.id, c.name, "channel"})
	}
	slices.SortFunc(out, func(a, b Scope) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// sharing narrows to the user's own or to others' rows.
func (r *run) sharing(args []any, column string) (string, []any) {
	switch r.Sharing {
	case "mine":
		args = append(args, r.UserID)
		return fmt.Sprintf(" AND %s = $%d", column, len(args)), args
	case "shared":
		args = append(args, r.UserID)
		return fmt.Sprintf(" AND %s <> $%d", column, len(args)), args
	}
	return "", args
}

func keys(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (r *run) findChats(ctx context.Context) error {
	if err := r.findContinued(ctx); err != nil {
		return err
	}
	// their own and others' apart: one condition for both keeps a database from reading the former from an index alone
	own := chats.Where{SQL: "chat.user_id = $1", Args: []any{r.UserID}}
	others := chats.Where{Args: []any{r.UserID}}
	others.SQL, others.Args = r.reached(others.Args)
	others.SQL = "(" + others.SQL + ") AND COALESCE(chat.user_id, '') <> $1"
	where := []chats.Where{own, others}
	switch r.Sharing {
	case "mine":
		where = where[:1]
	case "shared":
		where = where[1:]
	}
	if r.Scope != "" {
		for i := range where {
			var list string
			list, where[i].Args = store.In(where[i].Args, keys(r.inScope))
			where[i].SQL += " AND chat.folder_id IN " + list
		}
	}
	of := func(c chats.Match) hit {
		return hit{"chat", c.ID, r.rank(c.Title, c.Pinned && c.UserID == r.UserID), c.UpdatedAt}
	}
	list, err := r.chats.Matching(ctx, where, r.terms, func(a, b chats.Match) int { return of(a).compare(of(b)) }, r.most())
	if err != nil {
		return err
	}
	for _, c := range list {
		r.hits = append(r.hits, of(c))
	}
	if r.Scope == "" && r.Sharing != "mine" {
		return r.findCopies(ctx)
	}
	return nil
}

// findContinued finds the chats that were shared with the user to go on with.
func (r *run) findContinued(ctx context.Context) error {
	given, args := r.viewer().NamedClause(nil, chats.ResourceType, "sc.chat_id", access.Read)
	// the mode is not a condition, which would be looked for in the documents of all copies
	rows, err := r.db.Query(ctx, "SELECT sc.chat_id, COALESCE("+r.db.Dialect().JSONText("sc.chat", "share_mode")+", '') FROM shared_chat sc WHERE "+given, args...)
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		var id, mode string
		if err = rows.Scan(&id, &mode); err == nil && mode == "continue" {
			r.continued = append(r.continued, id)
		}
		return struct{}{}, err
	})
	return err
}

// reached is true of chats that the user reads themselves, not as a copy, for another reason than that they are theirs.
func (r *run) reached(args []any) (string, []any) {
	ids := make([]string, len(r.folders))
	for i, f := range r.folders {
		ids[i] = f.id
	}
	in, args := store.In(args, ids)
	also, args := store.In(args, r.continued)
	return "chat.folder_id IN " + in + " OR chat.id IN " + also, args
}

// rank is 0 for the very title, 1 for a part of it; without words pinned ones come first.
func (r *run) rank(title string, pinned bool) int {
	if r.Text == "" {
		if pinned {
			return 0
		}
		return 3
	}
	title, text := strings.ToLower(title), strings.ToLower(r.Text)
	switch {
	case title == text:
		return 0
	case strings.Contains(title, text):
		return 1
	}
	return 3
}

// findCopies looks through the shared copies of chats that the user cannot read themselves.
func (r *run) findCopies(ctx context.Context) error {
	reached, args := r.reached([]any{r.UserID})
	given, args := r.viewer().NamedClause(args, chats.ResourceType, "shared_chat.chat_id", access.Read)
	own := ""
	if r.Sharing == "shared" {
		own = " AND shared_chat.user_id <> $1"
	}
	doc := "NULL"
	if len(r.terms) > 0 {
		doc = "shared_chat.chat"
	}
	rows, err := r.db.Query(ctx, "SELECT shared_chat.id, COALESCE(shared_chat.title, ''), COALESCE(shared_chat.updated_at, 0), "+doc+" FROM shared_chat WHERE "+given+own+
		" AND NOT EXISTS (SELECT 1 FROM chat WHERE chat.id = shared_chat.chat_id AND (chat.user_id = $1 OR "+reached+"))", args...)
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		h := hit{source: "shared"}
		var title string
		var d jsondoc.Doc
		if err = rows.Scan(&h.id, &title, &h.updated, &d); err == nil && chats.Says(d, title, r.terms) {
			h.rank = r.rank(title, false)
			r.hits = append(r.hits, h)
		}
		return struct{}{}, err
	})
	return err
}

// most is how many hits of a source can be on this page or before it, or tell that there is another.
func (r *run) most() int { return r.Page*PageSize + 1 }

func (r *run) limit() string { return fmt.Sprintf(" LIMIT %d", r.most()) }

// like adds a condition for each term.
func (r *run) like(args []any, columns ...string) (where string, _ []any) {
	for _, t := range r.terms {
		args = append(args, pattern(t))
		var any []string
		for _, c := range columns {
			any = append(any, r.db.Dialect().ILike(c, fmt.Sprintf("$%d", len(args))))
		}
		where += " AND (" + strings.Join(any, " OR ") + ")"
	}
	return where, args
}

const noteSeconds = "CAST(COALESCE(n.updated_at, 0) / 1000000000 AS BIGINT)"

func (r *run) findNotes(ctx context.Context) error {
	if r.Scope != "" {
		return nil
	}
	d := r.db.Dialect()
	given, args := r.viewer().Clause([]any{r.UserID}, "note", "n.id", access.Read)
	own, args := r.sharing(args, "n.user_id")
	words, args := r.like(args, "n.title", d.JSONText("n.data", "content.md"))
	rank := "CASE WHEN EXISTS (SELECT 1 FROM pinned_note p WHERE p.note_id = n.id AND p.user_id = $1) THEN 0 ELSE 3 END"
	if r.Text != "" {
		args = append(args, strings.ToLower(r.Text), pattern(r.Text))
		rank = fmt.Sprintf("CASE WHEN lower(n.title) = $%d THEN 0 WHEN %s THEN 1 ELSE 3 END", len(args)-1, d.ILike("n.title", fmt.Sprintf("$%d", len(args))))
	}
	rows, err := r.db.Query(ctx, "SELECT n.id, "+rank+" AS rank, "+noteSeconds+" AS updated FROM note n WHERE (n.user_id = $1 OR "+given+")"+own+words+
		" ORDER BY rank, updated DESC, n.id"+r.limit(), args...)
	return r.collect("note", rows, err)
}

func (r *run) collect(source string, rows *sql.Rows, err error) error {
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		h := hit{source: source}
		err = rows.Scan(&h.id, &h.rank, &h.updated)
		r.hits = append(r.hits, h)
		return struct{}{}, err
	})
	return err
}

func (r *run) findMessages(ctx context.Context) error {
	ids := make([]string, len(r.channels))
	for i, c := range r.channels {
		ids[i] = c.id
	}
	if id, ok := strings.CutPrefix(r.Scope, "channel:"); ok {
		ids = []string{id}
	}
	if len(ids) == 0 {
		return nil
	}
	list, args := store.In(nil, ids)
	own, args := r.sharing(args, "n.user_id")
	words, args := r.like(args, "n.content")
	rows, err := r.db.Query(ctx, "SELECT n.id, 3, "+noteSeconds+" AS updated FROM message n WHERE n.channel_id IN "+list+own+words+" ORDER BY updated DESC, n.id"+r.limit(), args...)
	return r.collect("message", rows, err)
}
