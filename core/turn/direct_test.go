package turn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// toolPage answers events as a browser does.
type toolPage struct {
	answer string
	err    error
	mu     sync.Mutex
	asked  []jsondoc.Doc
}

// Listen is what Browsers ask for besides.
func (p *toolPage) Listen(string, string, func(jsondoc.Doc)) (stop func()) { return func() {} }

// Ask implements Browsers.
func (p *toolPage) Ask(_ context.Context, userID, sessionID string, payload jsondoc.Doc) (jsondoc.Doc, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, payload)
	if userID != "u1" || sessionID != "s1" {
		return nil, ErrGone
	}
	return jsondoc.Doc(p.answer), p.err
}

const ownServers = `"tool_servers":[{"url":"http://mine","info":{"title":"Mine"},"system_prompt":"Use mine.","specs":[{"name":"look","description":"Looks","parameters":{"type":"object","properties":{"q":{"type":"string"}}}}]},
	{"url":"http://term","is_terminal":true,"specs":[{"name":"run","parameters":{}}]},7],`

func directBench(t *testing.T, p *toolPage, chat http.HandlerFunc) *bench {
	b := newToolBench(t, chat, tool("add", echo), tool("look", echo))
	b.Browsers = p
	if err := b.Settings.Set(t.Context(), config.Changes{config.DirectIntegrationsEnable.Key(): jsontext.Value("true")}); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDirectServers: tools of servers that the page has connected itself are called by the page.
func TestDirectServers(t *testing.T) {
	one := func(arguments string) http.HandlerFunc {
		return rounds(calls(callDelta(0, "k1", "look", arguments)), says("done"))
	}
	for name, c := range map[string]struct {
		page *toolPage
		want string
	}{
		"an answer":           {&toolPage{answer: `[{"a":1},{"content-type":"application/json"}]`}, `look{"q":"x","z":1} completed | ={ "a": 1 } completed | done completed`},
		"no pair":             {&toolPage{answer: `[1,2,3]`}, `look{"q":"x","z":1} completed | ={ "results": [ 1, 2, 3 ] } completed | done completed`},
		"an error":            {&toolPage{answer: `{"error":"no way"}`}, `look{"q":"x","z":1} failed | ={ "error": "no way" } failed | done completed`},
		"a page that is gone": {&toolPage{err: ErrGone}, `look{"q":"x","z":1} failed | ={ "error": "Client session disconnected." } failed | done completed`},
		"an HTML page":        {&toolPage{answer: `["<p>",{"content-disposition":"inline","content-type":"text/html"}]`}, `look{"q":"x","z":1} completed | ={ "status": "success", "code": "ui_component", "message": "look: Embedded UI result is active and visible to the user." } completed | done completed`},
	} {
		t.Run(name, func(t *testing.T) {
			b := directBench(t, c.page, one(`{"q":"x","z":1}`))
			m := b.ask(t, asking(ownServers))
			if got := summary(m.Get("output")); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			sent := jsondoc.Doc(<-b.asked)
			var names []string
			for _, f := range sent.Get("tools").List() {
				names = append(names, f.Text("function", "name")+":"+f.Text("function", "description"))
			}
			if got := strings.Join(names, " "); got != "add:does add look:Looks run:" {
				t.Errorf("offered %s", got)
			}
			if got := sent.Get("messages", "0").Text("content"); got != "Use mine." {
				t.Errorf("told %q", got)
			}
			data := c.page.asked[0].Get("data")
			if data.Text("type") != "execute:tool" || string(data.Get("data").Delete("id")) != `{"name":"look","params":{"q":"x"},"server":{"url":"http://mine","info":{"title":"Mine"}},"session_id":"s1"}` {
				t.Errorf("asked %s", data)
			}
		})
	}
}

// TestDirectServersRefused: those who may not have servers of their own get none, and no error.
func TestDirectServersRefused(t *testing.T) {
	for name, c := range map[string]struct {
		set func(b *bench)
		err bool
	}{
		"no permission": {func(b *bench) {
			b.Permit = func(_ context.Context, _ *auth.Principal, permission string) (bool, error) {
				return permission != directPermission, nil
			}
		}, false},
		"switched off": {func(b *bench) {
			_ = b.Settings.Set(context.Background(), config.Changes{config.DirectIntegrationsEnable.Key(): jsontext.Value("false")})
		}, false},
		"no tool servers": {func(b *bench) { b.Env.ToolServers = false }, false},
		"an error": {func(b *bench) {
			b.Permit = func(context.Context, *auth.Principal, string) (bool, error) { return false, errors.New("broken") }
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := directBench(t, &toolPage{}, rounds(says("done")))
			c.set(b)
			if c.err {
				if _, err := b.run(asking(ownServers)); err == nil {
					t.Error("no error")
				}
				return
			}
			b.ask(t, asking(ownServers))
			if sent := jsondoc.Doc(<-b.asked); sent.Get("tools").Len() != 2 || sent.Get("tool_servers") != nil {
				t.Errorf("sent %s", sent)
			}
		})
	}
}

// lender is a Toolbox that holds on to something for a turn.
type lender struct{ ended chan struct{} }

// Tools implements Toolbox.
func (l lender) Tools(_ context.Context, s Scope, ids []string) ([]Tool, error) {
	if !slices.Contains(ids, "server:mcp:m") {
		return nil, nil
	}
	s.Instruct("Mind the gap.")
	s.AtEnd(func() { close(l.ended) })
	return []Tool{{Set: "server:mcp:m", Name: "m_add", Call: echo}, {Set: "server:1", Name: "add", Function: jsondoc.Doc(`{"name":"add","description":""}`), Call: echo}}, nil
}

// TestToolboxes: tools of several boxes stand in the order of their sets, MCP servers last, and boxes are told of the end.
func TestToolboxes(t *testing.T) {
	b := newToolBench(t, rounds(calls(callDelta(0, "k1", "1_add", `{}`)), says("done")), tool("add", echo))
	l := lender{make(chan struct{})}
	b.Toolbox = Toolboxes{l, b.Toolbox}
	m := b.ask(t, strings.Replace(asking(""), `["plugin:s","gone"]`, `["server:mcp:m","plugin:s","server:1"]`, 1))
	<-l.ended
	if got := summary(m.Get("output")); got != `1_add{} completed | ={} completed | done completed` {
		t.Error(got)
	}
	var names []string
	sent := jsondoc.Doc(<-b.asked)
	for _, f := range sent.Get("tools").List() {
		names = append(names, f.Text("function", "name"))
	}
	if got := strings.Join(names, " "); got != "add 1_add m_add" || sent.Get("messages", "0").Text("content") != "Mind the gap." {
		t.Errorf("%s, %s", got, sent.Get("messages"))
	}
}
