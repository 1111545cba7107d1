package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

// model is an LLM of two functions.
type model struct {
	models func() ([]sdk.Model, error)
	chat   func(ctx context.Context, req *sdk.ChatRequest, yield func(sdk.Chunk, error) bool)
}

func (m model) Models(context.Context) ([]sdk.Model, error) {
	if m.models == nil {
		return []sdk.Model{{ID: "m"}}, nil
	}
	return m.models()
}

func (m model) Chat(ctx context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) { m.chat(ctx, req, yield) }
}

// embedder makes vectors of the lengths of texts.
type embedder struct{ model }

func (embedder) Embed(_ context.Context, _ string, input []string) ([][]float32, error) {
	var out [][]float32
	for _, s := range input {
		out = append(out, []float32{float32(len(s))})
	}
	return out, nil
}

func plugin(f func(*sdk.Plugin)) sdk.Plugin {
	p := sdk.Plugin{ID: "test", Version: "1"}
	f(&p)
	return p
}

func chatPlugin(chat func(ctx context.Context, req *sdk.ChatRequest, yield func(sdk.Chunk, error) bool)) sdk.Plugin {
	return plugin(func(p *sdk.Plugin) { p.LLM = model{chat: chat} })
}

// chunks is a chat that gives the same chunks to everybody.
func chunks(list ...sdk.Chunk) sdk.Plugin {
	return chatPlugin(func(_ context.Context, _ *sdk.ChatRequest, yield func(sdk.Chunk, error) bool) {
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
	})
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// running says whether a goroutine is in a function.
func running(function string) bool {
	buf := make([]byte, 1<<20)
	return strings.Contains(string(buf[:runtime.Stack(buf, true)]), function)
}

func TestDeclarations(t *testing.T) {
	tool := func(name string) sdk.Tool {
		return sdk.Tool{Name: name, Call: func(context.Context, *sdk.ToolCall) (any, error) { return nil, nil }}
	}
	for want, f := range map[string]func(*sdk.Plugin){
		"":                      func(p *sdk.Plugin) { p.ID = "a-b_1" },
		"ID \"\"":               func(p *sdk.Plugin) { p.ID = "" },
		"ID \"A\"":              func(p *sdk.Plugin) { p.ID = "A" },
		"ID \"../x\"":           func(p *sdk.Plugin) { p.ID = "../x" },
		"Version is empty":      func(p *sdk.Plugin) { p.Version = "" },
		"Routes without HTTP":   func(p *sdk.Plugin) { p.Routes = []sdk.Route{{Pattern: "/"}} },
		"does not begin with /": func(p *sdk.Plugin) { p.HTTP, p.Routes = http.NotFoundHandler(), []sdk.Route{{Pattern: "GET x/y"}} },
		"route \"GET /{\"":      func(p *sdk.Plugin) { p.HTTP, p.Routes = http.NotFoundHandler(), []sdk.Route{{Pattern: "GET /{"}} },
		"route \"/b/{y}\"": func(p *sdk.Plugin) {
			p.HTTP, p.Routes = http.NotFoundHandler(), []sdk.Route{{Pattern: "/b/{x}"}, {Pattern: "/b/{y}"}}
		},
		"OpenAPI of route \"/\"": func(p *sdk.Plugin) {
			p.HTTP, p.Routes = http.NotFoundHandler(), []sdk.Route{{Pattern: "/", OpenAPI: []byte("{")}}
		},
		"tool name \"a b\"":         func(p *sdk.Plugin) { p.Tools = []sdk.Tool{tool("a b")} },
		"tool \"a\" has no Call":    func(p *sdk.Plugin) { p.Tools = []sdk.Tool{{Name: "a"}} },
		"two tools are named \"a\"": func(p *sdk.Plugin) { p.Tools = []sdk.Tool{tool("a"), tool("a")} },
		"parameters of tool \"a\"":  func(p *sdk.Plugin) { x := tool("a"); x.Parameters = []byte("{"); p.Tools = []sdk.Tool{x} },
	} {
		_, err := sdk.NewServer(plugin(f))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	type conf struct {
		N int `json:"n" minimum:"1"`
	}
	h := plugintest.Start(t, plugin(func(p *sdk.Plugin) {
		p.HTTP = http.NotFoundHandler()
		p.Routes = []sdk.Route{{Pattern: "GET  /a/{id}", Access: sdk.Public, Summary: "s"}, {Pattern: "/b", Access: sdk.Admin, Permission: "features.notes"}, {Pattern: "POST /c", OpenAPI: []byte(`{}`)}}
		p.Tools = []sdk.Tool{{Name: "t", Description: "d", Call: func(context.Context, *sdk.ToolCall) (any, error) { return nil, nil }}}
		p.Filter = &sdk.Filter{Priority: -3, Tasks: true, Models: []string{"m"}, Outlet: func(context.Context, *sdk.Body) error { return nil }}
		p.Config = sdk.NewConfig(conf{2})
		p.Wants = []string{"kv"}
	}))
	d := h.Describe()
	if got := fmt.Sprint(d.GetRoutes()[0], "|", d.GetRoutes()[1].GetMethod(), d.GetRoutes()[1].GetPath(), d.GetRoutes()[1].GetAccess(), d.GetRoutes()[1].GetPermission()); !strings.Contains(strings.ReplaceAll(got, "  ", " "), `path:"/a/{id}"`) ||
		!strings.HasSuffix(got, "|/bACCESS_ADMINfeatures.notes") || d.GetRoutes()[0].GetMethod() != "GET" || d.GetRoutes()[2].GetAccess().String() != "ACCESS_VERIFIED" {
		t.Error(got)
	}
	if f := d.GetFilter(); f.GetInlet() || !f.GetOutlet() || f.GetStream() || f.GetPriority() != -3 || !f.GetTasks() || f.GetModels()[0] != "m" {
		t.Error(f)
	}
	if got := string(d.GetTools()[0].GetParameters()); got != `{"type":"object","properties":{}}` {
		t.Error(got)
	}
	if got := string(d.GetConfigSchema()); got != `{"type":"object","properties":{"n":{"type":"integer","minimum":1,"default":2}}}` {
		t.Error(got)
	}
	if d.GetId() != "test" || d.GetVersion() != "1" || d.GetWants()[0] != "kv" || d.GetSdk() != "go/"+sdk.Version {
		t.Error(d)
	}
}

func TestChat(t *testing.T) {
	usage := &sdk.Usage{PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3}
	for name, c := range map[string]struct {
		plugin sdk.Plugin
		want   string // text|reasoning|finish|tokens|chunks
	}{
		"finish is added":                      {chunks(sdk.Chunk{Text: "a"}, sdk.Chunk{Text: "b"}), "ab||stop|0|3"},
		"finish is kept":                       {chunks(sdk.Chunk{Text: "a"}, sdk.Chunk{FinishReason: "length"}), "a||length|0|2"},
		"usage comes last":                     {chunks(sdk.Chunk{Usage: usage}, sdk.Chunk{Text: "a", Usage: usage}), "a||stop|3|3"},
		"raw with a finish":                    {chunks(sdk.Chunk{Raw: []byte(`{"choices":[{"delta":{"content":"r"},"finish_reason":"stop"}]}`)}), "r||stop|0|1"},
		"raw without":                          {chunks(sdk.Chunk{Raw: []byte(`{"choices":[{"delta":{"content":"r"},"finish_reason":null}]}`)}), "r||stop|0|2"},
		"reasoning":                            {chunks(sdk.Chunk{Reasoning: "think"}, sdk.Chunk{Text: "a", FinishReason: "stop"}), "a|think|stop|0|2"},
		"nothing":                              {chunks(), "||stop|0|1"},
		"chunks that say nothing are left out": {chunks(sdk.Chunk{}, sdk.Chunk{Text: "a"}, sdk.Chunk{}), "a||stop|0|2"},
	} {
		h := plugintest.Start(t, c.plugin)
		a, err := h.Chat(t.Context(), "m", sdk.UserMessage("hi"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		tokens := 0
		if a.Usage != nil {
			tokens = a.Usage.TotalTokens
			if a.Chunks[len(a.Chunks)-1].Usage == nil {
				t.Errorf("%s: usage is not last", name)
			}
		}
		if got := fmt.Sprintf("%s|%s|%s|%d|%d", a.Text, a.Reasoning, a.FinishReason, tokens, len(a.Chunks)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if first := string(a.Chunks[0].Raw); !strings.HasPrefix(name, "raw") && (!strings.Contains(first, `"delta":{"role":"assistant"`) || len(a.Chunks) > 1 && strings.Contains(string(a.Chunks[1].Raw), "role")) {
			t.Errorf("%s: the role: %s", name, first)
		}
	}
}

func TestChatSees(t *testing.T) {
	seen := make(chan string, 1)
	h := plugintest.Start(t, chatPlugin(func(ctx context.Context, req *sdk.ChatRequest, yield func(sdk.Chunk, error) bool) {
		m := sdk.MetaFrom(ctx)
		var temp float64
		req.Get("temperature", &temp)
		seen <- fmt.Sprint(m.Caller.Name, m.Caller.Groups, m.Task, m.Model, req.Model, req.Stream, temp, req.Last("user"), req.Last("tool"), sdk.HostFrom(ctx) != nil)
	}))
	h = h.With(sdk.Meta{Caller: sdk.Caller{ID: "1", Name: "Zoë", Groups: []sdk.Group{{ID: "g", Name: "G"}}}, Task: "title_generation"})
	for _, err := range h.ChatStream(t.Context(), map[string]any{"model": "m", "temperature": 0.5, "messages": []sdk.Message{sdk.UserMessage("one"), sdk.UserMessage("two"), sdk.AssistantMessage("x")}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := <-seen; got != "Zoë[{g G}]title_generationm m false 0.5 two true" && strings.ReplaceAll(got, " ", "") != "Zoë[{gG}]title_generationmmfalse0.5twotrue" {
		t.Error(got)
	}
}

func TestRefusals(t *testing.T) {
	refusal := sdk.Refuse(429, "slow down \xff").With("Retry-After", "7")
	for name, c := range map[string]struct {
		err    error
		status int
		detail string
		code   codes.Code
	}{
		"a refusal":         {refusal, 429, "slow down \uFFFD", codes.ResourceExhausted},
		"a wrapped one":     {fmt.Errorf("upstream: %w", sdk.Refuse(404, "no")), 404, "no", codes.NotFound},
		"one without sense": {sdk.Refuse(200, "fine?"), 500, "fine?", codes.FailedPrecondition},
		"any other":         {errors.New("boom"), 0, "", codes.Internal},
	} {
		h := plugintest.Start(t, plugin(func(p *sdk.Plugin) {
			p.LLM = model{
				models: func() ([]sdk.Model, error) { return nil, c.err },
				chat: func(_ context.Context, _ *sdk.ChatRequest, yield func(sdk.Chunk, error) bool) {
					_ = yield(sdk.Chunk{Text: "partial"}, nil) && yield(sdk.Chunk{}, c.err)
				},
			}
			p.Filter = &sdk.Filter{
				Inlet:  func(context.Context, *sdk.Body) error { return c.err },
				Outlet: func(context.Context, *sdk.Body) error { return c.err },
				Stream: func(context.Context) (sdk.StreamFilter, error) {
					return sdk.StreamFunc(func(sdk.Chunk) ([]sdk.Chunk, error) { return nil, c.err }), nil
				},
			}
		}))
		answer, chatErr := h.Chat(t.Context(), "m")
		if answer.Text != "partial" {
			t.Errorf("%s: %q came before the error", name, answer.Text)
		}
		_, modelsErr := h.Models()
		_, inletErr := h.Inlet(map[string]any{})
		_, outletErr := h.Outlet(map[string]any{})
		_, streamErr := h.Stream(sdk.Chunk{Text: "x"})
		for call, err := range map[string]error{"chat": chatErr, "models": modelsErr, "inlet": inletErr, "outlet": outletErr, "stream": streamErr} {
			r := sdk.RefusalFrom(err)
			switch {
			case c.status == 0 && (r != nil || status.Code(err) != c.code):
				t.Errorf("%s, %s: %v", name, call, err)
			case c.status != 0 && (r == nil || r.Status != c.status || r.Detail != c.detail):
				t.Errorf("%s, %s: %v", name, call, err)
			case name == "a refusal" && r.Headers["Retry-After"] != "7":
				t.Errorf("%s, %s: headers %v", name, call, r.Headers)
			}
		}
	}
	for code := 400; code < 600; code++ {
		if r := sdk.RefusalFrom(sdk.Refuse(code, "d").GRPCStatus().Err()); r == nil || r.Status != code {
			t.Errorf("%d became %v", code, r)
		}
	}
}

// TestBackPressure has a model that writes as fast as it can and a client that waits: the model is made to wait, everything
// arrives in order.
func TestBackPressure(t *testing.T) {
	const n, size = 20000, 200
	var written atomic.Int64
	text := strings.Repeat("x", size)
	h := plugintest.Start(t, chatPlugin(func(_ context.Context, _ *sdk.ChatRequest, yield func(sdk.Chunk, error) bool) {
		for i := range n {
			if !yield(sdk.Chunk{Text: fmt.Sprintf("%06d%s", i, text)}, nil) {
				return
			}
			written.Add(1)
		}
	}))
	next, stop := iter.Pull2(h.ChatStream(t.Context(), map[string]any{"model": "m"}))
	defer stop()
	if _, err, ok := next(); err != nil || !ok {
		t.Fatal(err)
	}
	before := int64(-1)
	until(t, "the model waits", func() bool {
		was := before
		before = written.Load()
		time.Sleep(20 * time.Millisecond)
		return was == before && before > 0
	})
	if before > n/2 {
		t.Errorf("%d of %d chunks were written while nobody read", before, n)
	}
	for i := 1; i < n; i++ {
		c, err, ok := next()
		if err != nil || !ok || !strings.HasPrefix(c.Text, fmt.Sprintf("%06d", i)) {
			t.Fatalf("chunk %d: %.20s, %v", i, c.Text, err)
		}
	}
}

func TestClientGoes(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context){
		"while it writes": func(context.Context) {},
		"while it waits":  func(ctx context.Context) { <-ctx.Done() },
	} {
		ended := make(chan error, 1)
		h := plugintest.Start(t, chatPlugin(func(ctx context.Context, _ *sdk.ChatRequest, yield func(sdk.Chunk, error) bool) {
			for yield(sdk.Chunk{Text: strings.Repeat("x", 1000)}, nil) {
				wait(ctx)
			}
			ended <- ctx.Err()
		}))
		for _, err := range h.ChatStream(t.Context(), map[string]any{"model": "m"}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the context says %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the model goes on", name)
		}
		until(t, name+": the sender ends", func() bool { return !running("sdk.(*batch).send") })
	}
}

func TestPanics(t *testing.T) {
	h := plugintest.Start(t, plugin(func(p *sdk.Plugin) {
		p.LLM = model{
			models: func() ([]sdk.Model, error) { panic("models") },
			chat: func(_ context.Context, _ *sdk.ChatRequest, yield func(sdk.Chunk, error) bool) {
				yield(sdk.Chunk{Text: "partial"}, nil)
				panic("chat")
			},
		}
		p.Filter = &sdk.Filter{
			Inlet:  func(context.Context, *sdk.Body) error { panic("inlet") },
			Stream: func(context.Context) (sdk.StreamFilter, error) { panic("stream") },
		}
		p.Tools = []sdk.Tool{{Name: "t", Call: func(context.Context, *sdk.ToolCall) (any, error) { panic("tool") }}}
		p.HTTP = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		p.Check = func(context.Context) error { panic("check") }
	}))
	_, modelsErr := h.Models()
	_, chatErr := h.Chat(t.Context(), "m")
	_, inletErr := h.Inlet(map[string]any{})
	_, streamErr := h.Stream(sdk.Chunk{Text: "x"})
	_, toolErr := h.CallTool("t", map[string]any{})
	for call, err := range map[string]error{"models": modelsErr, "chat": chatErr, "inlet": inletErr, "stream": streamErr, "tool": toolErr} {
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "the plugin panicked") {
			t.Errorf("%s: %v", call, err)
		}
	}
	if state, _ := h.Check(); state != "failed" {
		t.Errorf("check: %s", state)
	}
	if _, err := h.HTTP().Get("/"); err == nil {
		t.Error("a request to a handler that panics was answered")
	}
	until(t, "the sender ends", func() bool { return !running("sdk.(*batch).send") })
}

func TestServeByHand(t *testing.T) {
	if os.Getenv("SDK_TEST_SERVE") == "1" {
		sdk.Serve(sdk.Plugin{ID: "lonely", Version: "1"})
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeByHand$")
	cmd.Env = append(os.Environ(), "SDK_TEST_SERVE=1")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || stdout.String() != "" || !strings.HasPrefix(stderr.String(), "lonely is a plugin of Galley.") || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("%v, %q, %q", err, stdout.String(), stderr.String())
	}
}

func TestImports(t *testing.T) {
	for _, pkg := range []string{".", "./plugintest"} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		list := strings.Fields(string(out))
		if len(list) < 50 {
			t.Fatalf("%s: only %d packages", pkg, len(list))
		}
		for _, dep := range list {
			if strings.HasPrefix(dep, "github.com/galleychat/galley/") && !strings.HasPrefix(dep, "github.com/galleychat/galley/sdk") {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
}
