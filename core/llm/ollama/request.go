package ollama

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/params"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// rootParams are parameters that Ollama takes beside "options", not in it. format and keep_alive may be JSON in
// a string.
var rootParams = []string{"format", "keep_alive", "think"}

var paramCasts = map[string]params.Cast{
	"temperature": params.Float, "top_p": params.Float, "mirostat": params.Int, "mirostat_eta": params.Float,
	"mirostat_tau": params.Float, "num_ctx": params.Int, "num_batch": params.Int, "num_keep": params.Int,
	"num_predict": params.Int, "repeat_last_n": params.Int, "top_k": params.Int, "min_p": params.Float,
	"repeat_penalty": params.Float, "presence_penalty": params.Float, "frequency_penalty": params.Float,
	"stop": params.Stops, "num_gpu": params.Int, "use_mmap": params.Bool, "use_mlock": params.Bool,
	"num_thread": params.Int,
}

// Request turns an OpenAI chat completion request into the body of POST /api/chat. Members that neither API
// shares are dropped: sampling parameters belong into "options" (or the model's params).
func Request(req *llm.Request) ([]byte, error) {
	in, err := rawjson.Parse(req.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", llm.ErrBadRequest, err)
	}
	messages, err := convertMessages(in.Get("messages"))
	if err != nil {
		return nil, err
	}
	out := rawjson.Object{
		{Name: "model", Value: rawjson.Quote(req.Model)},
		{Name: "messages", Value: messages},
		{Name: "stream", Value: jsontext.Value("false")},
	}
	if req.Stream {
		out.Set("stream", jsontext.Value("true"))
	}
	if tools := in.Get("tools"); !rawjson.IsNull(tools) {
		out.Set("tools", tools)
	}
	options, hasOptions := convertOptions(in, &out)
	responseFormat(in.Get("response_format"), &out)
	if len(req.Params) > 0 {
		applyParams(req.Params, &options, &out)
		hasOptions = hasOptions || len(options) > 0
	}
	if hasOptions {
		out.Set("options", options.JSON())
	}
	return out.JSON(), nil
}

// convertOptions takes over "options", lifts what belongs beside it, and adds stop and max_tokens.
func convertOptions(in rawjson.Object, out *rawjson.Object) (rawjson.Object, bool) {
	options, _ := rawjson.Parse(in.Get("options")) // absent or null: none
	liftRoot(&options, out)
	if v := options.Take("max_tokens"); v != nil {
		options.Set("num_predict", v)
	}
	if v := options.Take("system"); v != nil {
		out.Set("system", v)
	}
	if v := in.Get("stop"); v != nil {
		options.Set("stop", v)
	}
	if v := in.Get("max_tokens"); v != nil {
		options.Set("num_predict", v)
	}
	return options, len(options) > 0
}

// liftRoot moves the root parameters from options to out.
func liftRoot(options, out *rawjson.Object) {
	for _, name := range rootParams {
		v := options.Get(name)
		if rawjson.IsNull(v) {
			continue
		}
		if name != "think" {
			v = params.Embedded(v)
		}
		options.Delete(name)
		out.Set(name, v)
	}
}

// applyParams puts the workspace model's parameters under the request's options.
func applyParams(raw jsontext.Value, options, out *rawjson.Object) {
	p := params.Expand(raw)
	if v := p.Get("max_tokens"); !rawjson.IsNull(v) {
		p.Delete("max_tokens")
		p.Set("num_predict", v)
	}
	liftRoot(&p, out)
	params.Apply(options, p, paramCasts)
}

// responseFormat turns {"type": "json_schema", "json_schema": {"schema": …}} into Ollama's format.
func responseFormat(raw jsontext.Value, out *rawjson.Object) {
	format, err := rawjson.Parse(raw)
	if err != nil {
		return
	}
	typ, _ := rawjson.String(format.Get("type"))
	spec, err := rawjson.Parse(format.Get(typ))
	if schema := spec.Get("schema"); err == nil && !rawjson.IsNull(schema) {
		out.Set("format", schema)
	}
}

