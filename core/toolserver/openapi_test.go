package toolserver

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
)

// api is a document with one operation at a path, and components.
func api(path, method, operation, components string) string {
	return fmt.Sprintf(`{"openapi":"3.1.0","paths":{%q:{%q:%s}},"components":%s}`, path, method, operation, components)
}

func TestSpecs(t *testing.T) {
	body := func(kind, schema string) string {
		return `{"operationId":"f","requestBody":{"required":true,"content":{"` + kind + `":{"schema":` + schema + `}}}}`
	}
	for name, c := range map[string]struct{ doc, want string }{
		"parameters": {api("/x/{id}", "get", `{"operationId":"f","summary":"Does f","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}},
			{"name":"q","in":"query","description":"words","schema":{"type":"array","items":{"type":"string"}}},{"name":"k","in":"query","schema":{"enum":["a",2]}},
			{"name":"Authorization","in":"header","schema":{}}]}`, `{}`),
			`[{"name":"f","description":"Does f","parameters":{"type":"object","properties":{"id":{"type":"integer","description":""},
			"q":{"type":"array","description":"words","items":{"type":"string"}},"k":{"type":"string","description":". Possible values: a, 2"}},"required":["id"]}}]`},
		"parameters of the path, and references": {`{"paths":{"/x":{"parameters":[{"$ref":"#/components/parameters/P"},{"name":"b","in":"query"}],"get":{"operationId":"f","description":"d",
			"parameters":[{"name":"b","in":"query","schema":{"$ref":"#/components/schemas/S"}}]}}},"components":{"parameters":{"P":{"name":"a","in":"query","required":true}},"schemas":{"S":{"type":"boolean"}}}}`,
			`[{"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"string","description":""},"b":{"type":"boolean","description":""}},"required":["a"]}}]`},
		"a cycle": {api("/x", "post", body("application/json", `{"$ref":"#/components/schemas/T"}`),
			`{"schemas":{"T":{"type":"object","properties":{"v":{"type":"integer"},"left":{"$ref":"#/components/schemas/T"},"all":{"type":"array","items":{"$ref":"#/components/schemas/T"}}},"required":["v"]}}}`),
			`[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{"v":{"type":"integer"},"left":{"type":"string"},"all":{"type":"array","items":{"type":"string"}}},"required":["v"]}}]`},
		"a reference to itself": {api("/x", "post", body("application/json", `{"$ref":"#/components/schemas/A"}`), `{"schemas":{"A":{"$ref":"#/components/schemas/B"},"B":{"$ref":"#/components/schemas/A"}}}`),
			`[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{},"required":[]}}]`},
		"put together": {api("/x", "post", body("application/json", `{"allOf":[{"$ref":"#/components/schemas/A"},{"properties":{"b":{"anyOf":[{"type":"integer"},{"type":"null"}],"default":null}},"required":["b"]}]}`),
			`{"schemas":{"A":{"properties":{"a":{"type":"string"}}}}}`),
			`[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["b"]}}]`},
		"a list as the body": {api("/x", "post", body("application/json", `{"type":"array","items":{"type":"number"}}`), `{}`),
			`[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{"body":{"type":"array","items":{"type":"number"}}},"required":["body"]}}]`},
		"a form":      {api("/x", "post", body("application/x-www-form-urlencoded", `{"properties":{"a":{}}}`), `{}`), `[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":[]}}]`},
		"no name":     {api("/x/{id}/y", "get", `{"description":""}`, `{}`), `[{"name":"get_x_id_y","description":"","parameters":{"type":"object","properties":{},"required":[]}}]`},
		"an odd name": {api("/x", "get", `{"operationId":"shop.items/list"}`, `{}`), `[{"name":"shop_items_list","description":"No description available.","parameters":{"type":"object","properties":{},"required":[]}}]`},
		"YAML":        {"openapi: 3.0.0\npaths:\n  /x:\n    get:\n      operationId: f\n      summary: words\n", `[{"name":"f","description":"words","parameters":{"type":"object","properties":{},"required":[]}}]`},
		"odd members": {`{"paths":{"/x":{"summary":"s","x-own":{"operationId":"no"},"get":7,"put":{"operationId":"f","parameters":{},"requestBody":null}},"/y":3}}`, `[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{},"required":[]}}]`},
		"lost reference": {api("/x", "post", body("application/json", `{"properties":{"a":{"$ref":"http://elsewhere/x.json"},"b":{"$ref":"#/components/schemas/None"}}}`), `{}`),
			`[{"name":"f","description":"No description available.","parameters":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"required":[]}}]`},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := parse([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			ops, err := operations(doc)
			if err != nil {
				t.Fatal(err)
			}
			specs := make([]jsondoc.Doc, len(ops))
			for i, op := range ops {
				specs[i] = op.spec()
			}
			same(t, jsondoc.Array(specs...), c.want)
		})
	}
	for _, doc := range []string{`{}`, `[]`, `{"mcpServers":{}}`, `{"paths":null}`, `"text"`} {
		if _, err := operations(jsondoc.Doc(doc)); err == nil {
			t.Errorf("%s is taken for a description", doc)
		}
	}
}

