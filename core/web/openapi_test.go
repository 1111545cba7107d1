package web

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// describedModule has a field of every kind.
type describedModule struct{}

type tree struct {
	Name     string  `json:"name"`
	Children []*tree `json:"children"`
}

type treeForm struct {
	Name string             `json:"name" minlen:"1" maxlen:"9" pattern:"^a"`
	Kind string             `json:"kind" enum:"a,b" default:"a"`
	N    int                `json:"n" ge:"1" lt:"5"`
	F    Opt[float64]       `json:"f" gt:"0" le:"1"`
	Sub  []treeForm         `json:"sub" default:"[]" maxitems:"3"`
	Map  map[string]int     `json:"map" default:"{}"`
	Dict Null[Dict]         `json:"dict"`
	List Opt[List]          `json:"list"`
	Any  jsondoc.Doc        `json:"any" default:"null"`
	Own  described          `json:"own"`
	Ptr  *bool              `json:"ptr"`
	Rest Extra              `json:"-"`
	None Opt[[]Null[point]] `json:"none"`
}

type described struct{ s string }

func (d *described) DecodeField(raw jsondoc.Doc, loc Loc) Problems {
	d.s = raw.String()
	return nil
}

func (*described) JSONSchema() jsondoc.Doc { return jsondoc.Doc(`{"type":"string","format":"own"}`) }

type base struct {
	ID string `json:"id"`
}

type answer struct {
	base
	Tree  *tree            `json:"tree"`
	When  time.Time        `json:"when"`
	Map   map[string][]int `json:"map"`
	Maybe string           `json:"maybe,omitzero"`
	Any   any              `json:"any"`
	Opt   Opt[bool]        `json:"opt"`
	none  int
}

func (describedModule) Name() string { return "trees" }

func (describedModule) Routes(g *Group) {
	g.Add("POST /{id}/grow", JSON(auth.Verified, growTree))
	g.Add("GET /{id}/{rest:path}", JSON(auth.Optional, func(_ *Call, in struct {
		ID    string      `path:"id"`
		Rest  string      `path:"rest"`
		Page  int         `query:"page" default:"1" ge:"1"`
		Tags  []string    `query:"tag" default:"[]"`
		Agent string      `header:"User-Agent"`
		Token Opt[string] `cookie:"token"`
	}) (Raw, error) {
		return Raw{}, nil
	}))
	g.Add("POST /upload", JSON(auth.Admin, func(*Call, fileIn) (Done, error) { return Done{}, nil }))
	g.Add("GET /", JSON(auth.Public, func(*Call, None) ([]tree, error) { return nil, nil }))
	g.Add("DELETE /", JSON(auth.Public, func(*Call, None) (NullAnswer, error) { return NullAnswer{}, nil }))
	g.Add("POST /parts", JSON(auth.Public, func(_ *Call, in struct {
		Body embedOptForm `body:"embed"`
	}) (M, error) {
		return nil, nil
	}))
}

func growTree(_ *Call, in struct {
	ID   string `path:"id"`
	Body treeForm
}) (*answer, error) {
	return &answer{none: 1}, nil
}

func describedRouter() *Router {
	r := New(Options{Version: "1.2.3", Logger: quiet()})
	r.Mount("/api/v1/trees", describedModule{})
	r.Mount("/m", &formModule{})
	r.Mount("/api/v1/things", testModule{})
	r.Describe()
	r.Finish()
	return r
}

