package chats

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// Head is what a list shows of a chat. Times are Unix seconds.
type Head struct {
	ID         string
	UserID     string
	Title      string
	UpdatedAt  int64
	CreatedAt  int64
	LastReadAt *int64
	Archived   bool
}

// ErrOrder is the error of a sort column or direction that does not exist.
var ErrOrder = errors.New("chats: unknown order")

const headColumns = "id, COALESCE(user_id, ''), COALESCE(title, ''), COALESCE(updated_at, 0), COALESCE(created_at, 0), last_read_at, COALESCE(archived, FALSE)"

func scanHead(r *sql.Rows) (h Head, err error) {
	err = r.Scan(&h.ID, &h.UserID, &h.Title, &h.UpdatedAt, &h.CreatedAt, &h.LastReadAt, &h.Archived)
	return h, err
}

// listed is true of chats that lists show: not those of notes, sub-agents and the like. The plain test comes first
// because most have no meta at all.
func (s *Store) listed() string { return listed(s.db.Dialect(), "chat.meta") }

func listed(d store.Dialect, column string) string {
	return d.Pick("("+column+" = '{}' OR json_extract("+column+", '$.internal') IS NOT 1)",
		"COALESCE("+column+" ->> 'internal', '') NOT IN ('true', '1')")
}

// unread sorts chats with an unread, finished answer first.
func unread(readerID string) string {
	cond := "chat.updated_at > COALESCE(chat.last_read_at, 0) AND NOT EXISTS (SELECT 1 FROM chat_message m WHERE m.chat_id = chat.id AND m.role = 'assistant' AND m.done = FALSE)"
	if readerID != "" {
		cond += " AND chat.user_id = " + readerID
	}
	return "CASE WHEN " + cond + " THEN 1 ELSE 0 END DESC, chat.updated_at DESC, chat.id"
}

// order is the ORDER BY of the sidebar's lists: "title", "updated_at" (also for anything unknown) or
// "unread_updated_at", which has one direction.
func order(by, direction, readerID string) string {
	if by == "unread_updated_at" {
		return unread(readerID)
	}
	column := "chat.updated_at"
	if by == "title" {
		column = "chat.title"
	}
	if direction == "asc" {
		return column + " ASC, chat.id"
	}
	return column + " DESC, chat.id"
}

// Page is a part of a list; a Limit of 0 is no limit.
type Page struct{ Offset, Limit int }

func (p Page) sql() string {
	out := ""
	limit := p.Limit
	if limit == 0 && p.Offset > 0 {
		limit = 1 << 31
	}
	if limit > 0 {
		out = fmt.Sprintf(" LIMIT %d", limit)
	}
	if p.Offset > 0 {
		out += fmt.Sprintf(" OFFSET %d", p.Offset)
	}
	return out
}

func (s *Store) heads(ctx context.Context, where, order string, p Page, args ...any) ([]Head, error) {
	if order != "" {
		order = " ORDER BY " + order
	}
	rows, err := s.db.Query(ctx, "SELECT "+headColumns+" FROM chat WHERE "+where+" AND "+s.listed()+order+p.sql(), args...)
	return store.Collect(rows, err, scanHead)
}

const unpinned = "(chat.pinned = FALSE OR chat.pinned IS NULL)"

// ListOptions say what of a user's chats a list shows.
type ListOptions struct {
	Folders  bool   // also chats in folders
	Pinned   bool   // also pinned chats
	Archived bool   // also archived chats
	Sort     string // "updated_at", "title" or "unread_updated_at"
	Dir      string // "asc", else descending
	Page
}

// List is the sidebar's list of a user's chats. The list is shared: it is not to be changed.
func (s *Store) List(ctx context.Context, userID string, o ListOptions) ([]Head, error) {
	where := "chat.user_id = $1"
	if !o.Folders {
		where += " AND chat.folder_id IS NULL"
	}
	if !o.Pinned {
		where += " AND " + unpinned
	}
	if !o.Archived {
		where += " AND chat.archived = FALSE"
	}
	key := fmt.Sprintf("list|%s|%t|%t|%t|%s|%s|%d|%d", userID, o.Folders, o.Pinned, o.Archived, o.Sort, o.Dir, o.Offset, o.Limit)
	return recall(ctx, s.memo, key, func() ([]Head, int, error) {
		list, err := s.heads(ctx, where, order(o.Sort, o.Dir, ""), o.Page, userID)
		return list, 300 * len(list), err
	})
}

