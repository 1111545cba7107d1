package ollama

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// answer is one line of /api/chat, or the whole of it.
type answer struct {
	model, doneReason              string
	content, thinking              jsontext.Value // JSON strings, nil if absent, null or empty
	toolCalls                      []jsontext.Value
	done, hasMessage               bool
	errText                        jsontext.Value
	promptCount, evalCount         jsontext.Value
	promptDuration, evalDuration   jsontext.Value
	totalDuration, loadingDuration jsontext.Value
}

func (a *answer) member(name []byte, v jsontext.Value) {
	switch string(name) {
	case `"model"`:
		a.model, _ = rawjson.String(v)
	case `"message"`:
		a.hasMessage = true
		_ = rawjson.Each(v, a.messageMember) // null: an empty message
	case `"done"`:
		a.done = rawjson.Truthy(v)
	case `"done_reason"`:
		a.doneReason, _ = rawjson.String(v)
	case `"error"`:
		if rawjson.Truthy(v) {
			a.errText = v
		}
	case `"prompt_eval_count"`:
		a.promptCount = v
	case `"eval_count"`:
		a.evalCount = v
	case `"prompt_eval_duration"`:
		a.promptDuration = v
	case `"eval_duration"`:
		a.evalDuration = v
	case `"total_duration"`:
		a.totalDuration = v
	case `"load_duration"`:
		a.loadingDuration = v
	}
}

func (a *answer) messageMember(name []byte, v jsontext.Value) {
	if !rawjson.Truthy(v) {
		return
	}
	switch string(name) {
	case `"content"`:
		a.content = v
	case `"thinking"`:
		a.thinking = v
	case `"tool_calls"`:
		a.toolCalls, _ = rawjson.Elems(v)
	}
}

// parse reads a line; the values alias it.
func (a *answer) parse(line []byte) error {
	*a = answer{model: "ollama"}
	if !jsontext.Value(line).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return fmt.Errorf("ollama: the answer is no JSON: %.200q", line)
	}
	return rawjson.Each(line, a.member)
}

// stream turns lines of /api/chat into OpenAI chunks.
type stream struct {
	body     io.ReadCloser
	lines    *llm.LineReader
	id       string // one for all chunks, as OpenAI has it
	buf      []byte
	a        answer
	begun    bool
	hasCalls bool
}

func newStream(body io.ReadCloser) *stream {
	return &stream{body: body, lines: llm.NewLineReader(body), id: "chatcmpl-" + uuid.NewString()}
}

// Close implements [llm.Source].
func (s *stream) Close() error { return s.body.Close() }

// Next implements [llm.Source].
func (s *stream) Next() ([]byte, error) {
	for {
		line, err := s.lines.Next()
		if err != nil {
			return nil, err
		}
		if line = trimSpace(line); len(line) == 0 {
			continue
		}
		if err := s.a.parse(line); err != nil {
			return nil, err
		}
		s.buf = s.chunk(s.buf[:0])
		return s.buf, nil
	}
}

// chunk appends the OpenAI chunk of the parsed line.
func (s *stream) chunk(b []byte) []byte {
	a := &s.a
	if a.errText != nil {
		b = append(b, `{"error":{"message":`...)
		b = rawjson.AppendQuote(b, rawjson.Text(a.errText))
		return append(b, "}}"...)
	}
	b = appendHead(b, s.id, a.model, "chat.completion.chunk")
	b = append(b, `"delta":{`...)
	sep := ""
	member := func(name string, v []byte) {
		b = append(append(append(append(append(b, sep...), '"'), name...), `":`...), v...)
		sep = ","
	}
	if !s.begun {
		s.begun = true
		member("role", []byte(`"assistant"`))
	}
	if a.content != nil {
		member("content", a.content)
	}
	if a.thinking != nil {
		member("reasoning_content", a.thinking)
	}
	if len(a.toolCalls) > 0 {
		s.hasCalls = true
		member("tool_calls", openAIToolCalls(a.toolCalls))
	}
	b = append(b, `},"finish_reason":`...)
	switch {
	case a.done && s.hasCalls:
		b = append(b, `"tool_calls"`...)
	case a.doneReason != "":
		b = rawjson.AppendQuote(b, a.doneReason)
	case a.content == nil && a.thinking == nil && len(a.toolCalls) == 0:
		b = append(b, `"stop"`...) // the reference says so of every empty piece
	default:
		b = append(b, "null"...)
	}
	b = append(b, "}]"...)
	if a.done {
		b = a.appendUsage(b)
	}
	return append(b, '}')
}

