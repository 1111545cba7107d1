// Package openai talks to OpenAI-compatible servers: OpenAI itself, Azure OpenAI, OpenRouter, llama.cpp,
// LM Studio, vLLM, pipelines servers and many more.
package openai

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Backend makes the registry handle OpenAI-compatible connections. Of models that several connections serve
// under one id, the first connection's is listed; requests are shared among all of them.
var Backend = llm.Backend{New: New, Merge: llm.FirstWins}

// New returns the provider of a connection.
func New(conn llm.Connection, client *llm.Client) llm.Provider {
	return &provider{conn: conn, client: client}
}

type provider struct {
	conn      llm.Connection
	client    *llm.Client
	pipelines atomic.Bool
}

var (
	_ llm.Connected       = (*provider)(nil)
	_ llm.PipelinesServer = (*provider)(nil)
)

// Pipelines implements [llm.PipelinesServer].
func (p *provider) Pipelines() bool { return p.pipelines.Load() }

// ID implements [llm.Provider].
func (p *provider) ID() string { return p.conn.ID() }

// Connection implements [llm.Connected].
func (p *provider) Connection() llm.Connection { return p.conn }

// Refused tells the client of a request that the server refused.
func (p *provider) Refused(ctx context.Context, r llm.Refusal) {
	r.Connection = p.conn
	p.client.Refused(ctx, r)
}

// Do implements [llm.Connected]. Azure connections get their api-key header.
func (p *provider) Do(ctx context.Context, method, path string, body []byte, stream bool, caller *llm.Caller) (*http.Response, error) {
	return p.send(ctx, method, p.conn.URL+path, body, stream, p.headers(ctx, caller))
}

func (p *provider) send(ctx context.Context, method, url string, body []byte, stream bool, h http.Header) (*http.Response, error) {
	return p.client.Send(ctx, llm.Outgoing{Method: method, URL: url, Header: h, Body: body, Stream: stream})
}

func (p *provider) headers(ctx context.Context, caller *llm.Caller) http.Header {
	h := p.client.Headers().Build(ctx, &p.conn, caller)
	if p.conn.Config.Azure && p.conn.Config.AuthType != "azure_ad" && p.conn.Config.AuthType != "microsoft_entra_id" {
		h.Set("Api-Key", p.conn.Key)
	}
	return h
}

// azureV1 matches base URLs of Azure's v1 API, which takes the model in the body like everybody else.
var azureV1 = regexp.MustCompile(`/openai/v1(?:/|$)`)

// Chat implements [llm.Provider].
func (p *provider) Chat(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	out, err := p.prepare(req)
	if err != nil {
		return nil, err
	}
	h := p.headers(ctx, req.Caller)
	if out.apiVersion != "" {
		h.Set("Api-Version", out.apiVersion)
	}
	resp, err := p.send(ctx, http.MethodPost, out.url, out.body, out.stream, h)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	sse := strings.Contains(strings.ToLower(resp.Header.Get("Content-Type")), "text/event-stream")
	if sse && resp.StatusCode < 400 {
		return llm.NewRawStream(resp.StatusCode, llm.RelayHeader(resp.Header), resp.Body), nil
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, llm.DetailError(resp.StatusCode, llm.ServerConnectionError, err)
	}
	if resp.StatusCode >= 400 {
		p.Refused(ctx, llm.Refusal{Model: req.Model, Status: resp.StatusCode, Body: body, Type: resp.Header.Get("Content-Type"), Caller: req.Caller})
		return nil, llm.NewUpstreamError(resp.StatusCode, resp.Header, body, sse)
	}
	if out.responses && llm.IsJSONType(resp.Header.Get("Content-Type")) {
		body = ResponsesResult(body)
	}
	return llm.NewBody(resp.StatusCode, llm.RelayHeader(resp.Header), body), nil
}

// prepared is a request ready to be sent.
type prepared struct {
	url        string
	body       []byte
	stream     bool
	responses  bool
	apiVersion string
}

// prepare makes the request for the server out of the caller's: the model's params, the server's own model name,
// and what the kind of server and model demand.
func (p *provider) prepare(req *llm.Request) (prepared, error) {
	body, err := rawjson.Parse(req.Body)
	if err != nil {
		return prepared{}, fmt.Errorf("%w: %w", llm.ErrBadRequest, err)
	}
	cfg := &p.conn.Config
	out := prepared{responses: cfg.APIType == "responses"}
	body.Delete("metadata")
	applyParams(&body, req.Params)
	body.SetString("model", req.Model)
	if req.Pipeline && req.Caller != nil {
		body.Set("user", pipelineUser(req.Caller))
	}
	tokenLimit(&body, req.Model, p.conn.URL)
	if err := logitBias(&body); err != nil {
		return prepared{}, err
	}
	if cfg.Provider == "llama.cpp" && !out.responses && req.Continue && endsWithAssistant(body.Get("messages")) {
		body.Set("continue_final_message", jsontext.Value("true"))
		body.Set("add_generation_prompt", jsontext.Value("false"))
	}
	if out.stream = req.Stream; out.stream != rawjson.Truthy(body.Get("stream")) {
		body.Set("stream", boolean(out.stream))
	}
	if err := p.address(&out, &body, req.Model); err != nil {
		return prepared{}, err
	}
	if out.responses {
		body = responsesRequest(body)
	} else {
		flattenToolMessages(&body)
	}
	if !out.stream {
		body.Delete("stream_options")
	}
	out.body = body.JSON()
	return out, nil
}

// address sets the URL; Azure's older API has the model in it and takes only known members.
func (p *provider) address(out *prepared, body *rawjson.Object, model string) error {
	url := p.conn.URL
	query := ""
	switch {
	case p.conn.Config.Azure && azureV1.MatchString(url):
		url = strings.TrimRight(url, "/")
	case p.conn.Config.Azure:
		out.apiVersion = p.conn.Config.APIVersion
		if !p.conn.Config.HasAPIVersion {
			out.apiVersion = "2023-03-15-preview"
		}
		deployment, err := azureDeployment(model)
		if err != nil {
			return err
		}
		azureMembers(body, model, out.apiVersion)
		url += "/openai/deployments/" + deployment
		query = "?api-version=" + out.apiVersion
	}
	if out.responses {
		out.url = url + "/responses" + query
	} else {
		out.url = url + "/chat/completions" + query
	}
	return nil
}

func boolean(b bool) jsontext.Value {
	if b {
		return jsontext.Value("true")
	}
	return jsontext.Value("false")
}
