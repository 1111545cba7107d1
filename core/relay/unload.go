package relay

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/openai"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/web"
)

// Unload takes a model out of the memory of the servers that run it: POST /api/models/unload. A workspace model stands
// for its base. Errors are *web.Error.
func (r *Resolver) Unload(ctx context.Context, reg *llm.Registry, p *auth.Principal, id string) (jsondoc.Doc, error) {
	defer reg.Refresh()
	caller := models.CallerOf(p)
	asked := id
	for seen := map[string]bool{}; !seen[id]; {
		seen[id] = true
		if t, ok := reg.Lookup(id); ok && t.Kind != "" {
			return unload(ctx, reg, t, id, caller)
		}
		row, err := r.Catalog.Row(ctx, id)
		if err != nil {
			return nil, err
		}
		if row == nil || row.BaseModelID == nil || *row.BaseModelID == "" {
			break
		}
		id = *row.BaseModelID
	}
	return nil, web.Fail(http.StatusNotFound, fmt.Sprintf("Model %q not found", asked))
}

func unload(ctx context.Context, reg *llm.Registry, t llm.Target, id string, caller *llm.Caller) (jsondoc.Doc, error) {
	if t.Kind == llm.KindOllama {
		return unloadOllama(ctx, reg, t, id, caller)
	}
	conn := t.Provider.(llm.Connected).Connection()
	if conn.Config.Provider != "llama.cpp" {
		name := conn.Config.Provider
		if name == "" {
			name = "default"
		}
		return nil, web.Fail(http.StatusBadRequest, fmt.Sprintf("Provider %q does not support model unloading", name))
	}
	conn.URL = strings.TrimSuffix(strings.TrimRight(conn.URL, "/"), "/v1")
	server := openai.New(conn, reg.Client()).(llm.Connected)
	body := jsondoc.Object("model", jsondoc.Text(conn.Upstream(id)))
	resp, err := server.Do(ctx, http.MethodPost, "/models/unload", body, false, caller)
	if err != nil {
		return nil, web.Because(http.StatusInternalServerError, err.Error(), err)
	}
	raw, err := llm.ReadBody(resp)
	if err != nil {
		return nil, web.Because(http.StatusInternalServerError, err.Error(), err)
	}
	if resp.StatusCode >= 400 {
		return nil, web.Fail(resp.StatusCode, string(raw))
	}
	doc, bad := jsondoc.Check(raw)
	if bad != nil {
		return nil, web.Fail(http.StatusInternalServerError, "The provider answered no JSON")
	}
	return doc, nil
}

func unloadOllama(ctx context.Context, reg *llm.Registry, t llm.Target, id string, caller *llm.Caller) (jsondoc.Doc, error) {
	var failed []string
	for _, i := range t.Model.Indexes {
		server, ok := reg.Connection(llm.KindOllama, i)
		if !ok {
			continue
		}
		conn := server.Connection()
		if _, err := Ask(ctx, server, http.MethodPost, "/api/generate", UnloadBody(conn.Upstream(id)), caller); err != nil {
			failed = append(failed, fmt.Sprintf("{'url_idx': %d, 'error': %s}", i, pythonText(err.Error())))
		}
	}
	if len(failed) > 0 {
		return nil, web.Fail(http.StatusInternalServerError,
			fmt.Sprintf("Failed to unload model on %d node(s): [%s]", len(failed), strings.Join(failed, ", ")))
	}
	return jsondoc.Doc(`{"status":true}`), nil
}

// UnloadBody is the request that makes Ollama drop a model from memory.
func UnloadBody(model string) []byte {
	var b jsondoc.Builder
	b.Add("model", model)
	b.Add("keep_alive", 0)
	b.Add("prompt", "")
	return b.Done()
}
