// Package embedding has models' providers make embeddings.
package embedding

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/ollama"
)

// Create has a model's provider embed texts. The request, a JSON object, and the answer have OpenAI's form; for Ollama they
// are translated. Errors: *llm.UpstreamError, llm.ErrBadRequest, ctx.Err().
func Create(ctx context.Context, t llm.Target, request jsondoc.Doc, caller *llm.Caller) (jsondoc.Doc, error) {
	switch p := t.Provider.(type) {
	case llm.Embedder:
		answer, err := p.Embed(ctx, t.Upstream, jsontext.Value(request), caller)
		return jsondoc.Doc(answer), err
	case llm.Connected:
		if t.Kind == llm.KindOllama {
			return byOllama(ctx, p, t.Upstream, request, caller)
		}
		return byOpenAI(ctx, p, t.Upstream, request, caller)
	}
	return nil, llm.DetailError(http.StatusBadRequest, "The provider of this model makes no embeddings", nil)
}

func byOllama(ctx context.Context, p llm.Connected, model string, request jsondoc.Doc, caller *llm.Caller) (jsondoc.Doc, error) {
	body, err := ollama.EmbedRequest(model, jsontext.Value(request))
	if err != nil {
		return nil, err
	}
	resp, err := p.Do(ctx, http.MethodPost, "/api/embed", body, false, caller)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		e := ollama.Failure(resp)
		llm.Refused(ctx, p, ollama.Refusal(p.Connection(), "/api/embed", e, caller))
		return nil, e
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	return jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, ollama.EmbedResponse(answer)).JSON()), nil
}

func byOpenAI(ctx context.Context, p llm.Connected, model string, request jsondoc.Doc, caller *llm.Caller) (jsondoc.Doc, error) {
	resp, err := p.Do(ctx, http.MethodPost, pathOf(p.Connection(), model), request.Set(jsondoc.Text(model), "model"), false, caller)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		llm.Refused(ctx, p, llm.Refusal{Model: request.Text("model"), Status: resp.StatusCode, Body: answer, Type: resp.Header.Get("Content-Type"), Caller: caller})
		return nil, llm.NewUpstreamError(resp.StatusCode, resp.Header, answer, false)
	}
	return jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, answer).JSON()), nil
}

// pathOf is where a connection embeds; Azure's older API has the model in it.
func pathOf(conn llm.Connection, model string) string {
	if !conn.Config.Azure || strings.Contains(strings.TrimRight(conn.URL, "/")+"/", "/openai/v1/") {
		return "/embeddings"
	}
	version := conn.Config.APIVersion
	if !conn.Config.HasAPIVersion {
		version = "2023-03-15-preview"
	}
	return "/openai/deployments/" + url.PathEscape(model) + "/embeddings?api-version=" + url.QueryEscape(version)
}
