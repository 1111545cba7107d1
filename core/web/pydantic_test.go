package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/go-json-experiment/json/jsontext"
)

// The tables in testdata say what FastAPI and pydantic answer; gen.py there writes them.

type table[I any] struct {
	Inputs   []I              `json:"inputs"`
	Outcomes []outcome        `json:"outcomes"`
	Rows     map[string][]int `json:"rows"`
}

type outcome struct {
	OK     json.RawMessage `json:"ok"`
	Status int             `json:"status"`
	Errors [][]any         `json:"errors"`
	Detail string          `json:"detail"`
}

func loadTable[I any](t *testing.T, name string) table[I] {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var tb table[I]
	if err := json.Unmarshal(b, &tb); err != nil {
		t.Fatal(err)
	}
	return tb
}

type point struct {
	X int      `json:"x"`
	Y Opt[int] `json:"y"`
}

type deepForm struct {
	Point  point   `json:"point"`
	Points []point `json:"points" default:"[]"`
}

type allowForm struct {
	X     int   `json:"x"`
	Extra Extra `json:"-"`
}

func (a allowForm) MarshalJSONTo(e *jsontext.Encoder) error {
	return jsondoc.Doc(a.Extra).Set(jsondoc.Of(a.X), "x").MarshalJSONTo(e)
}

type forbidForm struct {
	Forbid `json:"-"`
	X      int `json:"x"`
}

type bothForm struct {
	A string   `json:"a"`
	B Opt[int] `json:"b"`
	C bool     `json:"c" default:"false"`
}

type optForm struct {
	A Opt[string] `json:"a"`
	B Opt[int]    `json:"b"`
}

type embedForm struct {
	Form bothForm      `json:"form"`
	N    int           `json:"n"`
	Tags Opt[[]string] `json:"tags"`
	Flag bool          `json:"flag" default:"false"`
}

type embedOptForm struct {
	N    int           `json:"n" default:"7"`
	Form Opt[bothForm] `json:"form"`
}

type embedOneForm struct {
	N int `json:"n"`
}

// decl is the type and the tags of a field.
type decl struct {
	typ reflect.Type
	tag reflect.StructTag
}

func of[T any](tag ...reflect.StructTag) decl {
	d := decl{typ: reflect.TypeFor[T]()}
	for _, t := range tag {
		d.tag += " " + t
	}
	return d
}

var fieldDecls = map[string]decl{
	"str": of[string](), "int": of[int](), "float": of[float64](), "bool": of[bool](), "dict": of[Dict](), "list": of[List](), "any": of[jsondoc.Doc](),
	"list_str": of[[]string](), "list_int": of[[]int](), "list_list": of[[][]string](), "list_dict": of[[]Dict](), "list_opt": of[[]Null[string]](),
	"dict_int": of[map[string]int](), "dict_list": of[map[string][]string](), "dict_model": of[map[string]point](), "dict_any": of[Dict](),
	"model": of[point](), "deep": of[deepForm](), "list_model": of[[]point](), "allow": of[allowForm](), "forbid": of[forbidForm](),
	"literal": of[string](`enum:"a,b,c"`), "literal1": of[string](`enum:"a"`), "literal2": of[string](`enum:"a,b"`), "opt_literal": of[Opt[string]](`enum:"a,b"`),
	"opt_str": of[Opt[string]](), "opt_int": of[Opt[int]](), "opt_float": of[Opt[float64]](), "opt_bool": of[Opt[bool]](), "opt_dict": of[Opt[Dict]](),
	"opt_list": of[Opt[List]](), "opt_model": of[Opt[point]](), "opt_list_str": of[Opt[[]string]](), "opt_dict_int": of[Opt[map[string]int]](), "opt_any": of[Opt[jsondoc.Doc]](),
	"null_str": of[Null[string]](), "null_int": of[Null[int]](), "null_model": of[Null[point]](), "null_list_model": of[Null[[]point]](),
	"def_str": of[string](`default:"d"`), "def_int": of[int](`default:"7"`), "def_bool": of[bool](`default:"true"`), "def_float": of[float64](`default:"0.5"`),
	"def_dict": of[Dict](`default:"{}"`), "def_list": of[List](`default:"[]"`),
	"ge_int": of[int](`ge:"1"`), "gt_int": of[int](`gt:"1"`), "le_int": of[int](`ge:"0" le:"10"`), "lt_int": of[int](`lt:"3"`),
	"ge_float": of[float64](`ge:"0" le:"1"`), "gt_float": of[float64](`gt:"0.5"`),
	"min_str": of[string](`minlen:"1"`), "len_str": of[string](`minlen:"2" maxlen:"3"`), "max_str": of[string](`maxlen:"1"`),
	"pattern": of[string](`pattern:"^[a-z]+$"`), "max_list": of[[]string](`maxitems:"1"`), "max_list2": of[[]int](`maxitems:"2"`), "min_list": of[[]string](`minitems:"1"`),
	"opt_min_str": of[Opt[string]](`minlen:"1"`),
}

