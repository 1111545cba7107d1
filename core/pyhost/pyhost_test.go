package pyhost_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/pyhost/pyhosttest"
)

func tool(text string) pyhost.Source {
	return pyhost.Source{Kind: pyhost.KindTool, ID: "it", Text: text}
}

// in is a tool with functions.
func in(functions string) pyhost.Source {
	return tool("import asyncio, os, time\nfrom pydantic import BaseModel, Field\nclass Tools:\n" + indent(functions))
}

func indent(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = "    " + strings.TrimPrefix(lines[i], "\t")
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestLoadErrors(t *testing.T) {
	h := pyhosttest.New(t, func(o *pyhost.Options) { o.LoadTime = 2 * time.Second })
	for name, c := range map[string]struct{ source, want string }{
		"syntax":           {"nothing here", "invalid syntax (<string>, line 1)"},
		"no class":         {"x = 1", "No Tools class found in the module"},
		"empty":            {"", "No Tools class found in the module"},
		"raises":           {"raise ValueError('no')", "no"},
		"ends":             {"raise SystemExit(3)", "3"},
		"no module":        {"import nothing_such", "No module named 'nothing_such'"},
		"constructor":      {"class Tools:\n def __init__(self): 1/0", "division by zero"},
		"hint":             {"class Tools:\n def f(self, x: Unknown): pass", "name 'Unknown' is not defined"},
		"loads for ever":   {"while True: pass", "took longer than 2s to load"},
		"a null character": {"x = 1\x00", "null bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Load(t.Context(), pyhost.Source{Kind: pyhost.KindTool, ID: "bad", Text: c.source})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	if m, err := h.Load(t.Context(), tool("class Tools: pass")); err != nil || m.Class != "Tools" || len(m.Specs) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestCall(t *testing.T) {
	h := pyhosttest.New(t, nil)
	for name, c := range map[string]struct{ functions, arguments, extra, want string }{
		"sync":         {"def f(self, a: int, b: int = 2): return a + b", `{"a":1}`, ``, `"3"`},
		"async":        {"async def f(self, a): \n    await asyncio.sleep(0)\n    return {'a': a}", `{"a":[1]}`, ``, `{"a":[1]}`},
		"list":         {"def f(self): return [1, None, 'x']", `{}`, ``, `[1,null,"x"]`},
		"none":         {"def f(self): pass", `{}`, ``, `null`},
		"tuple":        {"def f(self): return {'a': 1}, 2", `{}`, ``, `"{\n  \"a\": 1\n}"`},
		"true":         {"def f(self): return True", `{}`, ``, `"True"`},
		"a generator":  {"def f(self): yield 1", `{}`, ``, `"<generator object`},
		"coerced":      {"def f(self, a: int, b: str): return [a, b]", `{"a":"3","b":4}`, ``, `[3,"4"]`},
		"raises":       {"def f(self): raise KeyError('k')", `{}`, ``, `error 'k'`},
		"async raises": {"async def f(self): raise RuntimeError('late')", `{}`, ``, `error late`},
		"exits":        {"def f(self): exit(1)", `{}`, ``, `error 1`},
		"missing":      {"def f(self, a): pass", `{}`, ``, `error `},
		"no JSON":      {"def f(self): return {'a': object()}", `{}`, ``, `error Object of type object is not JSON serializable`},
		"user":         {"def f(self, __user__, __chat_id__=None): return [__user__['name'], __chat_id__]", `{}`, `{"__user__":{"name":"Ann"},"__chat_id__":"c","__model__":1}`, `["Ann","c"]`},
		"emoji":        {"def f(self, a): return a + '\\u2028\\n'", `{"a":"😀\n"}`, ``, `"😀\n` + "\u2028" + `\n"`},
		"request":      {"def f(self, __request__): return str(__request__.headers.get('x'))", `{}`, ``, `"None"`},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := h.Call(t.Context(), in(c.functions), pyhost.Call{Function: "f", Arguments: jsondoc.Doc(c.arguments), Extra: jsondoc.Doc(c.extra)})
			got := string(r.Content)
			if err != nil {
				got = "error " + err.Error()
			} else if text, ok := r.Content.AsText(); ok {
				got = string(jsondoc.Text(text))
			} else {
				got = strings.ReplaceAll(got, " ", "")
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	h := pyhosttest.New(t, nil)
	s := in(`
async def f(self, __event_emitter__, __event_call__):
    for i in range(3):
        await __event_emitter__({"type": "status", "data": {"n": i}})
    return await __event_call__({"type": "input", "data": {"title": "Name?"}})
def g(self, __event_emitter__):
    asyncio.run(__event_emitter__({"type": "message", "data": {}}))
    return "done"`)
	var told []string
	call := pyhost.Call{
		Emit: func(e jsondoc.Doc) { told = append(told, e.Text("type")+e.Get("data").String()) },
		Ask: func(_ context.Context, e jsondoc.Doc) (jsondoc.Doc, error) {
			if e.Text("data", "title") != "Name?" {
				return nil, errors.New("no question")
			}
			return jsondoc.Doc(`"Ann"`), nil
		},
	}
	call.Function = "f"
	r, err := h.Call(t.Context(), s, call)
	if err != nil || r.Content.Text() != "Ann" || strings.ReplaceAll(strings.Join(told, " "), `: `, ":") != `status{"n":0} status{"n":1} status{"n":2}` {
		t.Errorf("%s, %v, %v", r.Content, err, told)
	}
	call.Ask = func(context.Context, jsondoc.Doc) (jsondoc.Doc, error) { return nil, errors.New("gone") }
	if r, err := h.Call(t.Context(), s, call); err != nil || r.Content.Text("error") != "gone" {
		t.Errorf("%s, %v", r.Content, err)
	}
	told, call.Function = nil, "g"
	if r, err := h.Call(t.Context(), s, call); err != nil || r.Content.Text() != "done" || len(told) != 1 {
		t.Errorf("%s, %v, %v", r.Content, err, told)
	}
}

func TestPages(t *testing.T) {
	h := pyhosttest.New(t, nil)
	s := tool(`
from fastapi.responses import HTMLResponse
class Tools:
    def shown(self): return HTMLResponse("<p>", headers={"Content-Disposition": "inline"})
    def told(self): return HTMLResponse("<p>", 404, {"content-disposition": "inline"}), {"a": 1}
    def text(self): return HTMLResponse(content="<p>")
`)
	for name, want := range map[string]string{"shown": `<p> 200 null`, "told": `<p> 404 {"a":1}`, "text": `- 0 "<p>"`} {
		r, err := h.Call(t.Context(), s, pyhost.Call{Function: name})
		page := "-"
		if r.Page != nil {
			page = *r.Page
		}
		if got := fmt.Sprintf("%s %d %s", page, r.Status, strings.ReplaceAll(string(r.Content), ": ", ":")); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestValves(t *testing.T) {
	h := pyhosttest.New(t, nil)
	s := in(`
class Valves(BaseModel):
    unit: str = Field(default="apples", json_schema_extra={"input": {"type": "select", "options": "units"}})
    limit: int = Field(default=100, ge=1)
    @classmethod
    def units(cls, __user__=None): return ["apples", __user__["name"]]
class UserValves(BaseModel):
    polite: bool = False
def __init__(self): self.valves = self.Valves()
def f(self, __user__): return [self.valves.unit, __user__["valves"].polite]`)
	ctx := t.Context()
	schema, err := h.ValvesSchema(ctx, s, false, jsondoc.Doc(`{"name":"Ann"}`))
	if err != nil || strings.Join(schema.Get("properties", "unit", "input", "options").Texts(), " ") != "apples Ann" || schema.Text("title") != "Valves" {
		t.Errorf("%s, %v", schema, err)
	}
	if v, err := h.Valves(ctx, s, false, jsondoc.Doc(`{"unit":"pears","limit":null,"x":1}`)); err != nil || strings.ReplaceAll(v.String(), " ", "") != `{"unit":"pears"}` {
		t.Errorf("%s, %v", v, err)
	}
	if _, err := h.Valves(ctx, s, true, jsondoc.Doc(`{"polite":"perhaps"}`)); err == nil || errors.Is(err, pyhost.ErrNoValves) {
		t.Error(err)
	}
	if _, err := h.Valves(ctx, tool("class Tools: pass"), true, jsondoc.Doc(`{}`)); !errors.Is(err, pyhost.ErrNoValves) {
		t.Error(err)
	}
	if err := h.CheckValves(ctx, s, jsondoc.Doc(`{"limit":0}`)); err == nil || err.Error() != "limit: Input should be greater than or equal to 1" {
		t.Error(err)
	}
	if err := h.CheckValves(ctx, in("class Valves(BaseModel):\n    must: str"), jsondoc.Doc(`{}`)); err != nil {
		t.Error(err)
	}
	r, err := h.Call(ctx, s, pyhost.Call{Function: "f", Valves: jsondoc.Doc(`{"unit":"pears"}`), UserValves: jsondoc.Doc(`{"polite":true}`)})
	if err != nil || strings.ReplaceAll(string(r.Content), " ", "") != `["pears",true]` {
		t.Errorf("%s, %v", r.Content, err)
	}
}

// TestStop stops code that does not heed it, and uses the module again.
func TestStop(t *testing.T) {
	h := pyhosttest.New(t, nil)
	s := in(`
def spin(self):
    while True: pass
async def aspin(self):
    while True: pass
async def wait(self): await asyncio.sleep(1000)
async def f(self): return "here"`)
	if _, err := h.Load(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spin", "aspin", "wait"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		start := time.Now()
		_, err := h.Call(ctx, s, pyhost.Call{Function: name})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		if r, err := h.Call(ctx, s, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != "here" {
			t.Errorf("after %s: %s, %v", name, r.Content, err)
		}
		cancel()
	}
	// another module is not held up by one that spins
	spinning, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _, _ = h.Call(spinning, s, pyhost.Call{Function: "aspin"}) }()
	other := s
	other.ID = "other"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if r, err := h.Call(ctx, other, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != "here" {
		t.Errorf("%s, %v", r.Content, err)
	}
}

func TestCrash(t *testing.T) {
	h := pyhosttest.New(t, nil)
	s := in(`
def crash(self):
    print("last words")
    os._exit(7)
async def wait(self, __event_emitter__):
    await __event_emitter__({"type": "status"})
    await asyncio.sleep(1000)
def f(self): return "here"`)
	begun := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		_, err := h.Call(t.Context(), s, pyhost.Call{Function: "wait", Emit: func(jsondoc.Doc) { close(begun) }})
		failed <- err
	}()
	select {
	case <-begun:
	case err := <-failed:
		t.Fatal(err)
	}
	_, err := h.Call(t.Context(), s, pyhost.Call{Function: "crash"})
	if err == nil || !strings.Contains(err.Error(), "the Python process ended (exited with code 7: last words)") {
		t.Errorf("%v", err)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "the Python process ended") {
		t.Errorf("the other call: %v", err)
	}
	for range 2 {
		if r, err := h.Call(t.Context(), s, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != "here" {
			t.Errorf("after the crash: %s, %v", r.Content, err)
		}
		_, _ = h.Call(t.Context(), s, pyhost.Call{Function: "crash"})
	}
}

// TestHang has code hold up the whole process, by a call into a library that keeps Python's lock.
func TestHang(t *testing.T) {
	h := pyhosttest.New(t, func(o *pyhost.Options) { o.Hang = time.Second })
	s := in(`
def hang(self):
    import ctypes
    ctypes.PyDLL(None).sleep(1000)
def f(self): return "here"`)
	if _, err := h.Call(t.Context(), s, pyhost.Call{Function: "hang"}); err == nil || !strings.Contains(err.Error(), "the Python process ended") {
		t.Errorf("%v", err)
	}
	if r, err := h.Call(t.Context(), s, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != "here" {
		t.Errorf("%s, %v", r.Content, err)
	}
}

func TestState(t *testing.T) {
	h := pyhosttest.New(t, nil)
	s := in("def __init__(self): self.n = 0\ndef f(self):\n    self.n += 1\n    return self.n")
	for _, want := range []string{"1", "2"} {
		if r, err := h.Call(t.Context(), s, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != want {
			t.Errorf("%s, %v; want %s", r.Content, err, want)
		}
	}
	for i := range 4 { // other versions
		v := s
		v.Text += fmt.Sprintf("# %d", i)
		if r, err := h.Call(t.Context(), v, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != "1" {
			t.Errorf("%s, %v", r.Content, err)
		}
	}
	if r, err := h.Call(t.Context(), s, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() != "1" { // was forgotten
		t.Errorf("%s, %v", r.Content, err)
	}
}

func TestIdle(t *testing.T) {
	h := pyhosttest.New(t, func(o *pyhost.Options) { o.Idle = 50 * time.Millisecond })
	s := in("def f(self): return os.getpid()")
	first, err := h.Call(t.Context(), s, pyhost.Call{Function: "f"})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		if !h.Running() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if r, err := h.Call(t.Context(), s, pyhost.Call{Function: "f"}); err != nil || r.Content.Text() == first.Content.Text() {
		t.Errorf("%s, %v", r.Content, err)
	}
}

func TestUnavailable(t *testing.T) {
	h := pyhost.New(pyhost.Options{Python: "/nothing/such", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if _, err := h.Load(t.Context(), tool("")); err == nil || !errors.As(err, new(*pyhost.UnavailableError)) || !strings.Contains(err.Error(), "GALLEY_PYTHON") {
		t.Error(err)
	}
	h = pyhosttest.New(t, nil)
	_ = h.Stop(t.Context())
	if _, err := h.Load(t.Context(), tool("")); !errors.As(err, new(*pyhost.UnavailableError)) {
		t.Error(err)
	}
}

func TestFrontmatter(t *testing.T) {
	for source, want := range map[string]string{
		"\"\"\"\ntitle: Sums\nversion:0.2\n  Author : x\nauthor:  A: b \n\"\"\"\nlate: 1": `{"title":"Sums","version":"0.2","author":"A: b"}`,
		"x = 1\n\"\"\"\ntitle: a\n\"\"\"":                                                 `{}`,
		"\"\"\"title: a\n\"\"\"":                                                          `{}`,
		"  \"\"\" \r\ntitle: a\r\ntitle: b":                                               `{"title":"b"}`,
		"":                                                                                `{}`,
	} {
		if got := strings.ReplaceAll(pyhost.Frontmatter(source).String(), `": "`, `":"`); strings.ReplaceAll(got, `", "`, `","`) != want {
			t.Errorf("%q: %s, want %s", source, got, want)
		}
	}
	for id, want := range map[string]bool{"a1": true, "_": true, "ü": true, "1a": false, "a-b": false, "": false, "a b": false, "名": true} {
		if pyhost.IsIdentifier(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
	if got := pyhost.Current("from utils.x import y\nfrom config import z"); got != "from open_webui.utils.x import y\nfrom open_webui.config import z" {
		t.Error(got)
	}
}
