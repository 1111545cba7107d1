package config

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// Variable is one of a file.
type Variable struct{ Name, Value string }

// ReadDotEnv reads a file of variables, as the reference does with python-dotenv, and gives them in their order. A file
// that is not there holds none, and lines that are none are passed over. env is the environment, whose variables go before
// those of the file where a value names another, as ${NAME} or ${NAME:-fallback}.
func ReadDotEnv(path string, env LookupFunc) ([]Variable, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Variable
	for rest := strings.TrimPrefix(string(text), "\ufeff"); ; {
		if rest = strings.TrimLeft(rest, " \t\r\n\f\v"); rest == "" {
			return out, nil
		}
		var v *Variable
		if v, rest = cutVariable(rest); v != nil {
			v.Value = fillIn(v.Value, out, env)
			out = append(out, *v)
		}
	}
}

var (
	dotEnvName    = regexp.MustCompile(`^(?:export[ \t]+)?(?:'([^']+)'|([^=#\s]+))[ \t]*(=[ \t]*)`)
	dotEnvSingle  = regexp.MustCompile(`(?s)^'((?:\\.|[^'\\])*)'`)
	dotEnvDouble  = regexp.MustCompile(`(?s)^"((?:\\.|[^"\\])*)"`)
	dotEnvComment = regexp.MustCompile(`\s+#.*`)
	dotEnvEnd     = regexp.MustCompile(`^(?:[ \t]*#[^\r\n]*)?[ \t]*(?:[\r\n]|$)`)
	dotEnvEscape  = regexp.MustCompile(`\\[\\'"abfnrtv]`)
	dotEnvInner   = regexp.MustCompile(`\$\{([^}:]*)(?::-([^}]*))?\}`)
)

// cutVariable takes a variable from the front of a text, or a line that is none.
func cutVariable(text string) (*Variable, string) {
	line, after := text, ""
	if i := strings.IndexAny(text, "\r\n"); i >= 0 {
		line, after = text[:i], text[i:]
	}
	m := dotEnvName.FindStringSubmatch(text)
	if m == nil {
		return nil, after
	}
	v := &Variable{Name: m[1] + m[2]}
	rest := text[len(m[0]):]
	switch quote := rest[:min(1, len(rest))]; {
	case quote == "#" && len(m[3]) > 1: // NAME= # a comment
	case quote == "'" || quote == `"`:
		form := dotEnvDouble
		if quote == "'" {
			form = dotEnvSingle
		}
		q := form.FindStringSubmatch(rest)
		if q == nil || !dotEnvEnd.MatchString(rest[len(q[0]):]) {
			return nil, after
		}
		v.Value = dotEnvEscape.ReplaceAllStringFunc(q[1], func(s string) string {
			if i := strings.IndexByte("abfnrtv", s[1]); i >= 0 && quote == `"` {
				return "\a\b\f\n\r\t\v"[i : i+1]
			} else if i >= 0 || quote == "'" && s[1] == '"' {
				return s
			}
			return s[1:]
		})
		return v, rest[len(q[0]):][len(dotEnvEnd.FindString(rest[len(q[0]):])):]
	case len(m[0]) <= len(line):
		v.Value = strings.TrimRight(dotEnvComment.ReplaceAllString(line[len(m[0]):], ""), " \t\f\v")
	}
	return v, after
}

// fillIn puts the variables that a value names into it.
func fillIn(value string, before []Variable, env LookupFunc) string {
	return dotEnvInner.ReplaceAllStringFunc(value, func(s string) string {
		m := dotEnvInner.FindStringSubmatch(s)
		if v, ok := env(m[1]); ok {
			return v
		}
		for i := len(before) - 1; i >= 0; i-- {
			if before[i].Name == m[1] {
				return before[i].Value
			}
		}
		return m[2]
	})
}
