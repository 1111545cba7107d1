package tools

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/relay/relaytest"
)

// source is a source of fixed sets, each for the users it names or for all.
type source struct {
	sets []ToolSet
	only map[string]string
	err  error
}

func (s source) List(_ context.Context, p *auth.Principal) ([]ToolSet, error) {
	var out []ToolSet
	for _, set := range s.sets {
		if who := s.only[set.ID]; who == "" || who == p.ID {
			out = append(out, set)
		}
	}
	return out, s.err
}

func TestList(t *testing.T) {
	yes := true
	sources := []ToolSource{
		source{sets: []ToolSet{{ID: "sums", Name: "Sums", Description: "adds", UserID: "admin", CreatedAt: 5, UpdatedAt: 7, Manifest: jsondoc.Doc(`{"title":"T"}`)}, {ID: "secret", Name: "Secret"}},
			only: map[string]string{"secret": "ann"}},
		source{err: errors.New("down")},
		source{sets: []ToolSet{{ID: "server:mcp:x", Name: "Élan", Authenticated: &yes}}},
	}
	for name, c := range map[string]struct {
		env       []string
		who, path string
		ids       string
	}{
		"all that a user may use":  {nil, "ann", "", "sums secret server:mcp:x"},
		"not those of others":      {nil, "bob", "", "sums server:mcp:x"},
		"by name":                  {nil, "ann", "?query=SE", "secret"},
		"by name in other letters": {nil, "bob", "?query=%C3%A9l", "server:mcp:x"},
		"by a name nothing has":    {nil, "bob", "?query=zz", ""},
		"tools off":                {[]string{"ENABLE_TOOLS", "false"}, "ann", "", "server:mcp:x"},
		"servers off":              {[]string{"ENABLE_TOOL_SERVERS", "false"}, "bob", "", "sums"},
		"plugins off":              {[]string{"ENABLE_PLUGINS", "false"}, "ann", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := relaytest.New(t, c.env...)
			b.Router.Mount("/api/v1/tools", New(Deps{Sources: sources, Env: b.Env, Log: slog.New(slog.DiscardHandler)}))
			b.Router.Finish()
			res := b.Call(c.who, "GET /api/v1/tools/"+c.path, "")
			var ids []string
			res.Body.Items(func(_ int, set jsondoc.Doc) bool {
				ids = append(ids, set.Text("id"))
				return true
			})
			if res.Status != 200 || res.Body.Kind() != '[' || strings.Join(ids, " ") != c.ids {
				t.Errorf("%d %s", res.Status, res.Body)
			}
		})
	}
}

func TestShape(t *testing.T) {
	no := false
	b := relaytest.New(t)
	b.Router.Mount("/api/v1/tools", New(Deps{Env: b.Env, Log: slog.New(slog.DiscardHandler), Sources: []ToolSource{source{sets: []ToolSet{
		{ID: "sums", Name: "Sums", Description: "adds", UserID: "admin", CreatedAt: 5, UpdatedAt: 7, Manifest: jsondoc.Doc(`{"title":"T"}`),
			Specs: []jsondoc.Doc{jsondoc.Doc(`{"name":"add"}`)}},
		{ID: "server:mcp:x", Name: "X", Authenticated: &no},
	}}}}))
	b.Router.Finish()
	res := b.Call("ann", "GET /api/v1/tools/", "")
	var got, want []map[string]any
	if err := res.Body.Decode(&got); err != nil || len(got) != 2 {
		t.Fatalf("%v %s", err, res.Body)
	}
	if at, _ := got[1]["created_at"].(float64); at < 1e9 || got[1]["updated_at"] != got[1]["created_at"] {
		t.Errorf("a set without times got %v, %v", got[1]["created_at"], got[1]["updated_at"])
	}
	got[1]["created_at"], got[1]["updated_at"] = nil, nil
	err := jsondoc.Doc(`[
	 {"version_id":null,"id":"sums","user_id":"admin","name":"Sums","meta":{"i18n":null,"description":"adds","manifest":{"title":"T"},"has_user_valves":false},
	  "access_grants":[],"updated_at":7,"created_at":5,"user":null,"specs":[{"name":"add"}]},
	 {"version_id":null,"id":"server:mcp:x","user_id":"server:mcp:x","name":"X","meta":{"i18n":null,"description":"","manifest":{},"has_user_valves":false},
	  "access_grants":[],"updated_at":null,"created_at":null,"user":null,"authenticated":false}]`).Decode(&want)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%v\nwant\n%v", err, got, want)
	}
	if res := b.Call("", "GET /api/v1/tools/", ""); res.Status == 200 {
		t.Errorf("without a name: %d", res.Status)
	}
}

// discovery answers for sets by their ids.
type discovery struct{}

// Specs implements Discoverer.
func (discovery) Specs(ctx context.Context, _ *auth.Principal, _ []*http.Cookie, setID string) ([]jsondoc.Doc, error) {
	switch setID {
	case "server:mcp:good":
		return []jsondoc.Doc{jsondoc.Doc(`{"name":"f","description":"d"}`)}, nil
	case "server:mcp:empty":
		return nil, nil
	case "server:mcp:guarded":
		return nil, ErrSignIn
	case "server:mcp:broken":
		return nil, errors.New("broken")
	case "server:mcp:slow":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, ErrNoTool
}

func TestSpecs(t *testing.T) {
	for name, c := range map[string]struct {
		env    []string
		d      Discoverer
		id     string
		status int
		want   string
	}{
		"good":    {nil, discovery{}, "server:mcp:good", 200, `{"specs":[{"name":"f","description":"d"}]}`},
		"empty":   {nil, discovery{}, "server:mcp:empty", 200, `{"specs":[]}`},
		"guarded": {nil, discovery{}, "server:mcp:guarded", 401, `{"detail":"Auth required"}`},
		"broken":  {nil, discovery{}, "server:mcp:broken", 502, `{"detail":"Unable to load tools"}`},
		"slow":    {nil, discovery{}, "server:mcp:slow", 504, `{"detail":"Tool discovery timed out"}`},
		"unknown": {nil, discovery{}, "server:mcp:x", 404, `{"detail":"Tool not found"}`},
		"OpenAPI": {nil, discovery{}, "server:good", 404, `{"detail":"Tool not found"}`},
		"off":     {[]string{"ENABLE_TOOL_SERVERS", "false"}, discovery{}, "server:mcp:good", 404, `{"detail":"Tool not found"}`},
		"nobody":  {nil, nil, "server:mcp:good", 404, `{"detail":"Tool not found"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := relaytest.New(t, c.env...)
			m := New(Deps{Discover: c.d, Env: b.Env, Log: slog.New(slog.DiscardHandler)})
			m.patience = 20 * time.Millisecond
			b.Router.Mount("/api/v1/tools", m)
			b.Router.Finish()
			if res := b.Call("ann", "GET /api/v1/tools/id/"+c.id+"/specs", ""); res.Status != c.status || strings.TrimSpace(string(res.Body)) != c.want {
				t.Errorf("%d %s", res.Status, res.Body)
			}
		})
	}
}
