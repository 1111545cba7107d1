package web

import (
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

func TestDynamicOpenAPI(t *testing.T) {
	r := builtinRouter(Options{Version: "1"})
	before := string(r.OpenAPI())
	h := tell("x")
	schema := jsondoc.Doc(`{"summary":"of the schema","description":"of the schema","tags":["own"],"security":[],"deprecated":true,"x-level":"public",` +
		`"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}},{"name":"q","in":"query","schema":{"type":"number","maximum":NaN}}],` +
		`"requestBody":{"content":{"text/plain":{}}},"responses":{"201":{"description":"Made"},"401":{"description":"Own"}}}`)
	set(t, r, "plugin:b", []DynamicRoute{
		{Path: "/b/any/{id}", Level: auth.Optional, Handler: h},
		{Method: "GET", Path: "/b/any/{id}", Level: auth.Admin, Permission: "features.notes", Summary: "One", Description: "One of them.", Handler: h},
		{Method: "POST", Path: "/c/{id}/made", Level: auth.Verified, Summary: "Make", Schema: schema, Handler: h},
	})
	set(t, r, "plugin:a", []DynamicRoute{
		{Method: "GET", Path: "/t/{rest}/tree/", Handler: h},
		{Path: "/a/end/{$}", Handler: h},
		{Method: "HEAD", Path: "/a/all/{path...}", Handler: h},
		{Method: "PROPFIND", Path: "/a/all/{path...}", Handler: h},
		{Path: "/p/{id}/logs", Handler: h}, // its GET is a built-in one
	})
	doc := jsondoc.Doc(r.OpenAPI())
	if strings.Contains(string(doc), "NaN") {
		t.Error("the document is no JSON")
	}
	const ok = `{"200":{"description":"Successful response"}}`
	refused := func(text string) string {
		return `{"description":"` + text + `","content":{"application/json":{"schema":{"type":"object","properties":{"detail":{}}}}}}`
	}
	const text = `"required":true,"schema":{"type":"string"}}`
	const rest = `"description":"The rest of the path, slashes included.",` + text
	for _, c := range []struct {
		path []string
		want string
	}{
		{[]string{"tags"}, `[{"name":"patterns"},{"name":"plugin:a"},{"name":"plugin:b"}]`},
		{[]string{"paths", "/b/any/{id}", "get"}, `{"tags":["plugin:b"],"summary":"One","description":"One of them.","operationId":"get_b_any__id","parameters":[{"name":"id","in":"path",` + text + `],` +
			`"responses":{"200":{"description":"Successful response"},"401":` + refused("No or no valid credentials, or not enough rights") + `,"403":` + refused("The permission features.notes is missing") + `},` +
			`"security":[{"bearer":[]},{"cookie":[]}],"x-level":"admin","x-permission":"features.notes"}`},
		{[]string{"paths", "/b/any/{id}", "patch"}, `{"tags":["plugin:b"],"operationId":"patch_b_any__id","parameters":[{"name":"id","in":"path",` + text + `],"responses":` + ok +
			`,"security":[{"bearer":[]},{"cookie":[]},{}]}`},
		{[]string{"paths", "/c/{id}/made", "post"}, `{"tags":["plugin:b"],"summary":"Make","operationId":"post_c__id__made","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}},` +
			`{"name":"q","in":"query","schema":{"type":"number","maximum":null}}],"description":"of the schema","deprecated":true,"requestBody":{"content":{"text/plain":{}}},` +
			`"responses":{"201":{"description":"Made"},"401":{"description":"Own"}},"security":[{"bearer":[]},{"cookie":[]}],"x-level":"verified"}`},
		{[]string{"paths", "/t/{rest}/tree/{rest2}", "get"}, `{"tags":["plugin:a"],"operationId":"get_t__rest__tree__rest2","parameters":[{"name":"rest","in":"path",` + text + `,{"name":"rest2","in":"path",` + rest + `],"responses":` + ok + `}`},
		{[]string{"paths", "/a/end/", "delete"}, `{"tags":["plugin:a"],"operationId":"delete_a_end_root","responses":` + ok + `}`},
		{[]string{"paths", "/p/{id}/logs", "put", "tags"}, `["plugin:a"]`},
		{[]string{"paths", "/p/{id}/logs", "get", "tags"}, `["patterns"]`},
	} {
		if got := string(doc.Get(c.path...)); got != c.want {
			t.Errorf("%v:\n%s, want\n%s", c.path, got, c.want)
		}
	}
	for path, want := range map[string]string{"/b/any/{id}": "get post put patch delete", "/a/all/{path}": "head", "/p/{id}/logs": "get post put patch delete", "/a/end/": "get post put patch delete"} {
		var got []string
		doc.Get("paths", path).Each(func(name string, _ jsondoc.Doc) bool { got = append(got, name); return true })
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", path, got, want)
		}
	}
	var ids []string
	doc.Get("paths").Each(func(_ string, item jsondoc.Doc) bool {
		item.Each(func(_ string, op jsondoc.Doc) bool { ids = append(ids, op.Text("operationId")); return true })
		return true
	})
	slices.Sort(ids)
	if n := len(ids); len(slices.Compact(ids)) != n || slices.Contains(ids, "") {
		t.Error("an operation id stands twice, or is missing")
	}
	r.RemoveDynamic("plugin:a")
	if doc := jsondoc.Doc(r.OpenAPI()); doc.Get("paths", "/a/end/") != nil || doc.Get("paths", "/b/any/{id}") == nil || strings.Contains(string(doc), "plugin:a") {
		t.Error("a route that has gone is described")
	}
	r.RemoveDynamic("plugin:b")
	if string(r.OpenAPI()) != before {
		t.Error("the document is not as before")
	}
}
