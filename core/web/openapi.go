package web

import (
	"bytes"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// OpenAPI describes all registered endpoints: an OpenAPI 3.1 document. It is made anew with each call.
func (r *Router) OpenAPI() []byte {
	s := newSchemas()
	s.docs["HTTPValidationError"] = validationSchema
	s.order = append(s.order, "HTTPValidationError")
	ids := map[string]bool{}
	all := newOperations()
	for _, route := range r.routes {
		all.tag(route.Module)
		all.add(openPath(route.Path), route.Method, func() jsondoc.Doc { return s.operation(route, ids) })
	}
	all.dynamic(r.dynamicEntries(), ids)
	var items jsondoc.Builder
	for _, p := range all.paths {
		var item jsondoc.Builder
		for _, op := range all.byPath[p] {
			item.Raw(strings.ToLower(op.method), op.doc())
		}
		items.Raw(p, item.Done())
	}
	var named jsondoc.Builder
	slices.Sort(s.order)
	for _, name := range s.order {
		named.Raw(name, s.docs[name])
	}
	var info, components, doc jsondoc.Builder
	info.Add("title", "Galley")
	info.Add("version", r.o.Version)
	components.Raw("schemas", named.Done())
	components.Raw("securitySchemes", securitySchemes)
	doc.Add("openapi", "3.1.0")
	doc.Raw("info", info.Done())
	doc.Raw("paths", items.Done())
	doc.Raw("components", components.Done())
	doc.Raw("tags", jsondoc.Array(all.tags...))
	return doc.Done()
}

var (
	securitySchemes = jsondoc.Doc(`{"bearer":{"type":"http","scheme":"bearer","description":"A session token or an API key."},` +
		`"cookie":{"type":"apiKey","in":"cookie","name":"token"}}`)
	validationSchema = jsondoc.Doc(`{"type":"object","properties":{"detail":{"type":"array","items":{"type":"object","properties":{` +
		`"type":{"type":"string"},"loc":{"type":"array","items":{"anyOf":[{"type":"string"},{"type":"integer"}]}},"msg":{"type":"string"},"input":{},"ctx":{"type":"object"}},` +
		`"required":["type","loc","msg","input"]}}}}`)
	responseOK   = jsondoc.Object("description", jsondoc.Text("Successful response"))
	errorContent = jsondoc.Doc(`{"application/json":{"schema":{"type":"object","properties":{"detail":{}}}}}`)
)

const textRefused = "No or no valid credentials, or not enough rights"

// refusal is an answer with an error.
func refusal(text string) jsondoc.Doc {
	return jsondoc.Object("description", jsondoc.Text(text)).Set(errorContent, "content")
}

// openPath is a path as OpenAPI writes it.
func openPath(p string) string { return strings.ReplaceAll(p, ":path}", "}") }

func (s *schemas) operation(route *Route, ids map[string]bool) jsondoc.Doc {
	e := route.Endpoint
	var op jsondoc.Builder
	op.Add("tags", []string{route.Module})
	if summary := e.summary(); summary != "" {
		op.Add("summary", summary)
	}
	op.Add("operationId", operationID(route.Method, openPath(route.Path), ids))
	if len(e.in.params) > 0 {
		op.Raw("parameters", s.parameters(e.in.params))
	}
	if body := s.requestBody(e.in); body != nil {
		op.Raw("requestBody", body)
	}
	op.Raw("responses", s.responses(e))
	describeLevel(&op, route.Level)
	return op.Done()
}

// describeLevel says who may call.
func describeLevel(op *jsondoc.Builder, level auth.Level) {
	switch level {
	case auth.Public:
	case auth.Optional:
		op.Raw("security", jsondoc.Doc(`[{"bearer":[]},{"cookie":[]},{}]`))
	default:
		op.Raw("security", jsondoc.Doc(`[{"bearer":[]},{"cookie":[]}]`))
		op.Add("x-level", level.String())
	}
}

// operationID is made of method and path, as FastAPI makes its own.
func operationID(method, path string, ids map[string]bool) string {
	base := strings.ToLower(method) + strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return c
		}
		return '_'
	}, strings.TrimRight(path, "}"))
	if strings.HasSuffix(path, "/") {
		base += "root"
	}
	id := base
	for i := 2; ids[id]; i++ {
		id = base + "_" + strconv.Itoa(i)
	}
	ids[id] = true
	return id
}

