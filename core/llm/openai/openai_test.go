package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
)

// sent is what the fake server was asked.
type sent struct {
	path   string
	header http.Header
	body   string
}

// server answers every request with what answer writes and keeps the last request.
func server(t *testing.T, answer http.HandlerFunc) (string, *sent) {
	t.Helper()
	last := &sent{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*last = sent{r.URL.RequestURI(), r.Header, string(body)}
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, last
}

func write(ctype string, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ctype)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func connect(url, key, config string) llm.Connected {
	c := llm.Connection{Kind: llm.KindOpenAI, Index: 3, URL: url, Key: key, Config: llm.ParseConfig(llm.KindOpenAI, []byte(config))}
	return New(c, llm.NewClient(llm.ClientOptions{})).(llm.Connected)
}

func sameJSON(t *testing.T, what, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s: %v in %s", what, err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: bad test: %v", what, err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func TestModels(t *testing.T) {
	const list = `{"object":"list","data":[{"id":"a","object":"model","created":1,"owned_by":"up","name":null},{"id":"b","name":"Bee","pipeline":{"type":"pipe"}},{"name":"only"},{"x":1},7]}`
	tests := []struct {
		name, config, ctype, list string
		want                      []string // entries
		fails                     bool
	}{
		{"plain", `{}`, "application/json", list, []string{
			`{"id":"a","object":"model","created":1,"owned_by":"openai","name":"a","connection_type":"external","provider":"","urlIdx":3,
			  "openai":{"id":"a","object":"model","created":1,"owned_by":"up","connection_type":"external"}}`,
			`{"id":"b","name":"Bee","pipeline":{"type":"pipe"},"owned_by":"openai","connection_type":"external","provider":"","urlIdx":3,
			  "openai":{"id":"b","name":"Bee","pipeline":{"type":"pipe"},"connection_type":"external"}}`,
			`{"id":"only","name":"only","owned_by":"openai","connection_type":"external","provider":"","urlIdx":3,
			  "openai":{"id":"only","name":"only","connection_type":"external"}}`,
		}, false},
		{"chosen, with prefix and tags", `{"prefix_id":"far","model_ids":["m"],"tags":[{"name":"t"}],"connection_type":"local"}`, "", "", []string{
			`{"id":"far.m","name":"far.m","owned_by":"openai","tags":[{"name":"t"}],"connection_type":"local","provider":"","urlIdx":3,
			  "openai":{"id":"far.m","name":"far.m","owned_by":"openai","openai":{"id":"m"},"urlIdx":3,"tags":[{"name":"t"}],"connection_type":"local"}}`,
		}, false},
		{"prefix without a name", `{"prefix_id":"far"}`, "application/json", `{"data":[{"id":"m"}]}`, []string{
			`{"id":"far.m","name":"far.m","owned_by":"openai","connection_type":"external","provider":"","urlIdx":3,"openai":{"id":"far.m","connection_type":"external"}}`,
		}, false},
		{"bare list", `{}`, "application/json", `[{"id":"m"}]`, []string{
			`{"id":"m","name":"m","owned_by":"openai","connection_type":"external","provider":"","urlIdx":3,"openai":{"id":"m","connection_type":"external"}}`,
		}, false},
		{"llama.cpp", `{"provider":"llama.cpp"}`, "application/json", `{"data":[{"id":"m"},{"id":"n","status":{"value":"unloaded"}}]}`, []string{
			`{"id":"m","name":"m","owned_by":"openai","connection_type":"external","provider":"llama.cpp","urlIdx":3,"loaded":true,"openai":{"id":"m","connection_type":"external","provider":"llama.cpp"}}`,
			`{"id":"n","status":{"value":"unloaded"},"name":"n","owned_by":"openai","connection_type":"external","provider":"llama.cpp","urlIdx":3,"loaded":false,
			  "openai":{"id":"n","status":{"value":"unloaded"},"connection_type":"external","provider":"llama.cpp"}}`,
		}, false},
		{"empty", `{}`, "application/json", `{"data":[]}`, nil, false},
		{"error object", `{}`, "application/json", `{"error":{"message":"no"}}`, nil, true},
		{"data is no list", `{}`, "application/json", `{"data":{}}`, nil, true},
		{"not JSON", `{}`, "text/html", `<html>`, nil, true},
		{"broken JSON", `{}`, "application/json", `{"data":[`, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, last := server(t, write(tt.ctype, 200, tt.list))
			models, err := connect(url, "k", tt.config).Models(t.Context(), nil)
			if (err != nil) != tt.fails || len(models) != len(tt.want) {
				t.Fatalf("got %d models, %v", len(models), err)
			}
			for i, m := range models {
				sameJSON(t, m.ID, string(m.Entry), tt.want[i])
			}
			if tt.list != "" && (last.path != "/models" || last.header.Get("Authorization") != "Bearer k") {
				t.Errorf("asked %+v", last)
			}
			if tt.list == "" && last.path != "" {
				t.Error("the server was asked although the config names the models")
			}
		})
	}
}

func TestModelsAnthropic(t *testing.T) {
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("X-Api-Key") != "k" || r.Header.Get("Anthropic-Version") == "" || r.Header.Get("Authorization") != "" {
			t.Errorf("headers %v", r.Header)
		}
		if r.URL.Query().Get("after_id") == "" {
			_, _ = io.WriteString(w, `{"data":[{"id":"c1","display_name":"Claude"}],"has_more":true,"last_id":"c1"}`)
			return
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"c2"}],"has_more":false,"last_id":"c2"}`)
	})
	models, err := connect(url+"/api.anthropic.com", "k", `{}`).Models(t.Context(), nil)
	if err != nil || len(models) != 2 || models[0].Name != "Claude" || models[1].Name != "c2" {
		t.Errorf("got %+v, %v", models, err)
	}
}

func TestChattable(t *testing.T) {
	for id, want := range map[string]bool{"gpt-5": true, "text-embedding-3-small": false, "tts-1": false, "whisper-1": false, "dall-e-3": false} {
		if Chattable(id) != want {
			t.Errorf("Chattable(%s) = %v", id, !want)
		}
	}
}

func TestRequestBody(t *testing.T) {
	caller := &llm.Caller{ID: "u", Name: "N", Email: "e", Role: "user"}
	tests := []struct {
		name, config, path string // path after the server's address
		req                llm.Request
		wantPath, want     string
	}{
		{"as sent", `{}`, "/v1", llm.Request{Model: "m", Body: []byte(`{"model":"far.m","messages":[{"role":"user","content":"<b>"}],"temperature":0.30,"stream":false}`)},
			"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"<b>"}],"temperature":0.30,"stream":false}`},
		{"metadata and stream options go", `{}`, "", llm.Request{Model: "m", Body: []byte(`{"model":"m","metadata":{"a":1},"stream_options":{"include_usage":true},"max_completion_tokens":9,"logit_bias":{"5":1}}`)},
			"/chat/completions", `{"model":"m","max_tokens":9,"logit_bias":{"5":1}}`},
		{"stream is set", `{}`, "", llm.Request{Model: "m", Stream: true, Body: []byte(`{"model":"m","stream":false,"stream_options":{"include_usage":true}}`)},
			"/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`},
		{"stream is unset", `{}`, "", llm.Request{Model: "m", Body: []byte(`{"model":"m","stream":true}`)}, "/chat/completions", `{"model":"m","stream":false}`},
		{"logit_bias text", `{}`, "", llm.Request{Model: "m", Body: []byte(`{"logit_bias":" 5 : 1,6:-900"}`)}, "/chat/completions", `{"model":"m","logit_bias":{"5":1,"6":-100}}`},
		{"new model", `{}`, "", llm.Request{Model: "gpt-5.2", Body: []byte(`{"max_tokens":5,"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]}`)},
			"/chat/completions", `{"model":"gpt-5.2","max_completion_tokens":5,"messages":[{"role":"developer","content":"s"},{"role":"user","content":"u"}]}`},
		{"o1-mini", `{}`, "", llm.Request{Model: "o1-mini", Body: []byte(`{"messages":[{"role":"system","content":"s"}]}`)},
			"/chat/completions", `{"model":"o1-mini","messages":[{"role":"user","content":"s"}]}`},
		{"old gpt", `{}`, "", llm.Request{Model: "gpt-4o", Body: []byte(`{"max_tokens":5,"max_completion_tokens":7,"messages":[{"role":"system","content":"s"}]}`)},
			"/chat/completions", `{"model":"gpt-4o","max_tokens":7,"messages":[{"role":"system","content":"s"}]}`},
		{"pipeline", `{}`, "", llm.Request{Model: "m", Pipeline: true, Caller: caller, Body: []byte(`{}`)},
			"/chat/completions", `{"model":"m","user":{"name":"N","id":"u","email":"e","role":"user"}}`},
		{"params", `{}`, "", llm.Request{Model: "m", Body: []byte(`{"temperature":1}`),
			Params: []byte(`{"system":"x","temperature":0.2,"top_p":"0.5","max_tokens":9.7,"stop":["a\\n","\\u00e9"],"seed":null,"function_calling":"native","stream_response":true,
				"custom_params":{"flag":"true","text":"hello","deep":{"a":1},"num":"5"},"deep":{"b":2}}`)},
			"/chat/completions", `{"model":"m","temperature":1,"top_p":0.5,"max_tokens":9,"stop":["a\n","é"],"flag":true,"text":"hello","num":5,"deep":{"a":1,"b":2}}`},
		{"tool images", `{}`, "", llm.Request{Model: "m", Body: []byte(`{"messages":[{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},{"type":"input_text","text":"b"}]},{"role":"tool","content":"x"}]}`)},
			"/chat/completions", `{"model":"m","messages":[{"role":"tool","tool_call_id":"c","content":"ab"},{"role":"tool","content":"x"}]}`},
		{"llama.cpp continues", `{"provider":"llama.cpp"}`, "", llm.Request{Model: "m", Continue: true, Body: []byte(`{"messages":[{"role":"assistant","content":"a"}]}`)},
			"/chat/completions", `{"model":"m","messages":[{"role":"assistant","content":"a"}],"continue_final_message":true,"add_generation_prompt":false}`},
		{"llama.cpp answers", `{"provider":"llama.cpp"}`, "", llm.Request{Model: "m", Continue: true, Body: []byte(`{"messages":[{"role":"user","content":"a"}]}`)},
			"/chat/completions", `{"model":"m","messages":[{"role":"user","content":"a"}]}`},
		{"azure", `{"azure":true,"api_version":"2024-10-01"}`, "", llm.Request{Model: "o3 x", Body: []byte(`{"model":"z","temperature":0.5,"max_tokens":3,"unknown":1,"seed":2}`)},
			"/openai/deployments/o3%20x/chat/completions?api-version=2024-10-01", `{"max_completion_tokens":3,"seed":2}`},
		{"azure v1", `{"provider":"azure"}`, "/openai/v1/", llm.Request{Model: "m", Body: []byte(`{"unknown":1}`)}, "/openai/v1/chat/completions", `{"model":"m","unknown":1}`},
		{"azure default version", `{"azure":true}`, "", llm.Request{Model: "m", Stream: true, Body: []byte(`{"stream":true,"stream_options":{}}`)},
			"/openai/deployments/m/chat/completions?api-version=2023-03-15-preview", `{"stream":true}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, last := server(t, write("application/json", 200, `{}`))
			before := string(tt.req.Body)
			if _, err := connect(url+tt.path, "k", tt.config).Chat(t.Context(), &tt.req); err != nil {
				t.Fatal(err)
			}
			if last.path != tt.wantPath {
				t.Errorf("path %s", last.path)
			}
			sameJSON(t, "body", last.body, tt.want)
			if string(tt.req.Body) != before {
				t.Error("the caller's body was changed")
			}
			if azure := strings.Contains(tt.config, "azure"); (last.header.Get("Api-Key") == "k") != azure {
				t.Errorf("api-key %q", last.header.Get("Api-Key"))
			}
		})
	}
}

func TestResponsesRequest(t *testing.T) {
	url, last := server(t, write("application/json", 200, `{"id":"r","model":"m","output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"a"},{"type":"output_text","text":"b"}]},
		{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}],"usage":{"input_tokens":1}}`))
	body := `{"messages":[{"role":"system","content":"sys"},{"role":"user","content":"hi"},
		{"role":"user","content":[{"type":"text","text":"t"},{"type":"image_url","image_url":{"url":"u"}},{"type":"file","file":{"file_id":"f","x":1}},{"type":"file","file":{}}]},
		{"role":"assistant","content":"calling","tool_calls":[{"id":"c1","function":{"name":"f","arguments":"{\"a\":1}"}}]},
		{"role":"tool","tool_call_id":"c1","content":"res"},
		{"role":"assistant","content":"old","output":[{"type":"function_call","id":"i","call_id":"c","name":"shown","arguments":"{}","status":"done","provider_function":{"name":"real","arguments":{"b":2}}},{"type":"custom","z":1}]},
		{"role":"assistant","content":"fine"}],
		"max_tokens":5,"stop":["x"],"previous_response_id":null,"tools":[{"type":"function","function":{"name":"f","parameters":{}}},{"type":"web"}],"tool_choice":{"type":"function","function":{"name":"f"}}}`
	resp, err := connect(url, "k", `{"api_type":"responses"}`).Chat(t.Context(), &llm.Request{Model: "m", Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	if last.path != "/responses" {
		t.Errorf("path %s", last.path)
	}
	sameJSON(t, "request", last.body, `{"model":"m","instructions":"sys","max_output_tokens":5,
		"tools":[{"type":"function","name":"f","parameters":{},"strict":false},{"type":"web"}],"tool_choice":{"type":"function","name":"f"},
		"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]},
		{"type":"message","role":"user","content":[{"type":"input_text","text":"t"},{"type":"input_image","image_url":"u","detail":"auto"},{"type":"input_file","file_id":"f"}]},
		{"type":"message","role":"assistant","content":[{"type":"output_text","text":"calling"}]},
		{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\":1}"},
		{"type":"function_call_output","call_id":"c1","output":"res"},
		{"type":"function_call","call_id":"c","name":"real","arguments":"{\"b\":2}","id":"i"},{"type":"custom","z":1},
		{"type":"message","role":"assistant","content":[{"type":"output_text","text":"fine"}]}]}`)
	sameJSON(t, "result", string(resp.Body()), `{"id":"r","object":"chat.completion","model":"m","usage":{"input_tokens":1},"choices":[{"index":0,"finish_reason":"tool_calls",
		"message":{"role":"assistant","content":"ab","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}}]}`)
}

func TestChatErrors(t *testing.T) {
	p := func(h http.HandlerFunc) llm.Connected { url, _ := server(t, h); return connect(url, "k", `{}`) }
	tests := []struct {
		name        string
		p           llm.Provider
		body        string
		status      int
		want, ctype string
	}{
		{"object", p(write("application/json", 429, `{"error":{"message":"slow down"}}`)), `{}`, 429, `{"error":{"message":"slow down"}}`, "application/json"},
		{"text", p(write("text/html", 502, `<b>`)), `{}`, 502, `<b>`, "text/plain; charset=utf-8"},
		{"stream type", p(write("text/event-stream", 500, `oops`)), `{}`, 500, `{"error":{"message":"oops","code":500}}`, "application/json"},
		{"unreachable", connect("http://127.0.0.1:1", "k", `{}`), `{}`, 500, `{"detail":"Open WebUI: Server Connection Error"}`, "application/json"},
		{"cut", p(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}), `{}`, 200, `{"detail":"Open WebUI: Server Connection Error"}`, "application/json"},
		{"azure name", connect("http://127.0.0.1:1", "k", `{"azure":true}`), `{}`, 400,
			`{"detail":"Invalid model name: must not be empty or contain path separators or traversal sequences"}`, "application/json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.p.Chat(t.Context(), &llm.Request{Model: "../m", Body: []byte(tt.body)})
			var ue *llm.UpstreamError
			if !errors.As(err, &ue) || ue.Status != tt.status || string(ue.Body) != tt.want || ue.ContentType != tt.ctype {
				t.Fatalf("got %v, %+v", err, ue)
			}
			if ue.Upstream != nil && ue.RetryAfter != "7" {
				t.Errorf("Retry-After %q", ue.RetryAfter)
			}
		})
	}
	for _, body := range []string{``, `[]`, `{"logit_bias":"x"}`} {
		if _, err := tests[0].p.Chat(t.Context(), &llm.Request{Model: "m", Body: []byte(body)}); !errors.Is(err, llm.ErrBadRequest) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestStreamAndCancel(t *testing.T) {
	gone := make(chan struct{})
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\"w%d\"}}]}\n\n", i)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := connect(url, "k", `{}`).Chat(ctx, &llm.Request{Model: "m", Stream: true, Body: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	var text string
	var last error
	start := time.Now()
	for c, err := range resp.Chunks() {
		if last = err; err != nil {
			break
		}
		if text += c.Content; strings.HasSuffix(text, "w2") {
			start = time.Now()
			cancel()
		}
	}
	if text != "w0w1w2" || !errors.Is(last, context.Canceled) {
		t.Errorf("%q, then %v", text, last)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the server did not learn of the end")
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("cancelling took %v", d)
	}
}

func TestRelayIsCutWithTheClient(t *testing.T) {
	gone := make(chan struct{})
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": x\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	p := connect(url, "k", `{}`)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := p.Chat(r.Context(), &llm.Request{Model: "m", Stream: true, Body: []byte(`{}`)})
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Relay(w) // ends with the client
	}))
	defer front.Close()
	resp, err := http.Get(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != ": x\n\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	_ = resp.Body.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the provider was not told that the client went")
	}
}

