package toolserver

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// operation is something that a server does, as its OpenAPI document has it.
type operation struct {
	id          string // operationId, or a name made of method and path
	name        string // id as models are told it
	method      string // upper case
	path        string
	description string
	parameters  []parameter
	body        body
	schema      jsondoc.Doc // of the arguments
}

// parameter is an argument that does not go into the body.
type parameter struct {
	name, in string
	required bool
	explode  bool   // lists are repeated, in a query
	style    string // "deepObject" and others that take lists apart otherwise
}

// body is how arguments make a body.
type body struct {
	kind       string // media type; "" for none
	properties []string
	whole      string // the argument that is all of the body, for bodies that are no objects; "" for none
}

var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

// operations reads what a server does. A document that describes nothing is an error.
func operations(root jsondoc.Doc) ([]*operation, error) {
	paths := root.Get("paths")
	if paths.Kind() != '{' {
		return nil, fmt.Errorf("the document has no paths")
	}
	d := newDocument(root)
	var out []*operation
	taken := map[string]bool{}
	paths.Each(func(path string, item jsondoc.Doc) bool {
		item = d.follow(item)
		item.Each(func(method string, v jsondoc.Doc) bool {
			if !slices.Contains(methods, method) || v.Kind() != '{' {
				return true
			}
			op := d.operation(method, path, item, v)
			if !taken[op.id] { // of those with the same id only one can be called
				taken[op.id] = true
				out = append(out, op)
			}
			return true
		})
		return true
	})
	return out, nil
}

func (d *document) operation(method, path string, item, v jsondoc.Doc) *operation {
	op := &operation{id: v.Text("operationId"), method: strings.ToUpper(method), path: path}
	if op.id == "" {
		op.id = madeUp(method, path)
	}
	op.name = named(op.id)
	switch {
	case v.Get("description") != nil:
		op.description = v.Text("description")
	case v.Get("summary") != nil:
		op.description = v.Text("summary")
	default:
		op.description = "No description available."
	}
	r := d.resolver()
	properties := &jsondoc.Obj{}
	required := []string{}
	for _, p := range d.parameters(item, v) {
		in, name := p.Text("in"), p.Text("name")
		if in == "header" && notParameters[strings.ToLower(name)] {
			continue
		}
		o := parameter{name: name, in: in, required: p.Get("required").Truthy(), explode: true, style: p.Text("style")}
		if e := p.Get("explode"); e != nil {
			o.explode = e.Truthy()
		}
		op.parameters = append(op.parameters, o)
		properties.Set(name, r.property(p))
		if o.required {
			required = append(required, name)
		}
	}
	required = r.readBody(op, d.follow(v.Get("requestBody")), properties, required)
	var b jsondoc.Builder
	b.Add("type", "object")
	b.Raw("properties", properties.Doc())
	b.Add("required", required)
	op.schema = tidy(b.Done())
	return op
}

// notParameters are headers that OpenAPI describes otherwise than as parameters.
var notParameters = map[string]bool{"accept": true, "content-type": true, "authorization": true}

// parameters are those of an operation, with those that its path gives to all operations.
func (d *document) parameters(item, op jsondoc.Doc) []jsondoc.Doc {
	var out []jsondoc.Doc
	for _, list := range []jsondoc.Doc{item.Get("parameters"), op.Get("parameters")} {
		for _, p := range list.List() {
			if p = d.follow(p); p.Text("name") == "" {
				continue
			}
			same := slices.IndexFunc(out, func(o jsondoc.Doc) bool { return o.Text("name") == p.Text("name") && o.Text("in") == p.Text("in") })
			if same >= 0 {
				out[same] = p
			} else {
				out = append(out, p)
			}
		}
	}
	return out
}

