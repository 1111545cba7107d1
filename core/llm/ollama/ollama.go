// Package ollama talks to Ollama servers by their own API and translates to and from OpenAI's form.
package ollama

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Backend makes the registry handle Ollama connections. A model that several servers have is listed once; calls
// are spread over them.
var Backend = llm.Backend{New: New, Merge: Merge}

// New returns the provider of a connection.
func New(conn llm.Connection, client *llm.Client) llm.Provider {
	return &provider{conn: conn, client: client}
}

type provider struct {
	conn   llm.Connection
	client *llm.Client
}

var _ llm.Connected = (*provider)(nil)

// ID implements [llm.Provider].
func (p *provider) ID() string { return p.conn.ID() }

// Connection implements [llm.Connected].
func (p *provider) Connection() llm.Connection { return p.conn }

// Refused tells the client of a request that the server refused.
func (p *provider) Refused(ctx context.Context, r llm.Refusal) {
	r.Connection = p.conn
	p.client.Refused(ctx, r)
}

// Refusal is what is told of a refused request to a path of a server. The model is not, as the reference has it.
func Refusal(conn llm.Connection, path string, e *llm.UpstreamError, caller *llm.Caller) llm.Refusal {
	return llm.Refusal{Address: conn.URL + path, Status: e.Status, Body: e.Upstream, Type: e.UpstreamType, Caller: caller}
}

// Do implements [llm.Connected].
func (p *provider) Do(ctx context.Context, method, path string, body []byte, stream bool, caller *llm.Caller) (*http.Response, error) {
	return p.client.Send(ctx, llm.Outgoing{
		Method: method, URL: p.conn.URL + path, Body: body, Stream: stream,
		Header: p.client.Headers().Build(ctx, &p.conn, caller),
	})
}

// Chat implements [llm.Provider] by /api/chat.
func (p *provider) Chat(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	body, err := Request(req)
	if err != nil {
		return nil, err
	}
	resp, err := p.Do(ctx, http.MethodPost, "/api/chat", body, req.Stream, req.Caller)
	if err != nil {
		return nil, llm.TransportError(ctx, err, "Ollama: "+reason(err))
	}
	if resp.StatusCode >= 400 {
		e := Failure(resp)
		p.Refused(ctx, Refusal(p.conn, "/api/chat", e, req.Caller))
		return nil, e
	}
	h := llm.RelayHeader(resp.Header)
	if req.Stream {
		return llm.NewStream(h, newStream(resp.Body)), nil
	}
	raw, err := llm.ReadBody(resp)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, llm.DetailError(resp.StatusCode, "Ollama: "+reason(err), err)
	}
	out, err := Completion(raw)
	if err != nil { // 200 with something else: passed on as the text it is
		return llm.NewBody(resp.StatusCode, h, raw), nil
	}
	h.Set("Content-Type", "application/json")
	return llm.NewBody(resp.StatusCode, h, out), nil
}

// reason is what clients are told about a transport error: the innermost cause, which names no address twice.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// Failure reads the answer of a server that refused and closes it: {"error": e} is passed on as {"detail": e}
// with the status, anything else as the connection error.
func Failure(resp *http.Response) *llm.UpstreamError {
	body, err := llm.ReadBody(resp)
	e := llm.DetailError(resp.StatusCode, llm.ServerConnectionError, nil)
	e.Upstream, e.UpstreamType = body, resp.Header.Get("Content-Type")
	e.RetryAfter, e.RetryAfterMS = resp.Header.Get("Retry-After"), resp.Header.Get("Retry-After-Ms")
	if err != nil || !llm.IsJSONType(resp.Header.Get("Content-Type")) || !jsontext.Value(body).IsValid() {
		return e
	}
	if o, err := rawjson.Parse(body); err == nil && o.Has("error") {
		e.Body = fmt.Appendf(nil, `{"detail":%s}`, o.Get("error"))
	}
	return e
}

// trimSpace is bytes.TrimSpace for JSON white space at the start.
func trimSpace(v []byte) jsontext.Value {
	for len(v) > 0 && strings.IndexByte(" \t\r\n", v[0]) >= 0 {
		v = v[1:]
	}
	return v
}
