package llm

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Chunk is one event of a streamed answer, in the OpenAI "chat.completion.chunk" form. The first choice is
// decoded; everything else stays in Raw. A Chunk and the slices in it are valid until the iterator moves on;
// its strings may be kept.
type Chunk struct {
	Raw jsontext.Value // the whole event as the provider sent it

	Choices      int             // number of choices in the event (0 for usage-only and error events)
	Role         string          // delta.role
	Content      string          // delta.content; a value that is no string is given as its JSON text
	Reasoning    string          // the first non-empty of delta.reasoning_content, .reasoning, .thinking
	ToolCalls    []ToolCallDelta // delta.tool_calls
	FinishReason string          // finish_reason, "" until the end

	Usage            jsontext.Value // usage object, nil if absent or null
	Timings          jsontext.Value // llama.cpp's timings object, which carries token counts
	Error            jsontext.Value // top-level error, nil if absent or falsy
	Images           jsontext.Value // delta.images
	Annotations      jsontext.Value // delta.annotations (url citations)
	ReasoningDetails jsontext.Value // delta.reasoning_details

	Type            string         // top-level type: "response.…" and "error" mark events of the Responses API
	Event           jsontext.Value // top-level event: a message for the user's socket
	SelectedModelID string         // top-level selected_model_id: the model an arena picked

	// More says that a further event has arrived already: what is made of this one may wait for it, so that a
	// reader who is behind does less work for each event.
	More bool

	Plain bool // the line had no "data:" prefix (some servers write bare JSON errors into a stream)
}

// ToolCallDelta is one piece of a tool call. Pieces with the same Index belong together: ID and Name come
// first, Arguments are to be concatenated.
type ToolCallDelta struct {
	Index        int
	HasIndex     bool // false if the provider left the index out or null
	ID           string
	Name         string
	Arguments    string // text to append; a value that is no string is given as its JSON text
	HasArguments bool   // arguments were present and not null
	Raw          jsontext.Value
}

// IsResponses reports whether the event belongs to the Responses API.
func (c *Chunk) IsResponses() bool {
	return c.Type == "error" || len(c.Type) > 9 && c.Type[:9] == "response."
}

var errNotObject = errors.New("llm: event is not a JSON object")

// Decoder decodes events and completions into Chunks, reusing its buffers. It is not safe for concurrent use.
type Decoder struct {
	src bytes.Buffer
	dec jsontext.Decoder
	raw []byte
}

// jsonOptions accept what Python's decoder accepts: duplicate names and broken UTF-8 come from real providers.
var jsonOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// Decode decodes the JSON object raw into c, replacing all of c. Both streamed events (choices[].delta) and
// whole completions (choices[].message) are understood. c refers to raw afterwards. An error means that raw is
// not a JSON object.
func (d *Decoder) Decode(raw []byte, c *Chunk) error {
	*c = Chunk{Raw: raw, ToolCalls: c.ToolCalls[:0]}
	d.raw = raw
	d.src = *bytes.NewBuffer(raw)
	d.dec.Reset(&d.src, jsonOptions...)
	if d.dec.PeekKind() != '{' {
		if _, err := d.dec.ReadValue(); err != nil {
			return err
		}
		return errNotObject
	}
	err := d.members(func(name []byte) error {
		switch string(name) {
		case `"choices"`:
			return d.choices(c)
		case `"usage"`:
			return d.object(&c.Usage)
		case `"timings"`:
			return d.object(&c.Timings)
		case `"error"`:
			return d.truthy(&c.Error)
		case `"event"`:
			return d.truthy(&c.Event)
		case `"type"`:
			return d.text(&c.Type)
		case `"selected_model_id"`:
			return d.text(&c.SelectedModelID)
		}
		return d.dec.SkipValue()
	})
	if err != nil {
		return err
	}
	return d.end()
}

// end checks that nothing but white space follows the value.
func (d *Decoder) end() error {
	if len(bytes.TrimSpace(d.raw[d.dec.InputOffset():])) > 0 {
		return errNotObject
	}
	return nil
}

