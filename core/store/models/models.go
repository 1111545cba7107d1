// Package models stores workspace models and the settings of providers' models: the tables model and model_history.
package models

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
)

// ResourceType is the type of models in access grants.
const ResourceType = "model"

const columns = "id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at, version_id"

// Store reads and writes models. It implements core/models.Rows.
type Store struct{ db *store.DB }

// New returns the models of a database.
func New(db *store.DB) *Store { return &Store{db} }

var _ models.Rows = (*Store)(nil)

func scan(r interface{ Scan(...any) error }, more ...any) (models.Row, error) {
	var m models.Row
	var user, name sql.NullString
	var active sql.NullBool
	var updated, created sql.NullInt64
	dest := append([]any{&m.ID, &user, &m.BaseModelID, &name, &m.Params, &m.Meta, &active, &updated, &created, &m.VersionID}, more...)
	if err := r.Scan(dest...); err != nil {
		return m, err
	}
	m.UserID, m.Name, m.IsActive, m.UpdatedAt, m.CreatedAt = user.String, name.String, active.Bool, updated.Int64, created.Int64
	return m, nil
}

func collect(rows *sql.Rows, err error) ([]models.Row, error) {
	out, err := store.Collect(rows, err, func(r *sql.Rows) (models.Row, error) { return scan(r) })
	if err != nil {
		return nil, fmt.Errorf("read models: %w", err)
	}
	return out, nil
}

func jsonBody(s string) string {
	q := jsondoc.AppendString(nil, s)
	return string(q[1 : len(q)-1])
}

// order is that of insertion, as far as the database knows it.
func order(q store.Querier) string { return " ORDER BY " + q.Dialect().Pick("rowid", "created_at, id") }

// All reads all models in the order they were made.
func (s *Store) All(ctx context.Context) ([]models.Row, error) {
	return collect(s.db.Query(ctx, "SELECT "+columns+" FROM model"+order(s.db)))
}

// Bases reads the settings of providers' models.
func (s *Store) Bases(ctx context.Context) ([]models.Row, error) {
	return collect(s.db.Query(ctx, "SELECT "+columns+" FROM model WHERE base_model_id IS NULL"+order(s.db)))
}

// ByIDs reads some models.
func (s *Store) ByIDs(ctx context.Context, ids []string) ([]models.Row, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	in, args := store.In(nil, ids)
	return collect(s.db.Query(ctx, "SELECT "+columns+" FROM model WHERE id IN "+in+order(s.db), args...))
}

// Get reads one model; store.ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, id string) (models.Row, error) { return get(ctx, s.db, id) }

func get(ctx context.Context, q store.Querier, id string) (models.Row, error) {
	m, err := scan(q.QueryRow(ctx, "SELECT "+columns+" FROM model WHERE id = $1", id))
	if err != nil {
		return m, fmt.Errorf("model %q: %w", id, err)
	}
	return m, nil
}

// Grants reads the access grants of all models.
func (s *Store) Grants(ctx context.Context) ([]models.Grant, error) {
	return access.AllGrants(ctx, s.db, ResourceType)
}

// Version tells states of the tables apart: it differs after a change, unless two changes fall into one second.
func (s *Store) Version(ctx context.Context) (models.Version, error) {
	var v models.Version
	err := s.db.QueryRow(ctx, "SELECT m.n, m.t, g.n, g.t FROM (SELECT count(*) AS n, coalesce(max(updated_at), 0) AS t FROM model) m, "+
		"(SELECT count(*) AS n, coalesce(max(created_at), 0) AS t FROM access_grant WHERE resource_type = 'model') g").
		Scan(&v.Rows, &v.Updated, &v.Grants, &v.Granted)
	if err != nil {
		return v, fmt.Errorf("version of models: %w", err)
	}
	return v, nil
}

// Filter chooses models for a list of the workspace.
type Filter struct {
	Query     string   // part of the name, the base model's id, or the owner's name, address or username
	View      string   // "created": the viewer's own, "shared": those of others, else both
	Tag       string   // name of a tag
	OrderBy   string   // "name", "created_at" or "updated_at"; else the order of the table
	Asc       bool     // direction of OrderBy
	Viewer    string   // who looks
	Limited   bool     // only what the viewer owns or may read
	Groups    []string // of the viewer
	Skip, Max int
}

// Owner is who a model belongs to, as far as lists show it; nil where the account is gone.
type Owner struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Role  string `json:"role"`
	Email string `json:"email"`
}

// Listed is a model with its owner.
type Listed struct {
	models.Row
	Owner *Owner
}

