package chats

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync/atomic"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Chat is a row of the table chat. Times are Unix seconds but TimerAt, nanoseconds.
type Chat struct {
	ID               string
	UserID           string
	Title            string
	Doc              jsondoc.Doc // the document: title, models, history, …
	CreatedAt        int64
	UpdatedAt        int64
	ShareID          *string
	Archived         bool
	Pinned           *bool
	Meta             jsondoc.Doc // an object
	Variables        jsondoc.Doc // an object
	FolderID         *string
	Tasks            jsondoc.Doc // a list, or nil
	Summary          *string
	CurrentMessageID *string
	LastReadAt       *int64
	TimerAt          *int64
}

// Internal says whether the chat belongs to a feature (a note's assistant, a sub-agent) and is kept out of lists.
func (c *Chat) Internal() bool { return c.Meta.Bool("internal") }

// Tags are the ids in meta.tags.
func (c *Chat) Tags() []string { return c.Meta.Get("tags").Texts() }

// Store reads and writes chats.
type Store struct {
	db     *store.DB
	texts  *textCache
	sieves *sieves
	memo   *memo
	turns  chan struct{}        // see turn
	folds  atomic.Pointer[bool] // see plain
}

// New makes a Store over a database.
func New(db *store.DB) *Store {
	return &Store{db: db, texts: newTextCache(textCacheBytes), sieves: newSieves(db), memo: newMemo(db, memoBytes), turns: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
}

func (s *Store) unix() int64 { return timeNow() }

// columns are what scanChat reads. The nullable text columns that every row of the reference has are read as "".
const columns = "id, COALESCE(user_id, ''), COALESCE(title, ''), chat, COALESCE(created_at, 0), COALESCE(updated_at, 0), share_id, COALESCE(archived, FALSE), " +
	"pinned, meta, variables, folder_id, tasks, summary, current_message_id, last_read_at, timer_at"

func (c *Chat) targets() []any {
	return []any{&c.ID, &c.UserID, &c.Title, &c.Doc, &c.CreatedAt, &c.UpdatedAt, &c.ShareID, &c.Archived, &c.Pinned, &c.Meta, &c.Variables,
		&c.FolderID, &c.Tasks, &c.Summary, &c.CurrentMessageID, &c.LastReadAt, &c.TimerAt}
}

func (c *Chat) settle() {
	if c.Doc.Kind() != '{' {
		c.Doc = jsondoc.Doc("{}")
	}
	if c.Meta.Kind() != '{' {
		c.Meta = jsondoc.Doc("{}")
	}
	if c.Variables.Kind() != '{' {
		c.Variables = jsondoc.Doc("{}")
	}
	if c.Tasks.Kind() != '[' {
		c.Tasks = nil
	}
}

func scanRow(r store.Row) (*Chat, error) {
	var c Chat
	if err := r.Scan(c.targets()...); err != nil {
		return nil, err
	}
	c.settle()
	return &c, nil
}

func scanChat(r *sql.Rows) (*Chat, error) { return scanRow(r) }

// scanOne is scanRow for a chat that was asked for. One whose document is no object is as good as none, as in the
// reference: shown empty, it would be overwritten by whoever writes into it.
func scanOne(r store.Row) (*Chat, error) {
	var c Chat
	if err := r.Scan(c.targets()...); err != nil {
		return nil, err
	}
	if c.Doc.Kind() != '{' {
		return nil, store.ErrNotFound
	}
	c.settle()
	return &c, nil
}

// Get reads a chat as stored, without the repair of [Repaired]; store.ErrNotFound if there is none.
func (s *Store) Get(ctx context.Context, id string) (*Chat, error) { return get(ctx, s.db, id) }

// GetTx is Get within a transaction.
func (s *Store) GetTx(ctx context.Context, tx *store.Tx, id string) (*Chat, error) {
	return get(ctx, tx, id)
}

// InTx runs f in a transaction of the store's database.
func (s *Store) InTx(ctx context.Context, f func(tx *store.Tx) error) error { return s.db.Tx(ctx, f) }

func get(ctx context.Context, q store.Querier, id string) (*Chat, error) {
	return scanOne(q.QueryRow(ctx, "SELECT "+columns+" FROM chat WHERE id = $1", id))
}

// GetOwned is Get for the chat's owner; store.ErrNotFound for anybody else.
func (s *Store) GetOwned(ctx context.Context, id, userID string) (*Chat, error) {
	return scanOne(s.db.QueryRow(ctx, "SELECT "+columns+" FROM chat WHERE id = $1 AND user_id = $2", id, userID))
}

// Head reads a chat without its document, which is nil; store.ErrNotFound if there is none.
func (s *Store) Head(ctx context.Context, id string) (*Chat, error) {
	c, err := scanRow(s.db.QueryRow(ctx, "SELECT id, COALESCE(user_id, ''), COALESCE(title, ''), NULL, COALESCE(created_at, 0), COALESCE(updated_at, 0), share_id, "+
		"COALESCE(archived, FALSE), pinned, meta, variables, folder_id, tasks, summary, current_message_id, last_read_at, timer_at FROM chat WHERE id = $1", id))
	if c != nil {
		c.Doc = nil
	}
	return c, err
}

// HeadOwned is Head for the chat's owner; store.ErrNotFound for anybody else.
func (s *Store) HeadOwned(ctx context.Context, id, userID string) (*Chat, error) {
	c, err := s.Head(ctx, id)
	if err == nil && c.UserID != userID {
		return nil, store.ErrNotFound
	}
	return c, err
}

// IsOwner says whether a chat exists and belongs to the user.
func (s *Store) IsOwner(ctx context.Context, id, userID string) (bool, error) {
	var one int
	err := s.db.QueryRow(ctx, "SELECT 1 FROM chat WHERE id = $1 AND user_id = $2", id, userID).Scan(&one)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// OwnerID is the id of a chat's owner; store.ErrNotFound if there is no such chat.
func (s *Store) OwnerID(ctx context.Context, id string) (owner string, err error) {
	err = s.db.QueryRow(ctx, "SELECT COALESCE(user_id, '') FROM chat WHERE id = $1", id).Scan(&owner)
	return owner, err
}

// Repaired is the document as readers see it: missing childrenIds are filled in, and currentId is the last descendant
// of the stored one.
func Repaired(d jsondoc.Doc) jsondoc.Doc {
	doc := openDocument(d)
	if !doc.repair() {
		return d
	}
	return doc.doc()
}

// NewChat is what a chat is made of. Zero times are now.
type NewChat struct {
	ID        string // "" makes one
	UserID    string
	Doc       jsondoc.Doc
	FolderID  *string
	Meta      jsondoc.Doc // nil is {}
	Variables jsondoc.Doc // nil is {}
	Pinned    bool
	Archived  bool
	Current   *string // current_message_id; nil takes the document's
	TimerAt   *int64
	CreatedAt int64
	UpdatedAt int64
	Author    *Author // to whom all messages are attributed; nil leaves them as they are
}

// Insert makes a chat and the rows of its messages.
func (s *Store) Insert(ctx context.Context, n NewChat) (*Chat, error) {
	list, err := s.InsertAll(ctx, []NewChat{n})
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// InsertAll makes several chats in one transaction.
func (s *Store) InsertAll(ctx context.Context, list []NewChat) ([]*Chat, error) {
	out := make([]*Chat, len(list))
	msgs := make([]*messages, len(list))
	for i, n := range list {
		out[i], msgs[i] = s.build(n)
	}
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		for i, c := range out {
			if err := insertChat(ctx, tx, c); err != nil {
				return err
			}
			if err := insertMessages(ctx, tx, c.ID, msgs[i].rows(c.UserID), ""); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (s *Store) build(n NewChat) (*Chat, *messages) {
	now := s.unix()
	if n.ID == "" {
		n.ID = store.NewID()
	}
	clean := Clean(n.Doc)
	doc := openDocument(clean)
	if n.Author != nil && doc.attribute(*n.Author) {
		clean = doc.doc()
	}
	c := &Chat{ID: n.ID, UserID: n.UserID, Title: CleanText(doc.title()), Doc: clean, FolderID: n.FolderID, Meta: n.Meta, Variables: n.Variables,
		Archived: n.Archived, Pinned: &n.Pinned, CurrentMessageID: n.Current, TimerAt: n.TimerAt, CreatedAt: n.CreatedAt, UpdatedAt: n.UpdatedAt, LastReadAt: &now}
	if c.CurrentMessageID == nil {
		c.CurrentMessageID = doc.currentMessageID()
	}
	if c.CreatedAt == 0 {
		c.CreatedAt = now
	}
	if c.UpdatedAt == 0 {
		c.UpdatedAt = now
	}
	c.settle()
	msgs := doc.msgs
	if len(msgs.list) == 0 {
		items(doc.top.Get("messages"), func(v jsondoc.Doc) bool {
			if id, ok := member(v, "id").AsText(); ok && id != "" {
				msgs.add(id, v)
			}
			return true
		})
	}
	return c, msgs
}

const insertChatSQL = "INSERT INTO chat (id, user_id, title, chat, created_at, updated_at, share_id, archived, pinned, meta, variables, folder_id, tasks, summary, " +
	"current_message_id, last_read_at, timer_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'null', $13, $14, $15, $16)"

func insertChat(ctx context.Context, q store.Querier, c *Chat) error {
	_, err := q.Exec(ctx, insertChatSQL, c.ID, c.UserID, c.Title, c.Doc, c.CreatedAt, c.UpdatedAt, c.ShareID, c.Archived, c.Pinned, c.Meta, c.Variables, c.FolderID,
		c.Summary, c.CurrentMessageID, c.LastReadAt, c.TimerAt)
	return err
}