// members reads the object that comes next and calls f with each quoted name; f reads the value.
func (d *Decoder) members(f func(name []byte) error) error {
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for {
		switch d.dec.PeekKind() {
		case '}':
			_, err := d.dec.ReadToken()
			return err
		case '"':
		default:
			_, err := d.dec.ReadToken()
			if err == nil {
				err = errNotObject
			}
			return err
		}
		name, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		if err := f(name); err != nil {
			return err
		}
	}
}

func (d *Decoder) choices(c *Chunk) error {
	if d.dec.PeekKind() != '[' {
		return d.dec.SkipValue()
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != ']' {
		c.Choices++
		if c.Choices > 1 || d.dec.PeekKind() != '{' {
			if err := d.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		err := d.members(func(name []byte) error {
			switch string(name) {
			case `"delta"`, `"message"`:
				return d.delta(c)
			case `"finish_reason"`:
				return d.text(&c.FinishReason)
			}
			return d.dec.SkipValue()
		})
		if err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

func (d *Decoder) delta(c *Chunk) error {
	if d.dec.PeekKind() != '{' {
		return d.dec.SkipValue()
	}
	var reasoning, thinking string
	err := d.members(func(name []byte) error {
		switch string(name) {
		case `"role"`:
			return d.text(&c.Role)
		case `"content"`:
			return d.text(&c.Content)
		case `"reasoning_content"`:
			return d.text(&c.Reasoning)
		case `"reasoning"`:
			return d.text(&reasoning)
		case `"thinking"`:
			return d.text(&thinking)
		case `"tool_calls"`:
			return d.toolCalls(c)
		case `"images"`:
			return d.truthy(&c.Images)
		case `"annotations"`:
			return d.truthy(&c.Annotations)
		case `"reasoning_details"`:
			return d.truthy(&c.ReasoningDetails)
		}
		return d.dec.SkipValue()
	})
	if c.Reasoning == "" {
		c.Reasoning = reasoning
	}
	if c.Reasoning == "" {
		c.Reasoning = thinking
	}
	return err
}

func (d *Decoder) toolCalls(c *Chunk) error {
	v, err := d.value()
	if err != nil {
		return err
	}
	calls, err := rawjson.Elems(v)
	if err != nil {
		return nil // null or an odd shape: no tool call
	}
	for _, raw := range calls {
		t := ToolCallDelta{Raw: raw}
		if rawjson.Each(raw, t.member) == nil {
			c.ToolCalls = append(c.ToolCalls, t)
		}
	}
	return nil
}

func (t *ToolCallDelta) member(name []byte, v jsontext.Value) {
	switch string(name) {
	case `"index"`:
		n, ok := rawjson.Int(v)
		t.Index, t.HasIndex = int(n), ok
	case `"id"`:
		t.ID, _ = rawjson.String(v)
	case `"function"`:
		_ = rawjson.Each(v, func(name []byte, v jsontext.Value) { // null: no function yet
			switch string(name) {
			case `"name"`:
				t.Name, _ = rawjson.String(v)
			case `"arguments"`:
				if t.HasArguments = !rawjson.IsNull(v); t.HasArguments {
					t.Arguments = rawjson.Text(v)
				}
			}
		})
	}
}

// text reads a string; a truthy value of another kind counts as its JSON text, a falsy one as nothing.
func (d *Decoder) text(s *string) error {
	v, err := d.dec.ReadValue()
	if err != nil || !rawjson.Truthy(v) {
		return err
	}
	*s = rawjson.Text(v)
	return nil
}

func (d *Decoder) object(dst *jsontext.Value) error {
	v, err := d.value()
	if err == nil && v.Kind() == '{' && rawjson.Truthy(v) {
		*dst = v
	}
	return err
}

func (d *Decoder) truthy(dst *jsontext.Value) error {
	v, err := d.value()
	if err == nil && rawjson.Truthy(v) {
		*dst = v
	}
	return err
}

// value reads a value as a part of raw, which outlives the decoder's next step.
func (d *Decoder) value() (jsontext.Value, error) {
	v, err := d.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(d.dec.InputOffset())
	return d.raw[end-len(v) : end : end], nil
}
