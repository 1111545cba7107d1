package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/web"
)

type listModelsIn struct {
	Refresh bool `query:"refresh" default:"false"`
}

func (m *Module) listModels(c *web.Call, in listModelsIn) (jsondoc.Doc, error) {
	return m.Models.ListJSON(c.Context(), c.Principal, in.Refresh)
}

func (m *Module) baseModels(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	return m.Models.BaseJSON(c.Context(), c.Principal), nil
}

type unloadIn struct {
	Body struct {
		Model string `json:"model"`
	}
}

// unloadTimeout bounds how long a provider may take to drop a model.
const unloadTimeout = 30 * time.Second

// unload has a model's provider drop it from memory: Ollama on all servers that have it, and llama.cpp.
func (m *Module) unload(c *web.Call, in unloadIn) (jsondoc.Doc, error) {
	ctx, cancel := context.WithTimeout(c.Context(), unloadTimeout)
	defer cancel()
	caller := m.caller(c)
	id := in.Body.Model
	for seen := map[string]bool{}; !seen[id]; {
		seen[id] = true
		if t, err := m.Providers.ResolveOf(ctx, llm.KindOllama, caller, id); err == nil {
			return m.unloadOllama(ctx, t, caller)
		}
		if t, err := m.Providers.ResolveOf(ctx, llm.KindOpenAI, caller, id); err == nil {
			return m.unloadOpenAI(ctx, t, caller)
		}
		row, err := m.Models.Row(ctx, id)
		if err != nil {
			return nil, err
		}
		if row != nil && row.BaseModelID != nil && *row.BaseModelID != "" {
			id = *row.BaseModelID
		}
	}
	return nil, web.Fail(http.StatusNotFound, fmt.Sprintf(`Model "%s" not found`, id))
}

func (m *Module) unloadOllama(ctx context.Context, t llm.Target, caller *llm.Caller) (jsondoc.Doc, error) {
	failures := make([]error, len(t.Model.Indexes))
	var wg sync.WaitGroup
	for i, index := range t.Model.Indexes {
		wg.Go(func() {
			p, ok := m.Providers.Connection(llm.KindOllama, index)
			if !ok {
				return
			}
			conn := p.Connection()
			body := jsondoc.Of(struct {
				Model     string `json:"model"`
				KeepAlive int    `json:"keep_alive"`
				Prompt    string `json:"prompt"`
			}{Model: conn.Upstream(t.Model.ID)})
			if _, err := fetch(ctx, p, "/api/generate", body, caller); err != nil {
				failures[i] = fmt.Errorf("%d: %w", index, err)
			}
		})
	}
	wg.Wait()
	m.Providers.Refresh()
	n := 0
	for _, err := range failures {
		if err != nil {
			n++
		}
	}
	if n > 0 {
		err := errors.Join(failures...)
		return nil, web.Because(http.StatusInternalServerError, fmt.Sprintf("Failed to unload model on %d node(s): %s", n, strings.ReplaceAll(err.Error(), "\n", "; ")), err)
	}
	return jsondoc.Doc(`{"status":true}`), nil
}

func (m *Module) unloadOpenAI(ctx context.Context, t llm.Target, caller *llm.Caller) (jsondoc.Doc, error) {
	p, ok := m.Providers.Connection(llm.KindOpenAI, t.Index)
	if !ok {
		return nil, web.Fail(http.StatusNotFound, fmt.Sprintf(`Model "%s" not found`, t.Model.ID))
	}
	conn := p.Connection()
	if kind := conn.Config.Provider; kind != "llama.cpp" {
		if kind == "" {
			kind = "default"
		}
		return nil, web.Fail(http.StatusBadRequest, fmt.Sprintf(`Provider "%s" does not support model unloading`, kind))
	}
	client := m.Providers.Client()
	resp, err := client.Send(ctx, llm.Outgoing{
		Method: http.MethodPost, URL: strings.TrimSuffix(strings.TrimRight(conn.URL, "/"), "/v1") + "/models/unload",
		Header: client.Headers().Build(ctx, &conn, caller), Body: jsondoc.Object("model", jsondoc.Text(t.Upstream)),
	})
	if err != nil {
		return nil, web.Because(http.StatusInternalServerError, llm.ServerConnectionError, err)
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return nil, web.Because(http.StatusInternalServerError, llm.ServerConnectionError, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, web.Fail(resp.StatusCode, string(body))
	}
	m.Providers.Refresh()
	return jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, body).JSON()), nil
}

// fetch sends a request to a provider and reads its answer; one of at least 400 is an error with its text.
func fetch(ctx context.Context, p llm.Connected, path string, body []byte, caller *llm.Caller) ([]byte, error) {
	resp, err := p.Do(ctx, http.MethodPost, path, body, false, caller)
	if err != nil {
		return nil, err
	}
	answer, err := llm.ReadBody(resp)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return answer, err
}
