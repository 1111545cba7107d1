package anthropic

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// translated are the members of a Messages request that have a counterpart, or a meaning, of their own; the others go
// to the provider only where its connection lists them.
var translated = map[string]bool{
	"model": true, "messages": true, "system": true, "max_tokens": true, "temperature": true, "top_p": true, "top_k": true,
	"stop_sequences": true, "stream": true, "metadata": true, "service_tier": true, "tools": true, "tool_choice": true,
	"reasoning_effort": true,
}

// Request makes a chat completion request of a Messages request. passthrough is passthrough_params of the provider's
// connection: a list of members, or their names with commas, that are passed on as they are; "*" means all that are
// not translated. The error wraps [llm.ErrBadRequest].
func Request(body, passthrough jsondoc.Doc) (jsondoc.Doc, error) {
	in := jsondoc.Open(body)
	out := &jsondoc.Obj{}
	out.Set("model", in.Get("model").Or(jsondoc.Doc(`""`)))
	messages, err := requestMessages(in)
	if err != nil {
		return nil, err
	}
	out.Set("messages", jsondoc.Array(messages...))
	keep(in, out, "max_tokens", "max_tokens")
	passOn(in, out, passthrough)
	outputConfig(in, out)
	for _, name := range [...]string{"reasoning_effort", "temperature", "top_p", "top_k"} {
		keep(in, out, name, name)
	}
	keep(in, out, "stop_sequences", "stop")
	for _, name := range [...]string{"stream", "metadata", "service_tier"} {
		keep(in, out, name, name)
	}
	if err := requestTools(in, out); err != nil {
		return nil, err
	}
	return out.Doc(), nil
}

func keep(in, out *jsondoc.Obj, from, to string) {
	if v := in.Get(from); v != nil {
		out.Set(to, v)
	}
}

func bad(what string) error { return fmt.Errorf("%w: %s", llm.ErrBadRequest, what) }

func passOn(in, out *jsondoc.Obj, passthrough jsondoc.Doc) {
	names := passthrough.Texts()
	if s, ok := passthrough.AsText(); ok {
		names = strings.Split(s, ",")
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[strings.TrimSpace(name)] = true
	}
	if len(wanted) == 0 {
		return
	}
	in.Each(func(name string, v jsondoc.Doc) bool {
		if !translated[name] && (wanted["*"] || wanted[name]) {
			out.Set(name, v)
		}
		return true
	})
}

// outputConfig translates output_config: effort and the answer's format.
func outputConfig(in, out *jsondoc.Obj) {
	config := in.Get("output_config")
	if effort := config.Get("effort"); effort != nil {
		out.Set("reasoning_effort", effort)
	}
	format := config.Get("format")
	switch kind := format.Text("type"); kind {
	case "json_schema":
		var b jsondoc.Builder
		b.Raw("name", format.Get("name").Or(jsondoc.Doc(`"response_schema"`)))
		b.Raw("schema", format.Get("schema").Or(jsondoc.Doc("{}")))
		for _, name := range [...]string{"description", "strict"} {
			if v := format.Get(name); v != nil {
				b.Raw(name, v)
			}
		}
		out.Set("response_format", object("type", jsondoc.Text(kind), "json_schema", b.Done()))
	case "json_object":
		out.Set("response_format", object("type", jsondoc.Text(kind)))
	}
}

func requestTools(in, out *jsondoc.Obj) error {
	tools := in.Get("tools")
	if !tools.Truthy() { // providers refuse an empty list
		return nil
	}
	if tools.Kind() != '[' {
		return bad("tools is not a list")
	}
	var list []jsondoc.Doc
	for _, tool := range tools.List() {
		if tool.Kind() != '{' {
			return bad("a tool is not an object")
		}
		list = append(list, cached(tool, object("type", jsondoc.Doc(`"function"`), "function", object(
			"name", tool.Get("name").Or(jsondoc.Doc(`""`)),
			"description", tool.Get("description").Or(jsondoc.Doc(`""`)),
			"parameters", tool.Get("input_schema").Or(jsondoc.Doc("{}"))))))
	}
	out.Set("tools", jsondoc.Array(list...))
	choice := in.Get("tool_choice")
	if choice.Kind() != '{' {
		return nil
	}
	switch choice.Text("type") {
	case "auto", "":
		out.Set("tool_choice", jsondoc.Doc(`"auto"`))
	case "any":
		out.Set("tool_choice", jsondoc.Doc(`"required"`))
	case "tool":
		out.Set("tool_choice", object("type", jsondoc.Doc(`"function"`), "function", object("name", choice.Get("name").Or(jsondoc.Doc(`""`)))))
	}
	return nil
}

