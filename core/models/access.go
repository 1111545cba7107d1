package models

import (
	"context"
	"fmt"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// seesAll says whether access grants do not bind the user.
func (c *Catalog) seesAll(p *auth.Principal) bool {
	return c.o.Env.BypassModelAccess || p.System || p.IsAdmin() && c.o.Env.BypassAdminAccess
}

func (c *Catalog) viewer(ctx context.Context, p *auth.Principal) (access.Viewer, error) {
	groups, err := c.o.Groups.GroupIDs(ctx, p.ID)
	if err != nil {
		return access.Viewer{}, fmt.Errorf("groups of a user: %w", err)
	}
	return access.Viewer{UserID: p.ID, GroupIDs: groups}, nil
}

// Access implements [Finder]: what the reference asks before a chat. Besides the model itself every base model on the
// way down must be granted; one without a row is for administrators.
func (c *Catalog) Access(ctx context.Context, p *auth.Principal, m *Model) error {
	if c.seesAll(p) {
		return nil
	}
	return c.granted(ctx, p, m)
}

// Usable finds what the requests of a user for a model go to, other than chats: no grants bind administrators there.
// ErrNotFound where there is no such model, or none that the user may use.
func Usable(ctx context.Context, f Finder, p *auth.Principal, caller *llm.Caller, id string) (llm.Target, error) {
	m, ok := f.Find(ctx, caller, id)
	if !ok {
		return llm.Target{}, ErrNotFound
	}
	if !p.IsAdmin() {
		if err := f.Access(ctx, p, m); err != nil {
			return llm.Target{}, err
		}
	}
	t, err := f.Target(ctx, caller, m)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return t, nil
}

func (c *Catalog) granted(ctx context.Context, p *auth.Principal, m *Model) error {
	v, err := c.viewer(ctx, p)
	if err != nil {
		return err
	}
	if m.Arena != nil {
		if c.arenaOpen(p, v, m.Entry.Get("info", "meta", "access_grants")) {
			return nil
		}
		return ErrNotFound
	}
	t, err := c.rows(ctx)
	if err != nil {
		return err
	}
	if t.mayUse(v, m.ID, p.IsAdmin()) {
		return nil
	}
	return ErrNotFound
}

// RowAccess says whether a user may use a model by its row, as the addresses of the providers (/openai, /ollama) ask:
// administrators always may. The id need not be listed.
func (c *Catalog) RowAccess(ctx context.Context, p *auth.Principal, id string) error {
	if p.IsAdmin() || c.o.Env.BypassModelAccess {
		return nil
	}
	v, err := c.viewer(ctx, p)
	if err != nil {
		return err
	}
	t, err := c.rows(ctx)
	if err != nil {
		return err
	}
	if t.mayUse(v, id, false) {
		return nil
	}
	return ErrNotFound
}

// mayUse asks the row of a model and those of its bases.
func (t *tables) mayUse(v access.Viewer, id string, admin bool) bool {
	seen := map[string]bool{}
	for first := true; id != "" && !seen[id]; first = false {
		seen[id] = true
		row := t.row(id)
		if row == nil {
			return admin && !first
		}
		if row.UserID != v.UserID && !v.May(t.grants[id], access.Read) {
			return false
		}
		if row.BaseModelID == nil {
			return true
		}
		id = *row.BaseModelID
	}
	return true
}

func (c *Catalog) arenaOpen(p *auth.Principal, v access.Viewer, grants jsondoc.Doc) bool {
	return !grants.Truthy() && p.IsAdmin() || v.MayIn(grants, access.Read)
}

// Readable gives a function that says of ids whether there is a row that the user owns or may read.
func (c *Catalog) Readable(ctx context.Context, p *auth.Principal) (func(id string) bool, error) {
	v, err := c.viewer(ctx, p)
	if err != nil {
		return nil, err
	}
	t, err := c.rows(ctx)
	if err != nil {
		return nil, err
	}
	return func(id string) bool {
		row := t.row(id)
		return row != nil && (row.UserID == v.UserID || v.May(t.grants[id], access.Read))
	}, nil
}
