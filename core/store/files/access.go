package files

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/users"
)

// Permissions on a file.
const (
	Read  = "read"
	Write = "write"
)

// Grants says which of several resources a user was granted; core/access has it.
type Grants interface {
	CanAmong(ctx context.Context, userID, resourceType string, ids []string, permission string) (map[string]bool, error)
}

// Chats says which chats a user may read; *chats.Access has it.
type Chats interface {
	Can(ctx context.Context, userID, role string, c *chats.Chat, permission string) (bool, error)
}

// Access says who may do what with a file: its owner everything; others what they may do with a knowledge base, a
// workspace model or (to read) a shared chat that it is attached to. To write through one of those, its owner must own
// the file too: else whoever can read a file could attach it to something of their own and change it there. Administrators
// are not special here. Attachments of notes and channels, which Galley does not serve, give nothing.
type Access struct {
	db     *store.DB
	store  *Store
	grants Grants
	chats  Chats
}

// NewAccess makes the rules over a store.
func NewAccess(db *store.DB, s *Store, g Grants, c Chats) *Access {
	return &Access{db: db, store: s, grants: g, chats: c}
}

// Can says whether a user may read or write a file.
func (a *Access) Can(ctx context.Context, u *users.User, f *File, permission string) (bool, error) {
	if f.UserID == u.ID {
		return true, nil
	}
	can, err := a.attached(ctx, u, map[string]string{f.ID: f.UserID}, permission)
	return can[f.ID], err
}

// attached says which of the files (owner by id) a user has a permission on through what they are attached to.
func (a *Access) attached(ctx context.Context, u *users.User, owners map[string]string, permission string) (map[string]bool, error) {
	can := make(map[string]bool, len(owners))
	for _, through := range []func(context.Context, *users.User, map[string]string, string, map[string]bool) error{a.knowledge, a.models, a.sharedChats} {
		left := make(map[string]string, len(owners))
		for id, owner := range owners {
			if !can[id] {
				left[id] = owner
			}
		}
		if len(left) == 0 {
			break
		}
		if err := through(ctx, u, left, permission, can); err != nil {
			return nil, fmt.Errorf("access to files: %w", err)
		}
	}
	return can, nil
}

// tie is a resource that a file is attached to.
type tie struct{ file, resource, owner string }

