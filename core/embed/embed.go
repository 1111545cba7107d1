// Package embed has models make vectors of texts, by which texts are found that mean the same: the engines of the
// settings rag.embedding_… that are servers. The reference's own engine, which runs in its process, is not among them:
// where the settings name it, or none, there are no embeddings, and what would use them does without.
package embed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// ErrNone says that the settings name no engine that can be used.
var ErrNone = errors.New("no embedding engine is set up")

// Use is what texts are embedded for: many models treat a question otherwise than what answers it.
type Use int

// The uses of texts.
const (
	Content Use = iota // a text that is to be found
	Query              // a text that is looked for
)

// Embedder makes vectors of texts.
type Embedder interface {
	// Model names the engine and the model that texts are embedded by now: vectors of different names cannot be
	// compared. "" means that there is none.
	Model() string
	// Embed gives a vector for each text, all of one length, in the name of a caller, who may be nil. It is ErrNone where
	// Model is "".
	Embed(ctx context.Context, use Use, texts []string, caller *llm.Caller) ([][]float32, error)
}

// Options are what Engines need.
type Options struct {
	Settings *config.Settings
	Client   *llm.Client
	Prefixes config.Embedding
	Timeout  time.Duration // of one request; 0 means the client's
}

// Engines is the Embedder that the settings describe; it follows them.
type Engines struct{ o Options }

var _ Embedder = (*Engines)(nil)

// New makes the Embedder.
func New(o Options) *Engines { return &Engines{o} }

// engine is what the settings say at one moment.
type engine struct {
	kind, model string
	url, key    string
	version     string // of Azure's API
	batch       int    // texts in a request
	atOnce      int    // requests
}

// maxAtOnce bounds the requests that are under way for one call where the settings do not.
const maxAtOnce = 64

func (e *Engines) current() *engine {
	s := e.o.Settings.Snapshot()
	g := &engine{kind: config.RAGEmbeddingEngine.Get(s), model: config.RAGEmbeddingModel.Get(s), batch: max(config.RAGEmbeddingBatchSize.Get(s), 1), atOnce: 1}
	switch g.kind {
	case "openai":
		g.url, g.key = config.RAGOpenAIAPIBaseURL.Get(s), config.RAGOpenAIAPIKey.Get(s)
	case "ollama":
		g.url, g.key = config.RAGOllamaBaseURL.Get(s), config.RAGOllamaAPIKey.Get(s)
	case "azure_openai":
		g.url, g.key, g.version = config.RAGAzureOpenAIBaseURL.Get(s), config.RAGAzureOpenAIAPIKey.Get(s), config.RAGAzureOpenAIAPIVersion.Get(s)
	default:
		return nil
	}
	if g.url = strings.TrimRight(g.url, "/"); g.url == "" || g.model == "" {
		return nil
	}
	if config.RAGEnableAsyncEmbedding.Get(s) {
		if g.atOnce = config.RAGEmbeddingConcurrentRequests.Get(s); g.atOnce <= 0 {
			g.atOnce = maxAtOnce
		}
	}
	return g
}

// Model implements Embedder.
func (e *Engines) Model() string {
	if g := e.current(); g != nil {
		return g.kind + "/" + g.model
	}
	return ""
}

// Embed implements Embedder: in batches, of which several are under way at once if the settings let them.
func (e *Engines) Embed(ctx context.Context, use Use, texts []string, caller *llm.Caller) ([][]float32, error) {
	g := e.current()
	if g == nil {
		return nil, ErrNone
	}
	if len(texts) == 0 {
		return nil, nil
	}
	prefix := e.o.Prefixes.ContentPrefix
	if use == Query {
		prefix = e.o.Prefixes.QueryPrefix
	}
	if e.o.Prefixes.PrefixField == "" && prefix != "" {
		texts = slices.Clone(texts)
		for i, t := range texts {
			texts[i] = prefix + t
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := make([][]float32, len(texts))
	slots := make(chan struct{}, g.atOnce)
	var running sync.WaitGroup
	for at := 0; at < len(texts) && ctx.Err() == nil; at += g.batch {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			part := texts[at:min(at+g.batch, len(texts))]
			vectors, err := e.request(ctx, g, part, prefix, caller)
			if err != nil {
				cancel(err)
				return
			}
			copy(out[at:], vectors)
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, check(out)
}

// check says what is wrong with vectors.
func check(list [][]float32) error {
	for _, v := range list {
		if len(v) == 0 || len(v) != len(list[0]) {
			return errors.New("the embedding server gave vectors of different lengths")
		}
		for _, x := range v {
			if math.IsInf(float64(x), 0) || math.IsNaN(float64(x)) {
				return errors.New("the embedding server gave a vector that is not of numbers")
			}
		}
	}
	return nil
}

// request embeds one batch.
func (e *Engines) request(ctx context.Context, g *engine, texts []string, prefix string, caller *llm.Caller) ([][]float32, error) {
	if e.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.o.Timeout)
		defer cancel()
	}
	out := llm.Outgoing{Method: http.MethodPost, URL: g.address(), Body: g.body(texts, e.o.Prefixes.PrefixField, prefix), Header: http.Header{"Content-Type": {"application/json"}}}
	if g.kind == "azure_openai" {
		out.Header.Set("Api-Key", g.key)
	} else if g.key != "" {
		out.Header.Set("Authorization", "Bearer "+g.key)
	}
	e.o.Client.Headers().UserInfo(out.Header, caller)
	resp, err := e.o.Client.Send(ctx, out)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return nil, llm.TransportError(ctx, err, llm.ServerConnectionError)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, llm.NewUpstreamError(resp.StatusCode, resp.Header, answer, false)
	}
	vectors, err := g.read(answer)
	if err != nil {
		return nil, fmt.Errorf("the embedding server's answer: %w", err)
	}
	if len(vectors) != len(texts) {
		return nil, fmt.Errorf("the embedding server gave %d vectors for %d texts", len(vectors), len(texts))
	}
	return vectors, nil
}

func (g *engine) address() string {
	switch g.kind {
	case "ollama":
		return g.url + "/api/embed"
	case "azure_openai":
		return g.url + "/openai/deployments/" + url.PathEscape(g.model) + "/embeddings?api-version=" + url.QueryEscape(g.version)
	}
	return g.url + "/embeddings"
}

func (g *engine) body(texts []string, field, prefix string) []byte {
	var b jsondoc.Builder
	b.Add("input", texts)
	if g.kind != "azure_openai" {
		b.Raw("model", jsondoc.Text(g.model))
	}
	if g.kind == "ollama" {
		b.Raw("truncate", jsondoc.Doc("true"))
	}
	if field != "" && prefix != "" {
		b.Raw(field, jsondoc.Text(prefix))
	}
	return b.Done()
}

func (g *engine) read(answer []byte) ([][]float32, error) {
	if g.kind == "ollama" {
		var a struct {
			Embeddings [][]float32 `json:"embeddings"`
		}
		err := jsondoc.Doc(answer).Decode(&a)
		return a.Embeddings, err
	}
	var a struct {
		Data []struct {
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	err := jsondoc.Doc(answer).Decode(&a)
	out := make([][]float32, len(a.Data))
	for i, d := range a.Data {
		out[i] = d.Embedding
	}
	return out, err
}