func (s *schemas) parameters(params []*field) jsondoc.Doc {
	var out []jsondoc.Doc
	for _, f := range params {
		var p jsondoc.Builder
		p.Add("name", f.name)
		p.Add("in", sourceNames[f.source])
		p.Add("required", f.required || f.source == fromPath)
		p.Raw("schema", s.field(f))
		out = append(out, p.Done())
	}
	return jsondoc.Array(out...)
}

func (s *schemas) requestBody(p *plan) jsondoc.Doc {
	kind := "application/json"
	required := true
	var schema jsondoc.Doc
	switch {
	case p.body != nil:
		required = p.body.required && !(p.embed && allOptional(p.body.form))
		schema = s.field(p.body)
	case p.form != nil:
		fm := &form{fields: p.form}
		required = !allOptional(fm)
		schema = s.form(fm)
		kind = "application/x-www-form-urlencoded"
		if slices.ContainsFunc(p.form, func(f *field) bool { return f.kind == kindUpload || f.elem != nil && f.elem.kind == kindUpload }) {
			kind = "multipart/form-data"
		}
	default:
		return nil
	}
	var b jsondoc.Builder
	b.Add("required", required)
	b.Raw("content", jsondoc.Object(kind, jsondoc.Object("schema", schema)))
	return b.Done()
}

func allOptional(fm *form) bool {
	return fm != nil && !slices.ContainsFunc(fm.fields, func(f *field) bool { return f.required })
}

func (s *schemas) responses(e *Endpoint) jsondoc.Doc {
	var b jsondoc.Builder
	ok := responseOK
	switch e.out {
	case nil, reflect.TypeFor[Done](), reflect.TypeFor[Raw](), reflect.TypeFor[*Raw]():
	default:
		ok = ok.Set(jsondoc.Object("application/json", jsondoc.Object("schema", s.value(e.out))), "content")
	}
	b.Raw("200", ok)
	if e.Level > auth.Optional {
		b.Raw("401", refusal(textRefused))
	}
	if e.in.params != nil || e.in.body != nil || e.in.form != nil {
		b.Raw("422", jsondoc.Doc(`{"description":"Validation error","content":{"application/json":{"schema":{"$ref":"#/components/schemas/HTTPValidationError"}}}}`))
	}
	return b.Done()
}

// summary is what the declaration says, or the handler's name in words.
func (e *Endpoint) summary() string {
	if e.Summary != "" || e.pc == 0 {
		return e.Summary
	}
	f := runtime.FuncForPC(e.pc)
	if f == nil {
		return ""
	}
	name := strings.TrimSuffix(f.Name(), "-fm")
	name = name[strings.LastIndexByte(name, '.')+1:]
	if strings.HasPrefix(name, "func") || name == "" || name[0] >= '0' && name[0] <= '9' {
		return "" // a literal
	}
	return inWords(name)
}

// inWords makes "Rename tag" of renameTag.
func inWords(name string) string {
	var b bytes.Buffer
	rs := []rune(name)
	for i, c := range rs {
		boundary := i > 0 && unicode.IsUpper(c) && (unicode.IsLower(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1]))
		switch {
		case boundary && i+1 < len(rs) && unicode.IsUpper(rs[i+1]):
			b.WriteByte(' ')
			b.WriteRune(c)
		case boundary:
			b.WriteByte(' ')
			b.WriteRune(unicode.ToLower(c))
		case i == 0:
			b.WriteRune(unicode.ToUpper(c))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
