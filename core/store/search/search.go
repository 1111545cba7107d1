// Package search looks for text in all that a user may read: chats, shared copies of chats, notes and channel messages.
package search

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
)

// PageSize is the number of results on a page.
const PageSize = 24

// Query is a search. Kind, Sharing and Scope are as in the request.
type Query struct {
	UserID   string
	UserName string
	GroupIDs []string // with inherited ones
	Text     string
	Kind     string   // all, chat, message, note
	Sharing  string   // all, mine, shared
	Scope    string   // "" or the id of a Scope
	Page     int      // from 1
	Kinds    []string // what the user may search at all
}

// Result is a result as the page shows it.
type Result struct {
	ID        string `json:"id"` // source:id
	Kind      string `json:"kind"`
	Title     string `json:"title"`
	Context   string `json:"context"`
	Snippet   string `json:"snippet"`
	Preview   string `json:"preview"`
	URL       string `json:"url"`
	UpdatedAt int64  `json:"updated_at"` // Unix seconds
	Shared    bool   `json:"shared"`
	Pinned    bool   `json:"pinned"`
}

// Scope is a folder or channel that a search can be narrowed to.
type Scope struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// Results is a page of results.
type Results struct {
	Items   []Result `json:"items"`
	HasMore bool     `json:"has_more"`
	Scopes  []Scope  `json:"scopes"`
	Kinds   []string `json:"kinds"`
}

// Store searches.
type Store struct {
	db    *store.DB
	chats *chats.Store
}

// New makes a Store; the texts of chats are those that their store keeps.
func New(db *store.DB, c *chats.Store) *Store { return &Store{db: db, chats: c} }

// run is one search on its way.
type run struct {
	*Store
	Query
	terms    []string
	folders  []folder
	byID     map[string]folder
	inScope  map[string]bool // folders below the scope
	sharedIn map[string]bool // folders that are shared, be it from above
	channels []channel
	hits     []hit
}

type folder struct {
	id, name, parent, owner string
}

type channel struct {
	id, name, kind string
}

// hit is a result before it is read in full. Lower ranks come first.
type hit struct {
	source  string
	id      string
	rank    int
	updated int64
}

// Search finds what a user may read.
func (s *Store) Search(ctx context.Context, q Query) (*Results, error) {
	q.Text = strings.TrimSpace(q.Text)
	r := &run{Store: s, Query: q, terms: Terms(q.Text)}
	out := &Results{Items: []Result{}, Scopes: []Scope{}, Kinds: q.Kinds}
	if err := r.findFolders(ctx); err != nil {
		return nil, err
	}
	if slices.Contains(q.Kinds, "message") {
		if err := r.findChannels(ctx); err != nil {
			return nil, err
		}
	}
	out.Scopes = append(out.Scopes, r.scopes()...)
	if q.Scope != "" && !slices.ContainsFunc(out.Scopes, func(s Scope) bool { return s.ID == q.Scope }) {
		return out, nil
	}
	for _, find := range []struct {
		kind, not string
		f         func(context.Context) error
	}{{"chat", "channel:", r.findChats}, {"note", ":", r.findNotes}, {"message", "folder:", r.findMessages}} {
		if !slices.Contains(q.Kinds, find.kind) || q.Kind != "all" && q.Kind != find.kind || q.Scope != "" && strings.Contains(q.Scope, find.not) {
			continue
		}
		if err := find.f(ctx); err != nil {
			return nil, fmt.Errorf("search for %ss: %w", find.kind, err)
		}
	}
	slices.SortFunc(r.hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.updated, a.updated), cmp.Compare(a.source, b.source), cmp.Compare(a.id, b.id))
	})
	page := r.hits[min((q.Page-1)*PageSize, len(r.hits)):]
	if out.HasMore = len(page) > PageSize; out.HasMore {
		page = page[:PageSize]
	}
	items, err := r.read(ctx, page)
	out.Items = append(out.Items, items...)
	return out, err
}

