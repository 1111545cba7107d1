package turn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// directPermission lets people use tool servers of their own, which their page calls.
const directPermission = "features.direct_tool_servers"

// parseDirect takes the tool servers that a page has connected itself: {"url", "specs", "system_prompt", …} of each. They
// are dropped silently where the person may have none.
func (e *Engine) parseDirect(ctx context.Context, t *Turn, servers jsondoc.Doc) error {
	if servers.Len() == 0 || !e.Env.ToolServers || !config.DirectIntegrationsEnable.Get(e.Settings.Snapshot()) {
		return nil
	}
	if may, err := e.permits(ctx, t.p, directPermission); err != nil || !may {
		return err
	}
	t.directServers = slices.DeleteFunc(servers.List(), func(d jsondoc.Doc) bool { return d.Kind() != '{' })
	return nil
}

func (e *Engine) permits(ctx context.Context, p *auth.Principal, permission string) (bool, error) {
	if e.Permit == nil {
		return true, nil
	}
	return e.Permit(ctx, p, permission)
}

// addDirect adds the tools of the page's servers. They go before others of their names.
func (e *Engine) addDirect(t *Turn) {
	terminals := Unless(t.model.Meta().Get("capabilities"), "terminal")
	for _, server := range t.directServers {
		if server.Bool("is_terminal") && !terminals {
			continue
		}
		if prompt := server.Text("system_prompt"); prompt != "" {
			t.instructions = append(t.instructions, prompt)
		}
		told := server.Delete("system_prompt").Delete("specs")
		for _, spec := range server.Get("specs").List() {
			if spec.Text("name") != "" {
				t.tools = t.tools.replace(e.directTool(t, told, spec))
			}
		}
	}
}

// replace adds a tool, in the place of one of its name.
func (s toolset) replace(tool Tool) toolset {
	named := namedTool{tool, tool.Name}
	if at := slices.IndexFunc(s, func(n namedTool) bool { return n.as == tool.Name }); at >= 0 {
		s[at] = named
		return s
	}
	return append(s, named)
}

var errNoToolPage = errors.New("Error: Browser session is not connected for this direct tool.") //nolint:staticcheck // shown to models

// directTool is a tool that the page calls.
func (e *Engine) directTool(t *Turn, server, spec jsondoc.Doc) Tool {
	name := spec.Text("name")
	return Tool{
		Set: "direct_server:" + server.Text("url"), Name: name, Function: spec, Parameters: spec.Get("parameters"),
		Call: func(ctx context.Context, c ToolCall) (ToolResult, error) {
			if t.session == "" || t.chatID == "" || t.messageID == "" {
				return TextResult(errNoToolPage.Error()), nil
			}
			var b jsondoc.Builder
			b.Add("id", store.NewID())
			b.Raw("name", jsondoc.Text(name))
			b.Raw("params", c.Arguments)
			b.Raw("server", server)
			b.Raw("session_id", jsondoc.Text(t.session))
			answer, err := e.callBrowser(ctx, t, "execute:tool", b.Done(), e.Env.WebSocket.CallTimeout)
			if err != nil {
				return ToolResult{}, err
			}
			parts := answer.List()
			if len(parts) != 2 {
				return WebResult(name, answer, func(string) string { return "" }), nil
			}
			header := http.Header{}
			parts[1].Each(func(k string, v jsondoc.Doc) bool {
				header.Set(k, v.Text())
				return true
			})
			return WebResult(name, parts[0], header.Get), nil
		},
	}
}

// WebResult is what a tool answered by HTTP: content is its body as JSON (text as a string, anything else as a data URI).
// What is to be shown inline, a page or the address of one, is shown to the user, and the model is told so.
func WebResult(name string, content jsondoc.Doc, header func(string) string) (out ToolResult) {
	if out.Content = content; strings.Contains(header("Content-Disposition"), "inline") {
		var page, told jsondoc.Doc
		shown := content
		if parts := content.List(); len(parts) == 2 { // with what the model is to be told
			shown, told = parts[0], parts[1]
		}
		switch location := header("Location"); {
		case strings.Contains(header("Content-Type"), "text/html"):
			page = shown
		case location != "":
			page = jsondoc.Text(location)
		}
		if page != nil {
			out.Embeds = []jsondoc.Doc{page}
			if out.Content = told; told.IsNull() {
				out.Content = embedded(name)
			}
			return out
		}
	}
	if s, ok := content.AsText(); ok && strings.HasPrefix(s, "data:image/") {
		out.Files = []jsondoc.Doc{jsondoc.Object("type", jsondoc.Doc(`"image"`)).Set(content, "url")}
		out.Content = jsondoc.Text(name + ": Image file read successfully.")
		return out
	}
	if content.Kind() == '[' {
		var rest []jsondoc.Doc
		for _, v := range content.List() {
			if s, ok := v.AsText(); ok && strings.HasPrefix(s, "data:") && !imageURI.MatchString(s) {
				out.Files = append(out.Files, jsondoc.Object("type", jsondoc.Doc(`"data"`)).Set(v, "content"))
			} else {
				rest = append(rest, v)
			}
		}
		out.Content = jsondoc.Array(rest...)
	}
	return out
}

// embedded is what the model is told of a result that the user sees as a page.
func embedded(name string) jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("status", "success")
	b.Add("code", "ui_component")
	b.Add("message", name+": Embedded UI result is active and visible to the user.")
	return b.Done()
}
