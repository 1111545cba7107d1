package anthropic

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"

	"github.com/galleychat/galley/core/jsondoc"
)

// stopReasons are Anthropic's names of OpenAI's finish reasons; any other is end_turn.
var stopReasons = map[string]string{"length": "max_tokens", "tool_calls": "tool_use"}

func stopReason(finish string) string {
	if s := stopReasons[finish]; s != "" {
		return s
	}
	return "end_turn"
}

// newID makes an id as Anthropic's: a prefix and 24 hexadecimal digits.
func newID(prefix string) string {
	var b [12]byte
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return prefix + hex.EncodeToString(b[:])
}

// Response makes a Messages answer of a whole chat completion. model is the one that the client asked for. input is
// the number of the request's tokens for providers that do not tell, negative where it is unknown.
func Response(completion jsondoc.Doc, model string, input int64) jsondoc.Doc {
	in := jsondoc.Open(completion)
	choice := in.Get("choices").Get("0")
	message := choice.Get("message")
	content := thinking(message)
	if text := message.Get("content"); text.Truthy() {
		content = append(content, object("type", jsondoc.Doc(`"text"`), "text", text))
	}
	message.Get("tool_calls").Items(func(_ int, call jsondoc.Doc) bool {
		content = append(content, toolUse(call))
		return true
	})
	var u usage
	u.merge(in.Get("usage"))
	if u.input == nil && input >= 0 {
		u.input = number(input)
	}
	var tokens jsondoc.Builder
	tokens.Raw("input_tokens", u.input.Or(jsondoc.Doc("0")))
	tokens.Raw("output_tokens", u.output.Or(jsondoc.Doc("0")))
	u.rest(&tokens)
	name := jsondoc.Text(model)
	if model == "" {
		name = in.Get("model").Or(jsondoc.Doc(`""`))
	}
	id := in.Get("id")
	if id == nil {
		id = jsondoc.Text(newID("msg_"))
	}
	return object("id", id, "type", jsondoc.Doc(`"message"`), "role", jsondoc.Doc(`"assistant"`), "content", jsondoc.Array(content...),
		"model", name, "stop_reason", jsondoc.Text(stopReason(choice.Text("finish_reason"))), "stop_sequence", jsondoc.Doc("null"), "usage", tokens.Done())
}

// thinking are the blocks of a message's reasoning, which providers give in various members.
func thinking(message jsondoc.Doc) (out []jsondoc.Doc) {
	plain := message.Get("thinking")
	blocks := message.Get("thinking_blocks")
	if !blocks.Truthy() && plain.Kind() == '{' {
		blocks = plain.Get("blocks")
	}
	blocks.Items(func(_ int, b jsondoc.Doc) bool {
		if b.Kind() != '{' {
			return true
		}
		if b.Text("type") == "redacted_thinking" {
			redacted := object("type", b.Get("type"))
			if data := b.Get("data"); data != nil {
				redacted = redacted.Set(data, "data")
			}
			out = append(out, redacted)
			return true
		}
		text := firstTruthy(b, "thinking", "content", "text")
		if text == nil {
			return true
		}
		block := object("type", jsondoc.Doc(`"thinking"`), "thinking", text)
		if s := b.Get("signature"); s.Truthy() {
			block = block.Set(s, "signature")
		}
		out = append(out, block)
		return true
	})
	if out != nil {
		return out
	}
	text := firstTruthy(message, "reasoning_content", "reasoning")
	if text == nil && plain.Kind() == '"' && plain.Truthy() {
		text = plain
	}
	if text != nil {
		out = append(out, object("type", jsondoc.Doc(`"thinking"`), "thinking", text))
	}
	return out
}

func firstTruthy(d jsondoc.Doc, names ...string) jsondoc.Doc {
	for _, name := range names {
		if v := d.Get(name); v.Truthy() {
			return v
		}
	}
	return nil
}

func toolUse(call jsondoc.Doc) jsondoc.Doc {
	id := call.Get("id")
	if id == nil {
		id = jsondoc.Text(newID("toolu_"))
	}
	return object("type", jsondoc.Doc(`"tool_use"`), "id", id, "name", call.Get("function", "name").Or(jsondoc.Doc(`""`)),
		"input", arguments(call.Get("function", "arguments")))
}

// arguments are those of a call: JSON in a string. What is no JSON is no arguments.
func arguments(v jsondoc.Doc) jsondoc.Doc {
	if v.Kind() == '{' {
		return v
	}
	text, ok := v.AsText()
	if !ok {
		return jsondoc.Doc("{}")
	}
	d, bad := jsondoc.Check([]byte(text))
	if bad != nil {
		return jsondoc.Doc("{}")
	}
	return d
}

// usage are token counts in Anthropic's form; nil is unknown.
type usage struct {
	input, output, cacheCreation, cacheRead, outputDetails, serverTools, tier jsondoc.Doc
}

// merge takes over what a usage object of OpenAI's form, or of Anthropic's, tells.
func (u *usage) merge(d jsondoc.Doc) {
	if d.Kind() != '{' {
		return
	}
	o := jsondoc.Open(d)
	creation, read := known(o.Get("cache_creation_input_tokens")), known(o.Get("cache_read_input_tokens"))
	if read == nil {
		read = known(o.Get("prompt_tokens_details").Get("cached_tokens"))
	}
	input := known(o.Get("input_tokens"))
	if prompt, ok := o.Get("prompt_tokens").Int(); input == nil && ok {
		// OpenAI's count includes what came from a cache, Anthropic's does not
		c, _ := creation.Int()
		r, _ := read.Int()
		input = number(max(prompt-c-r, 0))
	}
	output := known(o.Get("output_tokens"))
	if output == nil {
		output = known(o.Get("completion_tokens"))
	}
	for _, f := range []struct{ to, from *jsondoc.Doc }{{&u.input, &input}, {&u.output, &output}, {&u.cacheCreation, &creation}, {&u.cacheRead, &read}} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	if v := o.Get("output_tokens_details"); v.Kind() == '{' {
		u.outputDetails = v
	}
	if v := o.Get("server_tool_use"); v.Kind() == '{' {
		u.serverTools = v
	}
	if v := known(o.Get("service_tier")); v != nil {
		u.tier = v
	}
}

// rest adds the members beside the two main counts.
func (u *usage) rest(b *jsondoc.Builder) {
	for _, m := range []struct {
		name string
		v    jsondoc.Doc
	}{
		{"cache_creation_input_tokens", u.cacheCreation}, {"cache_read_input_tokens", u.cacheRead},
		{"output_tokens_details", u.outputDetails}, {"server_tool_use", u.serverTools}, {"service_tier", u.tier},
	} {
		if m.v != nil {
			b.Raw(m.name, m.v)
		}
	}
}

// known is nil for null.
func known(d jsondoc.Doc) jsondoc.Doc {
	if d.IsNull() {
		return nil
	}
	return d
}

func number(n int64) jsondoc.Doc { return strconv.AppendInt(nil, n, 10) }