func requestMessages(in *jsondoc.Obj) ([]jsondoc.Doc, error) {
	var out []jsondoc.Doc
	if s := in.Get("system"); s.Truthy() {
		switch s.Kind() {
		case '"':
			out = append(out, message(jsondoc.Doc(`"system"`), s))
		case '[':
			out = append(out, message(jsondoc.Doc(`"system"`), joined(systemBlocks(s))))
		}
	}
	list := in.Get("messages")
	if list != nil && list.Kind() != '[' {
		return nil, bad("messages is not a list")
	}
	for _, m := range list.List() {
		if m.Kind() != '{' {
			return nil, bad("a message is not an object")
		}
		role, content := m.Get("role").Or(jsondoc.Doc(`"user"`)), m.Get("content")
		switch content.Kind() {
		case '"':
			out = append(out, message(role, content))
		case '[':
			more, err := blockMessages(role, content)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		default:
			text := ""
			if content.Truthy() {
				text = string(content)
			}
			out = append(out, message(role, jsondoc.Text(text)))
		}
	}
	return out, nil
}

func systemBlocks(s jsondoc.Doc) (parts []jsondoc.Doc) {
	for _, block := range s.List() {
		switch {
		case block.Kind() == '"':
			parts = append(parts, object("type", jsondoc.Doc(`"text"`), "text", block))
		case block.Text("type") == "text":
			parts = append(parts, textPart(block))
		}
	}
	return parts
}

// blockMessages makes messages of one whose content is a list of blocks: one for each tool result, then one for the
// rest.
func blockMessages(role, content jsondoc.Doc) (out []jsondoc.Doc, err error) {
	var parts, calls []jsondoc.Doc
	for _, block := range content.List() {
		if block.Kind() != '{' {
			return nil, bad("a content block is not an object")
		}
		switch kind := blockType(block); kind {
		case "text":
			parts = append(parts, textPart(block))
		case "thinking", "redacted_thinking":
			// a provider refuses thinking that it has not signed
			if kind == "redacted_thinking" || block.Get("signature").Truthy() {
				parts = append(parts, block)
			}
		case "image":
			if p := imagePart(block); p != nil {
				parts = append(parts, p)
			}
		case "tool_use":
			calls = append(calls, toolCall(block))
		case "tool_result":
			out = append(out, toolResult(block))
		}
	}
	switch {
	case calls != nil:
		out = append(out, object("role", role, "content", joined(parts), "tool_calls", jsondoc.Array(calls...)))
	case parts != nil || string(role) == `"assistant"`:
		out = append(out, message(role, joined(parts)))
	}
	return out, nil
}

func blockType(block jsondoc.Doc) string {
	if block.Get("type") == nil {
		return "text"
	}
	return block.Text("type")
}

func toolCall(block jsondoc.Doc) jsondoc.Doc {
	arguments := "{}"
	switch input := block.Get("input"); input.Kind() {
	case '{':
		arguments = compact(input)
	case '"':
		arguments, _ = input.AsText()
	default:
		if input != nil {
			arguments = string(input)
		}
	}
	return object("id", block.Get("id").Or(jsondoc.Doc(`""`)), "type", jsondoc.Doc(`"function"`), "function", object(
		"name", block.Get("name").Or(jsondoc.Doc(`""`)), "arguments", jsondoc.Text(arguments)))
}

// toolResult is the message of role "tool" for a tool_result block.
func toolResult(block jsondoc.Doc) jsondoc.Doc {
	content := jsondoc.Doc(`""`)
	switch c := block.Get("content"); c.Kind() {
	case '"':
		content = c
	case '[':
		content = resultContent(c)
	}
	if block.Get("is_error").Truthy() {
		if text, ok := content.AsText(); ok {
			content = jsondoc.Text("Error: " + text)
		} else {
			note := object("type", jsondoc.Doc(`"text"`), "text", jsondoc.Doc(`"Error: "`))
			content = jsondoc.Array(append([]jsondoc.Doc{note}, content.List()...)...)
		}
	}
	return object("role", jsondoc.Doc(`"tool"`), "tool_call_id", block.Get("tool_use_id").Or(jsondoc.Doc(`""`)), "content", content)
}