func TestGarbageForAStream(t *testing.T) {
	url, _ := server(t, write("text/html", 200, "<html>not json</html>"))
	resp, err := connect(url, "k", `{}`).Chat(t.Context(), &llm.Request{Model: "m", Stream: true, Body: []byte(`{}`)})
	if err != nil || resp.Stream || string(resp.JSON()) != `"<html>not json</html>"` {
		t.Fatalf("%v, %+v", err, resp)
	}
	for c := range resp.Chunks() {
		t.Errorf("a chunk came of it: %s", c.Raw)
	}
}

func TestDo(t *testing.T) {
	url, last := server(t, write("application/json", 418, `{}`))
	resp, err := connect(url, "k", `{}`).Do(t.Context(), "POST", "/embeddings?x=1", []byte(`{"a":1}`), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := llm.ReadBody(resp); err != nil || string(body) != "{}" || resp.StatusCode != 418 || last.path != "/embeddings?x=1" || last.body != `{"a":1}` {
		t.Errorf("%s %v %+v", body, err, last)
	}
}

// BenchmarkPrepare measures what a call adds before it is sent: a chat of 100 messages with 1 kB each.
func BenchmarkPrepare(b *testing.B) {
	message := `{"role":"user","content":"` + strings.Repeat(`some words \"and\" more `, 45) + `"}`
	body := []byte(`{"model":"far.m","stream":true,"messages":[` + strings.Repeat(message+",", 99) + message + `]}`)
	p := connect("http://x/v1", "k", `{"prefix_id":"far"}`).(*provider)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if out, err := p.prepare(&llm.Request{Model: "m", Stream: true, Body: body}); err != nil || len(out.body) < 1e5 {
			b.Fatal(err)
		}
	}
}
