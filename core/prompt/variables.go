package prompt

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// Limits of variables, in code points of a value and of the JSON of all of them.
const (
	MaxValueLength = 20_000
	MaxJSONLength  = 100_000
	maxListDepth   = 32
)

var (
	variableKey  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	chatVariable = regexp.MustCompile(`{{\s*chat\.variables\.([^\s|}]+)(?:\s*\|\s*([^}]*))?\s*}}`)
	userVariable = regexp.MustCompile(`{{\s*user\.variables\.([^\s|}]+)(?:\s*\|\s*([^}]*))?\s*}}`)
)

// ErrVariables is what errors about variables wrap; their text is for the user.
var ErrVariables = errors.New("variables")

type variablesError string

func (e variablesError) Error() string        { return string(e) }
func (e variablesError) Is(target error) bool { return target == ErrVariables }

// Field is a variable that a system prompt asks for, with what its definition says: "type", "label", "options" and so
// on, as JSON.
type Field struct {
	Key      string
	Required bool
	members  []member // sorted by name
}

type member struct {
	name  string
	value jsondoc.Doc
}

// fieldMembers are the properties that a definition may have, sorted.
var fieldMembers = []string{"default", "label", "max", "maxlength", "min", "minlength", "options", "placeholder", "required", "step", "type"}

func (f *Field) get(name string) jsondoc.Doc {
	for _, m := range f.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// JSON is the field as clients see it.
func (f *Field) JSON() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("key", f.Key)
	for _, m := range f.members {
		if m.name != "required" {
			b.Raw(m.name, m.value)
		}
	}
	b.Add("required", f.Required)
	return b.Done()
}

func (f *Field) label() string {
	if l := f.get("label"); l.Truthy() {
		return plainText(l)
	}
	return f.Key
}

// Schema describes the chat variables of a system prompt, {"fields": […]}; nil where it has none or they contradict
// each other.
func Schema(system string) jsondoc.Doc {
	fields, err := Fields(system)
	if err != nil || len(fields) == 0 {
		return nil
	}
	list := []byte{'['}
	for i := range fields {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, fields[i].JSON()...)
	}
	return jsondoc.Object("fields", append(list, ']'))
}

// Fields are the chat variables of a system prompt in the order of their first mention. A definition anywhere counts
// for every mention of its key; two that differ are an error.
func Fields(system string) ([]Field, error) {
	if !strings.Contains(system, "chat.variables.") {
		return nil, nil
	}
	var fields []Field
	typed := map[string]bool{}
	for _, m := range chatVariable.FindAllStringSubmatch(system, -1) {
		key, definition := strings.TrimSpace(m[1]), strings.TrimSpace(m[2])
		if !variableKey.MatchString(key) {
			return nil, variablesError("Invalid chat variable key: " + key)
		}
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Key == key })
		if definition == "" {
			if i < 0 {
				fields = append(fields, newField(key, map[string]jsondoc.Doc{"type": jsondoc.Doc(`"text"`)}))
			}
			continue
		}
		f := newField(key, parseDefinition(definition))
		if f.get("type").Text() == "select" && !f.get("options").Truthy() {
			return nil, variablesError(fmt.Sprintf("Chat variable %s select needs options.", key))
		}
		if typed[key] && !bytes.Equal(fields[i].JSON(), f.JSON()) {
			return nil, variablesError(fmt.Sprintf("Chat variable %s has conflicting definitions.", key))
		}
		typed[key] = true
		if i >= 0 {
			fields[i] = f
		} else {
			fields = append(fields, f)
		}
	}
	return fields, nil
}

func newField(key string, definition map[string]jsondoc.Doc) Field {
	f := Field{Key: key}
	for _, name := range fieldMembers {
		if v, ok := definition[name]; ok {
			f.members = append(f.members, member{name, v})
		}
	}
	if f.get("type") == nil {
		f.members = append(f.members, member{"type", jsondoc.Doc(`"text"`)})
	}
	if f.get("type").Text() == "select" && f.get("options").Kind() != '[' {
		f.members = slices.DeleteFunc(f.members, func(m member) bool { return m.name == "options" })
		f.members = append(f.members, member{"options", jsondoc.Doc("[]")})
	}
	f.Required = f.get("required").Truthy()
	return f
}

// parseDefinition reads "select:label=Tone:options=["a","b"]:required".
func parseDefinition(definition string) map[string]jsondoc.Doc {
	parts := splitProperties(definition, ':')
	if len(parts) == 0 {
		return map[string]jsondoc.Doc{"type": jsondoc.Doc(`"text"`)}
	}
	kind := strings.TrimSpace(strings.TrimPrefix(parts[0], "type="))
	if kind == "" {
		kind = "text"
	}
	out := map[string]jsondoc.Doc{"type": jsondoc.Of(kind)}
	for _, part := range parts[1:] {
		if part == "" {
			continue
		}
		pair := splitProperties(part, '=')
		if len(pair) == 0 {
			continue
		}
		if len(pair) == 1 {
			out[pair[0]] = jsondoc.Doc("true")
			continue
		}
		out[pair[0]] = propertyValue(strings.TrimSpace(strings.Join(pair[1:], "=")))
	}
	return out
}