func convertMessages(raw jsontext.Value) (jsontext.Value, error) {
	messages, err := rawjson.Elems(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: messages: %w", llm.ErrBadRequest, err)
	}
	for i, m := range messages {
		if messages[i], err = convertMessage(m); err != nil {
			return nil, err
		}
	}
	return rawjson.Array(messages), nil
}

func convertMessage(raw jsontext.Value) (jsontext.Value, error) {
	in, err := rawjson.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: message: %w", llm.ErrBadRequest, err)
	}
	role := in.Get("role")
	if role == nil {
		return nil, fmt.Errorf("%w: message without a role", llm.ErrBadRequest)
	}
	out := rawjson.Object{{Name: "role", Value: role}}
	for _, name := range []string{"thinking", "reasoning_content", "reasoning"} {
		if v := in.Get(name); rawjson.Truthy(v) {
			out.Set("thinking", v)
			break
		}
	}
	content := in.Get("content")
	_, isText := rawjson.String(content)
	switch calls, _ := rawjson.Elems(in.Get("tool_calls")); {
	case len(calls) > 0:
		if err := convertToolCalls(calls); err != nil {
			return nil, err
		}
		out.Set("tool_calls", rawjson.Array(calls))
		out.SetString("content", "")
	case isText:
		out.Set("content", content)
		if id := in.Get("tool_call_id"); rawjson.Truthy(id) {
			out.Set("tool_call_id", id)
		}
	default:
		convertParts(content, &out)
	}
	return out.JSON(), nil
}

// convertToolCalls turns the arguments from text into JSON.
func convertToolCalls(calls []jsontext.Value) error {
	for i, raw := range calls {
		call, _ := rawjson.Parse(raw)
		fn, _ := rawjson.Parse(call.Get("function"))
		args := fn.Get("arguments")
		if text, ok := rawjson.String(args); ok {
			args = jsontext.Value(text)
			if !args.IsValid() {
				return fmt.Errorf("%w: arguments of a tool call are no JSON", llm.ErrBadRequest)
			}
		}
		out := rawjson.Object{{Name: "index", Value: orJSON(call.Get("index"), "0")}}
		if id := call.Get("id"); !rawjson.IsNull(id) {
			out.Set("id", id)
		}
		out.Set("function", rawjson.Object{
			{Name: "name", Value: orJSON(fn.Get("name"), `""`)}, {Name: "arguments", Value: orJSON(args, "{}")},
		}.JSON())
		calls[i] = out.JSON()
	}
	return nil
}

func orJSON(v jsontext.Value, def string) jsontext.Value {
	if rawjson.IsNull(v) {
		return jsontext.Value(def)
	}
	return v
}

// convertParts splits a list of content parts into text and images; of data: URLs Ollama wants the base64 only.
func convertParts(content jsontext.Value, out *rawjson.Object) {
	parts, _ := rawjson.Elems(content) // null: an empty message
	var text strings.Builder
	var images []jsontext.Value
	for _, raw := range parts {
		part, _ := rawjson.Parse(raw)
		switch typ, _ := rawjson.String(part.Get("type")); typ {
		case "text":
			s, _ := rawjson.String(part.Get("text"))
			text.WriteString(s)
		case "image_url":
			o, _ := rawjson.Parse(part.Get("image_url"))
			url, _ := rawjson.String(o.Get("url"))
			if strings.HasPrefix(url, "data:") {
				url = url[strings.LastIndexByte(url, ',')+1:]
			}
			if url != "" {
				images = append(images, rawjson.Quote(url))
			}
		}
	}
	if text.Len() > 0 {
		out.SetString("content", strings.TrimSpace(text.String()))
	}
	if len(images) > 0 {
		out.Set("images", rawjson.Array(images))
	}
}
