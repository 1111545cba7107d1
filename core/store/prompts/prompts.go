// Package prompts stores the prompts that people call by a command, and their versions: the tables prompt and
// prompt_history.
package prompts

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/versions"
)

// ResourceType is the type of prompts in access grants.
const ResourceType = "prompt"

// Prompt is a text that is put into a chat when its command is typed. Times are Unix seconds.
type Prompt struct {
	ID        string      `json:"id"`
	Command   string      `json:"command"` // without the slash; no two prompts have the same
	UserID    string      `json:"user_id"`
	Name      string      `json:"name"`
	Content   string      `json:"content"`
	Data      jsondoc.Doc `json:"data"`
	Meta      jsondoc.Doc `json:"meta"`
	Tags      jsondoc.Doc `json:"tags"` // a list of texts, or null
	IsActive  bool        `json:"is_active"`
	VersionID *string     `json:"version_id"` // of the version in use
	CreatedAt int64       `json:"created_at"`
	UpdatedAt int64       `json:"updated_at"`
}

// Owner is who a prompt belongs to, as far as lists show it.
type Owner struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Role  string `json:"role"`
	Email string `json:"email"`
}

// Listed is a prompt with its owner, nil where the account is gone.
type Listed struct {
	Prompt
	Owner *Owner
}

// Store reads and writes prompts.
type Store struct {
	db     *store.DB
	access *access.Access
}

// New returns the prompts of a database, with grants kept by a.
func New(db *store.DB, a *access.Access) *Store { return &Store{db, a} }

const columns = "p.id, p.command, p.user_id, p.name, p.content, p.data, p.meta, p.tags, p.is_active, p.version_id, p.created_at, p.updated_at"

func scan(r interface{ Scan(...any) error }, more ...any) (p Prompt, err error) {
	var command sql.NullString
	err = r.Scan(append([]any{&p.ID, &command, &p.UserID, &p.Name, &p.Content, &p.Data, &p.Meta, &p.Tags, &p.IsActive, &p.VersionID, &p.CreatedAt, &p.UpdatedAt}, more...)...)
	p.Command = command.String
	for _, d := range []*jsondoc.Doc{&p.Data, &p.Meta, &p.Tags} {
		*d = d.Or(jsondoc.Doc("null"))
	}
	return p, err
}

// Get reads a prompt; store.ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, id string) (*Prompt, error) {
	p, err := scan(s.db.QueryRow(ctx, "SELECT "+columns+" FROM prompt p WHERE p.id = $1", id))
	if err != nil {
		return nil, fmt.Errorf("prompt %q: %w", id, err)
	}
	return &p, nil
}

