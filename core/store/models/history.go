package models

import (
	"context"
	"fmt"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/versions"
)

var history = versions.Kind{Name: "model"}

// Version is an earlier or current state of a model.
type Version struct {
	versions.Version `json:",inline"`
	ModelID          string          `json:"model_id"`
	User             *versions.Named `json:"user"`
}

// VersionEntry is a version with its content: name, base_model_id, params, meta.
type VersionEntry struct {
	Version  `json:",inline"`
	Snapshot jsondoc.Doc `json:"snapshot"`
}

func shaped(modelID string, e *versions.Entry) Version {
	return Version{e.Version, modelID, e.By()}
}

// History lists the versions of a model, latest first; pages count from 1.
func (s *Store) History(ctx context.Context, modelID string, page int) ([]Version, error) {
	list, err := history.List(ctx, s.db, modelID, page-1)
	out := make([]Version, len(list))
	for i := range list {
		out[i] = shaped(modelID, &list[i])
	}
	return out, err
}

// Entry reads one version of a model; versions.ErrNone where there is none.
func (s *Store) Entry(ctx context.Context, modelID, id string) (VersionEntry, error) {
	e, err := history.Get(ctx, s.db, modelID, id)
	return VersionEntry{shaped(modelID, &e), e.Snapshot}, err
}

// DeleteVersion removes a version of a model; those made from it get its parent. versions.ErrCurrent and versions.ErrNone
// say why not.
func (s *Store) DeleteVersion(ctx context.Context, modelID, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error { return history.Delete(ctx, tx, modelID, id) })
}

// Resource is what a model refers to.
type Resource struct {
	Owner  string
	Active bool
}

// resourceTables are the tables of what a model may refer to, and whether their rows can be switched off.
var resourceTables = map[string]bool{"knowledge": false, "note": false, "file": false, "skill": true, "tool": false, "function": true}

// Resource finds what a model refers to by its kind: knowledge, note, file, skill, tool or function. store.ErrNotFound
// where it is gone.
func (s *Store) Resource(ctx context.Context, kind, id string) (Resource, error) {
	switchable, ok := resourceTables[kind]
	if !ok {
		return Resource{}, fmt.Errorf("models refer to no %q", kind)
	}
	active := "TRUE"
	if switchable {
		active = "coalesce(is_active, TRUE)"
	}
	var r Resource
	err := s.db.QueryRow(ctx, "SELECT coalesce(user_id, ''), "+active+" FROM "+kind+" WHERE id = $1", id).Scan(&r.Owner, &r.Active)
	if err != nil {
		return r, fmt.Errorf("%s %q: %w", kind, id, err)
	}
	return r, nil
}
