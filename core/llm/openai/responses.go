package openai

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// itemFields are the members that the Responses API takes back in input items, by type.
var itemFields = map[string][]string{
	"message":              {"type", "role", "content"},
	"function_call":        {"type", "call_id", "name", "arguments", "id"},
	"function_call_output": {"type", "call_id", "output"},
	"reasoning":            {"type", "id", "summary", "encrypted_content", "content"},
}

// responsesRequest turns a Chat Completions request into one of the Responses API.
func responsesRequest(body rawjson.Object) rawjson.Object {
	messages, _ := rawjson.Elems(body.Take("messages")) // absent: no input
	system := ""
	input := []jsontext.Value{}
	for _, raw := range messages {
		m, err := rawjson.Parse(raw)
		if err != nil {
			continue
		}
		if role, _ := rawjson.String(m.Get("role")); role == "system" && !rawjson.Truthy(m.Get("output")) {
			system = systemText(m.Get("content"))
			continue
		}
		input = append(input, inputItems(m)...)
	}
	body.Set("input", rawjson.Array(input))
	if v := body.Take("previous_response_id"); rawjson.Truthy(v) {
		body.Set("previous_response_id", v)
	}
	if system != "" {
		body.SetString("instructions", system)
	}
	rename(&body, "max_tokens", "max_output_tokens")
	rename(&body, "max_completion_tokens", "max_output_tokens")
	for _, name := range []string{"stream_options", "logit_bias", "frequency_penalty", "presence_penalty", "stop"} {
		body.Delete(name)
	}
	if tools, err := rawjson.Elems(body.Get("tools")); err == nil {
		for i, t := range tools {
			tools[i] = responsesTool(t)
		}
		body.Set("tools", rawjson.Array(tools))
	}
	choice, _ := rawjson.Parse(body.Get("tool_choice")) // "auto" and the like stay
	if fn, err := rawjson.Parse(choice.Get("function")); err == nil {
		body.Set("tool_choice", rawjson.Object{
			{Name: "type", Value: jsontext.Value(`"function"`)}, {Name: "name", Value: or(fn.Get("name"), `""`)},
		}.JSON())
	}
	return body
}

func systemText(content jsontext.Value) string {
	if s, ok := rawjson.String(content); ok {
		return s
	}
	return partsText(content, "\n", "text")
}

func or(v jsontext.Value, def string) jsontext.Value {
	if rawjson.IsNull(v) {
		return jsontext.Value(def)
	}
	return v
}

// inputItems are the items that a message becomes.
func inputItems(m rawjson.Object) []jsontext.Value {
	if stored, err := rawjson.Elems(m.Get("output")); err == nil && len(stored) > 0 {
		for i, item := range stored {
			stored[i] = storedItem(item)
		}
		return stored
	}
	role, ok := rawjson.String(m.Get("role"))
	if !ok {
		role = "user"
	}
	content := m.Get("content")
	calls, _ := rawjson.Elems(m.Get("tool_calls")) // absent: none
	switch {
	case role == "assistant" && len(calls) > 0:
		return callItems(content, calls)
	case role == "tool":
		return []jsontext.Value{rawjson.Object{
			{Name: "type", Value: jsontext.Value(`"function_call_output"`)},
			{Name: "call_id", Value: or(m.Get("tool_call_id"), `""`)},
			{Name: "output", Value: or(content, `""`)},
		}.JSON()}
	}
	textType := "input_text"
	if role == "assistant" {
		textType = "output_text"
	}
	return []jsontext.Value{messageItem(role, contentParts(or(content, `""`), textType))}
}

func messageItem(role string, parts []jsontext.Value) jsontext.Value {
	return rawjson.Object{
		{Name: "type", Value: jsontext.Value(`"message"`)}, {Name: "role", Value: rawjson.Quote(role)},
		{Name: "content", Value: rawjson.Array(parts)},
	}.JSON()
}

func textPart(typ string, text jsontext.Value) jsontext.Value {
	return rawjson.Object{{Name: "type", Value: rawjson.Quote(typ)}, {Name: "text", Value: text}}.JSON()
}

// callItems are an assistant's text, if any, and its tool calls.
func callItems(content jsontext.Value, calls []jsontext.Value) []jsontext.Value {
	var items []jsontext.Value
	text, ok := rawjson.String(content)
	if !ok {
		text = partsText(content, "\n", "text")
	}
	if strings.TrimSpace(text) != "" {
		items = append(items, messageItem("assistant", []jsontext.Value{textPart("output_text", rawjson.Quote(text))}))
	}
	for _, raw := range calls {
		call, _ := rawjson.Parse(raw)
		fn, _ := rawjson.Parse(call.Get("function"))
		items = append(items, rawjson.Object{
			{Name: "type", Value: jsontext.Value(`"function_call"`)},
			{Name: "call_id", Value: or(call.Get("id"), `""`)},
			{Name: "name", Value: or(fn.Get("name"), `""`)},
			{Name: "arguments", Value: or(fn.Get("arguments"), `"{}"`)},
		}.JSON())
	}
	return items
}

