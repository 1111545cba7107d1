package ollama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/llm"
)

func connect(index int, url, config string) llm.Connected {
	c := llm.Connection{Kind: llm.KindOllama, Index: index, URL: url, Key: "k", Config: llm.ParseConfig(llm.KindOllama, []byte(config))}
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

func TestRequest(t *testing.T) {
	tests := []struct{ name, in, params, want string }{
		{"plain", `{"model":"x","messages":[{"role":"user","content":"hi"}],"stream":true,"metadata":{"a":1},"temperature":1}`, "",
			`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false}`},
		{"options", `{"messages":[],"options":{"temperature":0.5,"max_tokens":9,"system":"s","format":"json","keep_alive":"5","think":"high","num_ctx":null},"stop":["a"],"max_tokens":7}`, "",
			`{"model":"m","messages":[],"stream":false,"system":"s","format":"json","keep_alive":5,"think":"high","options":{"temperature":0.5,"num_predict":7,"stop":["a"],"num_ctx":null}}`},
		{"format schema in options", `{"messages":[],"options":{"format":"{\"type\":\"object\"}"}}`, "", `{"model":"m","messages":[],"stream":false,"format":{"type":"object"}}`},
		{"response_format", `{"messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}}`, "",
			`{"model":"m","messages":[],"stream":false,"format":{"type":"object"}}`},
		{"response_format without schema", `{"messages":[],"response_format":{"type":"json_object"}}`, "", `{"model":"m","messages":[],"stream":false}`},
		{"model params", `{"messages":[],"options":{"temperature":1}}`,
			`{"system":"x","temperature":0.4,"max_tokens":9,"num_ctx":"1024","stop":["X\\n"],"think":true,"keep_alive":"5m","format":"json","stream_response":true,"use_mmap":1,"custom_params":{"top_k":"3"}}`,
			`{"model":"m","messages":[],"stream":false,"think":true,"keep_alive":"5m","format":"json","options":{"temperature":1,"num_predict":9,"num_ctx":1024,"stop":["X\n"],"use_mmap":true,"top_k":3}}`},
		{"images", `{"messages":[{"role":"user","content":[{"type":"text","text":" what "},{"type":"text","text":"is it "},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAA="}},{"type":"image_url","image_url":{"url":"http://x/y"}},{"type":"image_url"}]}]}`, "",
			`{"model":"m","messages":[{"role":"user","content":"what is it","images":["AAA=","http://x/y"]}],"stream":false}`},
		{"tools", `{"messages":[{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"c","index":1,"type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},{"role":"tool","tool_call_id":"c","content":"rain"}],"tools":[{"type":"function"}]}`, "",
			`{"model":"m","messages":[{"role":"assistant","thinking":"r","tool_calls":[{"index":1,"id":"c","function":{"name":"f","arguments":{"a":1}}}],"content":""},{"role":"tool","content":"rain","tool_call_id":"c"}],"stream":false,"tools":[{"type":"function"}]}`},
		{"empty content", `{"messages":[{"role":"user","content":null}]}`, "", `{"model":"m","messages":[{"role":"user"}],"stream":false}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Request(&llm.Request{Model: "m", Body: []byte(tt.in), Params: []byte(tt.params)})
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, "request", string(got), tt.want)
		})
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"messages":{}}`, `{"messages":[1]}`, `{"messages":[{"content":"x"}]}`,
		`{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":"{"}}]}]}`} {
		if got, err := Request(&llm.Request{Model: "m", Body: []byte(bad)}); !errors.Is(err, llm.ErrBadRequest) {
			t.Errorf("%s: %s, %v", bad, got, err)
		}
	}
}

const doneFields = `"done":true,"done_reason":"stop","total_duration":3723000000000,"load_duration":1000000,"prompt_eval_count":10,"prompt_eval_duration":1000000,"eval_count":4,"eval_duration":3000000`

const usage = `{"input_tokens":10,"output_tokens":4,"total_tokens":14,"prompt_tokens":10,"completion_tokens":4,"response_token/s":1333.33,"prompt_token/s":10000.0,
	"total_duration":3723000000000,"load_duration":1000000,"prompt_eval_count":10,"prompt_eval_duration":1000000,"eval_count":4,"eval_duration":3000000,"approximate_total":"1h2m3s",
	"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`

var (
	uuidRe    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	createdRe = regexp.MustCompile(`"created":\d{10}`)
)

// neutral replaces what differs from run to run.
func neutral(s string) string {
	return createdRe.ReplaceAllString(uuidRe.ReplaceAllString(s, "UUID"), `"created":1`)
}

func chunk(delta, finish string) string {
	return `{"id":"chatcmpl-UUID","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"logprobs":null,"delta":` + delta + `,"finish_reason":` + finish + `}]}`
}

func withUsage(chunk string) string {
	return strings.TrimSuffix(chunk, "}") + `,"usage":` + usage + "}"
}

func TestStream(t *testing.T) {
	part := func(message string) string {
		return `{"model":"m","created_at":"x","message":` + message + `,"done":false}` + "\n"
	}
	end := `{"model":"m","message":{"role":"assistant","content":""},` + doneFields + "}\n"
	tests := []struct {
		name, in string
		want     []string
	}{
		{"words", part(`{"role":"assistant","content":"You "}`) + "\n" + part(`{"content":"said\n<b>"}`) + end, []string{
			chunk(`{"role":"assistant","content":"You "}`, "null"), chunk(`{"content":"said\n<b>"}`, "null"), withUsage(chunk(`{}`, `"stop"`))}},
		{"thinking", part(`{"content":"","thinking":"hm"}`) + part(`{"content":"x"}`) + end, []string{
			chunk(`{"role":"assistant","reasoning_content":"hm"}`, "null"), chunk(`{"content":"x"}`, "null"), withUsage(chunk(`{}`, `"stop"`))}},
		{"empty piece", part(`{"content":""}`) + end, []string{chunk(`{"role":"assistant"}`, `"stop"`), withUsage(chunk(`{}`, `"stop"`))}},
		{"tool call", `{"model":"m","message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"city": "Oslo"}}}]},` + doneFields + "}", []string{
			withUsage(chunk(`{"role":"assistant","tool_calls":[{"index":0,"id":"call_UUID","type":"function","function":{"name":"f","arguments":"{\"city\":\"Oslo\"}"}}]}`, `"tool_calls"`))}},
		{"tool call before the end", part(`{"tool_calls":[{"id":"c7","index":2,"function":{"name":"f"}}]}`) + end, []string{
			chunk(`{"role":"assistant","tool_calls":[{"index":2,"id":"c7","type":"function","function":{"name":"f","arguments":"{}"}}]}`, "null"), withUsage(chunk(`{}`, `"tool_calls"`))}},
		{"length", part(`{"content":"a"}`) + strings.Replace(end, `"stop"`, `"length"`, 1), []string{
			chunk(`{"role":"assistant","content":"a"}`, "null"), withUsage(chunk(`{}`, `"length"`))}},
		{"no durations", `{"done":true}`, []string{`{"id":"chatcmpl-UUID","object":"chat.completion.chunk","created":1,"model":"ollama","choices":[{"index":0,"logprobs":null,"delta":{"role":"assistant"},"finish_reason":"stop"}],
			"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0,"prompt_tokens":0,"completion_tokens":0,"response_token/s":"N/A","prompt_token/s":"N/A","total_duration":0,"load_duration":0,"prompt_eval_count":0,
			"prompt_eval_duration":0,"eval_count":0,"eval_duration":0,"approximate_total":"0h0m0s","completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}`}},
		{"error in the stream", part(`{"content":"a"}`) + `{"error":"out of memory"}`, []string{chunk(`{"role":"assistant","content":"a"}`, "null"), `{"error":{"message":"out of memory"}}`}},
		{"nothing", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStream(io.NopCloser(strings.NewReader(tt.in)))
			for i, want := range tt.want {
				got, err := s.Next()
				if err != nil {
					t.Fatalf("chunk %d: %v", i, err)
				}
				sameJSON(t, fmt.Sprint("chunk ", i), neutral(string(got)), want)
			}
			if got, err := s.Next(); err != io.EOF {
				t.Errorf("after the end: %s, %v", got, err)
			}
		})
	}
	s := newStream(io.NopCloser(strings.NewReader("<html>\n")))
	if got, err := s.Next(); err == nil || err == io.EOF {
		t.Errorf("no JSON: %s, %v", got, err)
	}
}

func TestOneIDForAllChunks(t *testing.T) {
	s := newStream(io.NopCloser(strings.NewReader(`{"message":{"content":"a"}}` + "\n" + `{"message":{"content":"b"}}`)))
	a, _ := s.Next()
	idA := uuidRe.FindString(string(a))
	b, _ := s.Next()
	if idB := uuidRe.FindString(string(b)); idA == "" || idA != idB {
		t.Errorf("ids %q and %q", idA, idB)
	}
}

func TestCompletion(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"text", `{"model":"m","message":{"role":"assistant","content":"You said: <hi>"},` + doneFields + `}`,
			`{"id":"m-UUID","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"logprobs":null,"message":{"role":"assistant","content":"You said: <hi>"},"finish_reason":"stop"}],"usage":` + usage + `}`},
		{"thinking and tools", `{"model":"m","message":{"content":"","thinking":"hm","tool_calls":[{"function":{"index":3,"name":"f","arguments":{"a":[1, 2]}}}]},` + doneFields + `}`,
			`{"id":"m-UUID","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"logprobs":null,"message":{"role":"assistant","content":"","reasoning_content":"hm",
			"tool_calls":[{"index":3,"id":"call_UUID","type":"function","function":{"name":"f","arguments":"{\"a\":[1,2]}"}}]},"finish_reason":"tool_calls"}],"usage":` + usage + `}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Completion([]byte(" " + tt.in + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, "completion", neutral(string(got)), tt.want)
			if !strings.Contains(string(got), `"prompt_token/s":10000.0,`) {
				t.Error("a rate lost its decimal")
			}
		})
	}
	for _, bad := range []string{``, `<html>`, `[]`, `{"a":1}`} {
		if got, err := Completion([]byte(bad)); err == nil {
			t.Errorf("%q became %s", bad, got)
		}
	}
}

const tag = `{"name":"%[1]s","model":"%[1]s","size":1,"details":{"family":"llama"}}`

// fakeServer serves models, of which the first is loaded.
func fakeServer(t *testing.T, models ...string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var list []string
		for _, m := range models {
			list = append(list, fmt.Sprintf(tag, m))
		}
		switch r.URL.Path {
		case "/api/tags":
			fmt.Fprintf(w, `{"models":[%s,{"name":"no model"}]}`, strings.Join(list, ","))
		case "/api/ps":
			fmt.Fprintf(w, `{"models":[{"model":%q,"expires_at":"2030-01-01T00:00:00.5+00:00"}]}`, models[0])
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestModelsOfSeveralServers(t *testing.T) {
	url := fakeServer(t, "a:latest", "b:latest")
	client := llm.NewClient(llm.ClientOptions{})
	r := llm.New(llm.Options{Client: client, Backends: map[llm.Kind]llm.Backend{llm.KindOllama: Backend}})
	r.Configure(llm.Settings{OllamaEnable: true, OllamaURLs: []string{url, url, url, url, "http://127.0.0.1:1"}, OllamaConfigs: []byte(`{
		"0":{"model_ids":["b:latest"]}, "2":{"enable":false},
		"3":{"prefix_id":"barn","model_ids":["a:latest"],"tags":[{"name":"t"}],"connection_type":"external"}}`)}.Connections())
	models := r.Models(t.Context(), nil)
	want := []string{
		`{"id":"b:latest","name":"b:latest","object":"model","created":0,"owned_by":"ollama","loaded":false,"connection_type":"local","tags":[],
		  "ollama":{"name":"b:latest","model":"b:latest","size":1,"details":{"family":"llama"},"connection_type":"local","urls":[0,1]}}`,
		`{"id":"a:latest","name":"a:latest","object":"model","created":0,"owned_by":"ollama","loaded":true,"connection_type":"local","tags":[],
		  "ollama":{"name":"a:latest","model":"a:latest","size":1,"details":{"family":"llama"},"connection_type":"local","urls":[1],"expires_at":1893456000}}`,
		`{"id":"barn.a:latest","name":"barn.a:latest","object":"model","created":0,"owned_by":"ollama","loaded":true,"connection_type":"external","tags":[{"name":"t"}],
		  "ollama":{"name":"barn.a:latest","model":"barn.a:latest","size":1,"details":{"family":"llama"},"tags":[{"name":"t"}],"connection_type":"external","urls":[3],"expires_at":1893456000}}`,
	}
	if len(models) != len(want) {
		t.Fatalf("%d models: %+v", len(models), models)
	}
	for i, m := range models {
		sameJSON(t, m.ID, string(m.Entry), want[i])
	}
	seen := map[int]bool{}
	for range 200 {
		target, err := r.Resolve(t.Context(), nil, "b:latest")
		if err != nil || target.Upstream != "b:latest" {
			t.Fatalf("%+v, %v", target, err)
		}
		seen[target.Index] = true
	}
	if !seen[0] || !seen[1] || len(seen) != 2 {
		t.Errorf("the load went to %v", seen)
	}
	if target, err := r.Resolve(t.Context(), nil, "barn.a:latest"); err != nil || target.Upstream != "a:latest" || target.Index != 3 {
		t.Errorf("prefix: %+v, %v", target, err)
	}
}

func TestChat(t *testing.T) {
	var path, auth, body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		path, auth, body = r.URL.Path, r.Header.Get("Authorization"), string(raw)
		if strings.Contains(body, `"stream":true`) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			fmt.Fprint(w, `{"model":"m","message":{"content":"hi"},"done":false}`+"\n"+`{"model":"m",`+doneFields+"}\n")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"model":"m","message":{"content":"hi"},`+doneFields+"}")
	}))
	defer srv.Close()
	p := connect(0, srv.URL, `{}`)
	in := []byte(`{"messages":[{"role":"user","content":"x"}]}`)

	resp, err := p.Chat(t.Context(), &llm.Request{Model: "m", Body: in})
	if err != nil || resp.Stream || path != "/api/chat" || auth != "Bearer k" {
		t.Fatalf("%v %+v %s %s", err, resp, path, auth)
	}
	sameJSON(t, "request", body, `{"model":"m","messages":[{"role":"user","content":"x"}],"stream":false}`)
	if !strings.Contains(string(resp.JSON()), `"content":"hi"`) {
		t.Errorf("got %s", resp.JSON())
	}

	if resp, err = p.Chat(t.Context(), &llm.Request{Model: "m", Stream: true, Body: in}); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	if err := resp.Relay(rec); err != nil || rec.Header().Get("Content-Type") != "text/event-stream" ||
		strings.Count(rec.Body.String(), "data: ") != 3 || !strings.HasSuffix(rec.Body.String(), "\n\ndata: [DONE]\n\n") {
		t.Errorf("%v %v %s", err, rec.Header(), rec.Body)
	}

	if resp, err = p.Chat(t.Context(), &llm.Request{Model: "m", Stream: true, Body: in}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for c, err := range resp.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c.Role+"|"+c.Content+"|"+c.FinishReason+"|"+fmt.Sprint(llm.UsageTokens(c.Usage)))
	}
	if s := strings.Join(got, " "); s != "assistant|hi||{0 0} ||stop|{10 4}" {
		t.Errorf("chunks %s", s)
	}
}

