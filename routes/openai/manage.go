package openai

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/web"
)

// management are the paths of the servers that can load, fetch and delete models.
var management = map[string]map[string]string{
	"llama.cpp": {
		"list": "/models", "download": "/models", "delete": "/models", "load": "/models/load", "unload": "/models/unload", "sse": "/models/sse",
	},
	"lmstudio": {
		"list": "/api/v1/models", "download": "/api/v1/models/download", "download_status": "/api/v1/models/download/status/",
		"load": "/api/v1/models/load", "unload": "/api/v1/models/unload",
	},
}

// managed is a connection whose server's models can be managed, with its address cut down to the server's root.
func (m *Module) managed(index int) (llm.Connected, error) {
	if err := m.enabled(); err != nil {
		return nil, err
	}
	p, ok := m.connection(index)
	if !ok {
		return nil, web.Fail(http.StatusNotFound, "Connection not found")
	}
	conn := p.Connection()
	if management[conn.Config.Provider] == nil {
		name := conn.Config.Provider
		if name == "" {
			name = "default"
		}
		return nil, web.Fail(http.StatusBadRequest, fmt.Sprintf("Provider %q does not support model management", name))
	}
	conn.URL = strings.TrimRight(conn.URL, "/")
	for _, suffix := range []string{"/api/v1", "/api/v0", "/v1"} {
		if root, ok := strings.CutSuffix(conn.URL, suffix); ok {
			conn.URL = root
			break
		}
	}
	return m.provider(conn), nil
}

// order is a request to a server about its models.
type order struct {
	operation, method string
	suffix            string // of the path
	body              jsondoc.Doc
	stream            bool
}

// manage sends an order; the server's JSON is the answer, its errors are details of ours.
func (m *Module) manage(c *web.Call, p llm.Connected, o order) (web.Done, error) {
	provider := p.Connection().Config.Provider
	path, ok := management[provider][o.operation]
	if !ok {
		return web.Done{}, web.Fail(http.StatusBadRequest, fmt.Sprintf("Provider %q does not support %s", provider, o.operation))
	}
	resp, err := p.Do(c.Context(), o.method, path+o.suffix, o.body, o.stream, models.CallerOf(c.Principal))
	if err != nil {
		return web.Done{}, web.Because(http.StatusInternalServerError, err.Error(), err)
	}
	if resp.StatusCode < 400 && o.stream {
		return web.Done{}, relay.Response(c, llm.NewRawStream(resp.StatusCode, llm.RelayHeader(resp.Header), resp.Body))
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return web.Done{}, web.Because(resp.StatusCode, err.Error(), err)
	}
	doc, bad := jsondoc.Check(body)
	isJSON := bad == nil && llm.IsJSONType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode >= 400 && isJSON:
		return web.Done{}, web.Fail(resp.StatusCode, doc)
	case resp.StatusCode >= 400:
		return web.Done{}, web.Fail(resp.StatusCode, string(body))
	case !isJSON:
		doc = jsondoc.Doc(`{"success":true}`)
	}
	return web.Done{}, web.WriteJSON(c.W, http.StatusOK, doc)
}

func (m *Module) catalog(c *web.Call, in indexIn) (web.Done, error) {
	p, err := m.managed(in.Index)
	if err != nil {
		return web.Done{}, err
	}
	return m.manage(c, p, order{operation: "list", method: http.MethodGet})
}

func (m *Module) serverEvents(c *web.Call, in indexIn) (web.Done, error) {
	p, err := m.managed(in.Index)
	if err != nil {
		return web.Done{}, err
	}
	return m.manage(c, p, order{operation: "sse", method: http.MethodGet, stream: true})
}

type jobIn struct {
	Index int    `path:"url_idx"`
	Job   string `path:"job_id"`
}

func (m *Module) downloadStatus(c *web.Call, in jobIn) (web.Done, error) {
	p, err := m.managed(in.Index)
	if err != nil {
		return web.Done{}, err
	}
	return m.manage(c, p, order{operation: "download_status", method: http.MethodGet, suffix: url.PathEscape(in.Job)})
}

type operationIn struct {
	Index int `path:"url_idx"`
	Body  struct {
		Model string    `json:"model"`
		Extra web.Extra `json:"-"`
	}
}

// operation declares an order with a model: download, load or unload.
func (m *Module) operation(name string) func(*web.Call, operationIn) (web.Done, error) {
	return func(c *web.Call, in operationIn) (web.Done, error) {
		p, err := m.managed(in.Index)
		if err != nil {
			return web.Done{}, err
		}
		conn := p.Connection()
		var body jsondoc.Obj
		body.Set("model", jsondoc.Text(conn.Upstream(in.Body.Model)))
		jsondoc.Doc(in.Body.Extra).Each(func(name string, v jsondoc.Doc) bool {
			if !v.IsNull() {
				body.Set(name, v)
			}
			return true
		})
		if conn.Config.Provider == "lmstudio" && name == "unload" {
			instance := body.Get("instance_id")
			if !instance.Truthy() {
				instance = body.Get("model")
			}
			body = jsondoc.Obj{}
			body.Set("instance_id", instance)
		}
		done, err := m.manage(c, p, order{operation: name, method: http.MethodPost, body: body.Doc()})
		m.Registry.Refresh()
		if err == nil && name == "download" {
			m.changed(c, "model.provider_model.created", body.Text("model"), &conn)
		}
		return done, err
	}
}

type deleteIn struct {
	Index int    `path:"url_idx"`
	Model string `query:"model"`
}

func (m *Module) deleteModel(c *web.Call, in deleteIn) (web.Done, error) {
	p, err := m.managed(in.Index)
	if err != nil {
		return web.Done{}, err
	}
	conn := p.Connection()
	done, err := m.manage(c, p, order{operation: "delete", method: http.MethodDelete, suffix: "?model=" + url.QueryEscape(conn.Upstream(in.Model))})
	m.Registry.Refresh()
	if err == nil {
		m.changed(c, "model.provider_model.deleted", conn.Upstream(in.Model), &conn)
	}
	return done, err
}

// changed tells that a server has another model, or one less.
func (m *Module) changed(c *web.Call, name, model string, conn *llm.Connection) {
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectID: model,
		Data: events.Pairs{"provider", conn.Config.Provider, "url_idx", conn.Index, "base_url", conn.URL}})
}