// storedItem keeps of an output item of an earlier turn what may be sent back. Calls that were shown under
// another name get the model's own name and arguments again.
func storedItem(raw jsontext.Value) jsontext.Value {
	item, err := rawjson.Parse(raw)
	typ, _ := rawjson.String(item.Get("type"))
	fields, known := itemFields[typ]
	if err != nil || !known {
		return raw
	}
	if typ == "function_call" {
		fn, err := rawjson.Parse(item.Get("provider_function"))
		if err != nil {
			fn = item
		}
		name, args := or(fn.Get("name"), `""`), or(fn.Get("arguments"), `"{}"`)
		if args[0] != '"' {
			args = rawjson.Quote(string(args))
		}
		item.Set("name", name)
		item.Set("arguments", args)
	}
	var kept rawjson.Object
	for _, f := range fields {
		if v := item.Get(f); v != nil {
			kept = append(kept, rawjson.Member{Name: f, Value: v})
		}
	}
	return kept.JSON()
}

// contentParts converts a message's content.
func contentParts(content jsontext.Value, textType string) []jsontext.Value {
	if content[0] == '"' {
		return []jsontext.Value{textPart(textType, content)}
	}
	parts, err := rawjson.Elems(content)
	if err != nil {
		return []jsontext.Value{textPart(textType, rawjson.Quote(string(content)))}
	}
	out := []jsontext.Value{}
	for _, raw := range parts {
		part, _ := rawjson.Parse(raw)
		switch typ, _ := rawjson.String(part.Get("type")); typ {
		case "text":
			out = append(out, textPart(textType, or(part.Get("text"), `""`)))
		case "image_url":
			out = append(out, imagePart(part.Get("image_url")))
		case "file":
			if f := filePart(part.Get("file")); f != nil {
				out = append(out, f)
			}
		}
	}
	return out
}

func imagePart(v jsontext.Value) jsontext.Value {
	url, detail := jsontext.Value(`""`), jsontext.Value(`"auto"`)
	if o, err := rawjson.Parse(v); err == nil {
		url = or(o.Get("url"), `""`)
		if d := o.Get("detail"); rawjson.Truthy(d) {
			detail = d
		}
	} else if len(v) > 0 && v[0] == '"' {
		url = v
	}
	return rawjson.Object{
		{Name: "type", Value: jsontext.Value(`"input_image"`)}, {Name: "image_url", Value: url}, {Name: "detail", Value: detail},
	}.JSON()
}

func filePart(v jsontext.Value) jsontext.Value {
	f, err := rawjson.Parse(v)
	if err != nil || !f.Has("file_id") && !f.Has("file_data") {
		return nil
	}
	out := rawjson.Object{{Name: "type", Value: jsontext.Value(`"input_file"`)}}
	for _, name := range []string{"file_id", "file_data", "filename"} {
		if v := f.Get(name); v != nil {
			out.Set(name, v)
		}
	}
	return out.JSON()
}

// responsesTool moves a function's description out of "function", where Chat Completions keeps it.
func responsesTool(raw jsontext.Value) jsontext.Value {
	tool, err := rawjson.Parse(raw)
	if err != nil || !tool.Has("function") {
		return raw
	}
	out := rawjson.Object{{Name: "type", Value: or(tool.Get("type"), `"function"`)}}
	if fn, err := rawjson.Parse(tool.Get("function")); err == nil {
		out.Set("name", or(fn.Get("name"), `""`))
		for _, name := range []string{"description", "parameters"} {
			if v := fn.Get(name); v != nil {
				out.Set(name, v)
			}
		}
		out.Set("strict", or(fn.Get("strict"), "false")) // here the default is true
	}
	return out.JSON()
}

// ResponsesResult turns a whole result of the Responses API into a chat completion. What is no such result is
// returned as it is.
func ResponsesResult(body []byte) []byte {
	res, err := rawjson.Parse(bytes.TrimSpace(body))
	if err != nil {
		return body
	}
	items, _ := rawjson.Elems(res.Get("output")) // absent: an empty answer
	var text strings.Builder
	var calls []jsontext.Value
	for _, raw := range items {
		item, _ := rawjson.Parse(raw)
		switch typ, _ := rawjson.String(item.Get("type")); typ {
		case "message":
			text.WriteString(partsText(item.Get("content"), "", "output_text"))
		case "function_call":
			args := or(item.Get("arguments"), `"{}"`)
			if args[0] != '"' {
				args = rawjson.Quote(string(args))
			}
			calls = append(calls, rawjson.Object{
				{Name: "id", Value: or(item.Get("call_id"), `""`)}, {Name: "type", Value: jsontext.Value(`"function"`)},
				{Name: "function", Value: rawjson.Object{
					{Name: "name", Value: or(item.Get("name"), `""`)}, {Name: "arguments", Value: args}}.JSON()},
			}.JSON())
		}
	}
	message := rawjson.Object{
		{Name: "role", Value: jsontext.Value(`"assistant"`)}, {Name: "content", Value: rawjson.Quote(text.String())},
	}
	finish := `"stop"`
	if len(calls) > 0 {
		message.Set("tool_calls", rawjson.Array(calls))
		finish = `"tool_calls"`
	}
	choice := rawjson.Object{
		{Name: "index", Value: jsontext.Value("0")}, {Name: "message", Value: message.JSON()},
		{Name: "finish_reason", Value: jsontext.Value(finish)},
	}
	return rawjson.Object{
		{Name: "id", Value: or(res.Get("id"), `""`)}, {Name: "object", Value: jsontext.Value(`"chat.completion"`)},
		{Name: "model", Value: or(res.Get("model"), `""`)},
		{Name: "choices", Value: rawjson.Array([]jsontext.Value{choice.JSON()})},
		{Name: "usage", Value: or(res.Get("usage"), "{}")},
	}.JSON()
}
