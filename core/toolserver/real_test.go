package toolserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
)

// realServers starts the servers of testdata/servers.py with GALLEY_TEST_PYTHON, an interpreter that has fastapi, uvicorn
// and mcp, and gives their addresses.
func realServers(t *testing.T) (openapi, mcp string) {
	t.Helper()
	python := os.Getenv("GALLEY_TEST_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import fastapi, uvicorn, mcp.server").CombinedOutput(); err != nil {
		if os.Getenv("GALLEY_CI") != "" {
			t.Fatalf("GALLEY_TEST_PYTHON needs fastapi, uvicorn and mcp: %v\n%s", err, out)
		}
		t.Skip("needs a Python with fastapi, uvicorn and mcp (GALLEY_TEST_PYTHON)")
	}
	start := func(kind, ready string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		cmd := exec.CommandContext(t.Context(), python, "testdata/servers.py", kind, fmt.Sprint(port))
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		base := fmt.Sprintf("http://127.0.0.1:%d", port)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, base+ready, nil)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				return base
			}
			select {
			case <-ended:
				t.Fatalf("the %s server ended:\n%s", kind, said.String())
			case <-ctx.Done():
				t.Fatalf("the %s server does not answer", kind)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return start("openapi", "/openapi.json"), start("mcp", "/")
}