func TestOpenAPI(t *testing.T) {
	r := describedRouter()
	doc := jsondoc.Doc(r.OpenAPI())
	if err := jsondoc.Valid(doc); err != nil {
		t.Fatal(err)
	}
	if out := os.Getenv("GALLEY_OPENAPI_OUT"); out != "" { // to be held against a validator by hand
		if err := os.WriteFile(out, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]bool{}
	for _, route := range r.Routes() {
		op := doc.Get("paths", openPath(route.Path), strings.ToLower(route.Method))
		if op == nil {
			t.Errorf("%s %s is not described", route.Method, route.Path)
			continue
		}
		if id := op.Text("operationId"); id == "" || ids[id] {
			t.Errorf("operation id %q stands twice", id)
		} else {
			ids[id] = true
		}
		if (op.Get("security") == nil) != (route.Level == auth.Public) {
			t.Errorf("%s %s: security %s", route.Method, route.Path, op.Get("security"))
		}
		checkDescribed(t, doc, route.Endpoint.in, op)
	}
}

// checkDescribed holds that each field the binder knows is in the document.
func checkDescribed(t *testing.T, doc jsondoc.Doc, p *plan, op jsondoc.Doc) {
	t.Helper()
	params := map[string]jsondoc.Doc{}
	op.Get("parameters").Items(func(_ int, p jsondoc.Doc) bool {
		params[p.Text("in")+" "+p.Text("name")] = p
		return true
	})
	for _, f := range p.params {
		d := params[sourceNames[f.source]+" "+f.name]
		if d == nil || d.Get("schema") == nil {
			t.Errorf("%v: parameter %s is not described", p.typ, f.name)
		} else if d.Bool("required") != (f.required || f.source == fromPath) {
			t.Errorf("%v: parameter %s: %s", p.typ, f.name, d)
		}
	}
	content := op.Get("requestBody", "content")
	switch {
	case p.body != nil:
		checkSchema(t, doc, p.body, content.Get("application/json", "schema"), map[*form]bool{})
	case p.form != nil:
		content.Each(func(_ string, c jsondoc.Doc) bool {
			for _, f := range p.form {
				checkSchema(t, doc, f, c.Get("schema", "properties", f.name), map[*form]bool{})
			}
			return true
		})
	}
	if (content == nil) != (p.body == nil && p.form == nil) {
		t.Errorf("%v: body %s", p.typ, content)
	}
}

func resolve(doc, schema jsondoc.Doc) jsondoc.Doc {
	if any := schema.Get("anyOf", "0"); any != nil {
		schema = any
	}
	if ref := schema.Text("$ref"); ref != "" {
		return doc.Get("components", "schemas", strings.TrimPrefix(ref, "#/components/schemas/"))
	}
	return schema
}

func checkSchema(t *testing.T, doc jsondoc.Doc, f *field, schema jsondoc.Doc, done map[*form]bool) {
	t.Helper()
	if schema == nil {
		t.Errorf("%s is not described", f.name)
		return
	}
	s := resolve(doc, schema)
	want := map[fieldKind]string{kindString: "string", kindBool: "boolean", kindInt: "integer", kindFloat: "number", kindDict: "object", kindRawList: "array",
		kindForm: "object", kindList: "array", kindMap: "object", kindUpload: "string", kindDoc: "", kindDecoder: "string"}[f.kind]
	if got := s.Text("type"); got != want {
		t.Errorf("%s: type %q, want %q", f.name, got, want)
	}
	if len(f.def) > 0 && string(schema.Get("default")) != string(f.def) {
		t.Errorf("%s: default of %s", f.name, schema)
	}
	switch {
	case f.kind == kindForm && !done[f.form]:
		done[f.form] = true
		for _, inner := range f.form.fields {
			checkSchema(t, doc, inner, s.Get("properties", inner.name), done)
			required := strings.Contains(string(s.Get("required")), `"`+inner.name+`"`)
			if required != inner.required {
				t.Errorf("%s: required %v", inner.name, required)
			}
		}
	case f.kind == kindList:
		checkSchema(t, doc, f.elem, s.Get("items"), done)
	case f.kind == kindMap:
		checkSchema(t, doc, f.elem, s.Get("additionalProperties"), done)
	}
}

func TestSchemas(t *testing.T) {
	doc := jsondoc.Doc(describedRouter().OpenAPI())
	grow := doc.Get("paths", "/api/v1/trees/{id}/grow", "post")
	if got := grow.Text("summary"); got != "Grow tree" {
		t.Errorf("summary %q", got)
	}
	for _, c := range []struct {
		name string
		got  jsondoc.Doc
		want string
	}{
		{"answer", doc.Get("components", "schemas", "web.answer"), `{"type":"object","properties":{"id":{"type":"string"},"tree":{"anyOf":[{"$ref":"#/components/schemas/web.tree"},{"type":"null"}]},` +
			`"when":{"type":"string","format":"date-time"},"map":{"type":"object","additionalProperties":{"type":"array","items":{"type":"integer"}}},"maybe":{"type":"string"},` +
			`"any":{},"opt":{"anyOf":[{"type":"boolean"},{"type":"null"}]}},"required":["id","tree","when","map","any","opt"]}`},
		{"recursive", doc.Get("components", "schemas", "web.tree", "properties", "children", "items"), `{"anyOf":[{"$ref":"#/components/schemas/web.tree"},{"type":"null"}]}`},
		{"rules of a text", doc.Get("components", "schemas", "web.treeForm", "properties", "name"), `{"type":"string","minLength":1,"maxLength":9,"pattern":"^a"}`},
		{"rules of a number", doc.Get("components", "schemas", "web.treeForm", "properties", "n"), `{"type":"integer","minimum":1,"exclusiveMaximum":5}`},
		{"own schema", doc.Get("components", "schemas", "web.treeForm", "properties", "own"), `{"type":"string","format":"own"}`},
		{"extra", doc.Get("components", "schemas", "web.treeForm", "additionalProperties"), `true`},
		{"null answer", doc.Get("paths", "/api/v1/trees/", "delete", "responses", "200", "content", "application/json", "schema"), `{"type":"null"}`},
		{"done", doc.Get("paths", "/api/v1/trees/upload", "post", "responses", "200", "content"), ``},
		{"parts", doc.Get("paths", "/api/v1/trees/parts", "post", "requestBody", "required"), `false`},
		{"optional caller", doc.Get("paths", "/api/v1/trees/{id}/{rest}", "get", "security"), `[{"bearer":[]},{"cookie":[]},{}]`},
		{"version", doc.Get("info", "version"), `"1.2.3"`},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, c.got, c.want)
		}
	}
}

func TestDescriptionIsServed(t *testing.T) {
	r := describedRouter()
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	if w := get("/openapi.json"); w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Body.String() != string(r.OpenAPI()) {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w := get("/docs")
	policy, page := w.Header().Get("Content-Security-Policy"), w.Body.String()
	if w.Code != 200 || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, inlineHash(page, "script")) || !strings.Contains(policy, inlineHash(page, "style")) {
		t.Errorf("%d %s", w.Code, policy)
	}
	if strings.Count(page, "<script") != 1 || strings.Count(page, "<style") != 1 || strings.Contains(page, "://") || strings.Contains(page, " style=") || strings.Contains(page, " onclick=") {
		t.Error("the page has what its policy does not allow")
	}
}