// property describes a parameter to models.
func (r *resolver) property(p jsondoc.Doc) jsondoc.Doc {
	schema := p.Get("schema")
	if schema == nil { // the other way to describe one: by media type
		p.Get("content").Each(func(_ string, v jsondoc.Doc) bool {
			schema = v.Get("schema")
			return false
		})
	}
	schema = r.schema(schema, nil)
	description := schema.Text("description")
	if description == "" {
		description = p.Text("description")
	}
	if values := schema.Get("enum").List(); len(values) > 0 {
		description += ". Possible values: "
		for i, v := range values {
			if i > 0 {
				description += ", "
			}
			if s, ok := v.AsText(); ok {
				description += s
			} else {
				description += string(v)
			}
		}
	}
	kind := schema.Get("type")
	if !kind.Truthy() {
		kind = jsondoc.Doc(`"string"`)
	}
	var b jsondoc.Builder
	b.Raw("type", kind)
	b.Add("description", description)
	if items := schema.Get("items"); !items.IsNull() && schema.Text("type") == "array" {
		b.Raw("items", items)
	}
	return b.Done()
}

// wholeBody is the argument that stands for a body that is no object.
const wholeBody = "body"

// readBody adds the properties of an operation's body to those of its parameters, and says which are needed then.
func (r *resolver) readBody(op *operation, request jsondoc.Doc, properties *jsondoc.Obj, required []string) []string {
	kind, media := mediaType(request.Get("content"))
	if op.body.kind = kind; kind == "" {
		return required
	}
	schema := r.schema(media.Get("schema"), nil)
	fields, needed := composed(schema)
	if fields.Len() > 0 {
		fields.Each(func(name string, v jsondoc.Doc) bool {
			op.body.properties = append(op.body.properties, name)
			properties.Set(name, v)
			return true
		})
		for _, name := range needed {
			if !slices.Contains(required, name) {
				required = append(required, name)
			}
		}
		return required
	}
	if t := schema.Text("type"); media.Get("schema") == nil || (t == "object" || t == "") && !isText(kind) {
		return required // nothing is known of it
	}
	op.body.whole = wholeBody
	if properties.Has(wholeBody) {
		op.body.whole = "request_body"
	}
	properties.Set(op.body.whole, schema)
	if request.Get("required").Truthy() {
		required = append(required, op.body.whole)
	}
	return required
}

// mediaType picks what of a body's media types can be sent: JSON before forms before anything else.
func mediaType(content jsondoc.Doc) (kind string, media jsondoc.Doc) {
	best := 0
	content.Each(func(name string, v jsondoc.Doc) bool {
		rank := 1
		switch base := baseType(name); {
		case base == "application/json":
			rank = 5
		case isJSON(base):
			rank = 4
		case base == formType:
			rank = 3
		case base == multipartType:
			rank = 2
		}
		if rank > best {
			best, kind, media = rank, name, v
		}
		return true
	})
	return kind, media
}

const (
	formType      = "application/x-www-form-urlencoded"
	multipartType = "multipart/form-data"
)

func baseType(contentType string) string {
	base, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(base))
}

func isJSON(base string) bool {
	return base == "application/json" || strings.HasPrefix(base, "application/") && strings.HasSuffix(base, "+json")
}

// isText says of a media type that it is neither JSON nor a form.
func isText(kind string) bool {
	base := baseType(kind)
	return !isJSON(base) && base != formType && base != multipartType
}

// notInNames matches what providers take in no name of a function.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// maxName is how long the name of a function may be.
const maxName = 64

// named is a name as providers take it.
func named(id string) string {
	name := notInNames.ReplaceAllString(id, "_")
	if len(name) > maxName {
		name = shortened(name, id)
	}
	return name
}

// madeUp is the name of an operation without one.
func madeUp(method, path string) string {
	return strings.Trim(method+"_"+strings.Trim(notInNames.ReplaceAllString(path, "_"), "_"), "_")
}

// spec describes the operation to providers.
func (o *operation) spec() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("name", o.name)
	b.Add("description", o.description)
	b.Raw("parameters", o.schema)
	return b.Done()
}