// allow marks the files that a user has a permission on through one of the ties.
func (a *Access) allow(ctx context.Context, u *users.User, kind string, ties []tie, owners map[string]string, permission string, can map[string]bool) error {
	if permission != Read {
		ties = slices.DeleteFunc(ties, func(t tie) bool { return t.owner != owners[t.file] })
	}
	var ask []string
	for _, t := range ties {
		if t.owner == u.ID {
			can[t.file] = true
		} else if !slices.Contains(ask, t.resource) {
			ask = append(ask, t.resource)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	granted, err := a.grants.CanAmong(ctx, u.ID, kind, ask, permission)
	for _, t := range ties {
		if granted[t.resource] {
			can[t.file] = true
		}
	}
	return err
}

func ids(owners map[string]string) []string {
	out := make([]string, 0, len(owners))
	for id := range owners {
		out = append(out, id)
	}
	return out
}

func (a *Access) knowledge(ctx context.Context, u *users.User, owners map[string]string, permission string, can map[string]bool) error {
	in, args := store.In(nil, ids(owners))
	rows, err := a.db.Query(ctx, "SELECT kf.file_id, k.id, k.user_id FROM knowledge_file kf JOIN knowledge k ON k.id = kf.knowledge_id WHERE kf.file_id IN "+in, args...)
	ties, err := store.Collect(rows, err, func(r *sql.Rows) (t tie, err error) {
		err = r.Scan(&t.file, &t.resource, &t.owner)
		return t, err
	})
	if err != nil {
		return err
	}
	return a.allow(ctx, u, "knowledge", ties, owners, permission, can)
}

// models looks at the files in a model's knowledge, and for readers at its pictures.
func (a *Access) models(ctx context.Context, u *users.User, owners map[string]string, permission string, can map[string]bool) error {
	where, args := "", []any(nil)
	for id := range owners {
		// ids are UUIDs that the server makes, so LIKE finds at most too much
		args = append(args, "%"+id+"%")
		if where != "" {
			where += " OR "
		}
		where += fmt.Sprintf("meta LIKE $%d", len(args))
	}
	preset := ""
	if permission != Read {
		preset = "base_model_id IS NOT NULL AND "
	}
	rows, err := a.db.Query(ctx, "SELECT id, COALESCE(user_id, ''), meta FROM model WHERE "+preset+"("+where+")", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ties []tie
	for rows.Next() {
		var id, owner string
		var meta jsondoc.Doc
		if err := rows.Scan(&id, &owner, &meta); err != nil {
			return err
		}
		for file := range owners {
			if hasEntry(meta.Get("knowledge"), file) || permission == Read && shows(meta, file) {
				ties = append(ties, tie{file, id, owner})
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return a.allow(ctx, u, "model", ties, owners, permission, can)
}

// hasEntry says whether a list has an entry {type: file, id}.
func hasEntry(list jsondoc.Doc, id string) (found bool) {
	list.Items(func(_ int, e jsondoc.Doc) bool {
		found = e.Text("type") == "file" && e.Text("id") == id
		return !found
	})
	return found
}

// shows says whether a file is the background or in the avatar of a model.
func shows(meta jsondoc.Doc, id string) bool {
	avatar := meta.Get("voice_avatar")
	if meta.Text("background_image_url") == "/api/v1/files/"+id+"/content" || avatar.Text("file_id") == id {
		return true
	}
	found := false
	check := func(e jsondoc.Doc) bool {
		found = e.Text("file_id") == id
		return !found
	}
	avatar.Get("states").Each(func(_ string, e jsondoc.Doc) bool { return check(e) })
	if !found {
		avatar.Get("gestures").Items(func(_ int, e jsondoc.Doc) bool { return check(e) })
	}
	return found
}

// sharedChats looks at chats that have a link or are in a folder; they let read only.
func (a *Access) sharedChats(ctx context.Context, u *users.User, owners map[string]string, permission string, can map[string]bool) error {
	if permission != Read {
		return nil
	}
	in, args := store.In(nil, ids(owners))
	rows, err := a.db.Query(ctx, "SELECT cf.file_id, c.id, COALESCE(c.user_id, ''), c.folder_id, c.meta FROM chat_file cf JOIN chat c ON c.id = cf.chat_id "+
		"WHERE (c.share_id IS NOT NULL OR c.folder_id IS NOT NULL) AND cf.file_id IN "+in, args...)
	if err != nil {
		return err
	}
	type place struct {
		file string
		chat *chats.Chat
	}
	places, err := store.Collect(rows, err, func(r *sql.Rows) (p place, err error) {
		p.chat = &chats.Chat{}
		err = r.Scan(&p.file, &p.chat.ID, &p.chat.UserID, &p.chat.FolderID, &p.chat.Meta)
		return p, err
	})
	if err != nil || len(places) == 0 {
		return err
	}
	ask := make([]string, len(places))
	for i, p := range places {
		ask[i] = p.chat.ID
	}
	granted, err := a.grants.CanAmong(ctx, u.ID, chats.ResourceType, ask, Read)
	if err != nil {
		return err
	}
	for _, p := range places {
		if can[p.file] {
			continue
		}
		ok := granted[p.chat.ID]
		if !ok {
			if ok, err = a.chats.Can(ctx, u.ID, u.Role, p.chat, Read); err != nil {
				return err
			}
		}
		can[p.file] = ok
	}
	return nil
}

// MayRead says which entries {type: file|collection|note, id} of a folder's or chat's file list a user may read. Entries
// of any other shape nobody may; administrators may read all others.
func (a *Access) MayRead(ctx context.Context, u *users.User, entries []jsondoc.Doc) ([]bool, error) {
	may := make([]bool, len(entries))
	asked := map[string][]string{}
	for i, e := range entries {
		kind, id := e.Text("type"), e.Text("id")
		if id == "" || kind != "file" && kind != "collection" && kind != "note" {
			continue
		}
		if u.IsAdmin() {
			may[i] = true
		} else {
			asked[kind] = append(asked[kind], id)
		}
	}
	can := map[string]map[string]bool{}
	for kind, list := range asked {
		var err error
		switch kind {
		case "file":
			can[kind], err = a.readable(ctx, u, list)
		case "collection":
			can[kind], err = a.owned(ctx, u, "knowledge", "knowledge", list)
		case "note":
			can[kind], err = a.owned(ctx, u, "note", "note", list)
		}
		if err != nil {
			return nil, fmt.Errorf("access to entries: %w", err)
		}
	}
	for i, e := range entries {
		may[i] = may[i] || can[e.Text("type")][e.Text("id")]
	}
	return may, nil
}

func (a *Access) readable(ctx context.Context, u *users.User, list []string) (map[string]bool, error) {
	owners, err := a.owners(ctx, "file", list)
	if err != nil {
		return nil, err
	}
	can, others := map[string]bool{}, map[string]string{}
	for id, owner := range owners {
		if owner == u.ID {
			can[id] = true
		} else {
			others[id] = owner
		}
	}
	if len(others) == 0 {
		return can, nil
	}
	attached, err := a.attached(ctx, u, others, Read)
	for id, ok := range attached {
		can[id] = ok
	}
	return can, err
}

// owned says which rows of a table a user owns or was granted.
func (a *Access) owned(ctx context.Context, u *users.User, table, kind string, list []string) (map[string]bool, error) {
	owners, err := a.owners(ctx, table, list)
	if err != nil || len(owners) == 0 {
		return nil, err
	}
	can, err := a.grants.CanAmong(ctx, u.ID, kind, ids(owners), Read)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(owners))
	for id, owner := range owners {
		out[id] = owner == u.ID || can[id]
	}
	return out, nil
}

func (a *Access) owners(ctx context.Context, table string, list []string) (map[string]string, error) {
	in, args := store.In(nil, list)
	rows, err := a.db.Query(ctx, "SELECT id, COALESCE(user_id, '') FROM "+table+" WHERE id IN "+in, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make(map[string]string, len(list))
	for rows.Next() {
		var id, owner string
		if err := rows.Scan(&id, &owner); err != nil {
			return nil, err
		}
		out[id] = owner
	}
	return out, rows.Err()
}