func TestChatErrors(t *testing.T) {
	answer := func(status int, ctype, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ctype)
			w.Header().Set("Retry-After", "9")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	const connection = `{"detail":"Open WebUI: Server Connection Error"}`
	tests := []struct {
		name, url string
		status    int
		want      string
	}{
		{"error", answer(404, "application/json", `{"error":"model 'x' not found"}`), 404, `{"detail":"model 'x' not found"}`},
		{"error object", answer(400, "application/json", `{"error":{"code":1}}`), 400, `{"detail":{"code":1}}`},
		{"other JSON", answer(500, "application/json", `{"a":1}`), 500, connection},
		{"no JSON", answer(502, "text/html", `<b>`), 502, connection},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := connect(0, tt.url, `{}`).Chat(t.Context(), &llm.Request{Model: "m", Stream: true, Body: []byte(`{"messages":[]}`)})
			var ue *llm.UpstreamError
			if !errors.As(err, &ue) || ue.Status != tt.status || string(ue.Body) != tt.want || ue.RetryAfter != "9" {
				t.Errorf("%v, %+v", err, ue)
			}
		})
	}
	_, err := connect(0, "http://127.0.0.1:1", `{}`).Chat(t.Context(), &llm.Request{Model: "m", Body: []byte(`{"messages":[]}`)})
	var ue *llm.UpstreamError
	if !errors.As(err, &ue) || ue.Status != 500 || !strings.HasPrefix(string(ue.Body), `{"detail":"Ollama: `) || ue.Err == nil {
		t.Errorf("unreachable: %v", err)
	}
}

func TestCancelReachesTheServer(t *testing.T) {
	gone := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"message":{"content":"a"}}`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := connect(0, srv.URL, `{}`).Chat(ctx, &llm.Request{Model: "m", Stream: true, Body: []byte(`{"messages":[]}`)})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range resp.Chunks() {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the server did not learn of the end")
	}
}

// FuzzLine checks that no answer of a server makes the conversion panic or write invalid JSON.
func FuzzLine(f *testing.F) {
	f.Add(`{"model":"m","message":{"content":"a","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},` + doneFields + `}`)
	f.Add(`{"message":{"content":5,"thinking":{}},"done":"x","eval_count":"z","eval_duration":[],"total_duration":null}`)
	f.Fuzz(func(t *testing.T, line string) {
		s := newStream(io.NopCloser(strings.NewReader(line)))
		for {
			got, err := s.Next()
			if err != nil {
				break
			}
			if !json.Valid(got) {
				t.Fatalf("%q became %s", line, got)
			}
		}
		if got, err := Completion([]byte(line)); err == nil && !json.Valid(got) {
			t.Fatalf("%q became %s", line, got)
		}
	})
}
