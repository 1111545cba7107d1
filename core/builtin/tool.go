package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

// New declares a tool. In is a struct of its arguments; a field's tags are
//
//	json:"name"       the argument's name
//	about:"text"      what models are told of it
//	default:"value"   what it is where models give none; without it, and unless it is a pointer, they must
//	enum:"a,b"        the values that models are told of
//
// and its type is string, int, bool, a pointer to one of them, jsondoc.Doc (an object), or a slice of jsondoc.Doc or of
// structs of such fields. What f gives back is shown to the model: a string as it is, anything else as JSON. So is its
// error.
func New[In any](name, description string, f func(ctx context.Context, c turn.ToolCall, in In) (any, error)) turn.Tool {
	args := compile(reflect.TypeFor[In]())
	parameters := args.schema()
	return turn.Tool{
		Set: "builtin:" + name, Name: name, Description: description, Parameters: parameters, Builtin: true,
		Spec: spec(name, description, parameters),
		Call: func(ctx context.Context, c turn.ToolCall) (turn.ToolResult, error) {
			var in In
			if err := args.read(name, c.Arguments, reflect.ValueOf(&in).Elem()); err != nil {
				return turn.ToolResult{}, err
			}
			out, err := f(ctx, c, in)
			if err != nil {
				out = map[string]string{"error": failure(err)}
			}
			if text, ok := out.(string); ok {
				return turn.TextResult(text), nil
			}
			return turn.TextResult(string(jsondoc.Of(out))), nil
		},
	}
}

// spec is the tool as an entry of a request's tools.
func spec(name, description string, parameters jsondoc.Doc) jsondoc.Doc {
	var b jsondoc.Builder
	b.Raw("name", jsondoc.Text(name))
	b.Raw("description", jsondoc.Text(description))
	b.Raw("parameters", parameters)
	return jsondoc.Object("type", jsondoc.Doc(`"function"`)).Set(b.Done(), "function")
}

// failure is what a model is told of an error.
func failure(err error) string {
	var w *web.Error
	if errors.As(err, &w) {
		return fmt.Sprintf("%d: %v", w.Status, w.Detail)
	}
	return err.Error()
}

// arguments are the fields of a struct of arguments.
type arguments []argument

type argument struct {
	name, about string
	index       int
	kind        reflect.Kind
	pointer     bool
	enum        []string
	standard    reflect.Value // invalid: none
	doc         jsondoc.Doc   // standard as JSON
	elements    arguments     // of a slice of structs
	docs        bool          // jsondoc.Doc, or a slice of it
}

func (a *argument) required() bool { return !a.pointer && !a.standard.IsValid() }

var docType = reflect.TypeFor[jsondoc.Doc]()

func compile(t reflect.Type) arguments {
	out := arguments{}
	for i := range t.NumField() {
		f := t.Field(i)
		a := argument{name: f.Tag.Get("json"), about: f.Tag.Get("about"), index: i}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			a.pointer, ft = true, ft.Elem()
		}
		if e := f.Tag.Get("enum"); e != "" {
			a.enum = strings.Split(e, ",")
		}
		switch a.kind = ft.Kind(); {
		case ft == docType:
			a.docs, a.kind = true, reflect.Map
		case a.kind == reflect.Slice && ft.Elem() == docType:
			a.docs = true
		case a.kind == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			a.elements = compile(ft.Elem())
		case a.kind == reflect.String, a.kind == reflect.Int, a.kind == reflect.Bool:
		default:
			panic(fmt.Sprintf("builtin: argument %s of %v is a %v", a.name, t, f.Type))
		}
		if d, ok := f.Tag.Lookup("default"); ok {
			a.doc = jsondoc.Doc(d)
			if a.kind == reflect.String {
				a.doc = jsondoc.Text(d)
			}
			a.standard = reflect.New(ft).Elem()
			if err := a.set(a.standard, a.doc); err != nil {
				panic(err)
			}
		}
		out = append(out, a)
	}
	return out
}

var types = map[reflect.Kind]jsondoc.Doc{
	reflect.String: jsondoc.Doc(`"string"`), reflect.Int: jsondoc.Doc(`"integer"`), reflect.Bool: jsondoc.Doc(`"boolean"`),
	reflect.Slice: jsondoc.Doc(`"array"`), reflect.Map: jsondoc.Doc(`"object"`),
}

