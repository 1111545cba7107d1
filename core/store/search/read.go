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
