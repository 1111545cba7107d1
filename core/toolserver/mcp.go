package toolserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/turn"
)

// Why the tools of an MCP server cannot be told.
var (
	ErrNotFound = errors.New("there is no such tool server")
	ErrSignIn   = errors.New("the tool server wants its user to sign in")
)

// maxMessage bounds a message of an MCP server, in bytes.
const maxMessage = maxResult

// session is a connection to an MCP server.
type session struct {
	*mcp.ClientSession
	limit time.Duration // of each request but calls; 0 means none
}

// dial connects to an MCP server. header gives that of each request; it is asked again, with renew, where the server says
// that the caller is not known. elicit may be nil.
func dial(ctx context.Context, client *http.Client, address string, header func(ctx context.Context, renew bool) http.Header, elicit elicitation, limit time.Duration) (*session, error) {
	o := &mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{}}
	if elicit != nil {
		o.ElicitationHandler = elicit
		o.Capabilities.Elicitation = &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}}
	}
	own := *client
	own.Transport = &signer{client.Transport, header}
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme || len(via) > 10 {
			return http.ErrUseLastResponse // the headers are not another server's business
		}
		return nil
	}
	ctx, cancel := limited(ctx, limit)
	by := mcp.NewClient(&mcp.Implementation{Name: "Galley", Version: config.Version}, o)
	transport := &mcp.StreamableClientTransport{Endpoint: address, HTTPClient: &own, DisableStandaloneSSE: true, MaxEventSize: maxMessage, MaxRetries: 2}
	type connected struct {
		*mcp.ClientSession
		err error
	}
	done := make(chan connected, 1)
	go func() {
		s, err := by.Connect(ctx, transport, nil)
		done <- connected{s, err}
	}()
	select {
	case c := <-done:
		cancel()
		if c.err != nil {
			return nil, c.err
		}
		return &session{c.ClientSession, limit}, nil
	case <-ctx.Done():
		// The library takes leave of a server that does not answer for seconds more. Nobody waits for that.
		go func() {
			defer cancel()
			if c := <-done; c.err == nil {
				_ = c.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

func limited(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit > 0 {
		return context.WithTimeout(ctx, limit)
	}
	return context.WithCancel(ctx)
}

// signer adds headers to requests.
type signer struct {
	next   http.RoundTripper
	header func(ctx context.Context, renew bool) http.Header
}

// RoundTrip implements http.RoundTripper.
func (s *signer) RoundTrip(r *http.Request) (*http.Response, error) {
	next := s.next
	if next == nil {
		next = http.DefaultTransport
	}
	signed := s.sign(r, false)
	resp, err := next.RoundTrip(signed)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || r.Body != nil && r.GetBody == nil {
		return resp, err
	}
	again := s.sign(r, true)
	if again.Header.Get("Authorization") == signed.Header.Get("Authorization") {
		return resp, nil
	}
	if r.Body != nil {
		if again.Body, err = r.GetBody(); err != nil {
			return resp, nil
		}
	}
	_ = resp.Body.Close()
	return next.RoundTrip(again)
}

func (s *signer) sign(r *http.Request, renew bool) *http.Request {
	out := r.Clone(r.Context())
	for name, values := range s.header(r.Context(), renew) {
		if name != "Content-Type" && name != "Accept" { // are the protocol's
			out.Header[name] = values
		}
	}
	return out
}

// tools lists the tools of the server, page by page.
func (s *session) tools(ctx context.Context) ([]*mcp.Tool, error) {
	var out []*mcp.Tool
	for cursor := ""; ; {
		page, err := s.page(ctx, cursor)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Tools...)
		if page.NextCursor == "" || page.NextCursor == cursor {
			return out, nil
		}
		cursor = page.NextCursor
	}
}

func (s *session) page(ctx context.Context, cursor string) (*mcp.ListToolsResult, error) {
	ctx, cancel := limited(ctx, s.limit)
	defer cancel()
	return s.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
}

// specOf describes a tool to models.
func specOf(t *mcp.Tool, name string) jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("name", name)
	if t.Description == "" {
		b.Raw("description", nil)
	} else {
		b.Add("description", t.Description)
	}
	b.Raw("parameters", schemaOf(t))
	return b.Done()
}

func schemaOf(t *mcp.Tool) jsondoc.Doc {
	raw, err := json.Marshal(t.InputSchema)
	if err != nil || jsondoc.Doc(raw).Kind() != '{' {
		return jsondoc.Doc(`{"type":"object","properties":{}}`)
	}
	return jsondoc.Doc(raw)
}

// MCPTools connects to an MCP server and lists its tools: name, description and parameters of each.
func MCPTools(ctx context.Context, client *http.Client, address string, header http.Header, limit time.Duration) ([]jsondoc.Doc, error) {
	s, err := dial(ctx, client, address, func(context.Context, bool) http.Header { return header }, nil, limit)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	tools, err := s.tools(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]jsondoc.Doc, len(tools))
	for i, t := range tools {
		out[i] = specOf(t, t.Name)
	}
	return out, nil
}

