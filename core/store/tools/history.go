package tools

import (
	"context"
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/versions"
)

// ErrOtherVersion says that a change to an earlier version holds something else than that version.
var ErrOtherVersion = errors.New("the version holds something else")

var history = versions.Kind{Name: "tool"}

// Version is an earlier or current state of a tool.
type Version struct {
	versions.Version `json:",inline"`
	ToolID           string          `json:"tool_id"`
	User             *versions.Named `json:"user"`
}

// VersionEntry is a version with its content: name, content, meta.
type VersionEntry struct {
	Version  `json:",inline"`
	Snapshot jsondoc.Doc `json:"snapshot"`
}

func shaped(toolID string, e *versions.Entry) Version {
	return Version{e.Version, toolID, e.By()}
}

// History lists the versions of a tool, latest first; pages count from 1.
func (s *Store) History(ctx context.Context, toolID string, page int) ([]Version, error) {
	list, err := history.List(ctx, s.db, toolID, page-1)
	out := make([]Version, len(list))
	for i := range list {
		out[i] = shaped(toolID, &list[i])
	}
	return out, err
}

// Version reads a version of a tool; versions.ErrNone where there is none.
func (s *Store) Version(ctx context.Context, toolID, id string) (VersionEntry, error) {
	e, err := history.Get(ctx, s.db, toolID, id)
	return VersionEntry{shaped(toolID, &e), e.Snapshot}, err
}

// DeleteVersion removes a version of a tool; those made from it get its parent. versions.ErrNone and versions.ErrCurrent
// say why it does not.
func (s *Store) DeleteVersion(ctx context.Context, toolID, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error { return history.Delete(ctx, tx, toolID, id) })
}
