package openai

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// AnthropicVersion is the anthropic-version header's value.
const AnthropicVersion = "2023-06-01"

// IsAnthropic reports whether a base URL is Anthropic's, whose model list has a form of its own.
func IsAnthropic(baseURL string) bool { return strings.Contains(baseURL, "api.anthropic.com") }

// notChat are parts of the names of OpenAI's own models that cannot chat.
var notChat = []string{"babbage", "dall-e", "davinci", "embedding", "tts", "whisper"}

// Chattable reports whether a model of api.openai.com is one to chat with.
func Chattable(model string) bool {
	for _, part := range notChat {
		if strings.Contains(model, part) {
			return false
		}
	}
	return true
}

// Models implements [llm.Provider]. With model_ids in the config the server is not asked.
func (p *provider) Models(ctx context.Context, caller *llm.Caller) ([]llm.Model, error) {
	var list []rawjson.Object
	if ids := p.conn.Config.ModelIDs; len(ids) > 0 {
		for _, id := range ids {
			list = append(list, p.manual(id))
		}
	} else {
		var err error
		if list, err = p.ask(ctx, caller); err != nil {
			return nil, err
		}
	}
	host := ""
	if u, err := url.Parse(p.conn.URL); err == nil {
		host = u.Hostname()
	}
	out := make([]llm.Model, 0, len(list))
	for _, native := range list {
		m, ok := p.model(native)
		if ok && (host != "api.openai.com" || Chattable(m.ID)) {
			out = append(out, m)
		}
	}
	return out, nil
}

// manual is the list entry of a model that the config names.
func (p *provider) manual(id string) rawjson.Object {
	q := rawjson.Quote(id)
	return rawjson.Object{
		{Name: "id", Value: q}, {Name: "name", Value: q}, {Name: "owned_by", Value: jsontext.Value(`"openai"`)},
		{Name: "openai", Value: rawjson.Object{{Name: "id", Value: q}}.JSON()},
		{Name: "urlIdx", Value: strconv.AppendInt(nil, int64(p.conn.Index), 10)},
	}
}

// ask fetches the server's list and keeps whether it is that of a pipelines server, which a member of its own says.
func (p *provider) ask(ctx context.Context, caller *llm.Caller) (list []rawjson.Object, err error) {
	if IsAnthropic(p.conn.URL) {
		return p.askAnthropic(ctx, caller)
	}
	pipelines := false
	defer func() { p.pipelines.Store(pipelines && err == nil) }()
	body, err := p.get(ctx, "/models", p.headers(ctx, caller))
	if err != nil {
		return nil, err
	}
	data := jsontext.Value(body)
	if rawjson.IsObject(data) {
		o, err := rawjson.Parse(data)
		if err != nil {
			return nil, err
		}
		pipelines = o.Has("pipelines")
		if data = o.Get("data"); data == nil {
			return nil, fmt.Errorf("openai: no data in the model list: %.200s", body)
		}
	}
	elems, err := rawjson.Elems(data)
	if err != nil {
		return nil, fmt.Errorf("openai: the model list is no array: %.200s", data)
	}
	out := make([]rawjson.Object, 0, len(elems))
	for _, e := range elems {
		if o, err := rawjson.Parse(e); err == nil {
			out = append(out, o)
		}
	}
	return out, nil
}

// get fetches a JSON document. Like the reference, it does not look at the status: an error document has no list.
func (p *provider) get(ctx context.Context, path string, h http.Header) ([]byte, error) {
	resp, err := p.send(ctx, http.MethodGet, p.conn.URL+path, nil, false, h)
	if err != nil {
		return nil, err
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return nil, err
	}
	if !llm.IsJSONType(resp.Header.Get("Content-Type")) || !jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil, fmt.Errorf("openai: the model list is no JSON (status %d)", resp.StatusCode)
	}
	v := jsontext.Value(body)
	for len(v) > 0 && strings.IndexByte(" \t\r\n", v[0]) >= 0 {
		v = v[1:]
	}
	return v, nil
}

