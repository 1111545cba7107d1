package turn

import (
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
)

// message is one message of a request to a model, in OpenAI form, opened one level.
type message = *jsondoc.Obj

func openMessages(list jsondoc.Doc) []message {
	var out []message
	list.Items(func(_ int, v jsondoc.Doc) bool {
		if v.Kind() == '{' {
			out = append(out, jsondoc.Open(v))
		}
		return true
	})
	return out
}

func closeMessages(ms []message) jsondoc.Doc {
	docs := make([]jsondoc.Doc, len(ms))
	for i, m := range ms {
		docs[i] = m.Doc()
	}
	return jsondoc.Array(docs...)
}

func newMessage(role, content string) message {
	m := &jsondoc.Obj{}
	m.Set("role", jsondoc.Text(role))
	m.Set("content", jsondoc.Text(content))
	return m
}

// textOf is the text of a message: the string, the first text part of a list, or else the text of its output items.
func textOf(m message) string {
	c := m.Get("content")
	if c.Kind() == '[' {
		text, found := "", false
		c.Items(func(_ int, part jsondoc.Doc) bool {
			if part.Text("type") == "text" {
				text, found = part.Text("text"), true
			}
			return !found
		})
		if found {
			return text
		}
	} else if s, ok := c.AsText(); ok && s != "" {
		return s
	}
	return chats.OutputText(m.Get("output"))
}

func systemOf(ms []message) message {
	for _, m := range ms {
		if m.Text("role") == "system" {
			return m
		}
	}
	return nil
}

// addSystem puts text before (or, with after, behind) what the system message at the top says, or makes that message.
func addSystem(ms []message, text string, after bool) []message {
	if len(ms) == 0 || ms[0].Text("role") != "system" {
		return append([]message{newMessage("system", text)}, ms...)
	}
	ms[0] = joinContent(ms[0], text, after)
	return ms
}

func joinContent(m message, text string, after bool) message {
	join := func(old string) jsondoc.Doc {
		if after {
			return jsondoc.Text(old + "\n" + text)
		}
		return jsondoc.Text(text + "\n" + old)
	}
	m = m.Clone()
	c := m.Get("content")
	if c.Kind() != '[' {
		s, _ := c.AsText()
		m.Set("content", join(s))
		return m
	}
	parts := c.List()
	for i, p := range parts {
		if p.Text("type") == "text" {
			parts[i] = p.Set(join(p.Text("text")), "text")
		}
	}
	m.Set("content", jsondoc.Array(parts...))
	return m
}

// mergeSystem makes one system message at the top of all there are: some chat templates take no other.
func mergeSystem(ms []message) []message {
	n, first := 0, false
	for i, m := range ms {
		if m.Text("role") == "system" {
			n++
			first = first || i == 0 && m.Len() == 2 && m.Get("content").Kind() == '"' && m.Text("content") != ""
		}
	}
	if n == 0 || n == 1 && first {
		return ms
	}
	var texts []string
	out := []message{nil}
	for _, m := range ms {
		if m.Text("role") != "system" {
			out = append(out, m)
		} else if t := textOf(m); t != "" {
			texts = append(texts, t)
		}
	}
	if len(texts) == 0 {
		return out[1:]
	}
	out[0] = newMessage("system", strings.Join(texts, "\n"))
	return out
}

// dropEmptyParts removes text parts without text, which some providers refuse, where others remain.
func dropEmptyParts(ms []message) {
	for _, m := range ms {
		c := m.Get("content")
		if c.Kind() != '[' {
			continue
		}
		var kept []jsondoc.Doc
		n := 0
		c.Items(func(_ int, p jsondoc.Doc) bool {
			n++
			if p.Text("type") != "text" || strings.TrimSpace(p.Text("text")) != "" {
				kept = append(kept, p)
			}
			return true
		})
		if len(kept) > 0 && len(kept) < n {
			m.Set("content", jsondoc.Array(kept...))
		}
	}
}