// Terms are the words of a query that count: at most 12, each once, in lower case.
func Terms(text string) (out []string) {
	for _, w := range strings.Fields(strings.ToLower(text)) {
		if len(out) < 12 && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

var escaper = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)

func pattern(s string) string { return "%" + escaper.Replace(s) + "%" }

// granted is true of resources that the user was given to read; public counts grants to everybody too.
func (r *run) granted(args []any, resource, column string, public bool) (string, []any) {
	args = append(args, r.UserID)
	who := fmt.Sprintf("g.principal_type = 'user' AND g.principal_id = $%d", len(args))
	list, args := store.In(args, r.GroupIDs)
	who += " OR g.principal_type = 'group' AND g.principal_id IN " + list
	if public {
		who += " OR g.principal_type = 'user' AND g.principal_id = '*'"
	}
	return "EXISTS (SELECT 1 FROM access_grant g WHERE g.resource_type = '" + resource + "' AND g.resource_id = " + column + " AND g.permission = 'read' AND (" + who + "))", args
}

// readable is the recursive query of the folders that the user may read.
func (r *run) readable() (string, []any) {
	given, args := r.granted([]any{r.UserID}, "folder", "f.id", true)
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
	given, args := r.granted([]any{r.UserID}, "channel", "c.id", true)
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
	live, args := r.live()
	where := "(" + live + ")"
	own, args := r.sharing(args, "chat.user_id")
	where += own
	if r.Scope != "" {
		var list string
		list, args = store.In(args, keys(r.inScope))
		where += " AND chat.folder_id IN " + list
	}
	list, err := r.chats.Matching(ctx, where, args, r.terms)
	if err != nil {
		return err
	}
	for _, c := range list {
		r.hits = append(r.hits, hit{"chat", c.ID, r.rank(c.Title, c.Pinned && c.UserID == r.UserID), c.UpdatedAt})
	}
	if r.Scope == "" && r.Sharing != "mine" {
		return r.findCopies(ctx)
	}
	return nil
}

// live is true of chats that the user reads themselves, not as a copy.
func (r *run) live() (string, []any) {
	args := []any{r.UserID}
	ids := make([]string, len(r.folders))
	for i, f := range r.folders {
		ids[i] = f.id
	}
	list, args := store.In(args, ids)
	given, args := r.granted(args, chats.ResourceType, "sc.chat_id", false)
	return "chat.user_id = $1 OR chat.folder_id IN " + list + " OR chat.id IN (SELECT sc.chat_id FROM shared_chat sc WHERE " +
		r.db.Dialect().JSONText("sc.chat", "share_mode") + " = 'continue' AND " + given + ")", args
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
	live, args := r.live()
	given, args := r.granted(args, chats.ResourceType, "shared_chat.chat_id", false)
	own := ""
	if r.Sharing == "shared" {
		own = " AND shared_chat.user_id <> $1"
	}
	doc := "NULL"
	if len(r.terms) > 0 {
		doc = "shared_chat.chat"
	}
	rows, err := r.db.Query(ctx, "SELECT shared_chat.id, COALESCE(shared_chat.title, ''), COALESCE(shared_chat.updated_at, 0), "+doc+" FROM shared_chat WHERE "+given+own+
		" AND shared_chat.chat_id NOT IN (SELECT chat.id FROM chat WHERE "+live+")", args...)
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		h := hit{source: "shared"}
		var title string
		var d jsondoc.Doc
		if err = rows.Scan(&h.id, &title, &h.updated, &d); err == nil && chats.Says(d, title, r.terms, r.db.Dialect() == store.Postgres) {
			h.rank = r.rank(title, false)
			r.hits = append(r.hits, h)
		}
		return struct{}{}, err
	})
	return err
}

// limit is how many hits of a source can be on this page or before it.
func (r *run) limit() string { return fmt.Sprintf(" LIMIT %d", r.Page*PageSize+1) }

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
	given, args := r.granted([]any{r.UserID}, "note", "n.id", true)
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

// Excerpt is the surroundings of the first word of a query in a text.
func Excerpt(content string, terms []string, length int) string {
	at := -1
	if len(terms) > 0 {
		lower := strings.ToLower(content)
		for _, t := range terms {
			if i := strings.Index(lower, t); i >= 0 {
				if n := utf8.RuneCountInString(lower[:i]); at < 0 || n < at {
					at = n
				}
			}
		}
	}
	runes := []rune(content)
	start := min(max(0, at-length/4), len(runes))
	end := min(start+length, len(runes))
	out := strings.TrimSpace(string(runes[start:end]))
	if start > 0 {
		out = "…" + out
	}
	if end < len(runes) {
		out += "…"
	}
	return out
}

func (r *run) result(h hit, kind, title, where, content, link string, shared, pinned bool) Result {
	if title == "" {
		title = "Untitled"
	}
	return Result{h.source + ":" + h.id, kind, title, where, Excerpt(content, r.terms, 200), Excerpt(content, r.terms, 2400), link, h.updated, shared, pinned}
}