// Search lists workspace models (those with a base model) and counts all that the filter lets through.
func (s *Store) Search(ctx context.Context, f Filter) (list []Listed, total int, err error) {
	where, args := f.where(s.db)
	from := ` FROM model m LEFT JOIN "user" u ON u.id = m.user_id WHERE ` + where
	if err := s.db.QueryRow(ctx, "SELECT count(*)"+from, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count models: %w", err)
	}
	args = append(args, f.Max, f.Skip)
	text := "SELECT m." + strings.ReplaceAll(columns, ", ", ", m.") + ", u.id, u.name, u.role, u.email" + from + f.order(s.db) +
		fmt.Sprintf(" LIMIT $%d OFFSET $%d", len(args)-1, len(args))
	rows, err := s.db.Query(ctx, text, args...)
	list, err = store.Collect(rows, err, func(r *sql.Rows) (Listed, error) {
		var id, name, role, email sql.NullString
		m, err := scan(r, &id, &name, &role, &email)
		l := Listed{Row: m}
		if id.Valid {
			l.Owner = &Owner{id.String, name.String, role.String, email.String}
		}
		return l, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list models: %w", err)
	}
	return list, total, nil
}

func (f *Filter) where(q store.Querier) (string, []any) {
	d := q.Dialect()
	terms := []string{"m.base_model_id IS NOT NULL"}
	var args []any
	add := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	if f.Query != "" {
		// The reference does not escape: "_" and "%" are wildcards.
		p := add("%" + f.Query + "%")
		var any []string
		for _, column := range []string{"m.name", "m.base_model_id", "u.name", "u.email", "u.username"} {
			any = append(any, d.Like(column, p))
		}
		terms = append(terms, "("+strings.Join(any, " OR ")+")")
	}
	switch f.View {
	case "created":
		terms = append(terms, "m.user_id = "+add(f.Viewer))
	case "shared":
		terms = append(terms, "m.user_id <> "+add(f.Viewer))
	}
	if f.Limited {
		var term string
		term, args = granted(args, f.Viewer, f.Groups, access.Read)
		terms = append(terms, term)
	}
	if f.Tag != "" {
		terms = append(terms, tagTerm(d, f.Tag, add))
	}
	return strings.Join(terms, " AND "), args
}

// granted is true of the models m that a user owns or has a grant for.
func granted(args []any, user string, groups []string, permission string) (string, []any) {
	clause, args := access.Viewer{UserID: user, GroupIDs: groups}.Clause(args, ResourceType, "m.id", permission)
	args = append(args, user)
	return fmt.Sprintf("(m.user_id = $%d OR %s)", len(args), clause), args
}

// tagTerm finds a tag's name as a JSON string anywhere in meta, as the reference does. SQLite's lower knows ASCII only,
// so other tags match in their own spelling there; either may stand escaped.
func tagTerm(d store.Dialect, tag string, add func(any) string) string {
	column := "lower(CAST(m.meta AS TEXT))"
	if d == store.SQLite && strings.ContainsFunc(tag, func(r rune) bool { return r > 127 }) {
		column = "CAST(m.meta AS TEXT)"
	} else {
		tag = strings.ToLower(tag)
	}
	var any []string
	for _, v := range jsonVariants(tag) {
		any = append(any, column+" LIKE "+add("%\""+escapeLike(v)+"\"%")+" ESCAPE '/'")
	}
	return "(" + strings.Join(any, " OR ") + ")"
}

var likeEscaper = strings.NewReplacer("/", "//", "%", "/%", "_", "/_")

func escapeLike(s string) string { return likeEscaper.Replace(s) }

// jsonVariants are the ways a text stands in JSON: as it is, and with escapes for what is not ASCII.
func jsonVariants(s string) []string {
	plain := jsonBody(s)
	var b strings.Builder
	for _, r := range plain {
		switch {
		case r < 128:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, "\\u%04x\\u%04x", 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	if escaped := b.String(); escaped != plain {
		return []string{plain, escaped}
	}
	return []string{plain}
}

func (f *Filter) order(q store.Querier) string {
	column, tie := "", q.Dialect().Pick(", m.rowid", ", m.id")
	switch f.OrderBy {
	case "name":
		column = q.Dialect().ByCodePoint("m.name")
	case "created_at", "updated_at":
		column = "m." + f.OrderBy
	default:
		if f.Query == "" && f.View == "" && f.Tag == "" && !f.Limited && f.OrderBy == "" {
			return " ORDER BY m.created_at DESC" + tie
		}
		return " ORDER BY " + q.Dialect().Pick("m.rowid", "m.created_at, m.id")
	}
	if f.Asc {
		return " ORDER BY " + column + tie
	}
	return " ORDER BY " + column + " DESC" + tie
}

// Tags are the names of the tags of workspace models, or of providers' models with bases set, sorted; with limited, of
// those that the user may read.
func (s *Store) Tags(ctx context.Context, bases, limited bool, user string, groups []string) ([]string, error) {
	where := "m.base_model_id IS NOT NULL"
	if bases {
		where = "m.base_model_id IS NULL"
	}
	var args []any
	if limited {
		var term string
		term, args = granted(args, user, groups, access.Read)
		where += " AND " + term
	}
	rows, err := s.db.Query(ctx, "SELECT m.meta FROM model m WHERE "+where, args...)
	metas, err := store.Collect(rows, err, func(r *sql.Rows) (m models.Row, err error) {
		err = r.Scan(&m.Meta)
		return
	})
	if err != nil {
		return nil, fmt.Errorf("tags of models: %w", err)
	}
	out := []string{}
	for _, m := range metas {
		out = append(out, models.Tags(m.Meta.Get("tags"))...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Writable reads the models that a user owns or has a write grant for, of those in ids if that is not nil.
func (s *Store) Writable(ctx context.Context, user string, groups, ids []string) ([]models.Row, error) {
	term, args := granted(nil, user, groups, access.Write)
	where := "m.base_model_id IS NOT NULL AND " + term
	if ids != nil {
		var in string
		in, args = store.In(args, ids)
		where += " AND m.id IN " + in
	}
	return collect(s.db.Query(ctx, "SELECT m."+strings.ReplaceAll(columns, ", ", ", m.")+" FROM model m WHERE "+where+
		s.db.Dialect().Pick(" ORDER BY m.rowid", " ORDER BY m.created_at, m.id"), args...))
}

// Presets reads the workspace models, of those in ids if that is not nil.
func (s *Store) Presets(ctx context.Context, ids []string) ([]models.Row, error) {
	where, args := "base_model_id IS NOT NULL", []any(nil)
	if ids != nil {
		var in string
		in, args = store.In(args, ids)
		where += " AND id IN " + in
	}
	return collect(s.db.Query(ctx, "SELECT "+columns+" FROM model WHERE "+where+order(s.db), args...))
}
