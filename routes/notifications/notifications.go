// Package notifications serves /api/v1/notifications: the webhooks by which a person is told of what concerns them.
package notifications

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/notifications"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Notifications *notifications.Notifications
	Access        *access.Access
	Settings      *config.Settings
}

// Module is the web.Module of tag notifications.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "notifications" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /events", web.JSON(auth.Verified, m.events))
	g.Add("GET /targets", web.JSON(auth.Verified, m.list))
	g.Add("POST /targets", web.JSON(auth.Verified, m.create))
	g.Add("PUT /targets/{target_id}", web.JSON(auth.Verified, m.update))
	g.Add("DELETE /targets/{target_id}", web.JSON(auth.Verified, m.remove))
	g.Add("PUT /targets/{target_id}/default", web.JSON(auth.Verified, m.setDefault))
	g.Add("POST /targets/{target_id}/test", web.JSON(auth.Verified, m.test))
}

// may refuses where people have no webhooks, or the caller has not the permission.
func (m *Module) may(c *web.Call) error {
	if !config.UIEnableUserWebhooks.Get(m.Settings.Snapshot()) {
		return web.Fail(http.StatusNotFound, web.TextNotFound)
	}
	ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, "features.webhooks")
	if err == nil && !ok {
		err = web.Fail(http.StatusForbidden, web.TextProhibited)
	}
	return err
}

// answer gives what clients may see of an error a status.
func answer(err error) error {
	var invalid notifications.InvalidError
	if errors.As(err, &invalid) {
		return web.Because(http.StatusBadRequest, invalid.Error(), err)
	}
	return err
}

func (m *Module) events(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	return notifications.Events(), m.may(c)
}

func (m *Module) list(c *web.Call, _ web.None) (web.M, error) {
	if err := m.may(c); err != nil {
		return nil, err
	}
	targets, err := m.Notifications.List(c.Context(), c.UserID())
	return web.M{"targets": targets}, err
}

// form is what clients send of a target; what they leave out stays out.
type form struct {
	ID       web.Opt[string]   `json:"id,omitzero"`
	Type     web.Opt[string]   `json:"type,omitzero"`
	Enabled  web.Opt[bool]     `json:"enabled,omitzero"`
	Events   web.Opt[[]string] `json:"events,omitzero"`
	Delivery web.Opt[string]   `json:"delivery,omitzero"`
	Config   web.Opt[web.Dict] `json:"config,omitzero"`
}

type createIn struct{ Body form }

func (m *Module) create(c *web.Call, in createIn) (jsondoc.Doc, error) {
	if err := m.may(c); err != nil {
		return nil, err
	}
	d, err := m.Notifications.Create(c.Context(), c.UserID(), jsondoc.Of(in.Body))
	return d, answer(err)
}

type updateIn struct {
	ID   string `path:"target_id"`
	Body form
}

func (m *Module) update(c *web.Call, in updateIn) (jsondoc.Doc, error) {
	if err := m.may(c); err != nil {
		return nil, err
	}
	d, err := m.Notifications.Update(c.Context(), c.UserID(), in.ID, jsondoc.Of(in.Body))
	return d, answer(err)
}

type idIn struct {
	ID string `path:"target_id"`
}

// done is the answer to what has no other.
var done = jsondoc.Doc(`{"ok":true}`)

func (m *Module) remove(c *web.Call, in idIn) (jsondoc.Doc, error) {
	if err := m.may(c); err != nil {
		return nil, err
	}
	err := m.Notifications.Delete(c.Context(), c.UserID(), in.ID)
	if errors.Is(err, notifications.ErrNoTarget) {
		return nil, web.Fail(http.StatusNotFound, web.TextNotFound)
	}
	return done, answer(err)
}

func (m *Module) setDefault(c *web.Call, in idIn) (jsondoc.Doc, error) {
	if err := m.may(c); err != nil {
		return nil, err
	}
	d, err := m.Notifications.SetDefault(c.Context(), c.UserID(), in.ID)
	return d, answer(err)
}

func (m *Module) test(c *web.Call, in idIn) (jsondoc.Doc, error) {
	if err := m.may(c); err != nil {
		return nil, err
	}
	return done, answer(m.Notifications.Test(c.Context(), c.UserID(), in.ID))
}
