package pipelines

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/relay/relaytest"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// step is a call and what it is answered with.
type step struct {
	Who, Call, Body string
	Status          int
	Want            string
}

const notFound = `{"detail":"Pipeline not found"}`

// server is a pipelines server as far as this module talks to one.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
	mark string // what its model list says of it
}

func newServer(t *testing.T) *server {
	s := &server{mark: `"pipelines":true,`}
	mux := http.NewServeMux()
	answer := func(pattern string, status int, kind, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	const json = "application/json"
	answer("GET /pipelines", 200, json, `{"data":[{"id":"gate","name":"Gate","type":"filter","valves":true}]}`)
	answer("POST /pipelines/add", 200, json, `{"status":true,"detail":"added"}`)
	answer("DELETE /pipelines/delete", 200, json, `{"status":true,"detail":"deleted"}`)
	answer("GET /gate/valves", 200, json, `{"limit": 5}`)
	answer("GET /gate/valves/spec", 200, json, `{"properties":{"limit":{"type":"integer"}}}`)
	answer("POST /gate/valves/update", 200, json, `{"limit": 6}`)
	answer("GET /locked/valves", 403, json, `{"detail":"Invalid API key"}`)
	answer("GET /broken/valves", 502, "text/html", "<h1>Bad gateway</h1>")
	answer("GET /list/valves", 200, json, `[1]`)
	answer("GET /none/valves", 200, json, `null`)
	answer("GET /text/valves", 200, "text/plain", `{"limit": 5}`)
	answer("GET /cut/valves", 200, json, `{"limit": `)
	answer("GET /{id}/valves", 404, json, `{"detail":"Pipeline x not found"}`)
	mux.HandleFunc("GET /models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", json)
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(w, `{%s"data":[{"id":"m"}]}`, s.mark)
	})
	mux.HandleFunc("POST /pipelines/upload", func(w http.ResponseWriter, r *http.Request) {
		file, head, err := r.FormFile("file")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		content, err := io.ReadAll(file)
		w.Header().Set("Content-Type", json)
		fmt.Fprintf(w, `{"name":%s,"size":%d,"declared":%d,"tail":%s,"ok":%v}`, jsondoc.Text(head.Filename), len(content), r.ContentLength,
			jsondoc.Text(string(content[max(0, len(content)-4):])), err == nil)
	})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/models" {
			var body []byte
			if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
				body, _ = io.ReadAll(r.Body)
			}
			s.mu.Lock()
			s.seen = append(s.seen, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization")+" "+string(body))
			s.mu.Unlock()
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		return ""
	}
	return s.seen[len(s.seen)-1]
}

func (s *server) setMark(mark string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = mark
}