// Filter narrows and sorts a list: a part of the title, a column and its direction.
type Filter struct{ Query, OrderBy, Direction string }

var sortable = map[string]bool{"id": true, "user_id": true, "title": true, "created_at": true, "updated_at": true, "share_id": true, "archived": true, "pinned": true,
	"folder_id": true, "summary": true, "current_message_id": true, "last_read_at": true, "timer_at": true}

// sql adds the filter to a condition; "" as the order means none.
func (f Filter) sql(d store.Dialect, table, where string, args []any, last string) (string, string, []any, error) {
	if f.Query != "" {
		args = append(args, "%"+f.Query+"%")
		where += " AND " + d.Like(table+".title", fmt.Sprintf("$%d", len(args)))
	}
	if f == (Filter{}) {
		return where, table + ".updated_at DESC" + last, args, nil
	}
	if f.OrderBy == "" || f.Direction == "" {
		return where, "", args, nil
	}
	dir := strings.ToUpper(f.Direction)
	if !sortable[f.OrderBy] || dir != "ASC" && dir != "DESC" {
		return "", "", nil, fmt.Errorf("%w: %s %s", ErrOrder, f.OrderBy, f.Direction)
	}
	return where, table + "." + f.OrderBy + " " + dir + last, args, nil
}

// AllOf lists a user's chats, archived ones too, whatever their folder.
func (s *Store) AllOf(ctx context.Context, userID string, f Filter, p Page) ([]Head, error) {
	where, by, args, err := f.sql(s.db.Dialect(), "chat", "chat.user_id = $1", []any{userID}, ", chat.id")
	if err != nil {
		return nil, err
	}
	return s.heads(ctx, where, by, p, args...)
}

// Archived lists a user's archived chats.
func (s *Store) Archived(ctx context.Context, userID string, f Filter, p Page) ([]Head, error) {
	where, by, args, err := f.sql(s.db.Dialect(), "chat", "chat.user_id = $1 AND chat.archived = TRUE", []any{userID}, ", chat.id")
	if err != nil {
		return nil, err
	}
	return s.heads(ctx, where, by, p, args...)
}

// CountArchived is the number of a user's archived chats.
func (s *Store) CountArchived(ctx context.Context, userID string) (n int, err error) {
	err = s.db.QueryRow(ctx, "SELECT COUNT(*) FROM chat WHERE user_id = $1 AND archived = TRUE AND "+s.listed(), userID).Scan(&n)
	return n, err
}

// PinnedList lists a user's pinned chats.
func (s *Store) PinnedList(ctx context.Context, userID string) ([]Head, error) {
	return s.heads(ctx, "chat.user_id = $1 AND chat.pinned = TRUE AND chat.archived = FALSE", "chat.updated_at DESC", Page{}, userID)
}

// InFolder lists a user's chats in a folder, without pinned and archived ones.
func (s *Store) InFolder(ctx context.Context, folderID, userID, sort, dir string, p Page) ([]Head, error) {
	return s.heads(ctx, "chat.folder_id = $1 AND chat.user_id = $2 AND "+unpinned+" AND chat.archived = FALSE", order(sort, dir, ""), p, folderID, userID)
}

// InFolderOfAll lists all users' chats in a folder; those unread by the reader come first where sort says so.
func (s *Store) InFolderOfAll(ctx context.Context, folderID, readerID, sort, dir string, p Page) ([]Head, error) {
	args := []any{folderID}
	reader := ""
	if sort == "unread_updated_at" && readerID != "" {
		args = append(args, readerID)
		reader = "$2"
	}
	return s.heads(ctx, "chat.folder_id = $1 AND "+unpinned+" AND chat.archived = FALSE", order(sort, dir, reader), p, args...)
}

