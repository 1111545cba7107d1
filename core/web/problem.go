package web

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// Problem is an entry of a 422 answer, as pydantic 2 writes it.
type Problem struct {
	Type  string         `json:"type"`
	Loc   Loc            `json:"loc"`
	Msg   string         `json:"msg"`
	Input jsondoc.Doc    `json:"input"`
	Ctx   map[string]any `json:"ctx,omitempty"`
}

// Loc is where in the request a problem lies: strings, and ints for indexes.
type Loc []any

// With is the place one step further down: a name or an index.
func (l Loc) With(step any) Loc {
	return append(l[:len(l):len(l)], step)
}

// Problems are all that is wrong with a request.
type Problems []Problem

// Invalid is the 422 answer for problems that a handler found itself.
func Invalid(ps ...Problem) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Detail: Problems(ps)}
}

// ValueError is the problem of a custom rule on the value at loc.
func ValueError(loc Loc, input jsondoc.Doc, message string) Problem {
	return Problem{Type: "value_error", Loc: loc, Msg: "Value error, " + message, Input: input, Ctx: map[string]any{"error": struct{}{}}}
}

func missing(loc Loc, input jsondoc.Doc) Problem {
	return Problem{Type: "missing", Loc: loc, Msg: "Field required", Input: input}
}

// wrong is the problem of a value of the wrong type.
func wrong(kind string, at *place, input jsondoc.Doc) Problems {
	return Problems{{Type: kind, Loc: at.loc(), Msg: typeMessages[kind], Input: input}}
}

var typeMessages = map[string]string{
	"string_type":           "Input should be a valid string",
	"int_type":              "Input should be a valid integer",
	"int_parsing":           "Input should be a valid integer, unable to parse string as an integer",
	"int_from_float":        "Input should be a valid integer, got a number with a fractional part",
	"float_type":            "Input should be a valid number",
	"float_parsing":         "Input should be a valid number, unable to parse string as a number",
	"bool_type":             "Input should be a valid boolean",
	"bool_parsing":          "Input should be a valid boolean, unable to interpret input",
	"dict_type":             "Input should be a valid dictionary",
	"list_type":             "Input should be a valid list",
	"model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
	"extra_forbidden":       "Extra inputs are not permitted",
	"int_parsing_size":      "Unable to parse input string as an integer, exceeded maximum size",
	"finite_number":         "Input should be a finite number",
	"string_unicode":        "Input should be a valid string, unable to parse raw data as a unicode string",
}

func literalError(loc Loc, input jsondoc.Doc, values []string) Problem {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + v + "'"
	}
	expected := strings.Join(quoted, ", ")
	if n := len(quoted); n > 1 {
		expected = strings.Join(quoted[:n-1], ", ") + " or " + quoted[n-1]
	}
	return Problem{Type: "literal_error", Loc: loc, Msg: "Input should be " + expected, Input: input, Ctx: map[string]any{"expected": expected}}
}

func plural(n int, one string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