// connect connects to an MCP server of the settings on behalf of a caller, who may be nil.
func (s *Servers) connect(ctx context.Context, c *connection, caller *llm.Caller, elicit elicitation) (*session, []*mcp.Tool, error) {
	if c.signsIn() && s.header(ctx, c, caller, false).Get("Authorization") == "" {
		return nil, nil, ErrSignIn
	}
	header := func(ctx context.Context, renew bool) http.Header { return s.header(ctx, c, caller, renew) }
	conn, err := dial(ctx, s.HTTP, c.url(), header, elicit, s.Env.Client.MCPTimeout)
	if err != nil {
		return nil, nil, err
	}
	tools, err := conn.tools(ctx)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, slices.DeleteFunc(tools, func(t *mcp.Tool) bool { return !c.offers(t.Name) }), nil
}

// Specs lists the tools of an MCP server by name and description. ErrNotFound stands for one that the principal may not
// use as well, ErrSignIn says that he has to sign in.
func (s *Servers) Specs(ctx context.Context, p *auth.Principal, caller *llm.Caller, setID string) ([]jsondoc.Doc, error) {
	c := find(s.connections(), setID)
	if c == nil || c.kind != kindMCP {
		return nil, ErrNotFound
	}
	may, err := s.permitted(ctx, p)
	if err != nil {
		return nil, err
	}
	if !may(c) {
		return nil, ErrNotFound
	}
	conn, tools, err := s.connect(ctx, c, caller, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	out := make([]jsondoc.Doc, len(tools))
	for i, t := range tools {
		out[i] = specOf(t, t.Name).Delete("parameters")
	}
	return out, nil
}

// mcpTools connects to a server for a turn and gives its tools, and what the server wants models to know of them.
func (s *Servers) mcpTools(ctx context.Context, t turn.Scope, c *connection, set string) (out []turn.Tool, told string) {
	conn, tools, err := s.connect(ctx, c, t.Caller, elicitor(c.id, t.Ask))
	if err != nil {
		if ctx.Err() == nil {
			s.Log.WarnContext(ctx, "an MCP server is left out", "server", c.id, "url", c.url(), "error", err)
			var b jsondoc.Builder
			b.Add("action", "tool_connection")
			b.Add("description", "Failed to connect to MCP server '"+c.id+"'")
			b.Add("error", true)
			b.Add("done", true)
			t.Emit("status", b.Done())
		}
		return nil, ""
	}
	t.AtEnd(func() { _ = conn.Close() })
	if r := conn.InitializeResult(); r != nil && r.Instructions != "" {
		told = "MCP server " + string(jsondoc.Text(c.id)) + " instructions:\n" + r.Instructions
	}
	for _, tool := range tools {
		name := mcpName(c.id, tool.Name)
		out = append(out, turn.Tool{
			Set: set, Name: name, Function: specOf(tool, name), Parameters: schemaOf(tool), AllArguments: true,
			Call: func(ctx context.Context, call turn.ToolCall) (turn.ToolResult, error) {
				ctx, cancel := s.callTimeout(ctx)
				defer cancel()
				done := s.Observe(c.id)
				out, err := s.callMCP(ctx, conn, tool.Name, call)
				done(err)
				return out, err
			},
		})
	}
	return out, told
}

// mcpName is the name of a tool among those of all servers.
func mcpName(server, tool string) string {
	full := server + "_" + tool
	if len(full) > maxName {
		return shortened(full, full)
	}
	return full
}

// shortened is a name that is cut to the length that providers take, and stays different from others that begin the same.
func shortened(name, full string) string {
	sum := sha256.Sum256([]byte(full))
	return name[:maxName-9] + "_" + hex.EncodeToString(sum[:4])
}

func (s *Servers) callMCP(ctx context.Context, conn *session, name string, call turn.ToolCall) (turn.ToolResult, error) {
	res, err := conn.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: json.RawMessage(call.Arguments)})
	if err != nil {
		var said *jsonrpc.Error
		if errors.As(err, &said) {
			err = errors.New(said.Message)
		}
		return turn.ToolResult{}, unwrapped(err)
	}
	if res.IsError {
		return turn.ToolResult{}, errors.New(errorText(res.Content))
	}
	return s.mcpResult(ctx, call.Principal, res), nil
}

func errorText(content []mcp.Content) string {
	if texts := textsOf(content); len(texts) > 0 {
		return strings.Join(texts, "\n")
	}
	return "MCP tool call returned an error."
}

func textsOf(content []mcp.Content) (out []string) {
	for _, c := range content {
		if t, ok := c.(*mcp.TextContent); ok {
			out = append(out, t.Text)
		}
	}
	return out
}

