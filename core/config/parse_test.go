package config

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// vars is an environment of name, value pairs.
func vars(pairs ...string) LookupFunc {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

func read(t *testing.T, env LookupFunc) *Snapshot {
	t.Helper()
	p := parser{env: env, auth: true, log: slog.New(slog.DiscardHandler)}
	snap, err := p.initial()
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// equalJSON compares values without regard to the order of members and the spelling of numbers.
func equalJSON(t *testing.T, a, b jsontext.Value) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatalf("%s, %s: %v", a, b, err)
	}
	return reflect.DeepEqual(x, y)
}

// TestDefaults compares the table with what the reference was seen to store (testdata/reference.json).
func TestDefaults(t *testing.T) {
	text, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var reference map[string]struct {
		Env     []string       `json:"env"`
		Default jsontext.Value `json:"default"`
	}
	if err := json.Unmarshal(text, &reference); err != nil {
		t.Fatal(err)
	}
	if len(reference) != 431 {
		t.Fatalf("the reference has %d settings", len(reference))
	}
	snap := read(t, vars())
	for _, d := range Definitions() {
		ref, ok := reference[d.Key]
		if !ok {
			if !d.Unseeded {
				t.Errorf("%s is not a setting of the reference", d.Key)
			}
			continue
		}
		delete(reference, d.Key)
		got := snap.Raw(d.Key)
		switch {
		case strings.HasPrefix(string(ref.Default), `"<text of`):
			if got.Kind() != '"' || len(got) < 400 {
				t.Errorf("%s: the default text is missing: %s", d.Key, got)
			}
		case strings.HasPrefix(d.Key, "oauth."):
			// The reference does not store these, so that their defaults were not seen; see TestOAuthDefaults.
		case !equalJSON(t, got, ref.Default):
			t.Errorf("%s: default %s, the reference has %s", d.Key, got, ref.Default)
		}
		for _, name := range ref.Env {
			// Permissions have one variable each; this name stands for them all.
			if !slices.Contains(d.Env, name) && name != "USER_PERMISSIONS" {
				t.Errorf("%s: variable %s is not read", d.Key, name)
			}
		}
	}
	for key := range maps.Keys(reference) {
		t.Errorf("%s is missing", key)
	}
}