// askAnthropic fetches Anthropic's list page by page and brings it into OpenAI form.
func (p *provider) askAnthropic(ctx context.Context, caller *llm.Caller) ([]rawjson.Object, error) {
	var out []rawjson.Object
	after := ""
	for {
		h := http.Header{"X-Api-Key": {p.conn.Key}, "Anthropic-Version": {AnthropicVersion}}
		p.client.Headers().UserInfo(h, caller)
		path := "/models?limit=1000"
		if after != "" {
			path += "&after_id=" + url.QueryEscape(after)
		}
		body, err := p.get(ctx, path, h)
		if err != nil {
			return nil, err
		}
		page, err := rawjson.Parse(body)
		if err != nil || page.Has("error") {
			return nil, fmt.Errorf("openai: Anthropic's model list: %.200s", body)
		}
		elems, _ := rawjson.Elems(page.Get("data")) // absent: none
		for _, e := range elems {
			m, err := rawjson.Parse(e)
			if err != nil {
				continue
			}
			name := m.Get("display_name")
			if name == nil {
				name = m.Get("id")
			}
			out = append(out, rawjson.Object{
				{Name: "id", Value: m.Get("id")}, {Name: "object", Value: jsontext.Value(`"model"`)},
				{Name: "created", Value: jsontext.Value("0")},
				{Name: "owned_by", Value: jsontext.Value(`"anthropic"`)}, {Name: "name", Value: name},
			})
		}
		next, _ := rawjson.String(page.Get("last_id"))
		if !rawjson.Truthy(page.Get("has_more")) || next == "" || next == after {
			return out, nil
		}
		after = next
	}
}

// model makes the list entry of a model from the server's own one.
func (p *provider) model(native rawjson.Object) (llm.Model, bool) {
	cfg := &p.conn.Config
	if native.Has("name") && rawjson.IsNull(native.Get("name")) {
		native.Delete("name")
	}
	id, _ := rawjson.String(native.Get("id"))
	name, _ := rawjson.String(native.Get("name"))
	if id == "" {
		id = name
	}
	if id == "" {
		return llm.Model{}, false
	}
	m := llm.Model{Upstream: id, ID: p.conn.Public(id), Name: name, OwnedBy: "openai", Provider: cfg.Provider,
		ConnectionType: "external", Tags: cfg.Tags, Indexes: []int{p.conn.Index}}
	native.SetString("id", m.ID)
	if cfg.PrefixID != "" && name != "" {
		m.Name = p.conn.Public(name)
		native.SetString("name", m.Name)
	}
	if m.Name == "" && !native.Has("name") {
		m.Name = m.ID
	}
	if cfg.Tags != nil {
		native.Set("tags", cfg.Tags)
	}
	if cfg.ConnectionType != "" {
		native.SetString("connection_type", cfg.ConnectionType)
	}
	if cfg.Provider != "" {
		native.SetString("provider", cfg.Provider)
	}
	if s, ok := rawjson.String(native.Get("connection_type")); ok {
		m.ConnectionType = s
	}
	m.Pipeline = rawjson.Truthy(native.Get("pipeline"))
	m.Native = native.JSON()
	m.Entry = p.entry(native, &m)
	return m, true
}

// entry is the object of the merged list: the server's entry with what this server adds.
func (p *provider) entry(native rawjson.Object, m *llm.Model) jsontext.Value {
	e := native.Clone()
	e.SetString("name", m.Name)
	e.SetString("owned_by", "openai")
	e.Set("openai", m.Native)
	e.SetString("connection_type", m.ConnectionType)
	if !e.Has("provider") {
		e.SetString("provider", "")
	}
	e.Set("urlIdx", strconv.AppendInt(nil, int64(p.conn.Index), 10))
	if loaded, known := loadedState(native, m.Provider, len(p.conn.Config.ModelIDs) > 0); known {
		e.Set("loaded", boolean(loaded))
	}
	return e.JSON()
}

// loadedState tells whether LM Studio or llama.cpp have the model in memory, as far as their entry says.
func loadedState(native rawjson.Object, provider string, manual bool) (loaded, known bool) {
	switch provider {
	case "lmstudio":
		if rawjson.Truthy(native.Get("loaded_instances")) {
			return true, true
		}
		switch s, _ := rawjson.String(native.Get("state")); s {
		case "loaded":
			return true, true
		case "not-loaded":
			return false, true
		}
	case "llama.cpp":
		status, _ := rawjson.Parse(native.Get("status")) // no object: no state
		switch s, _ := rawjson.String(status.Get("value")); s {
		case "loaded", "sleeping":
			return true, true
		case "loading", "unloaded":
			return false, true
		}
		return true, !manual && !native.Has("status")
	}
	return false, false
}
