// Package search looks for text in all that a user may read: chats, shared copies of chats, notes and channel messages.
package search

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

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

	continued []string // others' chats that were shared with the user to go on with
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

func (h hit) compare(o hit) int {
	return cmp.Or(cmp.Compare(h.rank, o.rank), cmp.Compare(o.updated, h.updated), cmp.Compare(h.source, o.source), cmp.Compare(h.id, o.id))
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
	slices.SortFunc(r.hits, hit.compare)
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
