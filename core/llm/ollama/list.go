package ollama

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// loadedPatience is how long a model list waits for the list of loaded models after it was answered.
const loadedPatience = 500 * time.Millisecond

// Models implements [llm.Provider] by /api/tags, with the expiry of loaded models from /api/ps.
func (p *provider) Models(ctx context.Context, caller *llm.Caller) ([]llm.Model, error) {
	loaded := make(chan map[string]int64, 1)
	psCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { loaded <- p.loaded(psCtx, caller) }()
	tags, err := p.list(ctx, "/api/tags", caller)
	if err != nil {
		return nil, err
	}
	out := make([]llm.Model, 0, len(tags))
	for _, native := range tags {
		if m, ok := p.model(native); ok {
			out = append(out, m)
		}
	}
	timer := time.NewTimer(loadedPatience)
	defer timer.Stop()
	select {
	case expires := <-loaded:
		for i := range out {
			out[i].Expires = expires[out[i].Upstream]
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	return out, nil
}

// list fetches {"models": […]}. Like the reference, it does not look at the status.
func (p *provider) list(ctx context.Context, path string, caller *llm.Caller) ([]jsontext.Value, error) {
	resp, err := p.Do(ctx, http.MethodGet, path, nil, false, caller)
	if err != nil {
		return nil, err
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return nil, err
	}
	if !llm.IsJSONType(resp.Header.Get("Content-Type")) || !jsontext.Value(body).IsValid() {
		return nil, fmt.Errorf("ollama: %s answered no JSON (status %d)", path, resp.StatusCode)
	}
	o, err := rawjson.Parse(body)
	if err != nil || !o.Has("models") {
		return nil, fmt.Errorf("ollama: %s answered no models: %.200s", path, body)
	}
	models, _ := rawjson.Elems(o.Get("models")) // null: none
	return models, nil
}

// loaded returns when the models in memory expire; failing gives none.
func (p *provider) loaded(ctx context.Context, caller *llm.Caller) map[string]int64 {
	list, err := p.list(ctx, "/api/ps", caller)
	if err != nil {
		return nil
	}
	out := make(map[string]int64, len(list))
	for _, raw := range list {
		o, _ := rawjson.Parse(raw)
		id, _ := rawjson.String(o.Get("model"))
		at, _ := rawjson.String(o.Get("expires_at"))
		if t, ok := parseTime(at); ok && id != "" {
			out[id] = t.Unix()
		}
	}
	return out
}

func parseTime(s string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	t, err := time.ParseInLocation("2006-01-02T15:04:05.999999999", s, time.Local)
	return t, err == nil
}

// model makes the list entry of a model; the config's model_ids, if any, choose.
func (p *provider) model(raw jsontext.Value) (llm.Model, bool) {
	cfg := &p.conn.Config
	native, err := rawjson.Parse(raw)
	id, _ := rawjson.String(native.Get("model"))
	if err != nil || id == "" || len(cfg.ModelIDs) > 0 && !slices.Contains(cfg.ModelIDs, id) {
		return llm.Model{}, false
	}
	m := llm.Model{ID: p.conn.Public(id), Upstream: id, OwnedBy: "ollama", ConnectionType: "local",
		Provider: cfg.Provider, Tags: cfg.Tags, Indexes: []int{p.conn.Index}}
	if m.Name, _ = rawjson.String(native.Get("name")); m.Name == "" {
		m.Name = id
	}
	if cfg.PrefixID != "" {
		native.SetString("model", m.ID)
		m.Name = p.conn.Public(m.Name)
	}
	native.SetString("name", m.Name)
	if cfg.Tags != nil {
		native.Set("tags", cfg.Tags)
	}
	if cfg.ConnectionType != "" {
		native.SetString("connection_type", cfg.ConnectionType)
		m.ConnectionType = cfg.ConnectionType
	}
	m.Native = native.JSON()
	return m, true
}

// Merge joins the lists of several servers: a model that several have is the first one's, with all their
// indexes in "urls".
func Merge(lists [][]llm.Model) []llm.Model {
	at := map[string]int{}
	out := []llm.Model{}
	for _, list := range lists {
		for _, m := range list {
			i, seen := at[m.ID]
			if !seen {
				at[m.ID] = len(out)
				m.Indexes = slices.Clone(m.Indexes)
				out = append(out, m)
				continue
			}
			out[i].Indexes = append(out[i].Indexes, m.Indexes...)
			if out[i].Expires == 0 {
				out[i].Expires = m.Expires
			}
		}
	}
	for i := range out {
		finish(&out[i])
	}
	return out
}

// finish completes the JSON of a merged model.
func finish(m *llm.Model) {
	native, _ := rawjson.Parse(m.Native) // built by model
	urls := []byte{'['}
	for i, idx := range m.Indexes {
		if i > 0 {
			urls = append(urls, ',')
		}
		urls = strconv.AppendInt(urls, int64(idx), 10)
	}
	native.Set("urls", append(urls, ']'))
	if m.Expires != 0 {
		native.Set("expires_at", strconv.AppendInt(nil, m.Expires, 10))
	}
	m.Native = native.JSON()
	tags := m.Tags
	if tags == nil {
		if tags = native.Get("tags"); tags == nil {
			tags = jsontext.Value("[]")
		}
	}
	m.Entry = rawjson.Object{
		{Name: "id", Value: rawjson.Quote(m.ID)}, {Name: "name", Value: rawjson.Quote(m.Name)},
		{Name: "object", Value: jsontext.Value(`"model"`)}, {Name: "created", Value: jsontext.Value("0")},
		{Name: "owned_by", Value: jsontext.Value(`"ollama"`)}, {Name: "ollama", Value: m.Native},
		{Name: "loaded", Value: strconv.AppendBool(nil, m.Expires != 0)},
		{Name: "connection_type", Value: rawjson.Quote(m.ConnectionType)}, {Name: "tags", Value: tags},
	}.JSON()
}
