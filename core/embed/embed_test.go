package embed

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store/storetest"
)

// bench is engines whose server answers with vectors of a text's length.
type bench struct {
	*Engines
	t    *testing.T
	mu   sync.Mutex
	seen []string // path, headers and body of each request
	most atomic.Int32
	open sync.Once
	now  atomic.Int32
	want int32         // how many requests wait for each other
	gate chan struct{} // closed once they are there
	fail string        // an answer in place of vectors
	code int
}

func newBench(t *testing.T, prefixes config.Embedding, settings config.Changes) *bench {
	t.Helper()
	b := &bench{t: t}
	srv := httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(srv.Close)
	env, err := config.ReadEnv(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	s, err := config.Load(context.Background(), storetest.SQLite(t), env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	changes := config.Changes{
		"rag.openai.api_base_url": srv.URL + "/v1", "rag.openai.api_key": "k1", "rag.ollama.base_url": srv.URL + "/", "rag.ollama.api_key": "",
		"rag.azure_openai.base_url": srv.URL, "rag.azure_openai.api_key": "k3", "rag.azure_openai.api_version": "2024-02-01", "rag.embedding_model": "e",
	}
	for k, v := range settings {
		changes[k] = v
	}
	if err := s.Set(context.Background(), changes); err != nil {
		t.Fatal(err)
	}
	client := llm.NewClient(llm.ClientOptions{Headers: llm.HeaderOptions{ForwardUserInfo: true, UserName: "X-Name", UserID: "X-Id", UserEmail: "X-Mail", UserRole: "X-Role"}})
	b.Engines = New(Options{Settings: s, Client: client, Prefixes: prefixes})
	return b
}

func (b *bench) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.seen = append(b.seen, r.URL.String()+" "+r.Header.Get("Authorization")+r.Header.Get("Api-Key")+" "+r.Header.Get("X-Id")+" "+string(body))
	b.mu.Unlock()
	if n := b.now.Add(1); n > b.most.Load() {
		b.most.Store(n)
	}
	defer b.now.Add(-1)
	if b.want > 0 {
		if b.now.Load() == b.want {
			b.open.Do(func() { close(b.gate) })
		}
		<-b.gate
	}
	w.Header().Set("Content-Type", "application/json")
	if b.fail != "" {
		w.WriteHeader(b.code)
		_, _ = io.WriteString(w, b.fail)
		return
	}
	var data, plain []jsondoc.Doc
	for _, text := range jsondoc.Doc(body).Get("input").Texts() {
		v := jsondoc.Of([]float32{float32(len(text)), 1})
		data, plain = append(data, jsondoc.Object("embedding", v)), append(plain, v)
	}
	_, _ = w.Write(jsondoc.Object("data", jsondoc.Array(data...)).Set(jsondoc.Array(plain...), "embeddings"))
}

func TestEngines(t *testing.T) {
	for name, c := range map[string]struct {
		settings config.Changes
		prefixes config.Embedding
		use      Use
		model    string
		want     string
	}{
		"openai": {config.Changes{"rag.embedding_engine": "openai", "rag.embedding_batch_size": 8}, config.Embedding{}, Content, "openai/e",
			`/v1/embeddings Bearer k1 u1 {"input":["ab","c"],"model":"e"}`},
		"ollama": {config.Changes{"rag.embedding_engine": "ollama", "rag.embedding_batch_size": 8}, config.Embedding{}, Content, "ollama/e",
			`/api/embed  u1 {"input":["ab","c"],"model":"e","truncate":true}`},
		"azure": {config.Changes{"rag.embedding_engine": "azure_openai", "rag.embedding_batch_size": 8}, config.Embedding{}, Content, "azure_openai/e",
			`/openai/deployments/e/embeddings?api-version=2024-02-01 k3 u1 {"input":["ab","c"]}`},
		"prefix of content": {config.Changes{"rag.embedding_engine": "openai", "rag.embedding_batch_size": 8}, config.Embedding{QueryPrefix: "q:", ContentPrefix: "c:"}, Content, "openai/e",
			`/v1/embeddings Bearer k1 u1 {"input":["c:ab","c:c"],"model":"e"}`},
		"prefix of queries": {config.Changes{"rag.embedding_engine": "openai", "rag.embedding_batch_size": 8}, config.Embedding{QueryPrefix: "q:", ContentPrefix: "c:"}, Query, "openai/e",
			`/v1/embeddings Bearer k1 u1 {"input":["q:ab","q:c"],"model":"e"}`},
		"prefix in a field": {config.Changes{"rag.embedding_engine": "openai", "rag.embedding_batch_size": 8}, config.Embedding{QueryPrefix: "q:", PrefixField: "task"}, Query, "openai/e",
			`/v1/embeddings Bearer k1 u1 {"input":["ab","c"],"model":"e","task":"q:"}`},
	} {
		b := newBench(t, c.prefixes, c.settings)
		vectors, err := b.Embed(context.Background(), c.use, []string{"ab", "c"}, &llm.Caller{ID: "u1"})
		if err != nil || len(vectors) != 2 || vectors[0][0] <= vectors[1][0] || b.Model() != c.model || !slices.Equal(b.seen, []string{c.want}) {
			t.Errorf("%s: %v %v %s\n%v", name, vectors, err, b.Model(), b.seen)
		}
	}
}

func TestNoEngine(t *testing.T) {
	for name, settings := range map[string]config.Changes{
		"the reference's own": {"rag.embedding_engine": ""}, "unknown": {"rag.embedding_engine": "abacus"},
		"no address": {"rag.embedding_engine": "openai", "rag.openai.api_base_url": ""}, "no model": {"rag.embedding_engine": "openai", "rag.embedding_model": ""},
	} {
		b := newBench(t, config.Embedding{}, settings)
		if _, err := b.Embed(context.Background(), Query, []string{"x"}, nil); !errors.Is(err, ErrNone) || b.Model() != "" {
			t.Errorf("%s: %v %q", name, err, b.Model())
		}
	}
}

func TestBatches(t *testing.T) {
	texts := []string{"a", "bb", "ccc", "dddd", "eeeee"}
	for name, c := range map[string]struct {
		settings config.Changes
		requests int
		most     int32 // requests at once; 0: not looked at
	}{
		"one by one":   {config.Changes{"rag.embedding_batch_size": 2, "rag.enable_async_embedding": false}, 3, 1},
		"two at once":  {config.Changes{"rag.embedding_batch_size": 1, "rag.embedding_concurrent_requests": 2}, 5, 2},
		"all at once":  {config.Changes{"rag.embedding_batch_size": 1, "rag.embedding_concurrent_requests": 0}, 5, 5},
		"no such size": {config.Changes{"rag.embedding_batch_size": 0}, 5, 0},
	} {
		c.settings["rag.embedding_engine"] = "openai"
		b := newBench(t, config.Embedding{}, c.settings)
		b.want, b.gate = c.most, make(chan struct{})
		vectors, err := b.Embed(context.Background(), Content, texts, nil)
		if err != nil || len(b.seen) != c.requests || c.most > 0 && b.most.Load() > c.most {
			t.Errorf("%s: %v, %d requests, %d at once", name, err, len(b.seen), b.most.Load())
		}
		for i, v := range vectors {
			if v[0] != float32(len(texts[i])) {
				t.Errorf("%s: %v", name, vectors)
			}
		}
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		code         int
		answer, want string
	}{
		"refused":           {401, `{"error":{"message":"bad key"}}`, "bad key"},
		"no JSON":           {200, `<html>`, "answer"},
		"too few":           {200, `{"data":[]}`, "0 vectors for 1 texts"},
		"no vector":         {200, `{"data":[{"embedding":[]}]}`, "lengths"},
		"not of numbers":    {200, `{"data":[{"embedding":["x"]}]}`, "answer"},
		"something else":    {200, `{"hello":1}`, "0 vectors"},
		"broken in the end": {200, `{"data":[{"embedding":[1`, "answer"},
	} {
		b := newBench(t, config.Embedding{}, config.Changes{"rag.embedding_engine": "openai"})
		b.code, b.fail = c.code, c.answer
		if _, err := b.Embed(context.Background(), Content, []string{"x"}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBench(t, config.Embedding{}, config.Changes{"rag.embedding_engine": "openai"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Embed(ctx, Content, []string{"x", "y"}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if v, err := b.Embed(context.Background(), Content, nil, nil); err != nil || v != nil {
		t.Errorf("%v %v", v, err)
	}
}
