package configs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// mcp speaks as much of the Model Context Protocol (streamable HTTP) as it takes to list a server's tools.
type mcp struct {
	client  *http.Client
	url     string
	header  http.Header
	session string
	next    int
}

// mcpVersion is the revision of the protocol that is offered.
const mcpVersion = "2025-06-18"

// tools connects and lists the tools: name, description and parameters of each.
func (m *mcp) tools(ctx context.Context) (jsondoc.Doc, error) {
	var hello jsondoc.Builder
	hello.Add("protocolVersion", mcpVersion)
	hello.Raw("capabilities", jsondoc.Doc("{}"))
	hello.Raw("clientInfo", jsondoc.Object("name", jsondoc.Text("Galley")).Set(jsondoc.Text(config.Version), "version"))
	if _, err := m.call(ctx, "initialize", hello.Done()); err != nil {
		return nil, err
	}
	defer m.close(ctx)
	if _, err := m.post(ctx, jsondoc.Object("jsonrpc", jsondoc.Doc(`"2.0"`)).Set(jsondoc.Text("notifications/initialized"), "method"), 0); err != nil {
		return nil, err
	}
	specs := []jsondoc.Doc{}
	for cursor := ""; ; {
		params := jsondoc.Doc("{}")
		if cursor != "" {
			params = jsondoc.Object("cursor", jsondoc.Text(cursor))
		}
		page, err := m.call(ctx, "tools/list", params)
		if err != nil {
			return nil, err
		}
		for _, t := range page.Get("tools").List() {
			var b jsondoc.Builder
			b.Raw("name", t.Get("name"))
			b.Raw("description", t.Get("description"))
			b.Raw("parameters", t.Get("inputSchema"))
			specs = append(specs, b.Done())
		}
		next := page.Text("nextCursor")
		if next == "" || next == cursor {
			return jsondoc.Array(specs...), nil
		}
		cursor = next
	}
}

// call sends a request and gives its result.
func (m *mcp) call(ctx context.Context, method string, params jsondoc.Doc) (jsondoc.Doc, error) {
	m.next++
	var b jsondoc.Builder
	b.Add("jsonrpc", "2.0")
	b.Add("id", m.next)
	b.Add("method", method)
	b.Raw("params", params)
	answer, err := m.post(ctx, b.Done(), m.next)
	if err != nil {
		return nil, err
	}
	if e := answer.Get("error"); !e.IsNull() {
		return nil, fmt.Errorf("%s: %s", method, e.Text("message"))
	}
	return answer.Get("result"), nil
}

func (m *mcp) request(ctx context.Context, method string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = m.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if m.session != "" {
		req.Header.Set("Mcp-Session-Id", m.session)
	}
	if m.next > 1 {
		req.Header.Set("Mcp-Protocol-Version", mcpVersion)
	}
	return req, nil
}

// post sends a message; for a request (id above 0) it waits for the response, which may come in a stream of others.
func (m *mcp) post(ctx context.Context, message jsondoc.Doc, id int) (jsondoc.Doc, error) {
	req, err := m.request(ctx, http.MethodPost, message)
	if err != nil {
		return nil, err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return nil, fmt.Errorf("the MCP server answered %s", resp.Status)
	}
	if s := resp.Header.Get("Mcp-Session-Id"); s != "" {
		m.session = s
	}
	if id == 0 {
		return nil, nil
	}
	body := io.LimitReader(resp.Body, maxDescription)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		raw, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		doc, bad := jsondoc.Check(raw)
		if bad != nil {
			return nil, errors.New("the MCP server answered no JSON")
		}
		return doc, nil
	}
	return responseIn(body, id)
}

// responseIn finds the response to a request in a stream of Server-Sent Events.
func responseIn(body io.Reader, id int) (jsondoc.Doc, error) {
	lines := bufio.NewReader(body)
	var data []byte
	for {
		line, err := lines.ReadBytes('\n')
		line = bytes.TrimRight(line, "\r\n")
		if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(data, bytes.TrimPrefix(rest, []byte(" "))...)
		}
		if len(line) == 0 && len(data) > 0 {
			if doc, bad := jsondoc.Check(data); bad == nil {
				if n, ok := doc.Int("id"); ok && int(n) == id {
					return doc, nil
				}
			}
			data = nil
		}
		if err != nil {
			return nil, fmt.Errorf("the MCP server's answer broke off: %w", err)
		}
	}
}

// close ends the session. A server that keeps it loses nothing but memory, so a failure is no matter.
func (m *mcp) close(ctx context.Context) {
	if m.session == "" {
		return
	}
	req, err := m.request(ctx, http.MethodDelete, nil)
	if err != nil {
		return
	}
	if resp, err := m.client.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}
