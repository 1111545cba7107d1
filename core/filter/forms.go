package filter

import "github.com/galleychat/galley/core/jsondoc"

// Common is what a request in another form has in common with OpenAI's: {"model", "stream", "messages"}. Messages are
// passed on as they are; "prompt" (completions, Ollama's generate) and "input" (the Responses API) become messages, and
// "system" or "instructions" a system message before them.
func Common(body jsondoc.Doc) jsondoc.Doc {
	var messages []jsondoc.Doc
	for _, name := range [...]string{"system", "instructions"} {
		if system := body.Get(name); system.Truthy() {
			messages = append(messages, message("system", system))
		}
	}
	for _, name := range [...]string{"messages", "input", "prompt"} {
		messages = append(messages, turns(body.Get(name))...)
	}
	var b jsondoc.Builder
	b.Raw("model", body.Get("model").Or(jsondoc.Doc(`""`)))
	b.Raw("messages", jsondoc.Array(messages...))
	if stream := body.Get("stream"); stream != nil {
		b.Raw("stream", stream)
	}
	return b.Done()
}

// turns are the messages in a text or a list of messages and texts.
func turns(d jsondoc.Doc) (out []jsondoc.Doc) {
	if d.Kind() == '"' {
		return []jsondoc.Doc{message("user", d)}
	}
	d.Items(func(_ int, v jsondoc.Doc) bool {
		switch {
		case v.Kind() == '"':
			out = append(out, message("user", v))
		case v.Kind() == '{' && (v.Get("role") != nil || v.Get("content") != nil):
			out = append(out, v)
		}
		return true
	})
	return out
}

func message(role string, content jsondoc.Doc) jsondoc.Doc {
	var b jsondoc.Builder
	b.Raw("role", jsondoc.Text(role))
	b.Raw("content", content)
	return b.Done()
}
