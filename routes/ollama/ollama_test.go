package ollama

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/relay/relaytest"
)

// step is a call and what it is answered with.
type step struct {
	Who, Call, Body string
	Status          int
	Want            string
}

func bench(t *testing.T) *relaytest.Bench {
	b := relaytest.New(t)
	b.Router.Mount("/ollama", New(Deps{Registry: b.Registry, Catalog: b.Catalog, Settings: b.Settings, Env: b.Env, Prompts: b.Prompts}))
	b.Router.Finish()
	return b
}

func TestListsAndSettings(t *testing.T) {
	b := bench(t)
	u := b.Upstream.URL
	relaytest.Run(b, []step{
		{"", "GET /ollama/", "", 200, `{"status":true}`},
		{"", "GET /ollama/api/tags", "", 401, ""},
		{"admin", "GET /ollama/api/tags", "", 200, `"connection_type":"local","urls":[0]`},
		{"admin", "GET /ollama/api/tags/0", "", 200, `{"models":[{"name":"llama:latest","model":"llama:latest","size":1}]}`},
		{"ann", "GET /ollama/api/tags?url_idx=0", "", 401, ""},
		{"ann", "GET /ollama/api/tags", "", 200, `{"models":[]}`},
		{"admin", "GET /ollama/api/ps", "", 200, `"urls":[0]`},
		{"ann", "GET /ollama/api/version", "", 200, `{"version":"0.9.1"}`},
		{"admin", "GET /ollama/v1/models", "", 200, `"object":"list"`},
		{"admin", "POST /ollama/verify", `{"url":"` + u + `"}`, 200, `0.9.1`},
		{"admin", "POST /ollama/verify", `{"url":"` + u + `/missing"}`, 500, `Unexpected error: External Error: upstream says no`},
		{"admin", "POST /ollama/config/update", `{"ENABLE_OLLAMA_API":true,"OLLAMA_BASE_URLS":["` + u + `","` + u + `"],"OLLAMA_API_CONFIGS":{"1":{"prefix_id":"p"},"2":{}}}`, 200,
			`"OLLAMA_API_CONFIGS":{"1":{"prefix_id":"p"}}}`},
		{"admin", "GET /ollama/api/ps", "", 200, `"p.llama:latest"`},
		{"admin", "POST /ollama/api/chat", `{"model":"p.llama:latest","stream":false,"messages":[]}`, 200, `"model":"llama:latest"`},
		{"admin", "POST /ollama/config/update", `{"OLLAMA_BASE_URLS":[],"OLLAMA_API_CONFIGS":{}}`, 200, `"ENABLE_OLLAMA_API":null`},
		{"admin", "GET /ollama/api/tags", "", 503, "The Ollama API is disabled"},
		{"admin", "GET /ollama/api/version", "", 200, `{"version":false}`},
		{"admin", "GET /ollama/v1/models", "", 200, `{"data":[],"object":"list"}`},
		{"admin", "POST /ollama/v1/chat/completions", `{"model":"llama:latest","messages":[]}`, 400, "was not found"},
	})
}

func TestRequests(t *testing.T) {
	b := bench(t)
	b.Exec(`INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at)
		VALUES ('calf', 'ann', 'llama:latest', 'Calf', '{"system":"Moo.","max_tokens":7,"think":true}', '{}', TRUE, 1, 1)`)
	relaytest.Run(b, []step{
		{"admin", "POST /ollama/api/chat", `{"model":"calf","stream":false,"messages":[{"role":"user","content":"hi","x":null}]}`, 200,
			`{"echo":{"model":"llama:latest","stream":false,"messages":[{"role":"system","content":"Moo."},{"role":"user","content":"hi"}],"think":true,"options":{"num_predict":7}}}`},
		{"admin", "POST /ollama/v1/chat/completions", `{"model":"calf","messages":[]}`, 200, `"max_tokens":7`},
		{"ann", "POST /ollama/api/chat", `{"model":"calf","messages":[]}`, 403, "Model not found"},
		{"admin", "POST /ollama/api/chat", `{"model":"llama:latest","messages":[]}`, 200, `{"done":true}`},
		{"admin", "POST /ollama/api/chat", `{"messages":[]}`, 400, "GenerateChatCompletionForm"},
		{"admin", "POST /ollama/api/chat", `{"model":"llama","messages":[]}`, 400, "Model 'llama' was not found"},
		{"admin", "POST /ollama/api/generate/0", `{"model":"broken"}`, 418, `{"detail":"upstream says no"}`},
		{"admin", "POST /ollama/api/generate", `{"model":"llama:latest","stream":false,"keep_alive":"5m","suffix":null}`, 200,
			`{"echo":{"model":"llama:latest","stream":false,"keep_alive":"5m"}}`},
		{"admin", "POST /ollama/api/embed", `{"model":"llama:latest","input":[1]}`, 422, `["body","input","list[str]",0]`},
		{"admin", "POST /ollama/api/embed", `{"model":"llama:latest","input":["a"],"dimensions":3}`, 200, `"dimensions":3`},
		{"admin", "POST /ollama/api/pull", `{"name":"tiny","stream":false}`, 200, `{"echo":{"name":"tiny","stream":false,"model":"tiny","insecure":true}}`},
		{"admin", "DELETE /ollama/api/delete", `{"model":"gone"}`, 400, "Model 'gone' was not found"},
		{"admin", "POST /ollama/api/copy", `{"source":"llama:latest","destination":"b"}`, 200, "true"},
		{"admin", "POST /ollama/api/unload", `{"model":"llama:latest"}`, 200, `{"status":true}`},
		{"admin", "POST /ollama/api/show", `{"name":"llama:latest"}`, 200, `"model":"llama:latest"`},
		{"ann", "POST /ollama/api/pull", `{"model":"x"}`, 401, ""},
	})
}

func TestUpload(t *testing.T) {
	b := bench(t)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "tiny.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write([]byte("GGUF")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, b.URL()+"/ollama/models/upload", &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("Authorization", "Bearer admin")
	got := b.Do(req)
	if got.Status != 200 || !bytes.Contains(got.Body, []byte(`data: {"progress": 100.0, "total": 4, "completed": 4}`)) || !bytes.Contains(got.Body, []byte(`"model_created":"tiny"`)) {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	seen := b.Upstream.Seen()
	if len(seen) != 2 || !strings.HasSuffix(seen[0], " GGUF") || !strings.HasPrefix(seen[0], "POST /api/blobs/sha256:") || !strings.Contains(seen[1], `"files":{"tiny.gguf":"sha256:`) {
		t.Errorf("upstream saw %q", seen)
	}
	relaytest.Run(b, []step{
		{"admin", "POST /ollama/models/upload", `{}`, 422, `["body","file"]`},
		{"admin", "POST /ollama/models/download", `{"url":"https://huggingface.co.evil/x"}`, 400, "Invalid file_url"},
	})
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"0.9.1", "0.10.0", true}, {"0.10.0", "0.9.1", false}, {"v0.5-rc1", "0.5.1", true}, {"0.5", "0.5", false}} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%s, %s) = %v", c.a, c.b, got)
		}
	}
}
