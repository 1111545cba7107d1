package pytools

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/pyhost"
	rows "github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
)

// Service is the Python tools. Its methods may be called at once.
type Service struct {
	Rows   *rows.Store
	Host   *pyhost.Host
	Access *access.Access
	Users  *users.Store
	Env    *config.Env
	Log    *slog.Logger
}

func source(t *rows.Tool) pyhost.Source { return Source(t.ID, t.Source()) }

// Source is the code of a tool as it runs.
func Source(id, content string) pyhost.Source {
	return pyhost.Source{Kind: pyhost.KindTool, ID: id, Text: pyhost.Current(content)}
}

// Load loads code that is to become a tool's, and checks that the valves that are stored suit it.
func (s *Service) Load(ctx context.Context, id, content string, valves jsondoc.Doc) (*pyhost.Module, error) {
	src := Source(id, content)
	m, err := s.Host.Load(ctx, src)
	if err == nil && m.Valves {
		err = s.Host.CheckValves(ctx, src, s.unseal(ctx, valves))
	}
	return m, err
}

// ValvesSchema is the form of a tool's valves, or of those of a user.
func (s *Service) ValvesSchema(ctx context.Context, t *rows.Tool, ofUsers bool, u *users.User) (jsondoc.Doc, error) {
	return s.Host.ValvesSchema(ctx, source(t), ofUsers, jsondoc.Of(u))
}

// usable says which tools somebody may use: the own, granted ones, and all for administrators whom grants do not bind.
func (s *Service) usable(ctx context.Context, p *auth.Principal, found map[string]*rows.Tool) (map[string]bool, error) {
	ids := make([]string, 0, len(found))
	out := map[string]bool{}
	for id, t := range found {
		if p.IsAdmin() && s.Env.BypassAdminAccess || t.UserID != nil && *t.UserID == p.ID {
			out[id] = true
			continue
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return out, nil
	}
	granted, err := s.Access.CanAmong(ctx, p.ID, rows.ResourceType, ids, access.Read)
	for id := range granted {
		out[id] = granted[id]
	}
	return out, err
}

// Tools implements turn.Toolbox. A tool that does not load is offered as it is stored: its calls tell why it does not run.
func (s *Service) Tools(ctx context.Context, scope turn.Scope, ids []string) ([]turn.Tool, error) {
	p := scope.Principal
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return strings.Contains(id, ":") })
	found, err := s.Rows.ByIDs(ctx, ids)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	may, err := s.usable(ctx, p, found)
	if err != nil {
		return nil, err
	}
	var user *users.User
	var out []turn.Tool
	for _, id := range ids {
		t := found[id]
		if t == nil || !may[id] {
			continue
		}
		if user == nil { // the settings of the session may be a little old
			if user, err = s.Users.ByID(ctx, p.ID); err != nil {
				return nil, err
			}
		}
		m, err := s.Host.Load(ctx, source(t))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			s.Log.WarnContext(ctx, "a tool does not load", "tool", id, "error", err)
		}
		b := binding{s: s, t: t, user: user, valves: s.Valves(ctx, t), userValves: s.UserValves(ctx, user, id)}
		for _, spec := range t.Specs {
			name := spec.Text("name")
			if !pyhost.IsIdentifier(name) { // a lambda's
				continue
			}
			tool := turn.Tool{Set: id, Name: name, Description: spec.Text("description"), Parameters: parameters(spec), Call: b.call}
			if m != nil {
				offered, ok := m.Offered[name]
				if !ok {
					continue // of specs that somebody else derived
				}
				tool.Description = offered
			}
			out = append(out, tool)
		}
	}
	return out, nil
}

// parameters are those of a spec that models are to fill in.
func parameters(spec jsondoc.Doc) jsondoc.Doc {
	p := spec.Get("parameters")
	properties := p.Get("properties")
	if properties.Kind() != '{' {
		return p
	}
	o := jsondoc.Open(properties)
	properties.Each(func(name string, v jsondoc.Doc) bool {
		switch {
		case strings.HasPrefix(name, "__"):
			o.Pop(name)
		case v.Text("type") == "str":
			o.Set(name, v.Set(jsondoc.Doc(`"string"`), "type"))
		}
		return true
	})
	return p.Set(o.Doc(), "properties")
}

