package prompts

import (
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	rows "github.com/galleychat/galley/core/store/prompts"
	"github.com/galleychat/galley/core/web"
)

// form is a prompt as clients send it.
type form struct {
	Command    string              `json:"command"`
	Name       string              `json:"name"`
	Content    string              `json:"content"`
	Data       web.Opt[web.Dict]   `json:"data"`
	Meta       web.Opt[web.Dict]   `json:"meta"`
	Tags       web.Opt[[]string]   `json:"tags"`
	Grants     web.Opt[[]web.Dict] `json:"access_grants"`
	VersionID  web.Opt[string]     `json:"version_id"` // not looked at
	Message    web.Opt[string]     `json:"commit_message"`
	Production web.Opt[bool]       `json:"is_production" default:"true"`
}

func (f *form) stored() rows.Form {
	return rows.Form{
		Command: f.Command, Name: f.Name, Content: f.Content, Data: f.Data.V.Doc(), Meta: f.Meta.V.Doc(), Tags: tagsOf(f.Tags),
		Message: f.Message.Ptr(), Draft: !f.Production.V,
	}
}

// tagsOf is a list of tags as it is stored; nil where none was sent.
func tagsOf(tags web.Opt[[]string]) jsondoc.Doc {
	if !tags.Has() {
		return nil
	}
	return jsondoc.Of(tags.V)
}

type createIn struct{ Body form }

func (m *Module) create(c *web.Call, in createIn) (*answer, error) {
	ctx, f, u := c.Context(), &in.Body, c.Principal.User
	ok, err := m.Access.HasOrAdmin(ctx, u, "workspace.prompts")
	if err == nil && !ok {
		ok, err = m.Access.HasOrAdmin(ctx, u, "workspace.prompts_import")
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errUnauthorized
	}
	grants, err := m.Access.FilterAllowed(ctx, u, rows.ResourceType, access.GrantsOf(f.Grants.V))
	if err != nil {
		return nil, err
	}
	p, err := m.rows.Insert(ctx, u.ID, f.stored(), grants)
	if err != nil {
		return nil, changed(err)
	}
	m.publish(c, "prompt.created", p, nil)
	return m.answer(ctx, p)
}

// freeCommand says that a prompt's new command belongs to no other prompt.
func (m *Module) freeCommand(c *web.Call, p *rows.Prompt, command string) error {
	if command == p.Command {
		return nil
	}
	owner, err := m.rows.CommandOwner(c.Context(), command)
	if err == nil && owner != "" && owner != p.ID {
		return errTaken
	}
	return err
}

type updateIn struct {
	idIn
	Body form
}

func (m *Module) update(c *web.Call, in updateIn) (*answer, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return nil, err
	}
	if err := m.freeCommand(c, p, in.Body.Command); err != nil {
		return nil, err
	}
	if p, err = m.rows.Update(c.Context(), p.ID, c.UserID(), in.Body.stored()); err != nil {
		return nil, changed(err)
	}
	m.publish(c, "prompt.updated", p, nil)
	return m.answer(c.Context(), p)
}

type renameIn struct {
	idIn
	Body struct {
		Name    string            `json:"name"`
		Command string            `json:"command"`
		Tags    web.Opt[[]string] `json:"tags"`
	}
}

func (m *Module) rename(c *web.Call, in renameIn) (*answer, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return nil, err
	}
	if err := m.freeCommand(c, p, in.Body.Command); err != nil {
		return nil, err
	}
	if p, err = m.rows.Rename(c.Context(), p.ID, in.Body.Name, in.Body.Command, tagsOf(in.Body.Tags)); err != nil {
		return nil, changed(err)
	}
	m.publish(c, "prompt.updated", p, nil)
	return m.answer(c.Context(), p)
}

type setVersionIn struct {
	idIn
	Body struct {
		VersionID string `json:"version_id"`
	}
}

func (m *Module) setVersion(c *web.Call, in setVersionIn) (*answer, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return nil, err
	}
	if p, err = m.rows.Restore(c.Context(), p.ID, in.Body.VersionID); err != nil {
		return nil, changed(err)
	}
	m.publish(c, "prompt.version_updated", p, web.M{"version_id": p.VersionID})
	return m.answer(c.Context(), p)
}

type accessIn struct {
	idIn
	Body struct {
		Grants []web.Dict `json:"access_grants"`
	}
}

func (m *Module) updateAccess(c *web.Call, in accessIn) (*answer, error) {
	p, err := m.allowed(c, in.ID, access.Write)
	if err != nil {
		return nil, err
	}
	grants := access.GrantsOf(in.Body.Grants)
	ok, err := m.Access.MayGive(c.Context(), c.Principal.User, rows.ResourceType, grants)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, web.Fail(http.StatusForbidden, access.TextAudience)
	}
	if err := m.rows.SetGrants(c.Context(), p.ID, grants); err != nil {
		return nil, err
	}
	m.publish(c, "prompt.access_updated", p, web.M{"name": p.Name})
	return m.answer(c.Context(), p)
}