// resultContent is the text of a tool's result, or its parts where it has more than text.
func resultContent(blocks jsondoc.Doc) jsondoc.Doc {
	var parts []jsondoc.Doc
	var texts []string
	plain := true
	add := func(p jsondoc.Doc) {
		parts = append(parts, p)
		texts = append(texts, p.Text("text"))
		plain = plain && p.Text("type") == "text" && p.Get("cache_control") == nil
	}
	for _, b := range blocks.List() {
		if b.Kind() != '{' {
			continue
		}
		switch blockType(b) {
		case "text":
			add(textPart(b))
		case "image":
			if p := imagePart(b); p != nil {
				add(p)
			}
		case "document":
			add(object("type", jsondoc.Doc(`"text"`), "text", jsondoc.Text(documentText(b))))
		case "search_result":
			add(object("type", jsondoc.Doc(`"text"`), "text", jsondoc.Text(searchText(b))))
		}
	}
	if plain {
		return jsondoc.Text(strings.Join(texts, "\n"))
	}
	return jsondoc.Array(parts...)
}

// documentText stands for a document, of which chat completions know none.
func documentText(b jsondoc.Doc) string {
	title := "Document"
	if t := b.Get("title"); t != nil {
		title = b.Text("title")
	}
	lines := []string{"[Document: " + title + "]"}
	if c := b.Text("context"); c != "" {
		lines = append(lines, c)
	}
	if data := b.Text("source", "data"); data != "" && b.Text("source", "type") == "text" {
		lines = append(lines, data)
	}
	return strings.Join(lines, "\n")
}

// searchText stands for a search result.
func searchText(b jsondoc.Doc) string {
	lines := []string{"[Search Result: " + b.Text("title") + "]"}
	if s := b.Text("source"); s != "" {
		lines = append(lines, "Source: "+s)
	}
	var texts []string
	b.Get("content").Items(func(_ int, part jsondoc.Doc) bool {
		if part.Text("type") == "text" {
			texts = append(texts, part.Text("text"))
		}
		return true
	})
	if body := strings.Join(texts, "\n"); body != "" {
		lines = append(lines, body)
	}
	return strings.Join(lines, "\n")
}

func textPart(block jsondoc.Doc) jsondoc.Doc {
	return cached(block, object("type", jsondoc.Doc(`"text"`), "text", block.Get("text").Or(jsondoc.Doc(`""`))))
}

// imagePart is nil for a source of another kind than data and address.
func imagePart(block jsondoc.Doc) jsondoc.Doc {
	source := block.Get("source")
	var url jsondoc.Doc
	switch source.Text("type") {
	case "base64":
		media := source.Text("media_type")
		if media == "" {
			media = "image/png"
		}
		url = jsondoc.Text("data:" + media + ";base64," + source.Text("data"))
	case "url":
		url = source.Get("url").Or(jsondoc.Doc(`""`))
	default:
		return nil
	}
	return cached(block, object("type", jsondoc.Doc(`"image_url"`), "image_url", object("url", url)))
}

// cached keeps a block's cache_control, which some providers understand in OpenAI's form as well.
func cached(from, to jsondoc.Doc) jsondoc.Doc {
	if v := from.Get("cache_control"); v != nil {
		return to.Set(v, "cache_control")
	}
	return to
}

// joined is the content of a message: its text where it has only one, else its parts.
func joined(parts []jsondoc.Doc) jsondoc.Doc {
	switch {
	case len(parts) == 0:
		return jsondoc.Doc(`""`)
	case len(parts) == 1 && parts[0].Text("type") == "text" && parts[0].Get("cache_control") == nil:
		return parts[0].Get("text")
	}
	return jsondoc.Array(parts...)
}

func message(role, content jsondoc.Doc) jsondoc.Doc { return object("role", role, "content", content) }

// object is the object of names and jsondoc.Doc values in turn.
func object(pairs ...any) jsondoc.Doc {
	var b jsondoc.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.Raw(pairs[i].(string), pairs[i+1].(jsondoc.Doc))
	}
	return b.Done()
}

func compact(d jsondoc.Doc) string {
	v := jsontext.Value(d).Clone()
	if v.Compact(jsondoc.Options()) != nil {
		return string(d) // it is passed on as it came
	}
	return string(v)
}