// schema is the JSON Schema of the arguments.
func (a arguments) schema() jsondoc.Doc {
	var properties, b jsondoc.Builder
	var required []string
	for i := range a {
		properties.Raw(a[i].name, a[i].schema())
		if a[i].required() {
			required = append(required, a[i].name)
		}
	}
	b.Raw("properties", properties.Done())
	if required != nil {
		b.Add("required", required)
	}
	b.Raw("type", jsondoc.Doc(`"object"`))
	return b.Done()
}

func (a *argument) schema() jsondoc.Doc {
	const anyObject = `{"additionalProperties":true,"type":"object"}`
	var b jsondoc.Builder
	if a.doc != nil {
		b.Raw("default", a.doc)
	}
	if a.about != "" {
		b.Raw("description", jsondoc.Text(a.about))
	}
	switch {
	case a.enum != nil && a.kind == reflect.String:
		b.Add("enum", a.enum)
	case a.elements != nil:
		b.Raw("items", a.elements.schema())
	case a.docs && a.kind == reflect.Slice:
		b.Raw("items", jsondoc.Doc(anyObject))
	case a.docs:
		b.Raw("additionalProperties", jsondoc.Doc("true"))
	}
	b.Raw("type", types[a.kind])
	return b.Done()
}

// read reads arguments that a model has given into a struct. They may be null, and numbers and switches may be texts.
func (a arguments) read(tool string, given jsondoc.Doc, into reflect.Value) error {
	var missing []string
	for i := range a {
		arg := &a[i]
		v := given.Get(arg.name)
		field := into.Field(arg.index)
		if v.IsNull() {
			switch {
			case arg.standard.IsValid():
				field.Set(arg.standard)
			case !arg.pointer:
				missing = append(missing, "'"+arg.name+"'")
			}
			continue
		}
		if arg.pointer {
			field.Set(reflect.New(field.Type().Elem()))
			field = field.Elem()
		}
		if err := arg.set(field, v); err != nil {
			return err
		}
	}
	if missing != nil {
		return missingError(tool, missing)
	}
	return nil
}

// missingError says which arguments were not given, in the words in which Python does: models know them.
func missingError(tool string, names []string) error {
	text, plural := names[0], ""
	switch n := len(names); {
	case n == 2:
		text, plural = names[0]+" and "+names[1], "s"
	case n > 2:
		text, plural = strings.Join(names[:n-1], ", ")+", and "+names[n-1], "s"
	}
	return fmt.Errorf("%s() missing %d required positional argument%s: %s", tool, len(names), plural, text)
}

func (a *argument) set(field reflect.Value, v jsondoc.Doc) error {
	ok := true
	switch a.kind {
	case reflect.String:
		var s string
		if s, ok = v.AsText(); !ok && v.Kind() == '0' {
			s, ok = string(v), true
		}
		field.SetString(s)
	case reflect.Int:
		var n int64
		n, ok = whole(v)
		field.SetInt(n)
	case reflect.Bool:
		text, isText := v.AsText()
		field.SetBool(v.Truthy() && !(isText && strings.EqualFold(strings.TrimSpace(text), "false")))
	case reflect.Map:
		ok = v.Kind() == '{'
		field.Set(reflect.ValueOf(v))
	case reflect.Slice:
		if v.Kind() == '"' { // models like to write lists as texts
			text, _ := v.AsText()
			if d, bad := jsondoc.Check([]byte(text)); bad == nil {
				v = d
			}
		}
		if v.Kind() != '[' {
			ok = false
			break
		}
		return a.setList(field, v)
	}
	if !ok {
		return a.wrong()
	}
	return nil
}

func (a *argument) wrong() error {
	return fmt.Errorf("the argument %s must be %s", a.name, map[reflect.Kind]string{
		reflect.String: "a string", reflect.Int: "a whole number", reflect.Map: "an object", reflect.Slice: "a list",
	}[a.kind])
}

func (a *argument) setList(field reflect.Value, v jsondoc.Doc) error {
	list := v.List()
	if a.docs {
		field.Set(reflect.ValueOf(list))
		return nil
	}
	out := reflect.MakeSlice(field.Type(), len(list), len(list))
	for i, item := range list {
		if item.Kind() != '{' {
			return fmt.Errorf("the elements of %s must be objects", a.name)
		}
		if err := a.elements.read(a.name, item, out.Index(i)); err != nil {
			return err
		}
	}
	field.Set(out)
	return nil
}

// whole reads a whole number, also one that is written with a fraction of zero or as a text.
func whole(v jsondoc.Doc) (int64, bool) {
	text := string(v)
	if s, ok := v.AsText(); ok {
		text = strings.TrimSpace(s)
	} else if v.Kind() != '0' {
		return 0, false
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
}