// read makes the results of a page of hits; those that are gone by now are left out.
func (r *run) read(ctx context.Context, page []hit) ([]Result, error) {
	ids := map[string][]string{}
	for _, h := range page {
		ids[h.source] = append(ids[h.source], h.id)
	}
	found := map[string]func(h hit) Result{}
	for source, f := range map[string]func(context.Context, []string, map[string]func(hit) Result) error{
		"chat": r.readChats, "shared": r.readCopies, "note": r.readNotes, "message": r.readMessages} {
		if len(ids[source]) > 0 {
			if err := f(ctx, ids[source], found); err != nil {
				return nil, fmt.Errorf("read results: %w", err)
			}
		}
	}
	out := []Result{}
	for _, h := range page {
		if f := found[h.source+":"+h.id]; f != nil {
			out = append(out, f(h))
		}
	}
	return out, nil
}

func link(path, id string) string {
	if id == "" {
		return path
	}
	return path + "?message=" + url.QueryEscape(id)
}

func (r *run) readChats(ctx context.Context, ids []string, found map[string]func(hit) Result) error {
	docs, err := r.chats.Docs(ctx, ids)
	for id, c := range docs {
		found["chat:"+id] = func(h hit) Result {
			content, message := chats.Passage(c.Doc, r.terms)
			own := c.UserID == r.UserID
			where, inFolder := "Personal chat", ""
			if !own {
				where = "Shared chat"
			}
			if c.FolderID != nil {
				inFolder = *c.FolderID
				if f, ok := r.byID[inFolder]; ok {
					where = f.name
				}
			}
			shared := !own || c.ShareID != nil && *c.ShareID != "" || r.sharedIn[inFolder]
			return r.result(h, "chat", c.Title, where, content, link("/c/"+id, message), shared, own && c.Pinned != nil && *c.Pinned)
		}
	}
	return err
}

func (r *run) readCopies(ctx context.Context, ids []string, found map[string]func(hit) Result) error {
	list, args := store.In(nil, ids)
	rows, err := r.db.Query(ctx, "SELECT id, COALESCE(title, ''), chat FROM shared_chat WHERE id IN "+list, args...)
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		var id, title string
		var d jsondoc.Doc
		err = rows.Scan(&id, &title, &d)
		found["shared:"+id] = func(h hit) Result {
			content, message := chats.Passage(d, r.terms)
			return r.result(h, "chat", title, "Shared snapshot", content, link("/s/"+id, message), true, false)
		}
		return struct{}{}, err
	})
	return err
}

func (r *run) readNotes(ctx context.Context, ids []string, found map[string]func(hit) Result) error {
	list, args := store.In([]any{r.UserID}, ids)
	rows, err := r.db.Query(ctx, `SELECT n.id, COALESCE(n.title, ''), COALESCE(n.user_id, ''), n.data, EXISTS (SELECT 1 FROM pinned_note p WHERE p.note_id = n.id AND p.user_id = $1),
		EXISTS (SELECT 1 FROM access_grant g WHERE g.resource_type = 'note' AND g.resource_id = n.id AND g.permission = 'read') FROM note n WHERE n.id IN `+list, args...)
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		var id, title, owner string
		var data jsondoc.Doc
		var pinned, given bool
		err = rows.Scan(&id, &title, &owner, &data, &pinned, &given)
		found["note:"+id] = func(h hit) Result {
			shared, where, to := owner != r.UserID || given, "Personal note", "/notes/"+id
			if shared {
				where = "Shared note"
			}
			if r.Text != "" {
				to += "?search=" + url.QueryEscape(r.Text)
			}
			return r.result(h, "note", title, where, data.Text("content", "md"), to, shared, pinned)
		}
		return struct{}{}, err
	})
	return err
}

func (r *run) readMessages(ctx context.Context, ids []string, found map[string]func(hit) Result) error {
	list, args := store.In(nil, ids)
	rows, err := r.db.Query(ctx, `SELECT n.id, COALESCE(n.channel_id, ''), COALESCE(n.parent_id, ''), COALESCE(n.content, ''), COALESCE(u.name, '') FROM message n
		LEFT JOIN "user" u ON u.id = n.user_id WHERE n.id IN `+list, args...)
	_, err = store.Collect(rows, err, func(rows *sql.Rows) (_ struct{}, err error) {
		var id, in, parent, content, name string
		err = rows.Scan(&id, &in, &parent, &content, &name)
		i := slices.IndexFunc(r.channels, func(c channel) bool { return c.id == in })
		if err != nil || i < 0 {
			return struct{}{}, err
		}
		c := r.channels[i]
		found["message:"+id] = func(h hit) Result {
			where, title := "#"+c.name, name
			if c.kind == "dm" {
				where = c.name
			}
			if title == "" {
				title = "Message"
			}
			to := "/channels/" + c.id + "?thread=" + url.QueryEscape(cmp.Or(parent, id)) + "&message=" + url.QueryEscape(id)
			return r.result(h, "message", title, where, content, to, true, false)
		}
		return struct{}{}, nil
	})
	return err
}
