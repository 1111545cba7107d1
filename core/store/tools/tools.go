// Package tools stores tools that are Python source, and their versions: the tables tool and tool_history.
package tools

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/versions"
)

// ResourceType is the type of tools in access grants.
const ResourceType = "tool"

// ErrCode says that somebody who may not change the code of a tool would do so.
var ErrCode = errors.New("the code of the tool may not be changed")

// Tool is Python source with functions for models. Times are Unix seconds.
type Tool struct {
	VersionID *string       `json:"version_id"` // of the version in use
	ID        string        `json:"id"`
	UserID    *string       `json:"user_id"`
	Name      string        `json:"name"`
	Content   *string       `json:"content"` // nil in lists that leave it out
	Specs     []jsondoc.Doc `json:"specs"`   // name, description, parameters of each function
	Meta      jsondoc.Doc   `json:"meta"`    // i18n, description, manifest, has_user_valves, others
	UpdatedAt int64         `json:"updated_at"`
	CreatedAt int64         `json:"created_at"`
	Valves    jsondoc.Doc   `json:"-"` // as stored: null, an object, or a text that is encrypted
}

// Source is the code; "" where it is not known.
func (t *Tool) Source() string {
	if t.Content == nil {
		return ""
	}
	return *t.Content
}

// Owner is who a tool belongs to, as far as lists show it.
type Owner struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Role  string `json:"role"`
	Email string `json:"email"`
}

// Listed is a tool with its owner, nil where the account is gone.
type Listed struct {
	Tool
	Owner *Owner
}

// Store reads and writes tools.
type Store struct {
	db     *store.DB
	access *access.Access
}

// New returns the tools of a database, with grants kept by a.
func New(db *store.DB, a *access.Access) *Store { return &Store{db, a} }

const (
	columns = "t.version_id, t.id, t.user_id, t.name, t.content, t.specs, t.meta, t.updated_at, t.created_at, t.valves"
	shallow = "t.version_id, t.id, t.user_id, t.name, NULL, t.specs, t.meta, t.updated_at, t.created_at, t.valves"
)

func scan(r interface{ Scan(...any) error }, more ...any) (t Tool, err error) {
	var name sql.NullString
	var specs jsondoc.Doc
	var updated, created sql.NullInt64
	err = r.Scan(append([]any{&t.VersionID, &t.ID, &t.UserID, &name, &t.Content, &specs, &t.Meta, &updated, &created, &t.Valves}, more...)...)
	t.Name, t.UpdatedAt, t.CreatedAt = name.String, updated.Int64, created.Int64
	if t.Specs = specs.List(); t.Specs == nil {
		t.Specs = []jsondoc.Doc{}
	}
	t.Meta = Shape(t.Meta)
	return t, err
}

