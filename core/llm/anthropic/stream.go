package anthropic

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// TextFailed is what a client is told of a stream that broke off.
const TextFailed = "Chat completion stream failed"

// Stream turns the chunks of a streamed chat completion into the events of a Messages stream: Start, then Chunk for
// each until one says that it is over, then End. Each appends events as server-sent events to dst and returns it.
//
// A content block is open until something of another kind comes; blocks are numbered in the order of their start. Tool
// calls are told apart by their ids, since some providers give all the same index.
type Stream struct {
	model string
	input int64
	index int // of the block that is open, or of the next
	open  block
	tools []*tool
	slots map[int]*tool // by OpenAI's index, which pieces without an id go by
	usage usage
	stop  string
	talks bool // a tool call has begun: what text follows has no place
	fault string
}

type block uint8

const (
	noBlock block = iota
	thinkingBlock
	textBlock
)

// tool is a tool call that is being received.
type tool struct {
	id, name         string
	arguments        strings.Builder
	index            int
	started, stopped bool
}

// NewStream begins a conversion. input is the number of the request's tokens, negative where it is unknown.
func NewStream(model string, input int64) *Stream {
	s := &Stream{model: model, input: input, stop: "end_turn"}
	if input >= 0 {
		s.usage.input = number(input)
	}
	return s
}

// Start announces the message.
func (s *Stream) Start(dst []byte) []byte {
	dst = event(dst, "message_start", `,"message":{"id":`)
	dst = jsondoc.AppendString(dst, newID("msg_"))
	dst = append(dst, `,"type":"message","role":"assistant","content":[],"model":`...)
	dst = jsondoc.AppendString(dst, s.model)
	dst = append(dst, `,"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":`...)
	dst = strconv.AppendInt(dst, max(s.input, 0), 10)
	return append(dst, ",\"output_tokens\":0}}}\n\n"...)
}

// Chunk converts one chunk. more is false where it reports an error: nothing of what follows counts then.
func (s *Stream) Chunk(dst []byte, c *llm.Chunk) (out []byte, more bool) {
	if c.Error != nil {
		s.fault = faultText(jsondoc.Doc(c.Error))
		return dst, false
	}
	if c.Usage != nil {
		s.usage.merge(bytes.Clone(c.Usage)) // the chunk's memory is used again
	}
	if c.Choices == 0 {
		return dst, true
	}
	if r := reasoning(c); r != "" && s.open != textBlock && !s.talks {
		dst = s.enter(dst, thinkingBlock, `{"type":"thinking","thinking":""}`)
		dst = s.delta(dst, s.index, `"thinking_delta","thinking":`, r)
	}
	if c.Content != "" && !s.talks {
		dst = s.enter(dst, textBlock, `{"type":"text","text":""}`)
		dst = s.delta(dst, s.index, `"text_delta","text":`, c.Content)
	}
	if len(c.ToolCalls) > 0 {
		dst = s.leave(dst)
		for i := range c.ToolCalls {
			dst = s.toolCall(dst, &c.ToolCalls[i])
		}
	}
	if c.FinishReason != "" {
		s.stop = stopReason(c.FinishReason)
	}
	return dst, true
}

// End closes what is open and ends the message, or reports why there is no end: the error that a chunk carried, or
// err.
func (s *Stream) End(dst []byte, err error) []byte {
	if s.fault == "" && err != nil {
		s.fault = TextFailed
	}
	if s.fault != "" {
		dst = event(dst, "error", `,"error":{"type":"api_error","message":`)
		return append(jsondoc.AppendString(dst, s.fault), "}}\n\n"...)
	}
	dst = s.leave(dst)
	for _, t := range s.tools {
		if t.started && !t.stopped {
			dst = blockStop(dst, t.index)
		}
	}
	var tokens jsondoc.Builder
	tokens.Raw("output_tokens", s.usage.output.Or(jsondoc.Doc("0")))
	if s.usage.input != nil {
		tokens.Raw("input_tokens", s.usage.input)
	}
	s.usage.rest(&tokens)
	dst = event(dst, "message_delta", `,"delta":{"stop_reason":`)
	dst = jsondoc.AppendString(dst, s.stop)
	dst = append(dst, `,"stop_sequence":null},"usage":`...)
	dst = append(append(dst, tokens.Done()...), "}\n\n"...)
	return append(event(dst, "message_stop", ""), "}\n\n"...)
}

