package store

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"unicode/utf8"

	"modernc.org/sqlite"
)

// likeName is the SQL function on SQLite that compares as the reference's LIKE does there: it folds the case of all
// letters, where SQLite knows only those of ASCII.
const likeName = "galley_like"

func init() {
	sqlite.MustRegisterDeterministicScalarFunction(likeName, -1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		if len(args) < 2 || args[0] == nil || args[1] == nil {
			return nil, nil
		}
		escape := ""
		if len(args) > 2 {
			escape = textOf(args[2])
		}
		return likeFold(textOf(args[0]), textOf(args[1]), escape), nil
	})
}

func textOf(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

// Like is a LIKE that does not look at case, as the reference's ilike: without an escape character on SQLite, with "\" on
// Postgres.
func (d Dialect) Like(column, placeholder string) string {
	if d == Postgres {
		return column + " ILIKE " + placeholder
	}
	return fmt.Sprintf("%s(%s, %s)", likeName, placeholder, column)
}

// ILike is Like with "\" as the escape character on both databases.
func (d Dialect) ILike(column, placeholder string) string {
	if d == Postgres {
		return fmt.Sprintf("%s ILIKE %s ESCAPE '\\'", column, placeholder)
	}
	return fmt.Sprintf("%s(%s, %s, '\\')", likeName, placeholder, column)
}

// likeFold matches a pattern with % (anything) and _ (one character), whatever the case. A pattern that ends in the
// escape character matches nothing.
func likeFold(pattern, text, escape string) bool {
	pattern, text, escape = strings.ToLower(pattern), strings.ToLower(text), strings.ToLower(escape)
	// token reads what the pattern asks for at p: a character, or with wild % or _
	token := func(p int) (char string, wild bool, next int) {
		_, n := utf8.DecodeRuneInString(pattern[p:])
		char = pattern[p : p+n]
		if escape == "" || char != escape {
			return char, char == "%" || char == "_", p + n
		}
		_, m := utf8.DecodeRuneInString(pattern[p+n:])
		return pattern[p+n : p+n+m], false, p + n + m
	}
	star, back := -1, 0 // where to go on after a wrong guess of what % stands for
	for i, p := 0, 0; ; {
		if p < len(pattern) {
			char, wild, next := token(p)
			switch {
			case char == "":
				return false
			case wild && char == "%":
				star, back, p = next, i, next
				continue
			case i < len(text):
				_, n := utf8.DecodeRuneInString(text[i:])
				if wild || text[i:i+n] == char {
					i, p = i+n, next
					continue
				}
			}
		} else if i == len(text) {
			return true
		}
		if star < 0 || back >= len(text) {
			return false
		}
		_, n := utf8.DecodeRuneInString(text[back:])
		back += n
		i, p = back, star
	}
}
