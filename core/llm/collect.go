package llm

import (
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Buffered is a [Source] that knows whether its next event is here already, so that several can be written in one go.
type Buffered interface {
	Source
	More() bool
}

// Collect reads a stream to its end and makes one chat.completion of its chunks. It does not close the source.
func Collect(src Source) ([]byte, error) {
	var (
		c              collector
		dec            Decoder
		chunk          Chunk
		text, thoughts []byte
	)
	for {
		raw, err := src.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if dec.Decode(raw, &chunk) != nil {
			continue
		}
		c.head(raw)
		text, thoughts = append(text, chunk.Content...), append(thoughts, chunk.Reasoning...)
		c.calls(chunk.ToolCalls)
		if chunk.FinishReason != "" {
			c.finish = chunk.FinishReason
		}
		if chunk.Usage != nil {
			c.usage = slices.Clone(chunk.Usage)
		}
		if chunk.Error != nil {
			return slices.Clone(raw), nil
		}
	}
	return c.completion(string(text), string(thoughts)), nil
}

// collector is what Collect keeps beside the text.
type collector struct {
	id, model, finish string
	created           int64
	usage             jsontext.Value
	order             []int
	byIndex           map[int]*ToolCallDelta
}

// head takes id, model and time from the first chunk.
func (c *collector) head(raw []byte) {
	if c.id != "" {
		return
	}
	o, err := rawjson.Parse(raw)
	if err != nil {
		return
	}
	c.id, _ = rawjson.String(o.Get("id"))
	c.model, _ = rawjson.String(o.Get("model"))
	c.created, _ = rawjson.Int(o.Get("created"))
}

func (c *collector) calls(pieces []ToolCallDelta) {
	for _, p := range pieces {
		call := c.byIndex[p.Index]
		if call == nil {
			if c.byIndex == nil {
				c.byIndex = map[int]*ToolCallDelta{}
			}
			call = &ToolCallDelta{}
			c.byIndex[p.Index] = call
			c.order = append(c.order, p.Index)
		}
		if p.ID != "" {
			call.ID = p.ID
		}
		if p.Name != "" {
			call.Name = p.Name
		}
		call.Arguments += p.Arguments
	}
}

func (c *collector) completion(text, thoughts string) []byte {
	b := append([]byte(`{"id":`), rawjson.Quote(c.id)...)
	b = append(b, `,"object":"chat.completion","created":`...)
	b = strconv.AppendInt(b, c.created, 10)
	b = append(append(b, `,"model":`...), rawjson.Quote(c.model)...)
	b = append(append(b, `,"choices":[{"index":0,"message":{"role":"assistant","content":`...), rawjson.Quote(text)...)
	if thoughts != "" {
		b = append(append(b, `,"reasoning_content":`...), rawjson.Quote(thoughts)...)
	}
	for i, at := range c.order {
		call := c.byIndex[at]
		if i == 0 {
			b = append(b, `,"tool_calls":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(append(b, `{"id":`...), rawjson.Quote(call.ID)...)
		b = append(append(b, `,"type":"function","function":{"name":`...), rawjson.Quote(call.Name)...)
		b = append(append(b, `,"arguments":`...), rawjson.Quote(call.Arguments)...)
		b = append(b, `}}`...)
	}
	if len(c.order) > 0 {
		b = append(b, ']')
	}
	finish := c.finish
	if finish == "" {
		finish = "stop"
	}
	b = append(append(b, `},"finish_reason":`...), rawjson.Quote(finish)...)
	b = append(b, `}]`...)
	if c.usage != nil {
		b = append(append(b, `,"usage":`...), c.usage...)
	}
	return append(b, '}')
}
