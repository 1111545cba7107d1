package openai

import (
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

func bench(t *testing.T, env ...string) *relaytest.Bench {
	b := relaytest.New(t, env...)
	b.Router.Mount("/openai", New(Deps{Registry: b.Registry, Catalog: b.Catalog, Access: b.Access, Settings: b.Settings, Env: b.Env, Prompts: b.Prompts}))
	b.Router.Finish()
	return b
}

func TestSettings(t *testing.T) {
	b := bench(t)
	u := b.Upstream.URL + "/v1"
	relaytest.Run(b, []step{
		{"", "GET /openai/config", "", 401, "Not authenticated"},
		{"ann", "GET /openai/config", "", 401, ""},
		{"admin", "GET /openai/config", "", 200, `"OPENAI_API_KEYS":["sk-test"]`},
		{"admin", "POST /openai/config/update", `{"ENABLE_OPENAI_API":true,"OPENAI_API_BASE_URLS":["` + u + `","` + u + `"],"OPENAI_API_KEYS":["k"],` +
			`"OPENAI_API_CONFIGS":{"1":{"prefix_id":"far","model_ids":["echo"]},"7":{},"x":{}}}`, 200,
			`"OPENAI_API_KEYS":["k",""],"OPENAI_API_CONFIGS":{"1":{"prefix_id":"far","model_ids":["echo"]}}}`},
		{"admin", "GET /openai/models", "", 200, `"far.echo"`},
		{"admin", "POST /openai/chat/completions", `{"model":"far.echo","messages":[]}`, 200, `"model":"echo"`},
		{"admin", "GET /openai/models/9", "", 404, "Connection not found"},
		{"admin", "GET /openai/models?url_idx=0", "", 200, `{"id":"other","object":"model"}`},
		{"ann", "GET /openai/models/0", "", 401, ""},
		{"admin", "POST /openai/config/update", `{"OPENAI_API_BASE_URLS":[],"OPENAI_API_KEYS":["a","b"],"OPENAI_API_CONFIGS":{}}`, 200,
			`{"ENABLE_OPENAI_API":null,"OPENAI_API_BASE_URLS":[],"OPENAI_API_KEYS":[],"OPENAI_API_CONFIGS":{}}`},
		{"admin", "GET /openai/models", "", 503, "OpenAI API is disabled"},
	})
}

func TestChat(t *testing.T) {
	b := bench(t)
	b.Exec(`INSERT INTO model (id, user_id, base_model_id, name, params, meta, is_active, updated_at, created_at)
		VALUES ('cook', 'ann', 'echo', 'Cook', '{"system":"Be {{USER_NAME}}","temperature":"0.5"}', '{}', TRUE, 1, 1)`)
	relaytest.Run(b, []step{
		{"admin", "POST /openai/chat/completions", `{"model":"nope","messages":[]}`, 404, `"Model '' was not found"`},
		{"admin", "POST /openai/chat/completions", `{"model":"cook","messages":[{"role":"user","content":"hi"}],"metadata":{"chat_id":"c"}}`, 200,
			`"messages":[{"role":"system","content":"Be admin"},{"role":"user","content":"hi"}],"temperature":0.5`},
		{"ann", "POST /openai/chat/completions", `{"model":"cook","messages":[]}`, 403, "Model not found"}, // the base has no row
		{"bob", "POST /openai/chat/completions", `{"model":"echo","messages":[]}`, 403, "Model not found"},
		{"admin", "POST /openai/chat/completions", `{"model":"echo","stream":true,"messages":[]}`, 200, "data: [DONE]"},
	})
	b.Exec(`INSERT INTO model (id, user_id, name, params, meta, is_active, updated_at, created_at) VALUES ('echo', 'ann', 'Echo', '{}', '{}', TRUE, 1, 1)`)
	relaytest.Run(b, []step{
		{"ann", "POST /openai/chat/completions", `{"model":"cook","messages":[]}`, 200, `"model":"echo"`},
		{"ann", "GET /openai/models", "", 200, `"id":"echo"`},
		{"bob", "GET /openai/models", "", 200, `{"data":[]}`},
	})
}

func TestVerifyAndPassthrough(t *testing.T) {
	b := bench(t)
	u := b.Upstream.URL
	relaytest.Run(b, []step{
		{"admin", "POST /openai/verify", `{"url":"` + u + `/v1","key":""}`, 200, `"id":"echo"`},
		{"admin", "POST /openai/verify", `{"url":"` + u + `/missing","key":""}`, 418, `{"error":"upstream says no"}`},
		{"admin", "POST /openai/verify", `{"url":"http://127.0.0.1:1","key":""}`, 500, "Server Connection Error"},
		{"admin", "POST /openai/files/x", `{}`, 403, "passthrough is disabled"},
		{"admin", "POST /openai/responses", `{"model":"echo","input":5}`, 422, `"list_type"`},
		{"admin", "POST /openai/responses", `{"model":"echo","input":"x","store":null,"extra":1}`, 200, `{"echo":{"model":"echo","input":"x","extra":1}}`},
	})
	open := bench(t, "ENABLE_OPENAI_API_PASSTHROUGH", "true")
	relaytest.Run(open, []step{
		{"ann", "POST /openai/embeddings", `{"model":"echo","input":"x"}`, 200, `"input":"x"`},
		{"ann", "DELETE /openai/missing", "", 418, "upstream says no"},
	})
	if seen := strings.Join(open.Upstream.Seen(), "\n"); !strings.HasPrefix(seen, `POST /v1/embeddings {"model":"echo","input":"x"}`) {
		t.Errorf("upstream saw %s", seen)
	}
}

func TestManagement(t *testing.T) {
	b := bench(t, "OPENAI_API_CONFIGS", "{}")
	set := func(provider string) {
		relaytest.Run(b, []step{{"admin", "POST /openai/config/update", `{"ENABLE_OPENAI_API":true,"OPENAI_API_BASE_URLS":["` + b.Upstream.URL +
			`/v1"],"OPENAI_API_KEYS":[],"OPENAI_API_CONFIGS":{"0":{"provider":"` + provider + `","prefix_id":"p"}}}`, http.StatusOK, ""}})
	}
	set("")
	relaytest.Run(b, []step{{"admin", "GET /openai/models/0/catalog", "", 400, `Provider \"default\" does not support model management`}})
	set("lmstudio")
	relaytest.Run(b, []step{
		{"admin", "POST /openai/models/0/unload", `{"model":"p.m","x":null}`, 200, `{"echo":{"instance_id":"m"}}`},
		{"admin", "POST /openai/models/0/load", `{"model":"p.m","ttl":5}`, 200, `{"echo":{"model":"m","ttl":5}}`},
		{"admin", "GET /openai/models/0/sse", "", 400, `does not support sse`},
		{"admin", "GET /openai/models/0/download/status/missing", "", 418, `{"detail":{"error":"upstream says no"}}`},
	})
	set("llama.cpp")
	b.Upstream.Seen()
	relaytest.Run(b, []step{{"admin", "DELETE /openai/models/0?model=p.a%2Fb", "", 200, ""}})
	if seen := strings.Join(b.Upstream.Seen(), "\n"); !strings.HasPrefix(seen, "DELETE /models?model=a%2Fb") {
		t.Errorf("upstream saw %s", seen)
	}
}