// Completion turns a whole answer of /api/chat into an OpenAI chat completion.
func Completion(raw []byte) ([]byte, error) {
	var a answer
	if err := a.parse(trimSpace(raw)); err != nil {
		return nil, err
	}
	if !a.hasMessage && a.errText == nil && !a.done {
		return nil, errors.New("ollama: not an answer of /api/chat")
	}
	b := appendHead(nil, a.model+"-"+uuid.NewString(), a.model, "chat.completion")
	b = append(b, `"message":{"role":"assistant","content":`...)
	b = append(b, orJSON(a.content, `""`)...)
	if a.thinking != nil {
		b = append(append(b, `,"reasoning_content":`...), a.thinking...)
	}
	finish := "stop"
	if a.doneReason != "" {
		finish = a.doneReason
	}
	if len(a.toolCalls) > 0 {
		b = append(append(b, `,"tool_calls":`...), openAIToolCalls(a.toolCalls)...)
		finish = "tool_calls"
	}
	b = append(b, `},"finish_reason":`...)
	b = rawjson.AppendQuote(b, finish)
	b = append(b, "}]"...)
	b = a.appendUsage(b)
	return append(b, '}'), nil
}

// appendHead appends the object up to the inside of its only choice.
func appendHead(b []byte, id, model, object string) []byte {
	b = append(b, `{"id":`...)
	b = rawjson.AppendQuote(b, id)
	b = append(b, `,"object":"`...)
	b = append(b, object...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, time.Now().Unix(), 10)
	b = append(b, `,"model":`...)
	b = rawjson.AppendQuote(b, model)
	return append(b, `,"choices":[{"index":0,"logprobs":null,`...)
}

func openAIToolCalls(calls []jsontext.Value) jsontext.Value {
	out := make([]jsontext.Value, 0, len(calls))
	for _, raw := range calls {
		call, _ := rawjson.Parse(raw)
		fn, _ := rawjson.Parse(call.Get("function"))
		index := call.Get("index")
		if index == nil {
			index = orJSON(fn.Get("index"), "0")
		}
		id := call.Get("id")
		if rawjson.IsNull(id) {
			id = rawjson.Quote("call_" + uuid.NewString())
		}
		args := append(jsontext.Value(nil), orJSON(fn.Get("arguments"), "{}")...)
		_ = args.Compact() // valid: it is part of a valid line
		out = append(out, rawjson.Object{
			{Name: "index", Value: index}, {Name: "id", Value: id}, {Name: "type", Value: jsontext.Value(`"function"`)},
			{Name: "function", Value: rawjson.Object{
				{Name: "name", Value: orJSON(fn.Get("name"), `""`)}, {Name: "arguments", Value: rawjson.Quote(string(args))},
			}.JSON()},
		}.JSON())
	}
	return rawjson.Array(out)
}

// appendUsage appends ,"usage":{…}: OpenAI's counts under their old and new names, and Ollama's own numbers.
func (a *answer) appendUsage(b []byte) []byte {
	in, _ := rawjson.Int(a.promptCount) // absent: 0
	out, _ := rawjson.Int(a.evalCount)
	b = append(b, `,"usage":{`...)
	num := func(name string, n int64) {
		b = append(append(append(b, '"'), name...), `":`...)
		b = append(strconv.AppendInt(b, n, 10), ',')
	}
	raw := func(name string, v []byte) {
		b = append(append(append(b, '"'), name...), `":`...)
		b = append(append(b, v...), ',')
	}
	num("input_tokens", in)
	num("output_tokens", out)
	num("total_tokens", in+out)
	num("prompt_tokens", in)
	num("completion_tokens", out)
	raw("response_token/s", rate(a.evalCount, a.evalDuration))
	raw("prompt_token/s", rate(a.promptCount, a.promptDuration))
	raw("total_duration", orJSON(a.totalDuration, "0"))
	raw("load_duration", orJSON(a.loadingDuration, "0"))
	raw("prompt_eval_count", orJSON(a.promptCount, "0"))
	raw("prompt_eval_duration", orJSON(a.promptDuration, "0"))
	raw("eval_count", orJSON(a.evalCount, "0"))
	raw("eval_duration", orJSON(a.evalDuration, "0"))
	ns, _ := rawjson.Int(a.totalDuration)
	s := ns / int64(time.Second)
	b = fmt.Appendf(b, `"approximate_total":"%dh%dm%ds",`, s/3600, s%3600/60, s%60)
	return append(b, `"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`...)
}

// rate is count per second of a duration in nanoseconds, with two decimals; "N/A" without a duration.
func rate(count, nanoseconds jsontext.Value) []byte {
	n, _ := strconv.ParseFloat(string(count), 64)
	ns, _ := strconv.ParseFloat(string(nanoseconds), 64)
	if ns <= 0 {
		return []byte(`"N/A"`)
	}
	text := strconv.FormatFloat(n/(ns/1e7)*100, 'f', 2, 64)
	if text[len(text)-1] == '0' { // at least one decimal stays: it is a float
		text = text[:len(text)-1]
	}
	return []byte(text)
}