func bodyPlan(d decl, tag reflect.StructTag) *plan {
	return compile(reflect.StructOf([]reflect.StructField{{Name: "Body", Type: d.typ, Tag: tag}}))
}

// bindRequest binds what the request holds and gives the first field of what came out.
func bindRequest(p *plan, r *http.Request) (reflect.Value, *Error) {
	var body requestBody
	if p.body != nil {
		var err error
		if body, err = readBody(httptest.NewRecorder(), r, 1<<20); err != nil {
			return reflect.Value{}, err.(*Error)
		}
	}
	v := reflect.New(p.typ).Elem()
	if ps := p.bind(v, r, body); len(ps) > 0 {
		return v, &Error{Status: 422, Detail: ps}
	}
	return v.Field(0), nil
}

// check compares what came out with the table. whole is the input that rows leave out.
func (want outcome) check(t *testing.T, got any, e *Error, whole string) {
	t.Helper()
	switch {
	case want.Errors != nil:
		if e == nil {
			t.Errorf("accepted, want %v", want.Errors)
			return
		}
		checkProblems(t, e, want.Errors, whole)
	case e != nil:
		if want.Status != e.Status {
			t.Errorf("refused: %d %s, want %d %s", e.Status, jsondoc.Of(e.Detail), want.Status, want.OK)
		}
	case want.Status != 0 && want.Status != 200:
		t.Errorf("accepted, want status %d", want.Status)
	case want.OK != nil:
		if g := jsondoc.Of(got); !sameJSON(g, want.OK) {
			t.Errorf("got %s, want %s", g, want.OK)
		}
	}
}

func checkProblems(t *testing.T, e *Error, want [][]any, whole string) {
	t.Helper()
	ps, ok := e.Detail.(Problems)
	if !ok {
		t.Errorf("refused: %d %v, want %v", e.Status, e.Detail, want)
		return
	}
	if len(ps) != len(want) {
		t.Errorf("got %s\nwant %v", jsondoc.Of(ps), want)
		return
	}
	for i, p := range ps {
		var ctx any
		if p.Ctx != nil {
			ctx = p.Ctx
		}
		row := []any{p.Type, p.Loc, p.Msg, ctx}
		input := string(p.Input)
		switch {
		case len(want[i]) == 5:
			row = append(row, p.Input)
		case whole != "" && !sameJSON(p.Input, []byte(whole)):
			t.Errorf("%s: input %s, want %s", p.Type, input, whole)
		}
		if g := jsondoc.Of(row); !sameJSON(g, jsondoc.Of(want[i])) {
			t.Errorf("got %s\nwant %s", g, jsondoc.Of(want[i]))
		}
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if len(a) == 0 {
		a = []byte("null")
	}
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return string(a) == string(b) // numbers beyond float64
	}
	return reflect.DeepEqual(x, y)
}

