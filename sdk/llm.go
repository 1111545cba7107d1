package sdk

import (
	"context"
	"encoding/json"
	"iter"
)

// LLM is a backend that serves models.
type LLM interface {
	// Models lists what it serves. It is asked again whenever somebody lists the models and the last list is older than
	// a second, so it should be quick.
	Models(ctx context.Context) ([]Model, error)
	// Chat answers. The loop over what it returns ends when the client goes; ctx ends then too. A [*Refusal] as error says
	// what the client is answered. A chunk with FinishReason comes last; where none does, "stop" is taken.
	Chat(ctx context.Context, req *ChatRequest) iter.Seq2[Chunk, error]
}

// Embedder is an [LLM] whose models can make embeddings.
type Embedder interface {
	// Embed gives a vector for each input.
	Embed(ctx context.Context, model string, input []string) ([][]float32, error)
}

// Model is a model that a plugin serves.
type Model struct {
	ID          string
	Name        string // "" means the ID
	Description string
	OwnedBy     string // "" means the plugin's id
	Tags        []string
	Created     int64 // Unix seconds
	// Info is a JSON object merged into the model's entry in lists; nil for none.
	Info json.RawMessage
}

// ChatRequest is a question to a model.
type ChatRequest struct {
	*Body        // OpenAI's chat completion request
	Model string // as Models named it
	// Stream says whether the client wants a stream. Chunks are given in either case.
	Stream bool
}

// Last is the text of the last message of a role, "" if there is none.
func (r *ChatRequest) Last(role string) string {
	ms := r.Messages()
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Role == role {
			return ms[i].Text()
		}
	}
	return ""
}

// Chunk is a piece of an answer.
type Chunk struct {
	Text         string
	Reasoning    string
	ToolCalls    []ToolCallDelta
	FinishReason string // "stop", "length", "tool_calls", … in the last one
	Usage        *Usage // the client gets it after everything else
	// Raw is a whole chat.completion.chunk. Models may give it in place of the other fields, which are not looked at
	// then. Filters and [Models.Chat] get it with what it says in the other fields; a filter changes those.
	Raw json.RawMessage
}

func (c *Chunk) empty() bool {
	return c.Text == "" && c.Reasoning == "" && len(c.ToolCalls) == 0 && c.FinishReason == "" && c.Raw == nil
}

// ToolCallDelta is a piece of a tool call that the model makes.
type ToolCallDelta struct {
	Index     int
	ID        string // in the first piece
	Name      string // in the first piece
	Arguments string // JSON, in pieces
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}