// CountInFolder is the number of all users' chats in a folder, without pinned and archived ones.
func (s *Store) CountInFolder(ctx context.Context, folderID string) (n int, err error) {
	err = s.db.QueryRow(ctx, "SELECT COUNT(*) FROM chat WHERE folder_id = $1 AND "+unpinned+" AND archived = FALSE AND "+s.listed(), folderID).Scan(&n)
	return n, err
}

// CountOf is the number of a user's chats in any of some folders.
func (s *Store) CountOf(ctx context.Context, userID string, folderIDs []string) (n int, err error) {
	list, args := store.In([]any{userID}, folderIDs)
	err = s.db.QueryRow(ctx, "SELECT COUNT(*) FROM chat WHERE user_id = $1 AND folder_id IN "+list+" AND "+s.listed(), args...).Scan(&n)
	return n, err
}

// WithTag lists a user's chats that have a tag.
func (s *Store) WithTag(ctx context.Context, userID, tagID string, p Page) ([]Head, error) {
	return s.heads(ctx, "chat.user_id = $1 AND "+hasTag(s.db.Dialect(), "$2"), "chat.updated_at DESC, chat.id", p, userID, tagID)
}

// hasTag is true of chats whose meta.tags has an id.
func hasTag(d store.Dialect, placeholder string) string {
	return d.Pick("EXISTS (SELECT 1 FROM json_each(chat.meta, '$.tags') t WHERE t.value = "+placeholder+")",
		"EXISTS (SELECT 1 FROM json_array_elements_text(CASE WHEN json_typeof(chat.meta -> 'tags') = 'array' THEN chat.meta -> 'tags' ELSE '[]' END) t WHERE t = "+placeholder+")")
}

// TagCounts counts the chats of a user per tag; tags without a chat are absent.
func (s *Store) TagCounts(ctx context.Context, q store.Querier, userID string, tagIDs []string) (map[string]int, error) {
	out := map[string]int{}
	if len(tagIDs) == 0 {
		return out, nil
	}
	list, args := store.In([]any{userID}, padded(tagIDs))
	rows, err := q.Query(ctx, "SELECT tag, COUNT(*) FROM (SELECT DISTINCT chat.id, "+
		q.Dialect().Pick("t.value AS tag FROM chat, json_each(chat.meta, '$.tags') t",
			"t.tag FROM chat, json_array_elements_text(CASE WHEN json_typeof(chat.meta -> 'tags') = 'array' THEN chat.meta -> 'tags' ELSE '[]' END) AS t(tag)")+
		" WHERE chat.user_id = $1 AND "+s.listed()+") x WHERE tag IN "+list+" GROUP BY tag", args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var tag string
		var n int
		if err := rows.Scan(&tag, &n); err != nil {
			return nil, err
		}
		out[tag] = n
	}
	return out, rows.Err()
}

// UnreadInFolders counts a user's unread chats per folder; folders without any are absent.
func (s *Store) UnreadInFolders(ctx context.Context, userID string, folderIDs []string) (map[string]int, error) {
	out := map[string]int{}
	if len(folderIDs) == 0 {
		return out, nil
	}
	list, args := store.In([]any{userID}, padded(folderIDs))
	rows, err := s.db.Query(ctx, "SELECT folder_id, COUNT(*) FROM chat WHERE user_id = $1 AND folder_id IN "+list+
		" AND archived = FALSE AND updated_at > COALESCE(last_read_at, 0) AND NOT EXISTS (SELECT 1 FROM chat_message m WHERE m.chat_id = chat.id AND m.role = 'assistant' AND m.done = FALSE)"+
		" GROUP BY folder_id", args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		out[id] = n
	}
	return out, rows.Err()
}

// EachOf calls f for each whole chat of a user, newest first. since, unless negative, takes only chats changed after it,
// oldest first.
func (s *Store) EachOf(ctx context.Context, userID string, since int64, ascending bool, batch int, f func(*Chat) error) error {
	where, order, args := s.changed(userID, since, ascending)
	return s.each(ctx, where, order, batch, f, args...)
}

