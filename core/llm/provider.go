package llm

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// Provider serves models: one connection to a server, or a plugin. Implementations are safe
// for concurrent use.
type Provider interface {
	// ID names the provider in logs and metrics, e.g. "openai/0" or "plugin/echo". It is constant.
	ID() string
	// Models asks for the models it serves. caller may be nil (background refresh).
	Models(ctx context.Context, caller *Caller) ([]Model, error)
	// Chat runs one chat completion. The answer is in OpenAI form whatever the provider speaks. Cancelling ctx
	// ends the call, also while the answer is streaming. Errors: *UpstreamError, ErrBadRequest, ctx.Err().
	Chat(ctx context.Context, req *Request) (*Response, error)
}

// Connected is implemented by providers that are connections to a server, for routes that pass requests on.
type Connected interface {
	Provider
	// Connection returns the settings of the connection.
	Connection() Connection
	// Do sends a request to the server below the connection's URL, with the connection's headers. path starts
	// with a slash and may have a query. The caller closes the answer's body. Answers of any status are
	// returned as they are.
	Do(ctx context.Context, method, path string, body []byte, stream bool, caller *Caller) (*http.Response, error)
}

// Embedder is implemented by providers that are no connections and whose models can make embeddings.
type Embedder interface {
	Provider
	// Embed answers an embeddings request in OpenAI's form, a valid JSON object, in that form. model is the provider's
	// own name of the model. Errors: as Chat's.
	Embed(ctx context.Context, model string, request jsontext.Value, caller *Caller) (jsontext.Value, error)
}

// PipelinesServer is implemented by connections whose server may be a pipelines server of Open WebUI.
type PipelinesServer interface {
	// Pipelines reports whether the server's last model list said so.
	Pipelines() bool
}

// Request is one chat completion request.
type Request struct {
	Model  string         // the provider's own name of the model; it replaces "model" in Body
	Body   jsontext.Value // OpenAI chat completion request, a valid JSON object; not changed
	Stream bool           // ask for a stream; it replaces a differing "stream" in Body
	Params jsontext.Value // params of the workspace model, nil if none; Body's own values win
	Caller *Caller        // who asks; may be nil

	Continue bool // the last assistant message of Body is to be continued, not followed (llama.cpp)
	Pipeline bool // the model is a pipeline: the caller is described in "user"
}

// Caller is who a request to a provider is made for; it fills headers, it authorises nothing.
type Caller struct {
	ID, Name, Email, Role string
	AuthType              string // how the caller signed in: "jwt" or "api_key"
	Token                 string // the caller's own token, sent by connections with auth_type "session"
	UserAgent             string
	Cookies               []*http.Cookie // sent by connections with forward_cookies
	Meta                  CallMeta
	// Groups fetches the caller's groups (with inherited ones). It is called only if a custom header asks for
	// them. It may be nil.
	Groups func(context.Context) ([]Group, error)
}

// Group is a group of the caller's, for custom headers.
type Group struct{ ID, Name string }

// CallMeta says what a call belongs to, for custom headers. Every field may be empty.
type CallMeta struct {
	ChatID, MessageID                  string
	UserMessageID, UserMessageParentID string
	FileID, FileName, FileContentType  string
	Task                               string // "title_generation" and the like
	ModelID                            string // the id the caller asked for
}

// Model is one entry of a model list. Its JSON values are shared and must not be changed.
type Model struct {
	ID             string // as clients see it, with the connection's prefix
	Name           string
	Upstream       string         // as its provider knows it
	OwnedBy        string         // "openai", "ollama" or a plugin's choice
	ConnectionType string         // "external" or "local"
	Provider       string         // "provider" of the connection's config ("llama.cpp", "lmstudio", "azure", …), often ""
	Tags           jsontext.Value // tags of the connection, nil if none
	Entry          jsontext.Value // the object that GET /api/models is built from
	Native         jsontext.Value // the object of the provider's own list (GET /openai/models, /ollama/api/tags)
	Indexes        []int          // the connections of its kind that serve it, ascending
	Pipeline       bool           // the model is a pipeline of an Open WebUI pipelines server
	Expires        int64          // Ollama: Unix time in seconds when it leaves memory, 0 if not loaded
}