// mcpResult is what a tool answered: its texts, which may be JSON, and files.
func (s *Servers) mcpResult(ctx context.Context, p *auth.Principal, res *mcp.CallToolResult) (out turn.ToolResult) {
	var said []jsondoc.Doc
	for _, c := range res.Content {
		switch c := c.(type) {
		case *mcp.TextContent:
			said = append(said, value(c.Text))
		case *mcp.ImageContent:
			s.addFile(ctx, p, &out, "image", c.MIMEType, c.Data)
		case *mcp.AudioContent:
			s.addFile(ctx, p, &out, "audio", c.MIMEType, c.Data)
		case *mcp.EmbeddedResource:
			if r := c.Resource; r != nil {
				s.addResource(ctx, p, &out, &said, r)
			}
		}
	}
	if extra := unsaid(res); extra != nil {
		said = append(said, extra)
	}
	if out.Content = jsondoc.Array(said...); len(said) == 1 {
		out.Content = said[0]
	}
	return out
}

func (s *Servers) addResource(ctx context.Context, p *auth.Principal, out *turn.ToolResult, said *[]jsondoc.Doc, r *mcp.ResourceContents) {
	switch kind := r.MIMEType; {
	case r.Text != "":
		*said = append(*said, value(r.Text))
	case len(r.Blob) > 0 && strings.HasPrefix(kind, "image/"):
		s.addFile(ctx, p, out, "image", kind, r.Blob)
	case len(r.Blob) > 0:
		if kind == "" {
			kind = "application/octet-stream"
		}
		*said = append(*said, jsondoc.Text(fmt.Sprintf("[Resource: %s] (binary data, mimeType: %s)", r.URI, kind)))
	case r.URI != "":
		*said = append(*said, jsondoc.Text(r.URI))
	}
}

// addFile gives images to the model, and shows them and other files to the user.
func (s *Servers) addFile(ctx context.Context, p *auth.Principal, out *turn.ToolResult, kind, mediaType string, content []byte) {
	inline := dataURI(mediaType, content)
	if kind == "image" {
		out.Images = append(out.Images, jsondoc.Text(inline))
	}
	if s.Keep == nil {
		return
	}
	address, err := s.Keep(ctx, p, mediaType, content)
	if err != nil {
		s.Log.WarnContext(ctx, "a file of a tool was not stored", "error", err)
		return
	}
	out.Files = append(out.Files, jsondoc.Object("type", jsondoc.Text(kind)).Set(jsondoc.Text(address), "url"))
}

// value is a text as JSON: as it is where it is JSON already.
func value(text string) jsondoc.Doc {
	if d, bad := jsondoc.Check([]byte(text)); bad == nil && len(d) > 0 {
		return d
	}
	return jsondoc.Text(text)
}

// unsaid is the structured content of a result where its texts do not say the same, nil where they do.
func unsaid(res *mcp.CallToolResult) jsondoc.Doc {
	if res.StructuredContent == nil {
		return nil
	}
	whole := canonical(res.StructuredContent)
	var texts []string
	for _, t := range textsOf(res.Content) {
		c := canonicalText(t)
		if c == whole {
			return nil
		}
		texts = append(texts, c)
	}
	// Servers wrap what is no object into {"result": …} and give it, or each of its elements, as a text as well.
	if o, ok := res.StructuredContent.(map[string]any); ok && len(o) == 1 {
		if v, ok := o["result"]; ok {
			list, isList := v.([]any)
			if !isList {
				list = []any{v}
			}
			elements := make([]string, len(list))
			for i, e := range list {
				elements[i] = canonical(e)
			}
			if slices.Equal(texts, []string{canonical(v)}) || len(texts) > 0 && slices.Equal(texts, elements) {
				return nil
			}
			if raw := textsOf(res.Content); len(raw) > 0 && slices.EqualFunc(raw, list, func(t string, e any) bool { return t == e || canonicalText(t) == canonical(e) }) {
				return nil
			}
		}
	}
	return jsondoc.Doc(whole)
}

// canonical is a value as JSON in one way only.
func canonical(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func canonicalText(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return canonical(text)
	}
	return canonical(v)
}

// elicitation is how a server asks the user something.
type elicitation = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)

// elicitor asks the page of the user who asked. Whatever goes wrong is an answer: nothing was said.
func elicitor(server string, ask func(ctx context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error)) elicitation {
	if ask == nil {
		return nil
	}
	return func(ctx context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		nothing := &mcp.ElicitResult{Action: "cancel"}
		p := r.Params
		form := p.Mode != "url"
		var b jsondoc.Builder
		if form {
			b.Add("mode", "form")
			b.Add("message", p.Message)
			b.Raw("requestedSchema", jsondoc.Doc(canonical(p.RequestedSchema)))
		} else {
			u, err := url.Parse(p.URL)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
				return nothing, nil
			}
			b.Add("mode", "url")
			b.Add("message", p.Message)
			b.Add("url", p.URL)
		}
		b.Add("server_name", server)
		answer, err := ask(ctx, "request:elicitation", b.Done())
		if err != nil {
			return nothing, nil
		}
		out := &mcp.ElicitResult{Action: answer.Text("action")}
		if !slices.Contains([]string{"accept", "decline", "cancel"}, out.Action) {
			return nothing, nil
		}
		if out.Action == "accept" && form {
			if err := json.Unmarshal(answer.Get("content").Or(jsondoc.Doc("{}")), &out.Content); err != nil {
				return nothing, nil
			}
		}
		return out, nil
	}
}