// Shape is a meta object with all members that each has, in order.
func Shape(meta jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(meta.Or(jsondoc.Doc("{}")))
	var b jsondoc.Builder
	for _, m := range []struct{ name, absent string }{{"i18n", "null"}, {"description", "null"}, {"manifest", "{}"}, {"has_user_valves", "false"}} {
		v := jsondoc.Doc(m.absent)
		if o.Has(m.name) {
			v = o.Pop(m.name)
		}
		b.Raw(m.name, v)
	}
	o.Each(func(name string, v jsondoc.Doc) bool {
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

// Get reads a tool; store.ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, id string) (*Tool, error) {
	t, err := scan(s.db.QueryRow(ctx, "SELECT "+columns+" FROM tool t WHERE t.id = $1", id))
	if err != nil {
		return nil, fmt.Errorf("tool %q: %w", id, err)
	}
	return &t, nil
}

// ByIDs reads those tools that are there, by id.
func (s *Store) ByIDs(ctx context.Context, ids []string) (map[string]*Tool, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	in, args := store.In(nil, ids)
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM tool t WHERE t.id IN "+in, args...)
	list, err := store.Collect(rows, err, func(r *sql.Rows) (Tool, error) { return scan(r) })
	if err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	out := make(map[string]*Tool, len(list))
	for i := range list {
		out[list[i].ID] = &list[i]
	}
	return out, nil
}

// Filter says which tools List gives.
type Filter struct {
	Viewer     *access.Viewer // who owns them or has a grant; nil for all
	Permission string         // of the grant
	Content    bool           // read the code too
}

// List lists tools, those changed last first.
func (s *Store) List(ctx context.Context, f Filter) ([]Listed, error) {
	where, args := "TRUE", []any(nil)
	if f.Viewer != nil {
		var clause string
		clause, args = f.Viewer.Clause(nil, ResourceType, "t.id", f.Permission)
		args = append(args, f.Viewer.UserID)
		where = fmt.Sprintf("(t.user_id = $%d OR %s)", len(args), clause)
	}
	what := shallow
	if f.Content {
		what = columns
	}
	tie := s.db.Dialect().Pick(", t.rowid", ", t.created_at, t.id")
	rows, err := s.db.Query(ctx, "SELECT "+what+`, u.id, u.name, u.role, u.email FROM tool t LEFT JOIN "user" u ON u.id = t.user_id WHERE `+where+" ORDER BY t.updated_at DESC"+tie, args...)
	list, err := store.Collect(rows, err, func(r *sql.Rows) (Listed, error) {
		var id, name, role, email sql.NullString
		t, err := scan(r, &id, &name, &role, &email)
		l := Listed{Tool: t}
		if id.Valid {
			l.Owner = &Owner{id.String, name.String, role.String, email.String}
		}
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tools: %w", err)
	}
	return list, nil
}

// Form is what a tool is to be. Meta is complete; see Shape.
type Form struct {
	Name, Content string
	Meta          jsondoc.Doc
	Specs         []jsondoc.Doc
	Message       *string // commit message of the version
}

// Insert adds a tool with its first version and grants. store.ErrConflict says that the id is taken.
func (s *Store) Insert(ctx context.Context, id, userID string, f Form, grants []access.Grant) (*Tool, error) {
	now := time.Now().Unix()
	t := Tool{ID: id, UserID: &userID, Name: f.Name, Content: &f.Content, Specs: f.Specs, Meta: f.Meta, UpdatedAt: now, CreatedAt: now}
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		version, err := history.Add(ctx, tx, id, versions.Version{UserID: userID, Message: f.Message, CreatedAt: now}, snapshot(f.Name, f.Content, f.Meta))
		if err != nil {
			return err
		}
		t.VersionID = &version
		_, err = tx.Exec(ctx, "INSERT INTO tool (version_id, id, user_id, name, content, specs, meta, updated_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			version, id, userID, f.Name, f.Content, jsondoc.Array(f.Specs...), f.Meta, now, now)
		if err != nil {
			return err
		}
		_, err = s.access.SetGrants(ctx, tx, ResourceType, id, grants)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("insert tool: %w", err)
	}
	return &t, nil
}

// Change is how a tool is changed.
type Change struct {
	Form
	UserID string // who does it
	// Version is the one to go back to, whose content Form has; "" makes a new one, unless nothing changed.
	Version string
	NoCode  bool // the user may not change the code
}

// Update changes a tool. ErrCode, versions.ErrNone and ErrOtherVersion say why it does not.
func (s *Store) Update(ctx context.Context, id string, c Change) (*Tool, error) {
	var t Tool
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		if t, err = scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM tool t WHERE t.id = $1"+tx.Dialect().ForUpdate(), id)); err != nil {
			return err
		}
		if c.NoCode && t.Source() != c.Content {
			return ErrCode
		}
		before, after := snapshot(t.Name, t.Source(), t.Meta), snapshot(c.Name, c.Content, c.Meta)
		now := time.Now().Unix()
		switch {
		case c.Version != "":
			v, err := history.Get(ctx, tx, id, c.Version)
			if err != nil {
				return err
			}
			if !jsondoc.Same(after, resnap(v.Snapshot)) {
				return ErrOtherVersion
			}
			t.VersionID = &v.ID
		case t.VersionID == nil || *t.VersionID == "" || !jsondoc.Same(before, after):
			v, err := history.Add(ctx, tx, id, versions.Version{ParentID: t.VersionID, UserID: c.UserID, Message: c.Message, CreatedAt: now}, after)
			if err != nil {
				return err
			}
			t.VersionID = &v
		}
		t.Name, t.Content, t.Specs, t.Meta, t.UpdatedAt = c.Name, &c.Content, c.Specs, c.Meta, now
		_, err = tx.Exec(ctx, "UPDATE tool SET version_id = $1, name = $2, content = $3, specs = $4, meta = $5, updated_at = $6 WHERE id = $7",
			t.VersionID, t.Name, t.Content, jsondoc.Array(t.Specs...), t.Meta, t.UpdatedAt, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("change tool %q: %w", id, err)
	}
	return &t, nil
}

// SetValves stores the values of a tool.
func (s *Store) SetValves(ctx context.Context, id string, valves jsondoc.Doc) error {
	_, err := s.db.Exec(ctx, "UPDATE tool SET valves = $1, updated_at = $2 WHERE id = $3", valves, time.Now().Unix(), id)
	if err != nil {
		return fmt.Errorf("valves of tool %q: %w", id, err)
	}
	return nil
}

// SetGrants replaces the grants of a tool.
func (s *Store) SetGrants(ctx context.Context, id string, grants []access.Grant) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		_, err := s.access.SetGrants(ctx, tx, ResourceType, id, grants)
		return err
	})
}

// Delete removes a tool with its versions and grants.
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := s.access.DeleteGrants(ctx, tx, ResourceType, id); err != nil {
			return err
		}
		if err := history.Clear(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM tool WHERE id = $1", id); err != nil {
			return fmt.Errorf("delete tool %q: %w", id, err)
		}
		return nil
	})
}

// snapshot is what a version keeps: what people write, not what is derived from the code.
func snapshot(name, content string, meta jsondoc.Doc) jsondoc.Doc {
	m := jsondoc.Open(meta.Or(jsondoc.Doc("{}")))
	if !m.Has("description") {
		m.Set("description", jsondoc.Doc("null"))
	}
	if !m.Get("i18n").Truthy() {
		m.Pop("i18n")
	}
	m.Pop("manifest")
	m.Pop("has_user_valves")
	var b jsondoc.Builder
	b.Add("name", name)
	b.Add("content", content)
	b.Raw("meta", m.Doc())
	return b.Done()
}

// resnap is a stored snapshot in the form of new ones.
func resnap(d jsondoc.Doc) jsondoc.Doc {
	return snapshot(d.Text("name"), d.Text("content"), d.Get("meta"))
}
