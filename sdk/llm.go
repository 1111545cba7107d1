package sdk

import (
	"context"
	"encoding/json"
	"iter"
	"strconv"
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
	Usage        *Usage
	// Raw is a whole chat.completion.chunk; the other fields are not looked at then.
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

// chunkEncoder makes OpenAI's chat.completion.chunk objects.
type chunkEncoder struct {
	head     []byte // up to the choices
	finished bool
}

func newChunkEncoder(id, model string, created int64) *chunkEncoder {
	h := append([]byte(`{"id":`), mustJSON(id)...)
	h = append(h, `,"object":"chat.completion.chunk","created":`...)
	h = strconv.AppendInt(h, created, 10)
	h = append(h, `,"model":`...)
	h = append(h, mustJSON(model)...)
	return &chunkEncoder{head: append(h, `,"choices":[`...)}
}

func (e *chunkEncoder) encode(c *Chunk) []byte {
	if c.Raw != nil {
		var r struct {
			Choices []struct {
				FinishReason *string `json:"finish_reason"`
			} `json:"choices"`
		}
		if json.Unmarshal(c.Raw, &r) == nil && len(r.Choices) > 0 && r.Choices[0].FinishReason != nil {
			e.finished = true
		}
		return c.Raw
	}
	b := make([]byte, 0, len(e.head)+len(c.Text)+len(c.Reasoning)+96)
	b = append(b, e.head...)
	if !c.empty() {
		b = e.choice(b, c)
	}
	b = append(b, ']')
	if c.Usage != nil {
		b = append(append(b, `,"usage":`...), mustJSON(c.Usage)...)
	}
	return append(b, '}')
}

func (e *chunkEncoder) choice(b []byte, c *Chunk) []byte {
	b = append(b, `{"index":0,"delta":{`...)
	sep := false
	field := func(name string, v any) {
		if sep {
			b = append(b, ',')
		}
		sep = true
		b = append(append(append(b, '"'), name...), `":`...)
		b = append(b, mustJSON(v)...)
	}
	if c.Reasoning != "" {
		field("reasoning_content", c.Reasoning)
	}
	if c.Text != "" {
		field("content", c.Text)
	}
	if len(c.ToolCalls) > 0 {
		field("tool_calls", toolCallsJSON(c.ToolCalls))
	}
	b = append(b, `},"finish_reason":`...)
	if c.FinishReason == "" {
		return append(b, `null}`...)
	}
	e.finished = true
	return append(append(b, mustJSON(c.FinishReason)...), '}')
}

func toolCallsJSON(calls []ToolCallDelta) []map[string]any {
	out := make([]map[string]any, 0, len(calls))
	for _, t := range calls {
		f := map[string]any{"arguments": t.Arguments}
		m := map[string]any{"index": t.Index, "function": f}
		if t.Name != "" {
			f["name"] = t.Name
		}
		if t.ID != "" {
			m["id"], m["type"] = t.ID, "function"
		}
		out = append(out, m)
	}
	return out
}

// decodeChunk reads a chunk of OpenAI's form.
func decodeChunk(raw []byte) (Chunk, error) {
	var v struct {
		Choices []struct {
			Delta, Message struct {
				Content          string `json:"content"`
				Reasoning        string `json:"reasoning"`
				ReasoningContent string `json:"reasoning_content"`
				ToolCalls        []struct {
					Index    int    `json:"index"`
					ID       string `json:"id"`
					Function struct{ Name, Arguments string }
				} `json:"tool_calls"`
			}
			FinishReason string `json:"finish_reason"`
		}
		Usage *Usage
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return Chunk{}, err
	}
	c := Chunk{Usage: v.Usage, Raw: raw}
	if len(v.Choices) == 0 {
		return c, nil
	}
	ch := v.Choices[0]
	c.Text, c.FinishReason = ch.Delta.Content+ch.Message.Content, ch.FinishReason
	c.Reasoning = ch.Delta.ReasoningContent + ch.Delta.Reasoning
	for _, t := range ch.Delta.ToolCalls {
		c.ToolCalls = append(c.ToolCalls, ToolCallDelta{Index: t.Index, ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments})
	}
	return c, nil
}
