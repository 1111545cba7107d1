package prompts

import (
	"context"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/versions"
)

var history = versions.Kind{Name: "prompt", Inserted: true}

// Version is an earlier or current state of a prompt.
type Version struct {
	versions.Version `json:",inline"`
	PromptID         string      `json:"prompt_id"`
	Snapshot         jsondoc.Doc `json:"snapshot"` // name, content, command, data, meta, tags, access_grants
}

// VersionBy is a version and who made it; nil where the account is gone.
type VersionBy struct {
	Version `json:",inline"`
	User    *Owner `json:"user"`
}

// History lists the versions of a prompt, latest first; pages count from 0.
func (s *Store) History(ctx context.Context, promptID string, page int) ([]VersionBy, error) {
	list, err := history.List(ctx, s.db, promptID, page)
	out := make([]VersionBy, len(list))
	for i, e := range list {
		out[i].Version = Version{e.Version, promptID, e.Snapshot}
		if a := e.Author; a != nil {
			out[i].User = &Owner{a.ID, a.Name, a.Role, a.Email}
		}
	}
	return out, err
}

// Version reads a version of a prompt; versions.ErrNone where there is none.
func (s *Store) Version(ctx context.Context, promptID, id string) (Version, error) {
	e, err := history.Get(ctx, s.db, promptID, id)
	return Version{e.Version, promptID, e.Snapshot}, err
}

// Restore makes a version the one in use: name, content, data, meta and tags are its again, command and grants stay.
// versions.ErrNone says that there is none.
func (s *Store) Restore(ctx context.Context, promptID, id string) (*Prompt, error) {
	return s.edit(ctx, promptID, func(tx *store.Tx, p *Prompt) error {
		v, err := history.Get(ctx, tx, promptID, id)
		if err != nil {
			return err
		}
		if name, ok := v.Snapshot.Get("name").AsText(); ok {
			p.Name = name
		}
		if content, ok := v.Snapshot.Get("content").AsText(); ok {
			p.Content = content
		}
		p.Data = v.Snapshot.Get("data").Or(p.Data)
		p.Meta = v.Snapshot.Get("meta").Or(p.Meta)
		p.Tags = v.Snapshot.Get("tags").Or(p.Tags)
		p.VersionID = &v.ID
		return nil
	})
}

// DeleteVersion removes a version of a prompt; those made from it get its parent. versions.ErrNone and versions.ErrCurrent
// say why it does not.
func (s *Store) DeleteVersion(ctx context.Context, promptID, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error { return history.Delete(ctx, tx, promptID, id) })
}