// CommandOwner is the id of the prompt that has a command; "" where none has.
func (s *Store) CommandOwner(ctx context.Context, command string) (string, error) {
	rows, err := s.db.Query(ctx, "SELECT id FROM prompt WHERE command = $1", command)
	ids, err := store.Strings(rows, err)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// Viewer is who looks at prompts. Who is Free sees all of them.
type Viewer struct {
	access.Viewer
	Free bool
}

// readable is true of the prompts that the viewer owns or has a read grant for.
func (v Viewer) readable(args []any) (string, []any) {
	clause, args := v.Clause(args, ResourceType, "p.id", access.Read)
	args = append(args, v.UserID)
	return fmt.Sprintf("(p.user_id = $%d OR %s)", len(args), clause), args
}

// Active lists the prompts in use that the viewer may read, those changed last first.
func (s *Store) Active(ctx context.Context, v Viewer) ([]Prompt, error) {
	where, args := v.active()
	rows, err := s.db.Query(ctx, "SELECT "+columns+" FROM prompt p WHERE "+where+" ORDER BY p.updated_at DESC"+s.tie(), args...)
	list, err := store.Collect(rows, err, func(r *sql.Rows) (Prompt, error) { return scan(r) })
	if err != nil {
		return nil, fmt.Errorf("list prompts: %w", err)
	}
	return list, nil
}

func (v Viewer) active() (where string, args []any) {
	if v.Free {
		return "p.is_active", nil
	}
	where, args = v.readable(nil)
	return "p.is_active AND " + where, args
}

// tie keeps the order of insertion among equals, as far as the database knows it.
func (s *Store) tie() string { return s.db.Dialect().Pick(", p.rowid", ", p.created_at, p.id") }

// Tags are the tags of the prompts in use that the viewer may read, sorted.
func (s *Store) Tags(ctx context.Context, v Viewer) ([]string, error) {
	where, args := v.active()
	rows, err := s.db.Query(ctx, "SELECT p.tags FROM prompt p WHERE "+where, args...)
	lists, err := store.Collect(rows, err, func(r *sql.Rows) (d jsondoc.Doc, err error) {
		err = r.Scan(&d)
		return
	})
	if err != nil {
		return nil, fmt.Errorf("tags of prompts: %w", err)
	}
	out := []string{}
	for _, l := range lists {
		for _, tag := range l.Texts() {
			if tag != "" {
				out = append(out, tag)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Filter says which prompts Search lists.
type Filter struct {
	Viewer    Viewer
	Query     string // in name, command, content, or the owner's name or e-mail; % and _ are wildcards, as in the reference
	View      string // "created" by the viewer, "shared" by others; else both
	Tag       string
	OrderBy   string // name, created_at or updated_at, which is the default
	Asc       bool   // with an OrderBy
	Skip, Max int
}

// Search lists prompts and counts all that the filter lets through.
func (s *Store) Search(ctx context.Context, f Filter) (list []Listed, total int, err error) {
	where, args := f.where(s.db.Dialect())
	from := ` FROM prompt p LEFT JOIN "user" u ON u.id = p.user_id WHERE ` + where
	if err := s.db.QueryRow(ctx, "SELECT count(*)"+from, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count prompts: %w", err)
	}
	args = append(args, f.Max, f.Skip)
	rows, err := s.db.Query(ctx, "SELECT "+columns+", u.id, u.name, u.role, u.email"+from+f.order(s.db.Dialect())+s.tie()+
		fmt.Sprintf(" LIMIT $%d OFFSET $%d", len(args)-1, len(args)), args...)
	list, err = store.Collect(rows, err, func(r *sql.Rows) (Listed, error) {
		var id, name, role, email sql.NullString
		p, err := scan(r, &id, &name, &role, &email)
		l := Listed{Prompt: p}
		if id.Valid {
			l.Owner = &Owner{id.String, name.String, role.String, email.String}
		}
		return l, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list prompts: %w", err)
	}
	return list, total, nil
}

func (f *Filter) where(d store.Dialect) (string, []any) {
	terms := []string{"TRUE"}
	var args []any
	add := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	if f.Query != "" {
		p := add("%" + f.Query + "%")
		var any []string
		for _, column := range []string{"p.name", "p.command", "p.content", "u.name", "u.email"} {
			any = append(any, d.Like(column, p))
		}
		terms = append(terms, "("+strings.Join(any, " OR ")+")")
	}
	switch f.View {
	case "created":
		terms = append(terms, "p.user_id = "+add(f.Viewer.UserID))
	case "shared":
		terms = append(terms, "p.user_id <> "+add(f.Viewer.UserID))
	}
	if !f.Viewer.Free {
		var term string
		term, args = f.Viewer.readable(args)
		terms = append(terms, term)
	}
	if f.Tag != "" {
		terms = append(terms, tagTerm(d, f.Tag, add))
	}
	return strings.Join(terms, " AND "), args
}

// tagTerm is true of prompts with a tag, in whatever case.
func tagTerm(d store.Dialect, tag string, add func(any) string) string {
	if d == store.Postgres {
		return "EXISTS (SELECT 1 FROM json_array_elements_text(CASE json_typeof(p.tags) WHEN 'array' THEN " + d.JSON("p.tags") + " ELSE '[]' END) t WHERE lower(t) = lower(" + add(tag) + "))"
	}
	return "EXISTS (SELECT 1 FROM json_each(" + d.JSON("p.tags") + ") t WHERE " + d.ILike("t.value", add(likeEscaper.Replace(tag))) + ")"
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)

func (f *Filter) order(d store.Dialect) string {
	column := "p.updated_at"
	switch f.OrderBy {
	case "name":
		column = d.ByCodePoint("p.name")
	case "created_at":
		column = "p.created_at"
	case "updated_at":
	default:
		return " ORDER BY p.updated_at DESC"
	}
	if f.Asc {
		return " ORDER BY " + column
	}
	return " ORDER BY " + column + " DESC"
}

// Form is what a prompt is to be; documents that are nil were not sent.
type Form struct {
	Command, Name, Content string
	Data, Meta, Tags       jsondoc.Doc
	Message                *string // commit message of the version
	Draft                  bool    // of a change: make a version, but leave the prompt's content as it is
}

func (f *Form) snapshot(command string, tags jsondoc.Doc, grants []access.Grant) jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("name", f.Name)
	b.Add("content", f.Content)
	b.Add("command", command)
	b.Raw("data", f.Data.Or(jsondoc.Doc("{}")))
	b.Raw("meta", f.Meta.Or(jsondoc.Doc("{}")))
	b.Raw("tags", tags)
	if grants == nil {
		grants = []access.Grant{}
	}
	b.Add("access_grants", grants)
	return b.Done()
}

// Insert adds a prompt with its first version. store.ErrConflict says that the command is taken.
func (s *Store) Insert(ctx context.Context, userID string, f Form, grants []access.Grant) (*Prompt, error) {
	now := time.Now().Unix()
	p := Prompt{ID: store.NewID(), Command: f.Command, UserID: userID, Name: f.Name, Content: f.Content, IsActive: true, CreatedAt: now, UpdatedAt: now,
		Data: f.Data.Or(jsondoc.Doc("{}")), Meta: f.Meta.Or(jsondoc.Doc("{}")), Tags: f.Tags.Or(jsondoc.Doc("[]"))}
	if f.Message == nil || *f.Message == "" {
		first := "Initial version"
		f.Message = &first
	}
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		given, err := s.access.SetGrants(ctx, tx, ResourceType, p.ID, grants)
		if err != nil {
			return err
		}
		version, err := history.Add(ctx, tx, p.ID, versions.Version{UserID: userID, Message: f.Message, CreatedAt: now}, f.snapshot(f.Command, p.Tags, given))
		if err != nil {
			return err
		}
		p.VersionID = &version
		_, err = tx.Exec(ctx, "INSERT INTO prompt ("+strings.ReplaceAll(columns, "p.", "")+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
			p.ID, p.Command, p.UserID, p.Name, p.Content, p.Data, p.Meta, p.Tags, p.IsActive, p.VersionID, p.CreatedAt, p.UpdatedAt)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("insert prompt: %w", err)
	}
	return &p, nil
}

// edit changes a prompt within a transaction and stores what f leaves of it.
func (s *Store) edit(ctx context.Context, id string, f func(*store.Tx, *Prompt) error) (*Prompt, error) {
	var p Prompt
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		if p, err = scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM prompt p WHERE p.id = $1"+tx.Dialect().ForUpdate(), id)); err != nil {
			return err
		}
		if err := f(tx, &p); err != nil {
			return err
		}
		p.UpdatedAt = time.Now().Unix()
		_, err = tx.Exec(ctx, "UPDATE prompt SET command = $1, name = $2, content = $3, data = $4, meta = $5, tags = $6, is_active = $7, version_id = $8, updated_at = $9 WHERE id = $10",
			p.Command, p.Name, p.Content, p.Data, p.Meta, p.Tags, p.IsActive, p.VersionID, p.UpdatedAt, p.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("change prompt %q: %w", id, err)
	}
	return &p, nil
}

// Update changes a prompt; a version is added where its name, command, content or tags change. Data and Meta that are
// empty leave those of the prompt. store.ErrConflict says that the command is taken.
func (s *Store) Update(ctx context.Context, id, userID string, f Form) (*Prompt, error) {
	return s.edit(ctx, id, func(tx *store.Tx, p *Prompt) error {
		changed := p.Name != f.Name || p.Command != f.Command || p.Content != f.Content ||
			f.Tags != nil && !slices.Equal(f.Tags.Texts(), p.Tags.Texts())
		p.Command = f.Command
		if !f.Draft {
			p.Name, p.Content = f.Name, f.Content
			if f.Data.Truthy() {
				p.Data = f.Data
			}
			if f.Meta.Truthy() {
				p.Meta = f.Meta
			}
			p.Tags = f.Tags.Or(p.Tags)
		}
		if !changed {
			return nil
		}
		grants, err := access.ReadGrants(ctx, tx, ResourceType, id)
		if err != nil {
			return err
		}
		parent, err := history.Latest(ctx, tx, id)
		if err != nil {
			return err
		}
		tags := f.Tags
		if tags == nil && p.Tags.Truthy() {
			tags = p.Tags
		}
		version, err := history.Add(ctx, tx, id, versions.Version{ParentID: parent, UserID: userID, Message: f.Message, CreatedAt: time.Now().Unix()},
			f.snapshot(p.Command, tags.Or(jsondoc.Doc("[]")), grants[id]))
		if err == nil && !f.Draft {
			p.VersionID = &version
		}
		return err
	})
}

// Rename changes name, command and, unless nil, tags, without a version. store.ErrConflict says that the command is taken.
func (s *Store) Rename(ctx context.Context, id, name, command string, tags jsondoc.Doc) (*Prompt, error) {
	return s.edit(ctx, id, func(_ *store.Tx, p *Prompt) error {
		p.Name, p.Command, p.Tags = name, command, tags.Or(p.Tags)
		return nil
	})
}

// Toggle switches a prompt on or off.
func (s *Store) Toggle(ctx context.Context, id string) (*Prompt, error) {
	return s.edit(ctx, id, func(_ *store.Tx, p *Prompt) error {
		p.IsActive = !p.IsActive
		return nil
	})
}

// SetGrants replaces the grants of a prompt.
func (s *Store) SetGrants(ctx context.Context, id string, grants []access.Grant) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		_, err := s.access.SetGrants(ctx, tx, ResourceType, id, grants)
		return err
	})
}

// Delete removes a prompt with its versions and grants.
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := s.access.DeleteGrants(ctx, tx, ResourceType, id); err != nil {
			return err
		}
		if err := history.Clear(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM prompt WHERE id = $1", id); err != nil {
			return fmt.Errorf("delete prompt %q: %w", id, err)
		}
		return nil
	})
}
