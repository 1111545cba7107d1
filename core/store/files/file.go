// Package files stores uploaded files: the table file, the contents in a folder, and who may read and write them.
package files

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// States of a file's text, in data.status. A file that was stored without being read has none.
const (
	Pending    = "pending"
	Processing = "processing"
	Completed  = "completed"
	Failed     = "failed" // data.error says why
)

// File is a row of the table file, in the order and with the members that the reference answers with. Times are Unix
// seconds.
type File struct {
	ID        string      `json:"id"`
	UserID    string      `json:"user_id"`
	Hash      *string     `json:"hash"` // SHA-256 of the text, hexadecimal
	Filename  string      `json:"filename"`
	Path      *string     `json:"path"` // where the content is kept
	Data      jsondoc.Doc `json:"data"` // status, content (the text), error
	Meta      jsondoc.Doc `json:"meta"` // name, content_type, size, file_hash (of the content), collection_name, data
	CreatedAt *int64      `json:"created_at"`
	UpdatedAt *int64      `json:"updated_at"`
}

// Status is the state of the file's text, "" for none.
func (f *File) Status() string { return f.Data.Text("status") }

// Content is the file's text, "" where it was not read.
func (f *File) Content() string { return f.Data.Text("content") }

// ContentType is what the client said at the upload, "" for nothing.
func (f *File) ContentType() string { return f.Meta.Text("content_type") }

// Name is the file's name as it is shown.
func (f *File) Name() string {
	if n, ok := f.Meta.Get("name").AsText(); ok {
		return n
	}
	return f.Filename
}

// Store reads and writes files. Its methods may be called at once.
type Store struct {
	db  *store.DB
	now func() time.Time
}

// New makes the store of a database.
func New(db *store.DB) *Store { return &Store{db: db, now: time.Now} }

const columns = "id, COALESCE(user_id, ''), hash, COALESCE(filename, ''), path, data, meta, created_at, updated_at"

func scan(r store.Row) (*File, error) {
	f := &File{}
	if err := r.Scan(&f.ID, &f.UserID, &f.Hash, &f.Filename, &f.Path, &f.Data, &f.Meta, &f.CreatedAt, &f.UpdatedAt); err != nil {
		return nil, err
	}
	return f, nil
}

func scanRows(r *sql.Rows) (*File, error) { return scan(r) }

// Get finds a file; store.ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, id string) (*File, error) {
	return scan(s.db.QueryRow(ctx, "SELECT "+columns+" FROM file WHERE id = $1", id))
}

// State is the state of a file's text and, where it failed, why; "" where it was not read. store.ErrNotFound where there is
// no such file. The text is not read.
func (s *Store) State(ctx context.Context, id string) (status, reason string, err error) {
	d := s.db.Dialect()
	err = s.db.QueryRow(ctx, "SELECT COALESCE("+d.JSONText("data", "status")+", ''), COALESCE("+d.JSONText("data", "error")+", '') FROM file WHERE id = $1", id).Scan(&status, &reason)
	return status, reason, err
}

// ByIDs finds files, those changed last first; those that are not there are missing.
func (s *Store) ByIDs(ctx context.Context, ids []string) ([]*File, error) {
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM file WHERE id IN "+in+" ORDER BY updated_at DESC", args...)
	return store.Collect(rows, err, scanRows)
}