// bench has three connections: a server of models, the pipelines server, and an address where nobody listens.
func bench(t *testing.T, local Local, env ...string) (*relaytest.Bench, *server) {
	s := newServer(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	env = append([]string{"OPENAI_API_BASE_URLS", "UPSTREAM;" + s.URL + ";" + closed.URL, "OPENAI_API_KEYS", "k0;k1;k2"}, env...)
	env[1] = strings.Replace(env[1], "UPSTREAM", s.URL+"/v1", 1)
	b := relaytest.New(t, env...)
	b.Router.Mount("/api/v1/pipelines", New(Deps{Registry: b.Registry, Settings: b.Settings, Local: local, Log: slog.New(slog.DiscardHandler)}))
	b.Router.Finish()
	return b, s
}

func TestServer(t *testing.T) {
	b, s := bench(t, nil)
	relaytest.Run(b, []step{
		{"", "GET /api/v1/pipelines/list", "", 401, "Not authenticated"},
		{"ann", "GET /api/v1/pipelines/list", "", 401, "permission"},
		{"admin", "GET /api/v1/pipelines/list", "", 200, `{"data":[{"url":"` + s.URL + `","idx":1}]}`},
	})
	for _, c := range []struct{ call, body, want, sent string }{
		{"GET /api/v1/pipelines/?urlIdx=1", "", `"type":"filter"`, "GET /pipelines Bearer k1 "},
		{"GET /api/v1/pipelines/?urlIdx=-2", "", `"type":"filter"`, "GET /pipelines Bearer k1 "},
		{"GET /api/v1/pipelines/gate/valves?urlIdx=1", "", `{"limit": 5}`, "GET /gate/valves Bearer k1 "},
		{"GET /api/v1/pipelines/gate/valves/spec?urlIdx=1", "", `"integer"`, "GET /gate/valves/spec Bearer k1 "},
		{"POST /api/v1/pipelines/gate/valves/update?urlIdx=1", `{"limit": "6"}`, `{"limit": 6}`, `POST /gate/valves/update Bearer k1 {"limit": "6"}`},
		{"POST /api/v1/pipelines/add", `{"url":"https://x.test/\"p\".py","urlIdx":"1"}`, `"added"`, `POST /pipelines/add Bearer k1 {"url":"https://x.test/\"p\".py"}`},
		{"DELETE /api/v1/pipelines/delete", `{"id":"gate","urlIdx":1}`, `"deleted"`, `DELETE /pipelines/delete Bearer k1 {"id":"gate"}`},
	} {
		relaytest.Run(b, []step{{"admin", c.call, c.body, 200, c.want}})
		if sent := s.last(); sent != c.sent {
			t.Errorf("%s: sent %q, want %q", c.call, sent, c.sent)
		}
	}
}

func TestServerFailures(t *testing.T) {
	b, s := bench(t, nil)
	for id, status := range map[string]int{"locked": 403, "broken": 502, "list": 200, "none": 200, "text": 200, "cut": 200, "nobody": 404, "a%3Fb%20c": 404} {
		relaytest.Run(b, []step{{"admin", "GET /api/v1/pipelines/" + id + "/valves?urlIdx=1", "", status, notFound}})
		if sent := s.last(); !strings.HasPrefix(sent, "GET /"+id+"/valves ") {
			t.Errorf("%s: sent %q", id, sent)
		}
	}
	for _, index := range []string{"2", "3", "-4", "99999999999999999999"} { // the first refuses connections, the others are none
		relaytest.Run(b, []step{
			{"admin", "GET /api/v1/pipelines/?urlIdx=" + index, "", 404, notFound},
			{"admin", "GET /api/v1/pipelines/gate/valves?urlIdx=" + index, "", 404, notFound},
			{"admin", "GET /api/v1/pipelines/gate/valves/spec?urlIdx=" + index, "", 404, notFound},
			{"admin", "POST /api/v1/pipelines/gate/valves/update?urlIdx=" + index, "{}", 404, notFound},
			{"admin", "POST /api/v1/pipelines/add", `{"url":"u","urlIdx":` + index + `}`, 404, notFound},
			{"admin", "DELETE /api/v1/pipelines/delete", `{"id":"i","urlIdx":` + index + `}`, 404, notFound},
		})
	}
	local := fmt.Sprint(LocalIndex)
	relaytest.Run(b, []step{
		{"admin", "GET /api/v1/pipelines/", "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/?urlIdx=" + local, "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/gate/valves?urlIdx=" + local, "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/gate/valves", "", 422, `"loc":["query","urlIdx"]`},
		{"admin", "GET /api/v1/pipelines/gate/valves/spec?urlIdx=", "", 422, `"int_parsing"`},
		{"admin", "POST /api/v1/pipelines/gate/valves/update?urlIdx=1", `[]`, 422, `"dict_type"`},
		{"admin", "POST /api/v1/pipelines/add", `{"urlIdx":1}`, 422, `"loc":["body","url"]`},
	})
}

// TestList: a server is one of pipelines as long as its model list says so and its connection is on.
func TestList(t *testing.T) {
	b, s := bench(t, nil)
	list := func(want string) {
		t.Helper()
		b.Registry.Refresh()
		relaytest.Run(b, []step{{"admin", "GET /api/v1/pipelines/list", "", 200, want}})
	}
	list(`"idx":1`)
	s.setMark("")
	list(`{"data":[]}`)
	s.setMark(`"pipelines":false,`)
	list(`"idx":1`)
	s.setMark(`"pipelines":`)
	list(`{"data":[]}`)
	s.setMark(`"pipelines":[],`)
	list(`"idx":1`)

	for _, config := range []string{`{"1":{"enable":false}}`, `{"1":{"model_ids":["m"]}}`} {
		off, _ := bench(t, nil, "OPENAI_API_CONFIGS", config)
		relaytest.Run(off, []step{
			{"admin", "GET /api/v1/pipelines/list", "", 200, `{"data":[]}`},
			{"admin", "GET /api/v1/pipelines/gate/valves?urlIdx=1", "", 200, `{"limit": 5}`},
		})
	}
	off, _ := bench(t, nil, "ENABLE_OPENAI_API", "false")
	relaytest.Run(off, []step{{"admin", "GET /api/v1/pipelines/list", "", 200, `{"data":[]}`}})
}

// send uploads a file of a name and content to an index.
func send(b *relaytest.Bench, index, name string, content []byte) relaytest.Answer {
	b.T.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("urlIdx", index)
	w, err := form.CreateFormFile("file", name)
	if err != nil {
		b.T.Fatal(err)
	}
	_, _ = w.Write(content)
	_ = form.Close()
	req, err := http.NewRequest("POST", b.URL()+"/api/v1/pipelines/upload", &body)
	if err != nil {
		b.T.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("Authorization", "Bearer admin")
	return b.Do(req)
}

func TestUpload(t *testing.T) {
	b, s := bench(t, nil)
	large := append(bytes.Repeat([]byte("x = 1\n"), 200_000), "#end"...)
	for _, c := range []struct {
		index, name string
		content     []byte
		status      int
		want        string
	}{
		{"1", "p.py", []byte("x = 1\n#end"), 200, `"name":"p.py","size":10,`},
		{"1", "folder/quoted \"ü\".py", large, 200, fmt.Sprintf(`.py","size":%d,`, len(large))},
		{"1", "empty.py", nil, 200, `"size":0,`},
		{"1", "notes.txt", []byte("x"), 400, `{"detail":"Only Python (.py) files are allowed."}`},
		{"7", "notes.txt", []byte("x"), 400, `Only Python`},
		{"7", "p.py", []byte("x"), 404, notFound},
		{"2", "p.py", large, 404, notFound},
		{"0", "p.py", large, 404, notFound},
		{"x", "p.py", []byte("x"), 422, `"int_parsing"`},
	} {
		got := send(b, c.index, c.name, c.content)
		if got.Status != c.status || !strings.Contains(string(got.Body), c.want) {
			t.Errorf("%s to %s: %d %s", c.name, c.index, got.Status, got.Body)
		}
		if declared, _ := got.Body.Int("declared"); c.status == 200 && (declared < int64(len(c.content)) || len(c.content) > 4 && got.Body.Text("tail") != "#end") {
			t.Errorf("%s arrived as %s", c.name, got.Body)
		}
	}
	if sent := s.last(); !strings.HasPrefix(sent, "POST /v1/pipelines/upload Bearer k0") {
		t.Errorf("sent %q", sent)
	}
}

// plugins is what runs locally.
type plugins struct {
	list []Pipeline
	got  string
}

func (p *plugins) Pipelines(context.Context) []Pipeline { return p.list }

func (p *plugins) of(id, doc string) (jsondoc.Doc, error) {
	switch id {
	case "gate":
		return jsondoc.Doc(doc), nil
	case "bad":
		return nil, web.Fail(http.StatusBadRequest, "limit must be a number")
	case "crashed":
		return nil, io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("plugin %s: %w", id, store.ErrNotFound)
}

func (p *plugins) Valves(_ context.Context, id string) (jsondoc.Doc, error) {
	return p.of(id, `{"limit":1}`)
}
func (p *plugins) Spec(_ context.Context, id string) (jsondoc.Doc, error) {
	return p.of(id, `{"properties":{}}`)
}
func (p *plugins) Update(_ context.Context, id string, values jsondoc.Doc) (jsondoc.Doc, error) {
	p.got = values.String()
	return p.of(id, `{"limit":2}`)
}

func TestLocal(t *testing.T) {
	p := &plugins{}
	b, s := bench(t, p)
	at := fmt.Sprintf("?urlIdx=%d", LocalIndex)
	relaytest.Run(b, []step{
		{"admin", "GET /api/v1/pipelines/list", "", 200, `{"data":[{"url":"` + s.URL + `","idx":1}]}`},
		{"admin", "GET /api/v1/pipelines/", "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/" + at, "", 200, `{"data":[]}`},
	})
	p.list = []Pipeline{{ID: "gate", Name: "Gate", Type: "filter", Valves: true}, {ID: "crashed", Name: "C", Type: "pipe"}}
	const all = `{"data":[{"id":"gate","name":"Gate","type":"filter","valves":true},{"id":"crashed","name":"C","type":"pipe","valves":false}]}`
	relaytest.Run(b, []step{
		{"admin", "GET /api/v1/pipelines/list", "", 200, `"idx":1},{"url":"Galley plugins","idx":2147483647}]}`},
		{"ann", "GET /api/v1/pipelines/list", "", 401, "permission"},
		{"admin", "GET /api/v1/pipelines/" + at, "", 200, all},
		{"admin", "GET /api/v1/pipelines/", "", 200, all},
		{"admin", "GET /api/v1/pipelines/?urlIdx=9", "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/gate/valves" + at, "", 200, `{"limit":1}`},
		{"admin", "GET /api/v1/pipelines/gate/valves/spec" + at, "", 200, `{"properties":{}}`},
		{"admin", "POST /api/v1/pipelines/gate/valves/update" + at, `{"limit":"2"}`, 200, `{"limit":2}`},
		{"ann", "POST /api/v1/pipelines/gate/valves/update" + at, `{"limit":"3"}`, 401, "permission"},
		{"admin", "GET /api/v1/pipelines/other/valves" + at, "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/other/valves/spec" + at, "", 404, notFound},
		{"admin", "GET /api/v1/pipelines/crashed/valves" + at, "", 500, `{"detail":"Internal Server Error"}`},
		{"admin", "POST /api/v1/pipelines/add", fmt.Sprintf(`{"url":"u","urlIdx":%d}`, LocalIndex), 400, "galley plugin install"},
		{"admin", "DELETE /api/v1/pipelines/delete", fmt.Sprintf(`{"id":"gate","urlIdx":"%d"}`, LocalIndex), 400, "galley plugin install"},
		{"admin", "GET /api/v1/pipelines/gate/valves?urlIdx=1", "", 200, `{"limit": 5}`},
	})
	if p.got != `{"limit":"2"}` {
		t.Errorf("values: %s", p.got)
	}
	relaytest.Run(b, []step{{"admin", "POST /api/v1/pipelines/bad/valves/update" + at, `{}`, 400, `{"detail":"limit must be a number"}`}})
	if got := send(b, fmt.Sprint(LocalIndex), "p.py", []byte("x")); got.Status != 400 || !strings.Contains(string(got.Body), "galley plugin install") {
		t.Errorf("upload: %d %s", got.Status, got.Body)
	}
}
