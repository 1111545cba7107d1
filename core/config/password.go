package config

import (
	"fmt"
	"regexp"
	"strings"
)

// PasswordPattern is a regular expression with the lookaheads that password rules are made of, which Go's regexp has
// not: any number of (?=…) and (?!…) at its beginning, each matched from the text's beginning.
type PasswordPattern struct {
	source string
	looks  []look
	rest   *regexp.Regexp
}

type look struct {
	re   *regexp.Regexp
	want bool
}

// defaultPassword wants 8 characters, with a lower-case and an upper-case letter, a digit and something else.
const defaultPassword = `^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)(?=.*[^\w\s]).{8,}$`

// CompilePassword reads a pattern in Python's notation, as far as Go's has the same.
func CompilePassword(pattern string) (*PasswordPattern, error) {
	p := &PasswordPattern{source: pattern}
	rest := unicodeClasses(strings.TrimPrefix(pattern, "^"))
	for strings.HasPrefix(rest, "(?=") || strings.HasPrefix(rest, "(?!") {
		end := closing(rest)
		if end < 0 {
			return nil, fmt.Errorf("password pattern %q: a parenthesis is not closed", pattern)
		}
		re, err := regexp.Compile(`\A(?:` + rest[3:end] + `)`)
		if err != nil {
			return nil, fmt.Errorf("password pattern %q: %w", pattern, err)
		}
		p.looks = append(p.looks, look{re, rest[2] == '='})
		rest = rest[end+1:]
	}
	re, err := regexp.Compile(`\A(?:` + rest + `)`)
	if err != nil {
		return nil, fmt.Errorf("password pattern %q: %w", pattern, err)
	}
	p.rest = re
	return p, nil
}

// Match says whether a password begins with what the pattern describes, as re.match does.
func (p *PasswordPattern) Match(password string) bool {
	for _, l := range p.looks {
		if l.re.MatchString(password) != l.want {
			return false
		}
	}
	return p.rest.MatchString(password)
}

// String is the pattern as it was given.
func (p *PasswordPattern) String() string { return p.source }

// closing finds the parenthesis that closes the one at the beginning; -1 where there is none.
func closing(s string) int {
	depth, class := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case class:
			// The first character of a class may be "]" itself.
			class = c != ']' || s[i-1] == '[' || (s[i-1] == '^' && s[i-2] == '[')
		case c == '[':
			class = true
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// unicodeClasses writes \d and \w as what they are in Python, where they know all letters and digits.
func unicodeClasses(s string) string {
	var b strings.Builder
	class := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '\\' || i+1 == len(s) {
			class = c == '[' || class && c != ']'
			b.WriteByte(c)
			continue
		}
		i++
		switch {
		case s[i] == 'd':
			b.WriteString(`\p{Nd}`)
		case s[i] == 'w' && class:
			b.WriteString(`\p{L}\p{N}_`)
		case s[i] == 'w':
			b.WriteString(`[\p{L}\p{N}_]`)
		default:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