// splitProperties splits outside of strings, brackets and escapes; the pieces are trimmed, an empty last one is left
// out.
func splitProperties(s string, delimiter byte) []string {
	var out []string
	depth, start := 0, 0
	inString, escaped := false, false
	for i := range len(s) {
		c := s[i]
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == delimiter && depth == 0:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	if last := strings.TrimSpace(s[start:]); last != "" {
		out = append(out, last)
	}
	return out
}

func propertyValue(s string) jsondoc.Doc {
	switch {
	case len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"':
		return jsondoc.Of(s[1 : len(s)-1])
	case s == `"`:
		return jsondoc.Doc(`""`)
	case s != "" && (s[0] == '[' || s[0] == '{'):
		if v := jsondoc.Doc(s); jsondoc.Valid(v) == nil && listDepth(v) <= maxListDepth {
			return v
		}
	}
	return jsondoc.Of(s)
}

func listDepth(v jsondoc.Doc) int {
	if v.Kind() != '[' {
		return 0
	}
	deepest := 0
	v.Items(func(_ int, e jsondoc.Doc) bool {
		deepest = max(deepest, listDepth(e))
		return true
	})
	return deepest + 1
}

// ChatVariables checks the values of a chat's variables, a JSON object, against what the system prompt asks for, and
// gives the text of each: its default or "" where no value is sent. With required set, a required one that is missing
// is an error. Errors wrap [ErrVariables].
func ChatVariables(system string, values jsondoc.Doc, required bool) (map[string]string, error) {
	fields, err := Fields(system)
	if err != nil {
		return nil, err
	}
	if values.Kind() == '{' && len(values) > MaxJSONLength {
		return nil, variablesError("Chat variables are too large.")
	}
	out := make(map[string]string, len(fields))
	for i := range fields {
		f := &fields[i]
		value := jsondoc.Doc(nil)
		if values.Kind() == '{' {
			value = values.Get(f.Key)
		}
		if blank(value) {
			switch def := f.get("default"); {
			case !blank(def):
				value = def
			case required && f.Required:
				return nil, variablesError("Missing required chat variable: " + f.label())
			default:
				value = nil
			}
		}
		if value != nil && f.get("type").Text() == "select" && !contains(f.get("options"), value) {
			return nil, variablesError("Invalid value for chat variable: " + f.label())
		}
		text := plainText(value)
		if value.Kind() == '"' {
			text = strings.ReplaceAll(text, "\r\n", "\n")
			if len(text) > MaxValueLength && len([]rune(text)) > MaxValueLength {
				return nil, variablesError("Chat variable is too long: " + f.label())
			}
		}
		out[f.Key] = text
	}
	return out, nil
}

func blank(v jsondoc.Doc) bool { return v.IsNull() || string(v) == `""` }

func contains(list, value jsondoc.Doc) bool {
	found := false
	list.Items(func(_ int, e jsondoc.Doc) bool {
		found = bytes.Equal(bytes.TrimSpace(e), bytes.TrimSpace(value))
		if e.Kind() == '"' && value.Kind() == '"' {
			found = e.Text() == value.Text()
		}
		return !found
	})
	return found
}

// plainText is a value as it stands in a prompt.
func plainText(v jsondoc.Doc) string {
	switch v.Kind() {
	case '"':
		return v.Text()
	case 't':
		return "True"
	case 'f':
		return "False"
	case 'n', 0:
		return ""
	}
	return string(v)
}

// RenderChat puts the values of a chat's variables into a system prompt. Where one does not fit (or, with required set, a
// required one is missing) all render as nothing.
func RenderChat(system string, values jsondoc.Doc, required bool) string {
	if !strings.Contains(system, "chat.variables.") {
		return system
	}
	// An error means that no value can be trusted: all mentions are emptied.
	texts, _ := ChatVariables(system, values, required)
	return replaceAll(chatVariable, system, func(key string) string { return texts[key] })
}

// RenderUser puts the values of an account's variables into a system prompt. Only strings count as values.
func RenderUser(system string, values jsondoc.Doc) string {
	if !strings.Contains(system, "user.variables.") {
		return system
	}
	return replaceAll(userVariable, system, func(key string) string {
		if !variableKey.MatchString(key) || values.Kind() != '{' {
			return ""
		}
		return values.Text(key)
	})
}

func replaceAll(re *regexp.Regexp, s string, value func(key string) string) string {
	var b strings.Builder
	at := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(s[at:m[0]])
		b.WriteString(value(strings.TrimSpace(s[m[2]:m[3]])))
		at = m[1]
	}
	b.WriteString(s[at:])
	return b.String()
}

// UserVariables checks the variables that an account wants to keep and brings their line ends into one form. Errors
// wrap [ErrVariables].
func UserVariables(values jsondoc.Doc) (jsondoc.Doc, error) {
	if values.Kind() != '{' {
		return nil, variablesError("User variables must be an object.")
	}
	if len(values) > MaxJSONLength {
		return nil, variablesError("User variables are too large.")
	}
	var out jsondoc.Builder
	var bad error
	values.Each(func(key string, v jsondoc.Doc) bool {
		text, ok := v.AsText()
		text = strings.ReplaceAll(text, "\r\n", "\n")
		switch {
		case !variableKey.MatchString(key):
			bad = variablesError("Invalid user variable key: " + key)
		case !ok:
			bad = variablesError("User variable must be a string: " + key)
		case len(text) > MaxValueLength && len([]rune(text)) > MaxValueLength:
			bad = variablesError("User variable is too long: " + key)
		default:
			out.Add(key, text)
		}
		return bad == nil
	})
	if bad != nil {
		return nil, bad
	}
	return out.Done(), nil
}
