package models

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/versions"
)

// ErrVersionConflict says that somebody else wrote first.
var ErrVersionConflict = errors.New("the model was changed meanwhile")

// Form is what a model is to be. Params and Meta are in the reference's form.
type Form struct {
	ID          string
	BaseModelID *string
	Name        string
	Params      jsondoc.Doc
	Meta        jsondoc.Doc
	IsActive    bool
	KeepActive  bool    // leave is_active of an existing model as it is
	Message     *string // commit message of the version
}

// snapshot is what a version keeps: all but whether and where the model is shown.
func snapshot(name string, base *string, params, meta jsondoc.Doc) jsondoc.Doc {
	for _, live := range []string{"hidden", "chat_variables_schema"} {
		if meta.Get(live) != nil {
			meta = meta.Delete(live)
		}
	}
	var b jsondoc.Builder
	b.Add("name", name)
	b.Add("base_model_id", base)
	b.Raw("params", params)
	b.Raw("meta", meta)
	return b.Done()
}

func (f *Form) storedMeta() jsondoc.Doc {
	if f.Meta.Get("chat_variables_schema") != nil {
		return f.Meta.Delete("chat_variables_schema")
	}
	return f.Meta
}

func (f *Form) snapshot() jsondoc.Doc { return snapshot(f.Name, f.BaseModelID, f.Params, f.Meta) }

// Insert adds a model with its first version. store.ErrConflict says that the id is taken.
func Insert(ctx context.Context, q store.Querier, f Form, userID string) (models.Row, error) {
	now := time.Now().Unix()
	version, err := history.Add(ctx, q, f.ID, versions.Version{UserID: userID, Message: f.Message, CreatedAt: now}, f.snapshot())
	if err != nil {
		return models.Row{}, err
	}
	m := models.Row{ID: f.ID, UserID: userID, BaseModelID: f.BaseModelID, Name: f.Name, Params: f.Params, Meta: f.storedMeta(),
		IsActive: f.IsActive, UpdatedAt: now, CreatedAt: now, VersionID: &version}
	_, err = q.Exec(ctx, "INSERT INTO model ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
		m.ID, m.UserID, m.BaseModelID, m.Name, m.Params, m.Meta, m.IsActive, m.UpdatedAt, m.CreatedAt, m.VersionID)
	if err != nil {
		return m, fmt.Errorf("insert model %q: %w", f.ID, err)
	}
	return m, nil
}

// Update changes a model; current is its row in the reference's form. A version is added only where something that
// versions keep changed.
func Update(ctx context.Context, q store.Querier, current models.Row, f Form, userID string) (models.Row, error) {
	next := current
	next.Name, next.BaseModelID, next.Params, next.Meta = f.Name, f.BaseModelID, f.Params, f.storedMeta()
	if !f.KeepActive {
		next.IsActive = f.IsActive
	}
	next.UpdatedAt = time.Now().Unix()
	snap := f.snapshot()
	if !jsondoc.Same(snap, snapshot(current.Name, current.BaseModelID, current.Params, current.Meta)) {
		version, err := history.Add(ctx, q, current.ID, versions.Version{ParentID: current.VersionID, UserID: userID, Message: f.Message, CreatedAt: next.UpdatedAt}, snap)
		if err != nil {
			return next, err
		}
		next.VersionID = &version
	}
	return next, write(ctx, q, current, next)
}

// Restore makes an earlier version the current one; f holds its content. Whether the model is active and hidden stays.
func Restore(ctx context.Context, q store.Querier, current models.Row, f Form, version string) (models.Row, error) {
	if _, err := history.Get(ctx, q, current.ID, version); err != nil {
		return current, err
	}
	next := current
	next.Name, next.BaseModelID, next.Params, next.Meta = f.Name, f.BaseModelID, f.Params, f.storedMeta().Delete("hidden")
	if hidden := current.Meta.Get("hidden"); hidden != nil {
		next.Meta = next.Meta.Set(hidden, "hidden")
	}
	next.VersionID, next.UpdatedAt = &version, time.Now().Unix()
	return next, write(ctx, q, current, next)
}

// write stores next unless somebody has made another version since current was read.
func write(ctx context.Context, q store.Querier, current, next models.Row) error {
	args := []any{next.Name, next.BaseModelID, next.Params, next.Meta, next.IsActive, next.UpdatedAt, next.VersionID, next.ID}
	same := "version_id IS NULL"
	if current.VersionID != nil {
		same = "version_id = $9"
		args = append(args, *current.VersionID)
	}
	n, err := store.Affected(q.Exec(ctx, "UPDATE model SET name = $1, base_model_id = $2, params = $3, meta = $4, is_active = $5, updated_at = $6, "+
		"version_id = $7 WHERE id = $8 AND "+same, args...))
	if err != nil {
		return fmt.Errorf("update model %q: %w", next.ID, err)
	}
	if n != 1 {
		return ErrVersionConflict
	}
	return nil
}

// Read reads one model for a change within a transaction.
func Read(ctx context.Context, tx *store.Tx, id string) (models.Row, error) {
	m, err := scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM model WHERE id = $1"+tx.Dialect().ForUpdate(), id))
	if err != nil {
		return m, fmt.Errorf("model %q: %w", id, err)
	}
	return m, nil
}

// Toggle switches a model on or off.
func (s *Store) Toggle(ctx context.Context, id string) error {
	_, err := s.db.Exec(ctx, "UPDATE model SET is_active = NOT is_active, updated_at = $1 WHERE id = $2", time.Now().Unix(), id)
	if err != nil {
		return fmt.Errorf("toggle model %q: %w", id, err)
	}
	return nil
}

// Touch notes that a model changed.
func Touch(ctx context.Context, q store.Querier, id string) error {
	if _, err := q.Exec(ctx, "UPDATE model SET updated_at = $1 WHERE id = $2", time.Now().Unix(), id); err != nil {
		return fmt.Errorf("touch model %q: %w", id, err)
	}
	return nil
}

// Delete removes models with their versions and grants.
func Delete(ctx context.Context, q store.Querier, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	in, args := store.In(nil, ids)
	if err := history.Clear(ctx, q, ids...); err != nil {
		return err
	}
	for _, text := range []string{
		"DELETE FROM access_grant WHERE resource_type = 'model' AND resource_id IN " + in,
		"DELETE FROM model WHERE id IN " + in,
	} {
		if _, err := q.Exec(ctx, text, args...); err != nil {
			return fmt.Errorf("delete models: %w", err)
		}
	}
	return nil
}

// DeleteAll removes all models with their versions and grants.
func DeleteAll(ctx context.Context, q store.Querier) error {
	for _, text := range []string{
		"DELETE FROM access_grant WHERE resource_type = 'model' AND resource_id IN (SELECT id FROM model)",
		"DELETE FROM model_history WHERE model_id IN (SELECT id FROM model)",
		"DELETE FROM model",
	} {
		if _, err := q.Exec(ctx, text); err != nil {
			return fmt.Errorf("delete all models: %w", err)
		}
	}
	return nil
}

// ReadAll reads all models for a change within a transaction.
func ReadAll(ctx context.Context, tx *store.Tx) ([]models.Row, error) {
	return collect(tx.Query(ctx, "SELECT "+columns+" FROM model"+order(tx)+tx.Dialect().ForUpdate()))
}