// TestRealServers calls a FastAPI application and a server of MCP's Python SDK. What is expected of the specs and results is
// what the reference made of the same servers, but for what the comments say.
func TestRealServers(t *testing.T) {
	openapi, mcp := realServers(t)
	b := newBench(t)
	b.connections(connectionTo(openapi, "shop", `{"headers":{"X-User":"{{USER_NAME}}"}}`), mcpTo(mcp+"/mcp", "work", "{}"))
	tools := b.tools(admin, "server:shop", "server:mcp:work")
	if len(b.told) != 1 || b.told[0] != "MCP server \"work\" instructions:\nMeasure twice, cut once." {
		t.Errorf("told %q", b.told)
	}
	for name, want := range map[string]string{
		"add": `{"name":"add","description":"Adds two numbers","parameters":{"type":"object","properties":{"a":{"type":"integer","description":""},"b":{"type":"integer","description":"The second number."}},"required":["a"]}}`,
		// The reference does not see the values behind the reference of "colour".
		"paint": `{"name":"paint","description":"Paints a thing.","parameters":{"type":"object","properties":{"thing":{"type":"string","description":"What to paint."},"colour":{"type":"string","description":". Possible values: red, blue"},
			"coats":{"type":"string","description":""},"brushes":{"type":"string","description":""},"finish":{"type":"string","description":". Possible values: matt, gloss"}},"required":["thing","colour"]}}`,
		"order": `{"name":"order","description":"Orders a part, which may have parts of its own.","parameters":{"type":"object","properties":{"customer":{"type":"string","description":""},"urgent":{"type":"boolean","description":""},
			"part":{"properties":{"name":{"type":"string","title":"Name","description":"What it is called."},"size":{"title":"Size","type":"number"},"children":{"items":{"type":"string"},"type":"array","title":"Children","default":[]}},"type":"object","required":["name"],"title":"Part"},
			"count":{"type":"integer","minimum":1,"title":"Count","description":"How many.","default":1},"note":{"title":"Note","type":"string"},"colour":{"type":"string","enum":["red","blue"],"title":"Colour"},
			"tags":{"items":{"type":"string"},"type":"array","title":"Tags","default":[]}},"required":["customer","part"]}}`,
		// The reference gives the list itself as the parameters, which providers refuse.
		"sum_all":  `{"name":"sum_all","description":"Adds all numbers up.","parameters":{"type":"object","properties":{"body":{"items":{"type":"number"},"type":"array","title":"Numbers"}},"required":["body"]}}`,
		"work_add": `{"name":"work_add","description":"Adds two numbers.","parameters":{"properties":{"a":{"title":"A","type":"integer"},"b":{"default":0,"title":"B","type":"integer"}},"required":["a"],"title":"addArguments","type":"object"}}`,
	} {
		if tool, ok := tools[name]; !ok {
			t.Errorf("there is no %s", name)
		} else {
			same(t, tool.Function, want)
		}
	}
	for _, c := range []struct{ name, arguments, want string }{
		{"add", `{"a":2,"b":3}`, `{"sum":5}`},
		{"paint", `{"thing":"a b/c","colour":"red","brushes":["x","y"],"coats":""}`, "error: HTTP error 404: {\"detail\":\"Not Found\"}"}, // a slash in a path is one to FastAPI
		{"paint", `{"thing":"a b","colour":"red","brushes":["x","y"],"coats":""}`, `{"thing":"a b","colour":"red","coats":null,"brushes":["x","y"],"finish":"matt"}`},
		{"order", `{"customer":"c","urgent":true,"part":{"name":"p","children":[{"name":"q"}]}}`,
			`{"customer":"c","order":{"part":{"name":"p","size":null,"children":[{"name":"q","size":null,"children":[]}]},"count":1,"note":null,"colour":"red","tags":[]},"urgent":true}`},
		{"sum_all", `{"body":[1,2.5]}`, `{"sum":3.5}`},
		{"cancel", `{"number":4}`, `{"cancelled":4}`},
		{"text", `{}`, `"plain words"`},
		{"archive", `{}`, `"data:application/octet-stream;base64,AAE="`},
		{"page", `{}`, `{"status":"success","code":"ui_component","message":"page: Embedded UI result is active and visible to the user."} embed "<h1>Shown</h1>"`},
		{"fail", `{}`, `error: HTTP error 418: {"detail":"I cannot do that"}`},
		{"nothing", `{}`, `""`},
		{"work_add", `{"a":2,"b":3}`, `5`},
		{"work_measure", `{"thing":"t"}`, `{"thing":"t","size":42,"unit":"mm"}`},
		{"work_names", `{}`, `["saw","plane"]`},
		{"work_fail", `{}`, `error: Error executing tool fail`},
		{"work_sound", `{}`, `[] file {"type":"audio","url":"/files/audio/wav/4"}`},
		{"work_resources", `{}`, `[{"a": 1},"[Resource: file:///b.bin] (binary data, mimeType: application/octet-stream)"]`},
		{"work_slow", `{"seconds":0.01}`, `"done"`},
	} {
		got := summary(call(t.Context(), tools[c.name], c.arguments))
		if got != c.want && canonicalText(got) != canonicalText(c.want) {
			t.Errorf("%s%s\ngot  %s\nwant %s", c.name, c.arguments, got, c.want)
		}
	}
	if got := summary(call(t.Context(), tools["picture"], `{}`)); !strings.HasPrefix(got, `"picture: Image file read successfully." file {"type":"image","url":"data:image/png;base64,iVBOR`) {
		t.Error(got)
	}
	if got := summary(call(t.Context(), tools["work_picture"], `{}`)); !strings.HasPrefix(got, `"here it is" file {"type":"image","url":"/files/image/png/`) || !strings.Contains(got, ` image "data:image/png;base64,iVBOR`) {
		t.Error(got)
	}
	res, err := call(t.Context(), tools["whoami"], `{"x-trace":"t1","seen":"s1"}`)
	if h := res.Content.Get("headers"); err != nil || h.Text("x-user") != "u1" || res.Content.Text("trace") != "t1" || res.Content.Text("seen") != "s1" {
		t.Errorf("%s, %v", res.Content, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := call(ctx, tools["work_slow"], `{"seconds":30}`); err == nil {
		t.Error("a call outlives its turn")
	}
	if got := summary(call(t.Context(), tools["work_add"], `{"a":1}`)); got != `1` {
		t.Errorf("after a call that was given up: %s", got)
	}
	specs, err := MCPTools(t.Context(), http.DefaultClient, mcp+"/mcp", http.Header{}, time.Minute)
	if err != nil || len(specs) != 8 || !jsondoc.Array(specs...).Get("0", "name").Truthy() {
		t.Errorf("%d specs, %v", len(specs), err)
	}
}
