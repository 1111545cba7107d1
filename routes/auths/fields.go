package auths

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// strictBool takes true and false only.
type strictBool bool

// DecodeField implements web.Decoder.
func (b *strictBool) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	switch raw.Kind() {
	case 't', 'f':
		*b = raw.Kind() == 't'
		return nil
	}
	return web.Problems{{Type: "bool_type", Loc: loc, Msg: "Input should be a valid boolean", Input: raw}}
}

// positive is a whole number above 0, and not its text.
type positive int64

// DecodeField implements web.Decoder.
func (p *positive) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n <= 0 {
		return web.Problems{{Type: "int_type", Loc: loc, Msg: "Input should be a valid integer", Input: raw}}
	}
	*p = positive(n)
	return nil
}

// count is a whole number or its text; 0 and "" mean no limit.
type count int64

// DecodeField implements web.Decoder.
func (n *count) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	text, ok := raw.AsText()
	if !ok {
		text = string(raw)
	}
	text = strings.TrimSpace(text)
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case text == "" || text == "false":
		f, err = 0, nil
	case text == "true" && !ok:
		f, err = 1, nil
	}
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return web.Problems{{Type: "int_parsing", Loc: loc, Msg: "Input should be a valid integer, unable to parse string as an integer", Input: raw}}
	}
	*n = count(f)
	return nil
}

// setting is how a count is stored.
func (n count) setting() any {
	if n == 0 {
		return ""
	}
	return int64(n)
}

// i18n are translations by language and English text, cleaned: those without text are left out.
type i18n jsondoc.Doc

// MarshalJSONTo writes them as they are.
func (t i18n) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(t).MarshalJSONTo(e) }

// DecodeField implements web.Decoder. Names that would reach into JavaScript's prototypes are refused, and translations
// that lose a placeholder.
func (t *i18n) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '{' {
		return web.Problems{{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: raw}}
	}
	var ps web.Problems
	refuse := func(message string) { ps = append(ps, web.ValueError(loc, raw, message)) }
	var out jsondoc.Builder
	raw.Each(func(language string, entries jsondoc.Doc) bool {
		if unsafeName(language) || entries.Kind() != '{' {
			refuse("Invalid language: " + language)
			return false
		}
		var kept jsondoc.Builder
		n := 0
		entries.Each(func(key string, value jsondoc.Doc) bool {
			text, ok := value.AsText()
			switch {
			case unsafeName(key) || !ok:
				refuse("Invalid translation key: " + key)
			case strings.TrimSpace(text) == "":
			case !samePlaceholders(key, text):
				refuse("Interpolation placeholders do not match: " + language + ": " + key)
			default:
				kept.Raw(key, value)
				n++
			}
			return ps == nil
		})
		if n > 0 {
			out.Raw(language, kept.Done())
		}
		return ps == nil
	})
	*t = i18n(out.Done())
	return ps
}

func unsafeName(s string) bool {
	switch strings.TrimSpace(s) {
	case "":
		return true
	}
	return s == "__proto__" || s == "prototype" || s == "constructor"
}

// placeholder is {{name}} or {{name, format}}, with a "-" before the name for text that is not escaped.
var placeholder = regexp.MustCompile(`\{\{\s*-?\s*([^},]+)(?:,[^}]+)?\s*\}\}`)

func samePlaceholders(a, b string) bool {
	names := func(s string) map[string]bool {
		out := map[string]bool{}
		for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
			out[strings.TrimSpace(m[1])] = true
		}
		return out
	}
	have, want := names(b), names(a)
	if len(have) != len(want) {
		return false
	}
	for name := range want {
		if !have[name] {
			return false
		}
	}
	return true
}