// Insert stores a new file's row; the times are set.
func (s *Store) Insert(ctx context.Context, f *File) error {
	now := s.now().Unix()
	f.CreatedAt, f.UpdatedAt = &now, &now
	_, err := s.db.Exec(ctx, "INSERT INTO file (id, user_id, hash, filename, path, data, meta, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		f.ID, f.UserID, f.Hash, f.Filename, f.Path, f.Data.String(), f.Meta.String(), f.CreatedAt, f.UpdatedAt)
	if err != nil {
		return fmt.Errorf("insert file: %w", err)
	}
	return nil
}

// Change is what Update does. Data and Meta are merged into what there is, member by member.
type Change struct {
	Name  *string     // sets meta.name too
	Hash  *string     // nil leaves it
	Clear bool        // takes the hash away
	Data  jsondoc.Doc // nil leaves it
	Meta  jsondoc.Doc // nil leaves it
}

// Update changes a file; store.ErrNotFound where there is none.
func (s *Store) Update(ctx context.Context, id string, c Change) (f *File, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		f, err = scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM file WHERE id = $1"+tx.Dialect().ForUpdate(), id))
		if err != nil {
			return err
		}
		c.apply(f)
		now := s.now().Unix()
		f.UpdatedAt = &now
		_, err = tx.Exec(ctx, "UPDATE file SET filename = $2, hash = $3, data = $4, meta = $5, updated_at = $6 WHERE id = $1",
			f.ID, f.Filename, f.Hash, f.Data.String(), f.Meta.String(), now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", id, err)
	}
	return f, nil
}

func (c Change) apply(f *File) {
	if c.Name != nil {
		f.Filename = *c.Name
		f.Meta = f.Meta.Merge(jsondoc.Object("name", jsondoc.Text(*c.Name)))
	}
	if c.Hash != nil {
		f.Hash = c.Hash
	}
	if c.Clear {
		f.Hash = nil
	}
	if c.Data != nil {
		f.Data = f.Data.Merge(c.Data)
	}
	if c.Meta != nil {
		f.Meta = f.Meta.Merge(c.Meta)
	}
}

// Query says which files List and Count mean.
type Query struct {
	UserID string // the owner; "" for all
	Glob   string // the name with "*" and "?", in any case; "" for all
	Offset int
	Limit  int
	Newest bool // in the order of creation; else of changes
}

func (q Query) where(d store.Dialect) (string, []any) {
	where, args := "1 = 1", []any(nil)
	if q.UserID != "" {
		args = append(args, q.UserID)
		where += fmt.Sprintf(" AND user_id = $%d", len(args))
	}
	if q.Glob != "" && q.Glob != "*" {
		args = append(args, globs.Replace(q.Glob))
		where += " AND " + d.ILike("filename", fmt.Sprintf("$%d", len(args)))
	}
	return where, args
}

// globs makes a LIKE pattern of a glob.
var globs = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`, "*", "%", "?", "_")

// List gives files, the latest first.
func (s *Store) List(ctx context.Context, q Query) ([]*File, error) {
	where, args := q.where(s.db.Dialect())
	order := "updated_at"
	if q.Newest {
		order = "created_at"
	}
	args = append(args, q.Limit, q.Offset)
	rows, err := s.db.Query(ctx, fmt.Sprintf("SELECT %s FROM file WHERE %s ORDER BY %s DESC, id DESC LIMIT $%d OFFSET $%d", columns, where, order, len(args)-1, len(args)), args...)
	return store.Collect(rows, err, scanRows)
}

// Count is the number of files, without regard to Offset and Limit.
func (s *Store) Count(ctx context.Context, q Query) (n int, err error) {
	where, args := q.where(s.db.Dialect())
	err = s.db.QueryRow(ctx, "SELECT COUNT(*) FROM file WHERE "+where, args...).Scan(&n)
	return n, err
}

// links are the tables that tie files to what they are attached to.
var links = []string{"chat_file", "channel_file", "knowledge_file"}

// Delete removes a file's row and its ties; store.ErrNotFound where there is none.
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, table := range links {
			if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE file_id = $1", id); err != nil {
				return err
			}
		}
		n, err := store.Affected(tx.Exec(ctx, "DELETE FROM file WHERE id = $1", id))
		if err == nil && n == 0 {
			err = store.ErrNotFound
		}
		return err
	})
}

// DeleteAll removes all files' rows and ties.
func (s *Store) DeleteAll(ctx context.Context) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, table := range append(links[:len(links):len(links)], "file") {
			if _, err := tx.Exec(ctx, "DELETE FROM "+table); err != nil {
				return err
			}
		}
		return nil
	})
}