// faultText is what an error within a stream says.
func faultText(e jsondoc.Doc) string {
	text, _ := e.AsText()
	if e.Kind() == '{' {
		text = e.Text("message")
	}
	if text == "" {
		return TextFailed
	}
	return text
}

// reasoning is a chunk's reasoning; LiteLLM sends it as blocks.
func reasoning(c *llm.Chunk) string {
	if c.Reasoning != "" || !bytes.Contains(c.Raw, []byte(`"thinking_blocks"`)) {
		return c.Reasoning
	}
	choice := jsondoc.Doc(c.Raw).Get("choices", "0")
	blocks := choice.Get("delta", "thinking_blocks")
	if !blocks.Truthy() {
		blocks = choice.Get("message", "thinking_blocks")
	}
	text := ""
	blocks.Items(func(_ int, b jsondoc.Doc) bool {
		text, _ = firstTruthy(b, "thinking", "content", "text").AsText()
		return text == ""
	})
	return text
}

// enter opens a block of text or thinking if none of its kind is open.
func (s *Stream) enter(dst []byte, kind block, empty string) []byte {
	if s.open == kind {
		return dst
	}
	dst = s.leave(dst)
	s.open = kind
	return blockStart(dst, s.index, empty)
}

// leave closes an open block of text or thinking.
func (s *Stream) leave(dst []byte) []byte {
	if s.open == noBlock {
		return dst
	}
	s.open = noBlock
	dst = blockStop(dst, s.index)
	s.index++
	return dst
}

func (s *Stream) toolCall(dst []byte, c *llm.ToolCallDelta) []byte {
	t := s.toolOf(c)
	if t.name == "" {
		t.name = c.Name
	}
	if !t.started && t.name != "" {
		t.started, t.index = true, s.index
		s.index++
		s.talks = true
		empty := jsondoc.AppendString([]byte(`{"type":"tool_use","id":`), t.id)
		empty = append(jsondoc.AppendString(append(empty, `,"name":`...), t.name), `,"input":{}}`...)
		dst = blockStart(dst, t.index, string(empty))
	}
	if c.Arguments == "" {
		return dst
	}
	t.arguments.WriteString(c.Arguments)
	if !t.started || t.stopped {
		return dst
	}
	dst = s.delta(dst, t.index, `"input_json_delta","partial_json":`, c.Arguments)
	if t.complete() {
		t.stopped = true
		dst = blockStop(dst, t.index)
	}
	return dst
}

// toolOf finds the call that a piece belongs to: by its id, or without one the call that was last named at its index.
func (s *Stream) toolOf(c *llm.ToolCallDelta) *tool {
	id := c.ID
	if id == "" {
		if t := s.slots[c.Index]; t != nil {
			return t
		}
		id = newID("toolu_")
	}
	if s.slots == nil {
		s.slots = map[int]*tool{}
	}
	for _, t := range s.tools {
		if t.id == id {
			s.slots[c.Index] = t
			return t
		}
	}
	t := &tool{id: id}
	s.tools = append(s.tools, t)
	s.slots[c.Index] = t
	return t
}

// complete says whether the arguments are whole, so that the block can be closed before the stream ends.
func (t *tool) complete() bool {
	text := strings.TrimSpace(t.arguments.String())
	if text == "" || text[0] == '{' && text[len(text)-1] != '}' {
		return false
	}
	_, bad := jsondoc.Check([]byte(text))
	return bad == nil
}

func (s *Stream) delta(dst []byte, index int, kind, text string) []byte {
	dst = event(dst, "content_block_delta", `,"index":`)
	dst = strconv.AppendInt(dst, int64(index), 10)
	dst = append(append(dst, `,"delta":{"type":`...), kind...)
	return append(jsondoc.AppendString(dst, text), "}}\n\n"...)
}

func blockStart(dst []byte, index int, empty string) []byte {
	dst = event(dst, "content_block_start", `,"index":`)
	dst = strconv.AppendInt(dst, int64(index), 10)
	dst = append(append(dst, `,"content_block":`...), empty...)
	return append(dst, "}\n\n"...)
}

func blockStop(dst []byte, index int) []byte {
	dst = event(dst, "content_block_stop", `,"index":`)
	return append(strconv.AppendInt(dst, int64(index), 10), "}\n\n"...)
}

// event appends the name of an event and the beginning of its object.
func event(dst []byte, name, rest string) []byte {
	dst = append(append(dst, "event: "...), name...)
	dst = append(append(dst, "\ndata: {\"type\":\""...), name...)
	return append(append(dst, '"'), rest...)
}
