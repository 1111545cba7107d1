package app

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/web"
)

// embeddings has a model's provider embed texts. The request is OpenAI's; for Ollama it is translated.
func (m *Module) embeddings(c *web.Call, in bodyIn) (any, error) {
	ctx, caller := c.Context(), m.caller(c)
	body := in.Body.Doc()
	model, ok := m.Models.Find(ctx, caller, body.Text("model"))
	if !ok {
		return nil, web.Fail(http.StatusBadRequest, models.ErrNotFound.Error())
	}
	if !c.IsAdmin() {
		if err := m.Models.Access(ctx, c.Principal, model); err != nil {
			return nil, web.Because(http.StatusBadRequest, models.ErrNotFound.Error(), err)
		}
	}
	t, err := m.Models.Target(ctx, caller, model)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, models.ErrNotFound.Error(), err)
	}
	p, ok := t.Provider.(llm.Connected)
	if !ok {
		return nil, web.Fail(http.StatusBadRequest, "The provider of this model makes no embeddings")
	}
	if t.Kind == llm.KindOllama {
		return embedOllama(ctx, p, t.Upstream, body, caller)
	}
	return embedOpenAI(ctx, p, t.Upstream, body, caller)
}

func embedOllama(ctx context.Context, p llm.Connected, model string, body jsondoc.Doc, caller *llm.Caller) (any, error) {
	request, err := ollama.EmbedRequest(model, jsontext.Value(body))
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, "There was an error parsing the body", err)
	}
	resp, err := p.Do(ctx, http.MethodPost, "/api/embed", request, false, caller)
	if err != nil {
		return providerAnswer(llm.TransportError(ctx, err, llm.ServerConnectionError))
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return providerAnswer(ollama.Failure(resp))
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return providerAnswer(llm.TransportError(ctx, err, llm.ServerConnectionError))
	}
	return jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, ollama.EmbedResponse(answer)).JSON()), nil
}

func embedOpenAI(ctx context.Context, p llm.Connected, model string, body jsondoc.Doc, caller *llm.Caller) (any, error) {
	resp, err := p.Do(ctx, http.MethodPost, embeddingsPath(p.Connection(), model), body.Set(jsondoc.Text(model), "model"), false, caller)
	if err != nil {
		return providerAnswer(llm.TransportError(ctx, err, llm.ServerConnectionError))
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return providerAnswer(llm.TransportError(ctx, err, llm.ServerConnectionError))
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return providerAnswer(llm.NewUpstreamError(resp.StatusCode, resp.Header, answer, false))
	}
	return jsondoc.Doc(llm.NewBody(resp.StatusCode, resp.Header, answer).JSON()), nil
}

// embeddingsPath is where a connection embeds; Azure's older API has the model in it.
func embeddingsPath(conn llm.Connection, model string) string {
	if !conn.Config.Azure || strings.Contains(strings.TrimRight(conn.URL, "/")+"/", "/openai/v1/") {
		return "/embeddings"
	}
	version := conn.Config.APIVersion
	if !conn.Config.HasAPIVersion {
		version = "2023-03-15-preview"
	}
	return "/openai/deployments/" + url.PathEscape(model) + "/embeddings?api-version=" + url.QueryEscape(version)
}
