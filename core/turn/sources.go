package turn

import (
	"context"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// source is the result of a call as a source that answers can cite.
func (r *request) source(text string) jsondoc.Doc {
	name := r.name
	if r.tool.Set != "" {
		name = r.tool.Set + "/" + r.name
	}
	quoted := jsondoc.Text(name)
	var b jsondoc.Builder
	b.Raw("source", jsondoc.Object("name", quoted))
	b.Raw("document", jsondoc.Array(jsondoc.Text(text)))
	b.Raw("metadata", jsondoc.Array(jsondoc.Object("source", quoted).Set(r.arguments, "parameters")))
	b.Raw("tool_result", jsondoc.Doc("true"))
	return b.Done()
}

// withSources puts sources before the question, by the operator's template; or behind the system prompt, if the operator
// wants them there.
func (e *Engine) withSources(ctx context.Context, t *Turn, ms []message, sources []jsondoc.Doc) []message {
	question, _ := lastQuestion(ms)
	text := strings.TrimSpace(sourceContext(sources))
	if question == "" || text == "" {
		return ms
	}
	template := e.render(ctx, t, config.RAGTemplate.Get(e.Settings.Snapshot()))
	text = strings.NewReplacer("[context]", text, "{{CONTEXT}}", text, "[query]", question, "{{QUERY}}", question).Replace(template)
	if e.Env.Chat.RAGInSystem {
		return addSystem(ms, text, true)
	}
	if last := len(ms) - 1; ms[last].Text("role") == "user" {
		ms[last] = joinContent(ms[last], text, false)
		return ms
	}
	return append(ms, newMessage("user", text))
}

// sourceContext writes sources as models are given them: one element for each document, with the number to cite.
func sourceContext(sources []jsondoc.Doc) string {
	numbers := map[string]int{}
	var b strings.Builder
	for _, s := range sources {
		metadata := s.Get("metadata")
		s.Get("document").Items(func(i int, document jsondoc.Doc) bool {
			id := metadata.Text(strconv.Itoa(i), "source")
			if id == "" {
				id = s.Text("source", "id")
			}
			if numbers[id] == 0 {
				numbers[id] = len(numbers) + 1
			}
			b.WriteString(`<source id="` + strconv.Itoa(numbers[id]) + `"`)
			for _, attribute := range [][2]string{{"name", "name"}, {"resource-type", "type"}, {"resource-id", "id"}} {
				if v := s.Text("source", attribute[1]); v != "" {
					b.WriteString(" " + attribute[0] + `="` + v + `"`)
				}
			}
			b.WriteString(">" + document.Text() + "</source>\n")
			return true
		})
	}
	return b.String()
}

// sourcesEvent is {"sources": …} of the sources that have a name; nil for none.
func (t *Turn) sourcesEvent() jsondoc.Doc {
	if len(t.sources) == 0 {
		return nil
	}
	return jsondoc.Object("sources", jsondoc.Array(t.sources...))
}

// tellSources shows and stores the sources before the answer begins.
func (e *Engine) tellSources(ctx context.Context, t *Turn) error {
	event := t.sourcesEvent()
	if event == nil {
		return nil
	}
	t.em.own("chat:completion", event)
	if t.em.watched() {
		t.em.others("chat:completion", event)
	}
	if !savedChat(t.chatID) {
		return nil
	}
	return e.Store.Update(ctx, t.chatID, t.messageID, event, true)
}
