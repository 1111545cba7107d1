package turn

import (
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// outputReplay collects messages from output items: runs of text, reasoning and tool calls become one assistant
// message, followed by the results of its calls.
type outputReplay struct {
	reasoning string // see reasoningFormat
	details   bool   // reasoning details may be sent: the same model made them
	answered  map[string]bool

	out       []message
	texts     []string
	thoughts  []string
	calls     []jsondoc.Doc
	detailed  []jsondoc.Doc
	results   []jsondoc.Doc
	imageURLs []jsondoc.Doc
}

// messagesOfOutput rebuilds the messages that stored output items stand for. Calls without a result are left out.
func messagesOfOutput(output jsondoc.Doc, reasoning string, details bool) []message {
	r := outputReplay{reasoning: reasoning, details: details, answered: map[string]bool{}}
	finished := map[string]bool{}
	output.Items(func(_ int, item jsondoc.Doc) bool {
		id := item.Text("call_id")
		switch item.Text("type") {
		case "function_call":
			switch item.Text("status") {
			case "completed", "failed", "rejected":
				finished[id] = true
			}
		case "function_call_output":
			r.answered[id] = true
		}
		return true
	})
	for id := range r.answered {
		if id == "" || !finished[id] {
			delete(r.answered, id)
		}
	}
	output.Items(func(_ int, item jsondoc.Doc) bool {
		r.item(item)
		return true
	})
	r.flushResults()
	r.flushImages()
	r.flush()
	return pairTools(r.out)
}

func (r *outputReplay) item(item jsondoc.Doc) {
	kind := item.Text("type")
	if kind != "function_call_output" {
		r.flushResults()
		r.flushImages()
	}
	switch kind {
	case "message":
		var b strings.Builder
		item.Get("content").Items(func(_ int, p jsondoc.Doc) bool {
			if p.Text("type") == "output_text" {
				b.WriteString(p.Text("text"))
			}
			return true
		})
		if b.Len() > 0 {
			r.texts = append(r.texts, b.String())
		}
	case "function_call":
		if id := item.Text("call_id"); r.answered[id] {
			function := jsondoc.Object("name", jsondoc.Text(item.Text("name"))).Set(jsondoc.Text(item.Text("arguments")), "arguments")
			call := jsondoc.Object("id", jsondoc.Text(id)).Set(jsondoc.Doc(`"function"`), "type")
			r.calls = append(r.calls, call.Set(function, "function"))
		}
	case "function_call_output":
		if r.answered[item.Text("call_id")] {
			r.results = append(r.results, item)
		}
	case "reasoning":
		r.thought(item)
	case "open_webui:code_interpreter":
		r.code(item)
	}
}

func (r *outputReplay) thought(item jsondoc.Doc) {
	if r.details {
		d := item.Get("reasoning_details")
		list := d.List()
		if d.Kind() == '{' {
			list = []jsondoc.Doc{d}
		}
		for _, one := range list {
			// Anthropic's details are only valid with the signature they came with
			if one.Kind() == '{' && (one.Text("format") != "anthropic-claude-v1" || one.Get("signature").Truthy()) {
				r.detailed = append(r.detailed, one)
			}
		}
	}
	if r.reasoning == "" {
		return
	}
	source := item.Get("summary")
	if !source.Truthy() {
		source = item.Get("content")
	}
	var b strings.Builder
	source.Items(func(_ int, p jsondoc.Doc) bool {
		b.WriteString(p.Text("text"))
		return true
	})
	if b.Len() > 0 {
		r.thoughts = append(r.thoughts, b.String())
	}
}

// code tells the model which code has run, so that it does not ask for it again.
func (r *outputReplay) code(item jsondoc.Doc) {
	if code := item.Text("code"); code != "" {
		r.texts = append(r.texts, "<code_interpreter>\n"+code+"\n</code_interpreter>")
	}
	result := item.Get("output")
	text, _ := result.AsText()
	if result.Kind() == '{' {
		if text = result.Text("stdout"); text == "" {
			text = result.Text("result")
		}
	}
	if text != "" {
		r.texts = append(r.texts, "<code_interpreter_output>\n"+text+"\n</code_interpreter_output>")
	}
}

func (r *outputReplay) flush() {
	if len(r.texts)+len(r.calls)+len(r.thoughts)+len(r.detailed) == 0 {
		return
	}
	m := newMessage("assistant", strings.Join(r.texts, "\n"))
	if len(r.calls) > 0 {
		m.Set("tool_calls", jsondoc.Array(r.calls...))
	}
	if len(r.thoughts) > 0 {
		m.Set(r.reasoning, jsondoc.Text(strings.Join(r.thoughts, "\n")))
	}
	if len(r.detailed) > 0 {
		m.Set("reasoning_details", jsondoc.Array(r.detailed...))
	}
	r.out = append(r.out, m)
	r.texts, r.calls, r.thoughts, r.detailed = nil, nil, nil, nil
}

func (r *outputReplay) flushResults() {
	if len(r.results) == 0 {
		return
	}
	r.flush()
	for _, item := range r.results {
		var b strings.Builder
		item.Get("output").Items(func(_ int, p jsondoc.Doc) bool {
			switch p.Text("type") {
			case "input_text":
				b.WriteString(p.Text("text"))
			case "input_image":
				if u := p.Get("image_url"); u.Truthy() {
					r.imageURLs = append(r.imageURLs, u)
				}
			}
			return true
		})
		m := newMessage("tool", b.String())
		m.Set("tool_call_id", jsondoc.Text(item.Text("call_id")))
		r.out = append(r.out, m)
	}
	r.results = nil
}

// flushImages shows images of tool results in a user's message, the only place where chat completions take them.
func (r *outputReplay) flushImages() {
	if len(r.imageURLs) == 0 {
		return
	}
	parts := []jsondoc.Doc{textPart("These images came with the tool results above.")}
	for _, u := range r.imageURLs {
		parts = append(parts, jsondoc.Object("type", jsondoc.Text("image_url")).Set(jsondoc.Object("url", u), "image_url"))
	}
	m := newMessage("user", "")
	m.Set("content", jsondoc.Array(parts...))
	r.out = append(r.out, m)
	r.imageURLs = nil
}
