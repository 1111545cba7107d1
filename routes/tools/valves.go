package tools

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/web"
)

func (m *Module) valves(c *web.Call, in idIn) (jsondoc.Doc, error) {
	t, err := m.allowed(c, in.ID, access.Write, errNotFound, errProhibited)
	if err != nil {
		return nil, err
	}
	return m.Python.Valves(c.Context(), t), nil
}

func (m *Module) valvesSpec(c *web.Call, in idIn) (jsondoc.Doc, error) {
	return m.schema(c, in.ID, access.Write, false)
}

func (m *Module) userValvesSpec(c *web.Call, in idIn) (jsondoc.Doc, error) {
	return m.schema(c, in.ID, access.Read, true)
}

func (m *Module) schema(c *web.Call, id, permission string, ofUsers bool) (jsondoc.Doc, error) {
	t, err := m.allowed(c, id, permission, errNotFound, errProhibited)
	if err != nil {
		return nil, err
	}
	if !m.Env.Tools {
		return nil, errOff
	}
	d, err := m.Python.ValvesSchema(c.Context(), t, ofUsers, c.Principal.User)
	if err != nil {
		return nil, codeError(err, "")
	}
	return d.Or(jsondoc.Doc("null")), nil
}

type valvesIn struct {
	idIn
	Body web.Dict
}

var errValvesProhibited = web.Fail(http.StatusBadRequest, web.TextProhibited)

func (m *Module) setValves(c *web.Call, in valvesIn) (jsondoc.Doc, error) {
	t, err := m.allowed(c, in.ID, access.Write, errNone, errValvesProhibited)
	if err != nil {
		return nil, err
	}
	if !m.Env.Tools {
		return nil, errOff
	}
	d, err := m.Python.SetValves(c.Context(), t, in.Body.Doc())
	if err != nil {
		return nil, valvesError(err, "[ERROR: Error updating tool valves]")
	}
	m.publish(c, "tool.valves_updated", t.ID, nil)
	return d, nil
}

func valvesError(err error, text string) error {
	switch {
	case errors.Is(err, pyhost.ErrNoValves):
		return errNone
	case errors.As(err, new(*pyhost.Error)), errors.As(err, new(*pyhost.UnavailableError)):
		return codeError(err, text)
	}
	return err
}

func (m *Module) userValves(c *web.Call, in idIn) (jsondoc.Doc, error) {
	t, err := m.allowed(c, in.ID, access.Read, errNotFound, errProhibited)
	if err != nil {
		return nil, err
	}
	u, err := m.Python.Users.ByID(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	return m.Python.UserValves(c.Context(), u, t.ID), nil
}

func (m *Module) setUserValves(c *web.Call, in valvesIn) (jsondoc.Doc, error) {
	t, err := m.allowed(c, in.ID, access.Read, errNotFound, errProhibited)
	if err != nil {
		return nil, err
	}
	if !m.Env.Tools {
		return nil, errOff
	}
	d, err := m.Python.SetUserValves(c.Context(), c.UserID(), t, in.Body.Doc())
	if err != nil {
		return nil, valvesError(err, "[ERROR: Error updating tool user valves]")
	}
	m.publish(c, "tool.valves_updated", t.ID, web.M{"scope": "user"})
	return d, nil
}