// binding is a tool on behalf of a user.
type binding struct {
	s                  *Service
	t                  *rows.Tool
	user               *users.User
	valves, userValves jsondoc.Doc
}

func (b binding) call(ctx context.Context, c turn.ToolCall) (turn.ToolResult, error) {
	src := source(b.t)
	m, err := b.s.Host.Load(ctx, src)
	if err != nil {
		return turn.ToolResult{}, err
	}
	r, err := b.s.Host.Call(ctx, src, pyhost.Call{
		Function: c.Name, Arguments: c.Arguments, Extra: b.extra(c, m.Takes[c.Name]), Valves: b.valves, UserValves: b.userValves,
		Emit: func(e jsondoc.Doc) { c.Emit(e.Text("type"), e.Get("data")) },
		Ask: func(ctx context.Context, e jsondoc.Doc) (jsondoc.Doc, error) {
			return c.Ask(ctx, e.Text("type"), e.Get("data"))
		},
	})
	if err != nil {
		return turn.ToolResult{}, err
	}
	return result(c.Name, r), nil
}

// extra are the parameters that the server fills in, as far as a function takes them.
func (b binding) extra(c turn.ToolCall, takes []string) jsondoc.Doc {
	text := func(s string) jsondoc.Doc {
		if s == "" {
			return jsondoc.Doc("null")
		}
		return jsondoc.Text(s)
	}
	var out jsondoc.Builder
	for _, name := range takes {
		switch name {
		case "__user__":
			out.Add(name, b.user)
		case "__id__":
			out.Raw(name, jsondoc.Text(b.t.ID))
		case "__chat_id__":
			out.Raw(name, text(c.ChatID))
		case "__message_id__":
			out.Raw(name, text(c.MessageID))
		case "__session_id__":
			out.Raw(name, text(c.SessionID))
		case "__oauth_token__":
			out.Raw(name, jsondoc.Doc("null"))
		case "__metadata__", "__model__", "__messages__", "__files__":
			if c.About != nil {
				out.Raw(name, c.About(strings.Trim(name, "_")))
			}
		}
	}
	return out.Done()
}

// result is what a function gave, as turns know it.
func result(name string, r pyhost.Result) turn.ToolResult {
	out := turn.ToolResult{Content: r.Content}
	if r.Page != nil {
		out.Embeds = []jsondoc.Doc{jsondoc.Text(*r.Page)}
		if problem := pageProblem(r.Status); problem != "" {
			out.Content = pageText("error", name+": "+problem)
		} else if r.Content.IsNull() {
			out.Content = pageText("success", name+": Embedded UI result is active and visible to the user.")
		}
	}
	if text, ok := out.Content.AsText(); ok && strings.HasPrefix(text, "data:image/") {
		out.Files = append(out.Files, jsondoc.Object("type", jsondoc.Doc(`"image"`)).Set(out.Content, "url"))
		out.Content = jsondoc.Text(name + ": Image file read successfully.")
	}
	if out.Content.Kind() == '[' {
		out.Content = takeData(out.Content, &out.Files)
	}
	return out
}

func pageText(status, message string) jsondoc.Doc {
	return jsondoc.Object("status", jsondoc.Text(status)).Set(jsondoc.Doc(`"ui_component"`), "code").Set(jsondoc.Text(message), "message")
}

// pageProblem is what models are told of a page that is an error.
func pageProblem(status int) string {
	number := jsondoc.Of(status).String()
	switch {
	case status >= 200 && status < 300:
		return ""
	case status >= 400 && status < 500:
		return "Client error " + number + " from embedded UI result."
	case status >= 500 && status < 600:
		return "Server error " + number + " from embedded UI result."
	}
	return "Unexpected status code " + number + " from embedded UI result."
}

// takeData moves data that is no image out of a list.
func takeData(list jsondoc.Doc, files *[]jsondoc.Doc) jsondoc.Doc {
	items := slices.DeleteFunc(list.List(), func(v jsondoc.Doc) bool {
		text, ok := v.AsText()
		if !ok || !strings.HasPrefix(text, "data:") || strings.HasPrefix(text, "data:image/") {
			return false
		}
		*files = append(*files, jsondoc.Object("type", jsondoc.Doc(`"data"`)).Set(v, "content"))
		return true
	})
	return jsondoc.Array(items...)
}
