package oauth

import (
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// text is a claim as text: numbers as they are written. "" where it is nothing of that kind, and for 0, which counts as
// nothing.
func text(d jsondoc.Doc) string {
	if s, ok := d.AsText(); ok {
		return s
	}
	if d.Kind() == '0' && d.Truthy() {
		return strings.TrimSpace(d.String())
	}
	return ""
}

// claim finds a claim by its name, or by a path of names with dots between them: a list, a text, or a whole number. nil
// where it is absent or of another kind.
func claim(claims *jsondoc.Obj, path string) jsondoc.Doc {
	names := strings.Split(path, ".")
	d := claims.Get(names[0])
	for _, name := range names[1:] {
		if d.Kind() != '{' {
			d = nil
			break
		}
		d = d.Get(name)
	}
	if !listable(d) {
		d = claims.Get(path)
	}
	if !listable(d) {
		return nil
	}
	return d
}

func listable(d jsondoc.Doc) bool {
	switch d.Kind() {
	case '[', '"', 't', 'f':
		return true
	case '0':
		return !strings.ContainsAny(d.String(), ".eE")
	}
	return false
}

// values are the texts that a claim lists, and whether it lists anything: numbers count for something without being a
// text. One text may be several with a separator between them.
func values(d jsondoc.Doc, separator string) (list []string, any bool) {
	if d.Kind() == '[' {
		return d.Texts(), d.Len() > 0
	}
	s, ok := d.AsText()
	switch {
	case !ok:
		return nil, false
	case separator != "":
		return strings.Split(s, separator), true
	}
	return []string{s}, true
}

// claimed finds a claim in what the provider says of a person, else in the access token.
func (id *identity) claimed(path string) jsondoc.Doc {
	if path == "" {
		return nil
	}
	d := claim(id.claims, path)
	if d == nil && id.token != nil {
		d = claim(jsondoc.Open(id.token), path)
	}
	return d
}

// patterns are groups that sign-ins leave alone.
type patterns []string

// blockedGroups reads the setting: a list, the JSON of one, or texts between commas.
func blockedGroups(s *config.Snapshot) patterns {
	d := jsondoc.Doc(config.OAuthBlockedGroups.Raw(s))
	if inner, ok := d.AsText(); ok {
		parsed, bad := jsondoc.Check([]byte(inner))
		if bad != nil || parsed.Kind() != '[' {
			var out patterns
			for part := range strings.SplitSeq(inner, ",") {
				if part = strings.TrimSpace(part); part != "" {
					out = append(out, part)
				}
			}
			return out
		}
		d = parsed
	}
	return slices.DeleteFunc(d.Texts(), func(s string) bool { return s == "" })
}

// match says whether a group's name is one of the patterns: the name itself, a regular expression that is found in it, or
// a pattern of file names.
func (p patterns) match(name string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool {
		if pattern == name {
			return true
		}
		if strings.ContainsAny(pattern, `^$[](){}+\|`) && search(pattern, name) {
			return true
		}
		return strings.ContainsAny(pattern, "*?") && glob(pattern).MatchString(name)
	})
}

// search finds a regular expression of Python's in a name; one that cannot be read is in none.
func search(pattern, name string) bool {
	if strings.HasPrefix(pattern, "^(?") { // perhaps a lookahead, which Go's have not
		if p, err := config.CompilePassword(pattern); err == nil {
			return p.Match(name)
		}
	}
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(name)
}

// glob is a pattern of file names as a regular expression: * and ?, and sets in brackets.
func glob(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteByte('.')
		case '[':
			// a bracket right at the beginning of a set belongs to it
			from := i + 1
			if strings.HasPrefix(pattern[from:], "!") {
				from++
			}
			if strings.HasPrefix(pattern[from:], "]") {
				from++
			}
			end := strings.IndexByte(pattern[from:], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			set := strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(pattern[i+1 : from+end])
			if rest, not := strings.CutPrefix(set, "!"); not {
				set = "^" + rest
			} else if strings.HasPrefix(set, "^") {
				set = `\` + set
			}
			if inner, first := strings.CutPrefix(strings.TrimPrefix(set, "^"), "]"); first {
				set = strings.TrimSuffix(set, "]"+inner) + `\]` + inner
			}
			b.WriteString("[" + set + "]")
			i = from + end
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	re, err := regexp.Compile(b.String() + `\z`)
	if err != nil {
		return regexp.MustCompile(`\A` + regexp.QuoteMeta(pattern) + `\z`)
	}
	return re
}
