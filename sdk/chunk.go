package sdk

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
)

// chunkEncoder makes OpenAI's chat.completion.chunk objects.
type chunkEncoder struct {
	head     []byte // up to the choices
	role     bool   // whether the next choice names the role, as the first one of an answer does
	finished bool
}

func newChunkEncoder(id, model string, created int64) *chunkEncoder {
	h := appendString([]byte(`{"id":`), id)
	h = append(h, `,"object":"chat.completion.chunk","created":`...)
	h = strconv.AppendInt(h, created, 10)
	h = appendString(append(h, `,"model":`...), model)
	return &chunkEncoder{head: append(h, `,"choices":[`...)}
}

func (e *chunkEncoder) encode(c *Chunk) []byte {
	if c.Raw != nil {
		e.role = false
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
	field := func(name string) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), `":`...)
	}
	if e.role {
		e.role = false
		field("role")
		b = append(b, `"assistant"`...)
	}
	if c.Reasoning != "" {
		field("reasoning_content")
		b = appendString(b, c.Reasoning)
	}
	if c.Text != "" {
		field("content")
		b = appendString(b, c.Text)
	}
	if len(c.ToolCalls) > 0 {
		field("tool_calls")
		b = append(b, toolCallsJSON(c.ToolCalls)...)
	}
	b = append(b, `},"finish_reason":`...)
	if c.FinishReason == "" {
		return append(b, `null}`...)
	}
	e.finished = true
	return append(appendString(b, c.FinishReason), '}')
}

func toolCallsJSON(calls []ToolCallDelta) json.RawMessage {
	type function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	}
	type call struct {
		Index    int      `json:"index"`
		ID       string   `json:"id,omitempty"`
		Type     string   `json:"type,omitempty"`
		Function function `json:"function"`
	}
	out := make([]call, 0, len(calls))
	for _, t := range calls {
		c := call{Index: t.Index, ID: t.ID, Function: function{t.Name, t.Arguments}}
		if t.ID != "" {
			c.Type = "function"
		}
		out = append(out, c)
	}
	return mustJSON(out)
}

// MarshalJSON gives the chat.completion.chunk: Raw, or one without id and model that says what the fields do.
func (c Chunk) MarshalJSON() ([]byte, error) { return newChunkEncoder("", "", 0).encode(&c), nil }

// UnmarshalJSON reads a chat.completion.chunk, which Raw keeps.
func (c *Chunk) UnmarshalJSON(raw []byte) (err error) {
	*c, err = decodeChunk(slices.Clone(raw))
	return err
}

// decodeChunk reads a chunk of OpenAI's form. With an error, the chunk has nothing but its text.
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
		return Chunk{Raw: raw}, err
	}
	c := Chunk{Usage: v.Usage, Raw: raw}
	if len(v.Choices) == 0 {
		return c, nil
	}
	ch := v.Choices[0]
	c.Text, c.FinishReason = ch.Delta.Content+ch.Message.Content, ch.FinishReason
	c.Reasoning = cmp.Or(ch.Delta.ReasoningContent, ch.Delta.Reasoning) // some servers send both
	for _, t := range ch.Delta.ToolCalls {
		c.ToolCalls = append(c.ToolCalls, ToolCallDelta{Index: t.Index, ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments})
	}
	return c, nil
}

// through passes one chunk through a filter. What it leaves as it is keeps its text, and of what it changes the members
// that a [Chunk] does not name are kept.
func through(filter StreamFilter, raw []byte) ([][]byte, error) {
	was, err := decodeChunk(raw)
	if err != nil {
		return [][]byte{raw}, nil // not a chunk to judge
	}
	given := was
	given.ToolCalls = slices.Clone(was.ToolCalls) // the filter may write to them
	if was.Usage != nil {
		u := *was.Usage
		given.Usage = &u
	}
	next, err := filter.Chunk(given)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	var enc *chunkEncoder
	for i := range next {
		c := &next[i]
		switch {
		case c.Raw != nil && (string(c.Raw) != string(raw) || c.equal(&was)):
			out = append(out, c.Raw)
			continue
		case c.Raw != nil:
			if text, ok := c.patch(&was); ok {
				out = append(out, text)
				continue
			}
		case c.empty() && c.Usage == nil:
			continue
		}
		if enc == nil {
			enc = encoderLike(raw)
		}
		c.Raw = nil
		out = append(out, enc.encode(c))
	}
	return out, nil
}

// encoderLike makes chunks of the same answer as a chunk's.
func encoderLike(raw []byte) *chunkEncoder {
	var head struct {
		ID      string `json:"id"`
		Model   string `json:"model"`
		Created int64  `json:"created"`
	}
	_ = json.Unmarshal(raw, &head) // what is missing stays empty
	return newChunkEncoder(head.ID, head.Model, head.Created)
}

// equal says whether two chunks say the same.
func (c *Chunk) equal(o *Chunk) bool {
	return c.Text == o.Text && c.Reasoning == o.Reasoning && c.FinishReason == o.FinishReason && slices.Equal(c.ToolCalls, o.ToolCalls) && c.sameUsage(o)
}

func (c *Chunk) sameUsage(o *Chunk) bool {
	return (c.Usage == nil) == (o.Usage == nil) && (c.Usage == nil || *c.Usage == *o.Usage)
}

// patch is the chunk's text with what differs from was; false if the text has no place for it.
func (c *Chunk) patch(was *Chunk) ([]byte, bool) {
	top, err := parseObject(c.Raw)
	if err != nil {
		return nil, false
	}
	list, _ := top.get("choices")
	var choices []json.RawMessage
	if json.Unmarshal(list, &choices) != nil || len(choices) == 0 {
		return nil, false
	}
	choice, err := parseObject(choices[0])
	if err != nil {
		return nil, false
	}
	inner, _ := choice.get("delta")
	delta, err := parseObject(inner)
	if err != nil {
		return nil, false
	}
	if c.Text != was.Text {
		delta = delta.with("content", mustJSON(c.Text))
	}
	if c.Reasoning != was.Reasoning {
		delta = withReasoning(delta, c.Reasoning)
	}
	if len(c.ToolCalls) == 0 {
		delta = delta.without("tool_calls")
	} else if !slices.Equal(c.ToolCalls, was.ToolCalls) {
		delta = delta.with("tool_calls", toolCallsJSON(c.ToolCalls))
	}
	choice = choice.with("delta", delta.append(nil))
	switch {
	case c.FinishReason == was.FinishReason:
	case c.FinishReason == "":
		choice = choice.with("finish_reason", json.RawMessage("null"))
	default:
		choice = choice.with("finish_reason", mustJSON(c.FinishReason))
	}
	choices[0] = choice.append(nil)
	top = top.with("choices", mustJSON(choices))
	switch {
	case c.sameUsage(was):
	case c.Usage == nil:
		top = top.without("usage")
	default:
		top = top.with("usage", mustJSON(c.Usage))
	}
	return top.append(nil), true
}

// withReasoning replaces the reasoning under the names that it has.
func withReasoning(delta object, text string) object {
	raw := mustJSON(text)
	_, short := delta.get("reasoning")
	if short {
		delta = delta.with("reasoning", raw)
	}
	if _, long := delta.get("reasoning_content"); long || !short {
		delta = delta.with("reasoning_content", raw)
	}
	return delta
}