// TestSharedSchemas has schemas that would grow without end if they were written out.
func TestSharedSchemas(t *testing.T) {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `"S%d":{"properties":{"a":{"$ref":"#/components/schemas/S%d"},"b":{"$ref":"#/components/schemas/S%d"}}},`, i, i+1, i+1)
	}
	ops, err := operations(jsondoc.Doc(api("/x", "post", `{"operationId":"f","requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/S0"}}}}}`, `{"schemas":{`+b.String()+`"S40":{"type":"string"}}}`)))
	if err != nil || len(ops[0].spec()) > 1<<20 {
		t.Fatalf("%d bytes, %v", len(ops[0].spec()), err)
	}
}

// same compares JSON without regard to white space.
func same(t *testing.T, got jsondoc.Doc, want string) {
	t.Helper()
	g, w := canonicalText(string(got)), canonicalText(want)
	if g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func TestRequests(t *testing.T) {
	for name, c := range map[string]struct{ path, method, operation, arguments, want string }{
		"path and query": {"/a/{x}/b", "get", `{"parameters":[{"name":"x","in":"path"},{"name":"q","in":"query"},{"name":"n","in":"query"},{"name":"e","in":"query"}]}`,
			`{"x":"a b/c?","q":["1",2],"n":true,"e":"","z":1}`, "GET /base/a/a%20b%2Fc%3F/b?n=true&q=1&q=2"},
		"lists taken apart":     {"/a", "get", `{"parameters":[{"name":"q","in":"query","explode":false},{"name":"o","in":"query","style":"deepObject"}]}`, `{"q":[1,2],"o":{"k":"v"}}`, "GET /base/a?o%5Bk%5D=v&q=1%2C2"},
		"headers and cookies":   {"/a", "get", `{"parameters":[{"name":"X-A","in":"header"},{"name":"c","in":"cookie"}]}`, `{"X-A":"v\r\nX-B: w","c":"d"}`, "GET /base/a X-A=v  X-B: w Cookie=c=d"},
		"body":                  {"/a/{x}", "post", `{"parameters":[{"name":"x","in":"path"}],"requestBody":{"content":{"application/json":{"schema":{"properties":{"b":{}}}}}}}`, `{"x":1,"b":{"c":null}}`, `POST /base/a/1 application/json {"b":{"c":null}}`},
		"both in path and body": {"/a/{x}", "put", `{"parameters":[{"name":"x","in":"path"}],"requestBody":{"content":{"application/json":{"schema":{"properties":{"x":{}}}}}}}`, `{"x":1}`, `PUT /base/a/1 application/json {"x":1}`},
		"no body":               {"/a", "delete", `{}`, `{}`, `DELETE /base/a application/json {}`},
		"a body of no object":   {"/a", "post", `{"requestBody":{"content":{"application/json":{"schema":{"type":"array"}}}}}`, `{"body":[1]}`, `POST /base/a application/json [1]`},
		"text":                  {"/a", "post", `{"requestBody":{"content":{"text/plain":{"schema":{"type":"string"}}}}}`, `{"body":"hi"}`, `POST /base/a text/plain hi`},
		"form":                  {"/a", "post", `{"requestBody":{"content":{"application/x-www-form-urlencoded":{"schema":{"properties":{"a":{},"b":{}}}}}}}`, `{"a":"x y","b":[1,2]}`, `POST /base/a application/x-www-form-urlencoded a=x+y&b=1&b=2`},
		"a missing argument":    {"/a/{x}", "get", `{"parameters":[{"name":"x","in":"path"}]}`, `{}`, `the argument "x" is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			ops, err := operations(jsondoc.Doc(api(c.path, c.method, c.operation, `{}`)))
			if err != nil {
				t.Fatal(err)
			}
			req, err := ops[0].request(t.Context(), "http://host/base/", jsondoc.Doc(c.arguments), http.Header{})
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = req.Method + " " + req.URL.RequestURI()
				if v := req.Header.Get("X-A"); v != "" {
					got += " X-A=" + v
				}
				if v := req.Header.Get("Cookie"); v != "" {
					got += " Cookie=" + v
				}
				if req.Body != nil {
					body, _ := io.ReadAll(req.Body)
					got += " " + req.Header.Get("Content-Type") + " " + string(body)
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFilterLists(t *testing.T) {
	for list, want := range map[string]string{
		`null`: "add get_add order", `""`: "add get_add order", `"add"`: "add get_add", `"!order"`: "add get_add", `["add","!get_add"]`: "add", `" 'order' ,"`: "order", `"! add"`: "order",
	} {
		c := newConnection(0, jsondoc.Doc(`{"config":{"function_name_filter_list":`+list+`}}`))
		var got []string
		for _, name := range []string{"add", "get_add", "order"} {
			if c.offers(name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s lets %v", list, got)
		}
	}
}
