package prompt

import "github.com/galleychat/galley/core/jsondoc"

// AddSystem puts a system prompt before a list of messages: above the text of a system message that leads them, else as
// a message of its own.
func AddSystem(messages jsondoc.Doc, system string) jsondoc.Doc {
	list := messages.List()
	if len(list) == 0 || list[0].Text("role") != "system" {
		var b jsondoc.Builder
		b.Add("role", "system")
		b.Add("content", system)
		return jsondoc.Array(append([]jsondoc.Doc{b.Done()}, list...)...)
	}
	content := list[0].Get("content")
	if content.Kind() != '[' {
		list[0] = list[0].Set(jsondoc.Text(system+"\n"+content.Text()), "content")
		return jsondoc.Array(list...)
	}
	parts := content.List()
	for i, part := range parts {
		if part.Text("type") == "text" {
			parts[i] = part.Set(jsondoc.Text(system+"\n"+part.Text("text")), "text")
			break
		}
	}
	list[0] = list[0].Set(jsondoc.Array(parts...), "content")
	return jsondoc.Array(list...)
}