// TestOAuthDefaults compares with GET /api/v1/configs/export of the reference, which shows what it does not store.
func TestOAuthDefaults(t *testing.T) {
	text, err := os.ReadFile("testdata/oauth.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]jsontext.Value
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	snap := read(t, vars())
	n := 0
	for _, d := range Definitions() {
		if !strings.HasPrefix(d.Key, "oauth.") {
			continue
		}
		n++
		if got := snap.Raw(d.Key); want[d.Key] == nil || !equalJSON(t, got, want[d.Key]) {
			t.Errorf("%s: default %s, the reference has %s", d.Key, got, want[d.Key])
		}
	}
	if n != len(want) {
		t.Errorf("%d settings, the reference has %d", n, len(want))
	}
}

// TestTable looks for lines of settings.json that cannot work.
func TestTable(t *testing.T) {
	var lines []struct {
		Key     string         `json:"key"`
		Default jsontext.Value `json:"default"`
	}
	text, err := os.ReadFile("settings.json")
	if err == nil {
		err = json.Unmarshal(text, &lines)
	}
	if err != nil || len(lines) != len(definitions) {
		t.Fatalf("%d lines, %d settings: run go generate (%v)", len(lines), len(definitions), err)
	}
	for i, d := range definitions {
		if lines[i].Key != d.Key || !equalJSON(t, lines[i].Default, jsontext.Value(d.Default)) {
			t.Errorf("%s: settings.json differs: run go generate", d.Key)
		}
		if index[d.Key] != i {
			t.Errorf("%s is there twice", d.Key)
		}
		if parseFuncs[d.parse] == nil {
			t.Errorf("%s: no way to read %q", d.Key, d.parse)
		}
		if !fits(d.Type, jsontext.Value(d.Default)) {
			t.Errorf("%s: the default %s is not %s", d.Key, d.Default, d.Type)
		}
	}
	if UIEnableSignup.Key() != "ui.enable_signup" || UserPermissions.Key() != "user.permissions" {
		t.Error("the keys are not in step with the table")
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		key  string
		env  []string
		want string
	}{
		{"ui.enable_signup", []string{"ENABLE_SIGNUP", "TRUE"}, `true`},
		{"ui.enable_signup", []string{"ENABLE_SIGNUP", "1"}, `false`},
		{"ui.enable_login_form", []string{"ENABLE_LOGIN_FORM", ""}, `false`},
		{"rag.top_k", []string{"RAG_TOP_K", " 1_0 "}, `10`},
		{"rag.top_k", []string{"RAG_TOP_K", ""}, `3`},
		{"rag.relevance_threshold", []string{"RAG_RELEVANCE_THRESHOLD", "0.25"}, `0.25`},
		{"rag.embedding_batch_size", []string{"RAG_EMBEDDING_BATCH_SIZE", "", "RAG_EMBEDDING_OPENAI_BATCH_SIZE", "8"}, `8`},
		{"rag.file.max_size", []string{"RAG_FILE_MAX_SIZE", "25"}, `25`},
		{"rag.file.max_size", []string{"RAG_FILE_MAX_SIZE", ""}, `null`},
		{"rag.mineru_api_timeout", []string{"MINERU_API_TIMEOUT", "12"}, `"12"`},
		{"rag.content_extraction_engine", []string{"CONTENT_EXTRACTION_ENGINE", "Tika"}, `"tika"`},
		{"rag.file.allowed_extensions", []string{"RAG_ALLOWED_FILE_EXTENSIONS", " pdf, ,txt"}, `["pdf","txt"]`},
		{"rag.content_extraction.supported_media_mime_types", []string{"CONTENT_EXTRACTION_SUPPORTED_MEDIA_MIME_TYPES", ""}, `[]`},
		{"rag.youtube_loader_language", []string{"YOUTUBE_LOADER_LANGUAGE", "de, en"}, `["de"," en"]`},
		{"rag.mineru_params", []string{"MINERU_PARAMS", `{"a": 1}`}, `{"a":1}`},
		{"rag.mineru_params", []string{"MINERU_PARAMS", `{"a`}, `{}`},
		{"rag.mineru_params", []string{"MINERU_PARAMS", `[1]`}, `{}`},
		{"audio.realtime.input_params", []string{"AUDIO_REALTIME_INPUT_PARAMS", `[1]`}, `null`},
		{"image_generation.openai.params", []string{"IMAGES_OPENAI_PARAMS", `{"n":2}`}, `{"n":2}`},
		{"code_interpreter.jupyter.url", []string{"CODE_EXECUTION_JUPYTER_URL", "http://x"}, `"http://x"`},
		{"code_interpreter.jupyter.url", []string{"CODE_INTERPRETER_JUPYTER_URL", "", "CODE_EXECUTION_JUPYTER_URL", "http://x"}, `""`},
		{"chat.context_compaction.retention_percentage", []string{"CONTEXT_COMPACTION_RETENTION_PERCENTAGE", "90"}, `50`},
		{"ui.prompt_suggestions", []string{"DEFAULT_PROMPT_SUGGESTIONS", `[]`}, `[]`},
		{"ui.visibility", []string{"UI_VISIBILITY", `{"a":true}`}, `{"a":true}`},
		{"ui.visibility", []string{"UI_VISIBILITY", `{"a":1}`}, `{}`},
		{"evaluation.arena.models", []string{"EVALUATION_ARENA_MODELS", `[{"id":"a"}]`}, `[{"id":"a"}]`},
		{"evaluation.arena.models", []string{"EVALUATION_ARENA_MODELS", `["a"]`}, `[]`},
		{"ui.banners", []string{"WEBUI_BANNERS", `[{"id":"1","type":"info","content":"c","dismissible":true,"timestamp":5}]`},
			`[{"i18n":null,"id":"1","type":"info","title":null,"content":"c","dismissible":true,"timestamp":5}]`},
		{"ui.banners", []string{"WEBUI_BANNERS", `[{"id":"1"}]`}, `[]`},
		{"ui.default_user_role", []string{"DEFAULT_USER_ROLE", "user"}, `"user"`},

		{"openai.api_base_urls", []string{"OPENAI_API_BASE_URL", "http://a/v1/"}, `["http://a/v1"]`},
		{"openai.api_base_urls", []string{"OPENAI_API_BASE_URLS", "http://a/v1/; http://b;", "OPENAI_API_BASE_URL", "http://c"}, `["http://a/v1/","http://b","https://api.openai.com/v1"]`},
		{"openai.api_keys", []string{"OPENAI_API_KEY", "k"}, `["k"]`},
		{"openai.api_keys", []string{"OPENAI_API_KEYS", "a; b", "OPENAI_API_KEY", "k"}, `["a","b"]`},
		{"rag.openai.api_key", []string{"OPENAI_API_KEY", "k"}, `"k"`},
		{"rag.openai.api_key", []string{"OPENAI_API_KEY", "k", "OPENAI_API_BASE_URL", "http://a"}, `""`},
		{"audio.tts.openai.api_key", []string{"OPENAI_API_KEYS", "a;b", "OPENAI_API_BASE_URLS", "http://x;https://api.openai.com/v1"}, `"b"`},
		{"audio.tts.openai.api_key", []string{"AUDIO_TTS_OPENAI_API_KEY", "", "OPENAI_API_KEY", "k"}, `""`},
		{"images.edit.gemini.api_key", []string{"GEMINI_API_KEY", "g"}, `"g"`},

		{"ollama.base_urls", []string{"OLLAMA_BASE_URL", "http://o:1/"}, `["http://o:1"]`},
		{"ollama.base_urls", []string{"OLLAMA_API_BASE_URL", "http://o:2/api"}, `["http://o:2"]`},
		{"ollama.base_urls", []string{"OLLAMA_BASE_URLS", "http://a; http://b"}, `["http://a","http://b"]`},
		{"ollama.base_urls", []string{"ENV", "prod", "OLLAMA_BASE_URL", "/ollama"}, `["http://host.docker.internal:11434"]`},
		{"ollama.base_urls", []string{"ENV", "prod", "OLLAMA_BASE_URL", "/ollama", "USE_OLLAMA_DOCKER", "true"}, `["http://localhost:11434"]`},
		{"ollama.base_urls", []string{"ENV", "prod", "K8S_FLAG", "1"}, `["http://ollama-service.open-webui.svc.cluster.local:11434"]`},
		{"ollama.base_urls", []string{"OLLAMA_BASE_URL", "/ollama"}, `["/ollama"]`},
		{"rag.ollama.base_url", []string{"OLLAMA_BASE_URL", "http://o:1"}, `"http://o:1"`},

		{"oauth.allowed_roles", []string{"OAUTH_ALLOWED_ROLES", "a; b", "OAUTH_ROLES_SEPARATOR", ";"}, `["a","b"]`},
		{"oauth.allowed_roles", []string{"OAUTH_ROLES_SEPARATOR", ";"}, `["user","admin"]`},
		{"oauth.allowed_domains", []string{"OAUTH_ALLOWED_DOMAINS", "a.org, b.org"}, `["a.org","b.org"]`},
		{"oauth.group_default_share", []string{"OAUTH_GROUP_DEFAULT_SHARE", " Members"}, `"members"`},
		{"oauth.group_default_share", []string{"OAUTH_GROUP_DEFAULT_SHARE", "no"}, `false`},
		{"ldap.server.search_filter", []string{"LDAP_SEARCH_FILTERS", "(x)"}, `"(x)"`},
	}
	for _, tt := range tests {
		snap := read(t, vars(tt.env...))
		if got := snap.Raw(tt.key); string(got) != tt.want {
			t.Errorf("%s with %q: %s, want %s", tt.key, tt.env, got, tt.want)
		}
	}
}

func TestParsePermissions(t *testing.T) {
	snap := read(t, vars("USER_PERMISSIONS_CHAT_DELETE", "false", "USER_PERMISSIONS_FEATURES_USER_WEBHOOKS", "True"))
	var p map[string]map[string]bool
	if err := UserPermissions.Decode(snap, &p); err != nil {
		t.Fatal(err)
	}
	if p["chat"]["delete"] || !p["features"]["webhooks"] || !p["chat"]["edit"] || p["workspace"]["models"] {
		t.Errorf("%v", p)
	}
	n := 0
	for _, group := range p {
		n += len(group)
	}
	if n != len(permissionVars) {
		t.Errorf("%d permissions, %d variables", n, len(permissionVars))
	}
}

func TestParseNoAuth(t *testing.T) {
	p := parser{env: vars("ENABLE_SIGNUP", "true"), log: slog.New(slog.DiscardHandler)}
	snap, err := p.initial()
	if err != nil || UIEnableSignup.Get(snap) {
		t.Errorf("registration is open without sign-in (%v)", err)
	}
}

func TestParseBad(t *testing.T) {
	p := parser{env: vars("RAG_TOP_K", "many", "RAG_RELEVANCE_THRESHOLD", "inf", "EXA_MAX_CONTENT_LENGTH", "0"), log: slog.New(slog.DiscardHandler)}
	_, err := p.initial()
	for _, want := range []string{
		`RAG_TOP_K="many": want a whole number`, `RAG_RELEVANCE_THRESHOLD="inf": want a number`,
		`EXA_MAX_CONTENT_LENGTH="0": want a whole number of at least 1`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
	var bad *VarError
	if !errors.As(err, &bad) {
		t.Errorf("%T has no VarError", err)
	}
}
