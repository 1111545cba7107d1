package pytools_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/pyhost/pyhosttest"
	"github.com/galleychat/galley/core/pytools"
	"github.com/galleychat/galley/core/store/storetest"
	rows "github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
)

const source = `
from pydantic import BaseModel
from fastapi.responses import HTMLResponse
class Tools:
    class Valves(BaseModel):
        unit: str = "apples"
    class UserValves(BaseModel):
        polite: bool = False
    def __init__(self): self.valves = self.Valves()
    def add(self, a: int, b: int = 1, __user__: dict = {}, __id__=None) -> str:
        """
        Adds.
        :param a: the first
        """
        return f"{a + b} {self.valves.unit} {__user__['valves'].polite} {__user__['name']} {__id__}"
    async def about(self, __metadata__, __messages__, __event_emitter__, __chat_id__):
        await __event_emitter__({"type": "status", "data": {"description": "looking"}})
        return {"metadata": __metadata__, "messages": __messages__, "chat": __chat_id__}
    async def ask(self, __event_call__): return await __event_call__({"type": "input", "data": {"title": "T"}})
    def page(self): return HTMLResponse("<p>", headers={"Content-Disposition": "inline"})
    def broken(self): return HTMLResponse("<p>", 503, {"Content-Disposition": "inline"})
    def picture(self): return "data:image/png;base64,AAAA"
    def mixed(self): return ["x", "data:text/plain;base64,AA=="]
    def fails(self): raise ValueError("no")
`

func newService(t *testing.T, host *pyhost.Host) (*sessiontest.Server, *pytools.Service) {
	t.Helper()
	s := sessiontest.New(t, storetest.SQLite(t))
	return s, &pytools.Service{Rows: rows.New(s.DB, s.Access), Host: host, Access: s.Access, Users: s.Users, Env: s.Env, Log: slog.New(slog.DiscardHandler)}
}

// insert stores a tool as the API would.
func insert(t *testing.T, s *pytools.Service, id, code string, owner *users.User, specs []jsondoc.Doc, grants ...access.Grant) {
	t.Helper()
	if _, err := s.Rows.Insert(t.Context(), id, owner.ID, rows.Form{Name: id, Content: code, Meta: rows.Shape(nil), Specs: specs}, grants); err != nil {
		t.Fatal(err)
	}
}

func TestTools(t *testing.T) {
	server, s := newService(t, pyhosttest.New(t, nil))
	boss, _ := server.User("Boss", "admin")
	ann, _ := server.User("Ann", "user")
	bob, _ := server.User("Bob", "user")
	ctx := t.Context()
	m, err := s.Load(ctx, "sums", source, nil)
	if err != nil {
		t.Fatal(err)
	}
	insert(t, s, "sums", source, boss, m.Specs, access.Grant{PrincipalType: access.PrincipalUser, PrincipalID: ann.ID, Permission: access.Read})
	insert(t, s, "bad", "class Tools(:", boss, []jsondoc.Doc{jsondoc.Doc(`{"name":"late","description":"d","parameters":{"type":"object","properties":{"a":{"type":"str"},"__user__":{}}}}`)})
	sums, err := s.Rows.Get(ctx, "sums")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetValves(ctx, sums, jsondoc.Doc(`{"unit":"pears"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetUserValves(ctx, ann.ID, sums, jsondoc.Doc(`{"polite":true}`)); err != nil {
		t.Fatal(err)
	}

	for who, want := range map[*users.User]int{boss: 9, ann: 8, bob: 0} {
		if list, err := s.Tools(ctx, turn.Scope{Principal: &auth.Principal{User: who}}, []string{"bad", "sums", "none", "server:x"}); err != nil || len(list) != want {
			t.Errorf("%s: %d tools, %v", who.Name, len(list), err)
		}
	}
	list, err := s.Tools(ctx, turn.Scope{Principal: &auth.Principal{User: ann}}, []string{"sums"})
	if err != nil {
		t.Fatal(err)
	}
	tools := map[string]turn.Tool{}
	for _, tool := range list {
		tools[tool.Name] = tool
	}
	if add := tools["add"]; add.Set != "sums" || add.Description != "\n        Adds.\n        " || add.Parameters.Get("properties").Len() != 2 {
		t.Errorf("%+v %s", add, add.Parameters)
	}
	var told []string
	call := func(name, arguments string) (turn.ToolResult, error) {
		return tools[name].Call(ctx, turn.ToolCall{
			Name: name, Arguments: jsondoc.Doc(arguments), ChatID: "c", About: func(what string) jsondoc.Doc { return jsondoc.Text(what) },
			Emit: func(kind string, data jsondoc.Doc) { told = append(told, kind+" "+data.Text("description")) },
			Ask: func(_ context.Context, kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
				return jsondoc.Text(kind + " " + data.Text("title")), nil
			},
		})
	}
	for _, c := range []struct{ name, arguments, content, files, embeds string }{
		{"add", `{"a":1}`, `"2 pears True Ann sums"`, `[]`, `[]`},
		{"about", `{}`, `{"metadata":"metadata","messages":"messages","chat":"c"}`, `[]`, `[]`},
		{"ask", `{}`, `"input T"`, `[]`, `[]`},
		{"page", `{}`, `{"status":"success","code":"ui_component","message":"page: Embedded UI result is active and visible to the user."}`, `[]`, `["<p>"]`},
		{"broken", `{}`, `{"status":"error","code":"ui_component","message":"broken: Server error 503 from embedded UI result."}`, `[]`, `["<p>"]`},
		{"picture", `{}`, `"picture: Image file read successfully."`, `[{"type":"image","url":"data:image/png;base64,AAAA"}]`, `[]`},
		{"mixed", `{}`, `["x"]`, `[{"type":"data","content":"data:text/plain;base64,AA=="}]`, `[]`},
	} {
		r, err := call(c.name, c.arguments)
		if err != nil || !jsondoc.Same(r.Content, jsondoc.Doc(c.content)) || !jsondoc.Same(jsondoc.Array(r.Files...), jsondoc.Doc(c.files)) || !jsondoc.Same(jsondoc.Array(r.Embeds...), jsondoc.Doc(c.embeds)) {
			t.Errorf("%s: %s %s %s, %v", c.name, r.Content, r.Files, r.Embeds, err)
		}
	}
	if _, err := call("fails", `{}`); err == nil || err.Error() != "no" {
		t.Error(err)
	}
	if got := strings.Join(told, ","); got != "status looking" {
		t.Error(got)
	}

	// a tool that does not load is offered as it is stored, and its calls say why
	list, err = s.Tools(ctx, turn.Scope{Principal: &auth.Principal{User: boss}}, []string{"bad"})
	if err != nil || len(list) != 1 || !jsondoc.Same(list[0].Parameters, jsondoc.Doc(`{"type":"object","properties":{"a":{"type":"string"}}}`)) {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := list[0].Call(ctx, turn.ToolCall{Name: "late"}); err == nil || !strings.HasPrefix(err.Error(), "invalid syntax") {
		t.Error(err)
	}
}