// pairTools drops tool calls without a result and results without a call: providers refuse both. It looks at each
// assistant message with the tool messages that follow it.
func pairTools(ms []message) []message {
	touched := false
	for _, m := range ms {
		if m.Get("tool_calls").Truthy() || m.Text("role") == "tool" {
			touched = true
			break
		}
	}
	if !touched {
		return ms
	}
	var out []message
	for i := 0; i < len(ms); {
		m := ms[i]
		if m.Text("role") != "assistant" || !m.Get("tool_calls").Truthy() {
			if m.Text("role") != "tool" {
				out = append(out, m)
			}
			i++
			continue
		}
		results := map[string]bool{}
		end := i + 1
		for ; end < len(ms) && ms[end].Text("role") == "tool"; end++ {
			results[ms[end].Text("tool_call_id")] = true
		}
		var kept []jsondoc.Doc
		called := map[string]bool{}
		m.Get("tool_calls").Items(func(_ int, call jsondoc.Doc) bool {
			if id := call.Text("id"); results[id] {
				kept = append(kept, call)
				called[id] = true
			}
			return true
		})
		m = m.Clone()
		if len(kept) > 0 {
			m.Set("tool_calls", jsondoc.Array(kept...))
			out = append(out, m)
		} else {
			m.Pop("tool_calls")
			m.Pop("reasoning_items")
			if m.Get("content").Truthy() {
				out = append(out, m)
			}
		}
		for _, r := range ms[i+1 : end] {
			if called[r.Text("tool_call_id")] {
				out = append(out, r)
			}
		}
		i = end
	}
	return out
}

// replayed are the members of a stored message that matter when the history is sent to a model again.
var replayed = map[string]bool{"id": true, "role": true, "content": true, "output": true, "files": true, "contextSummary": true, "usage": true, "model": true, "meta": true}

func replay(stored jsondoc.Doc) message {
	m := &jsondoc.Obj{}
	stored.Each(func(name string, v jsondoc.Doc) bool {
		if replayed[name] {
			m.Set(name, v)
		}
		return true
	})
	return m
}

// withImages turns the image files of a user's message into the parts that models see.
func withImages(m message) {
	if m.Text("role") != "user" || m.Get("content").Kind() != '"' {
		return
	}
	parts := []jsondoc.Doc{textPart(m.Text("content"))}
	any := false
	m.Get("files").Items(func(_ int, f jsondoc.Doc) bool {
		if f.Text("type") != "image" && !rasterImage(f.Text("content_type")) {
			return true
		}
		any = true
		if u := f.Get("url"); u.Truthy() {
			parts = append(parts, jsondoc.Object("type", jsondoc.Text("image_url")).Set(jsondoc.Object("url", u), "image_url"))
		}
		return true
	})
	if any {
		m.Set("content", jsondoc.Array(parts...))
	}
}

// textPart is a text among the parts of a message. Its members, like all that goes to providers, have a fixed order: they
// remember requests by how they begin.
func textPart(text string) jsondoc.Doc {
	return jsondoc.Object("type", jsondoc.Doc(`"text"`)).Set(jsondoc.Text(text), "text")
}

// rasterImage says whether a media type is an image that models can see; SVG is text.
func rasterImage(contentType string) bool {
	main, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	main = strings.TrimSpace(main)
	return strings.HasPrefix(main, "image/") && !strings.HasPrefix(main, "image/svg")
}

// reasoningFormat is how a model wants its earlier reasoning back: in the member "thinking" (Ollama), in
// "reasoning_content" (llama.cpp), or not at all.
func reasoningFormat(ownedBy, provider string) string {
	switch {
	case ownedBy == "ollama":
		return "thinking"
	case provider == "llama.cpp":
		return "reasoning_content"
	}
	return ""
}

// reasoningFormat is how the turn's model wants its earlier reasoning back.
func (t *Turn) reasoningFormat() string {
	provider := ""
	if t.model.Base != nil {
		provider = t.model.Base.Provider
	}
	return reasoningFormat(t.model.OwnedBy, provider)
}

// expandOutputs turns stored messages into what a provider reads: an assistant's output items become its text, tool
// calls and tool results, and members that only concern the chat are dropped. With named, questions say which files they
// came with.
func expandOutputs(ms []message, reasoning, modelID string, named bool) []message {
	var out []message
	for _, m := range ms {
		if m.Text("role") == "assistant" && m.Get("output").Truthy() {
			items := messagesOfOutput(m.Get("output"), reasoning, m.Text("model") == modelID)
			if len(items) > 0 {
				out = append(out, items...)
				continue
			}
			if !m.Get("content").Truthy() {
				continue
			}
		}
		clean := m.Clone()
		if named && m.Text("role") == "user" {
			nameFiles(clean)
		}
		for _, name := range []string{"id", "output", "model", "contextSummary", "context_summary", "usage", "meta", "files"} {
			clean.Pop(name)
		}
		out = append(out, clean)
	}
	return out
}