func TestFieldsAsPydantic(t *testing.T) {
	tb := loadTable[string](t, "fields.json")
	if len(tb.Rows) != len(fieldDecls) {
		t.Errorf("%d declarations, %d rows", len(fieldDecls), len(tb.Rows))
	}
	for name, row := range tb.Rows {
		d := fieldDecls[name]
		form := of[struct{}]()
		form.typ = reflect.StructOf([]reflect.StructField{{Name: "V", Type: d.typ, Tag: `json:"v"` + d.tag}})
		p := bodyPlan(form, "")
		for i, o := range row {
			body, whole := `{"v":`+tb.Inputs[i]+`}`, tb.Inputs[i]
			if whole == "" {
				body, whole = "{}", "{}"
			}
			t.Run(name+" "+tb.Inputs[i], func(t *testing.T) {
				r := httptest.NewRequest("POST", "/", strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				v, e := bindRequest(p, r)
				var got any
				if e == nil {
					got = v.Field(0).Interface()
				}
				tb.Outcomes[o].check(t, got, e, whole)
			})
		}
	}
}

var bodyDecls = map[string]decl{
	"model": of[bothForm](), "opt_model": of[Opt[bothForm]](), "dict": of[Dict](), "opt_dict": of[Opt[Dict]](), "list_model": of[[]bothForm](), "list_str": of[[]string](),
	"opt_list": of[Opt[[]string]](), "forbid": of[forbidForm](), "allow": of[allowForm](), "all_opt": of[optForm](), "dict_int": of[map[string]int](), "any": of[jsondoc.Doc](),
	"embed": of[embedForm](`body:"embed"`), "embed_opt": of[embedOptForm](`body:"embed"`), "embed_one": of[embedOneForm](`body:"embed"`),
}

func TestBodiesAsFastAPI(t *testing.T) {
	tb := loadTable[[2]*string](t, "bodies.json")
	if len(tb.Rows) != len(bodyDecls) {
		t.Errorf("%d declarations, %d rows", len(bodyDecls), len(tb.Rows))
	}
	for name, row := range tb.Rows {
		p := bodyPlan(bodyDecls[name], bodyDecls[name].tag)
		for i, o := range row {
			ctype, body := tb.Inputs[i][0], *tb.Inputs[i][1]
			t.Run(fmt.Sprintf("%s %d %.60s", name, i, body), func(t *testing.T) {
				r := httptest.NewRequest("POST", "/", strings.NewReader(body))
				if ctype != nil {
					r.Header.Set("Content-Type", *ctype)
				}
				v, e := bindRequest(p, r)
				var got any
				if e == nil {
					got = v.Interface()
				}
				tb.Outcomes[o].check(t, got, e, "")
			})
		}
	}
}

var queryDecls = map[string]decl{
	"q_str": of[string](), "q_int": of[int](), "q_float": of[float64](), "q_bool": of[bool](), "q_list": of[[]string](), "q_list_int": of[[]int](),
	"q_opt_str": of[Opt[string]](), "q_opt_int": of[Opt[int]](), "q_opt_bool": of[Opt[bool]](), "q_opt_float": of[Opt[float64]](),
	"q_opt_list": of[Opt[[]string]](), "q_opt_list_int": of[Opt[[]int]](), "q_def_int": of[int](`default:"1"`), "q_def_bool": of[bool](`default:"false"`), "q_def_str": of[string](`default:"d"`),
	"q_ge": of[int](`default:"1" ge:"1"`), "q_le": of[int](`default:"1" ge:"1" le:"10"`), "q_min": of[string](`minlen:"1"`), "q_opt_max": of[Opt[string]](`maxlen:"2"`),
	"q_literal": of[string](`default:"a" enum:"a,b"`), "q_opt_literal": of[Opt[string]](`enum:"a,b"`), "q_null_str": of[Null[string]](),
}

func paramPlan(d decl, source string) *plan {
	return compile(reflect.StructOf([]reflect.StructField{{Name: "V", Type: d.typ, Tag: reflect.StructTag(source+`:"v"`) + d.tag}}))
}

func checkParams[I any](t *testing.T, file, source string, decls map[string]decl, set func(*http.Request, I)) {
	tb := loadTable[I](t, file)
	if len(tb.Rows) != len(decls) {
		t.Errorf("%d declarations, %d rows", len(decls), len(tb.Rows))
	}
	for name, row := range tb.Rows {
		p := paramPlan(decls[name], source)
		for i, o := range row {
			t.Run(fmt.Sprintf("%s %v", name, tb.Inputs[i]), func(t *testing.T) {
				r := httptest.NewRequest("GET", "/", nil)
				set(r, tb.Inputs[i])
				v, e := bindRequest(p, r)
				var got any
				if e == nil {
					got = v.Interface()
				}
				tb.Outcomes[o].check(t, got, e, "")
			})
		}
	}
}

func TestParamsAsFastAPI(t *testing.T) {
	t.Run("query", func(t *testing.T) {
		checkParams(t, "query.json", "query", queryDecls, func(r *http.Request, q string) { r.URL.RawQuery = q })
	})
	t.Run("path", func(t *testing.T) {
		decls := map[string]decl{"int": of[int](), "str": of[string](), "float": of[float64](), "bool": of[bool]()}
		checkParams(t, "path.json", "path", decls, func(r *http.Request, v string) { r.SetPathValue("v", v) })
	})
	decls := map[string]decl{"int": of[int](), "str": of[string](), "opt_int": of[Opt[int]](), "opt_str": of[Opt[string]]()}
	t.Run("header", func(t *testing.T) {
		checkParams(t, "header.json", "header", decls, func(r *http.Request, vs []string) {
			for _, v := range vs {
				r.Header.Add("V", v)
			}
		})
	})
	t.Run("cookie", func(t *testing.T) {
		checkParams(t, "cookie.json", "cookie", decls, func(r *http.Request, vs []string) {
			for _, v := range vs {
				r.Header.Add("Cookie", v)
			}
		})
	})
}

func TestSyntaxAsPython(t *testing.T) {
	b, err := os.ReadFile("testdata/syntax.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]any
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	p := bodyPlan(of[jsondoc.Doc](), "")
	for _, row := range rows {
		text := row[0].(string)
		if text == "" {
			continue // no body
		}
		r := httptest.NewRequest("POST", "/", strings.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		_, e := bindRequest(p, r)
		if len(row) == 1 {
			if e != nil && e.Detail.(Problems)[0].Type != "missing" {
				t.Errorf("%q: refused %s", text, jsondoc.Of(e.Detail))
			}
			continue
		}
		want := fmt.Sprintf(`[{"type":"json_invalid","loc":["body",%v],"msg":"JSON decode error","input":{},"ctx":{"error":%s}}]`, row[1], jsondoc.Of(row[2]))
		if e == nil {
			t.Errorf("%q: accepted, want %s", text, want)
		} else if got := string(jsondoc.Of(e.Detail)); got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
}