// EachOfAll calls f for each whole chat of all users, newest first.
func (s *Store) EachOfAll(ctx context.Context, batch int, f func(*Chat) error) error {
	return s.each(ctx, "1 = 1", "chat.updated_at DESC", batch, f)
}

// each says first which chats there are, and reads them a few at a time, so that no cursor stays open while f works: pages would
// leave out chats that are changed meanwhile, and list their neighbours twice. Chats that are deleted meanwhile are left out.
func (s *Store) each(ctx context.Context, where, order string, batch int, f func(*Chat) error, args ...any) error {
	ids, err := store.Strings(s.db.Query(ctx, "SELECT id FROM chat WHERE "+where+" AND "+s.listed()+" ORDER BY "+order, args...))
	if err != nil {
		return err
	}
	for part := range slices.Chunk(ids, batch) {
		in, args := store.In(nil, part)
		rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM chat WHERE id IN "+in, args...)
		list, err := store.Collect(rows, err, scanChat)
		if err != nil {
			return err
		}
		byID := make(map[string]*Chat, len(list))
		for _, c := range list {
			byID[c.ID] = c
		}
		for _, id := range part {
			if c := byID[id]; c != nil {
				if err := f(c); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// changed is true of a user's chats, of those changed after since unless that is negative; with their order.
func (s *Store) changed(userID string, since int64, ascending bool) (where, order string, args []any) {
	where, args = "chat.user_id = $1", []any{userID}
	if since >= 0 {
		args = append(args, since)
		where += " AND chat.updated_at > $2"
	}
	dir := " DESC"
	if ascending {
		dir = " ASC"
	}
	return where, "chat.updated_at" + dir + ", chat.id", args
}

// Whole lists chats of a user with their documents.
func (s *Store) Whole(ctx context.Context, userID string, since int64, ascending bool, p Page) ([]*Chat, error) {
	where, order, args := s.changed(userID, since, ascending)
	return s.whole(ctx, where, order, p, args...)
}

func (s *Store) whole(ctx context.Context, where, order string, p Page, args ...any) ([]*Chat, error) {
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM chat WHERE "+where+" AND "+s.listed()+" ORDER BY "+order+p.sql(), args...)
	return store.Collect(rows, err, scanChat)
}

// CountWhole is the number of chats that Whole lists without a page.
func (s *Store) CountWhole(ctx context.Context, userID string, since int64) (n int, err error) {
	err = s.db.QueryRow(ctx, "SELECT COUNT(*) FROM chat WHERE user_id = $1 AND updated_at > $2 AND "+s.listed(), userID, since).Scan(&n)
	return n, err
}

// WholeArchived lists a user's archived chats with their documents.
func (s *Store) WholeArchived(ctx context.Context, userID string) ([]*Chat, error) {
	return s.whole(ctx, "chat.user_id = $1 AND chat.archived = TRUE", "chat.updated_at DESC", Page{}, userID)
}

// WholeInFolders lists a user's chats in some folders with their documents, without pinned and archived ones.
func (s *Store) WholeInFolders(ctx context.Context, userID string, folderIDs []string) ([]*Chat, error) {
	list, args := store.In([]any{userID}, folderIDs)
	return s.whole(ctx, "chat.user_id = $1 AND chat.folder_id IN "+list+" AND "+unpinned+" AND chat.archived = FALSE", "chat.updated_at DESC", Page{}, args...)
}

// ArchivedTags are the tag ids of a user's archived chats.
func (s *Store) ArchivedTags(ctx context.Context, userID string) ([]string, error) {
	return store.Strings(s.db.Query(ctx, "SELECT DISTINCT "+s.db.Dialect().Pick("t.value FROM chat, json_each(chat.meta, '$.tags') t",
		"t.tag FROM chat, json_array_elements_text(CASE WHEN json_typeof(chat.meta -> 'tags') = 'array' THEN chat.meta -> 'tags' ELSE '[]' END) AS t(tag)")+
		" WHERE chat.user_id = $1 AND chat.archived = TRUE AND "+s.listed(), userID))
}
