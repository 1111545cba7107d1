// Package textdiff compares versions of a text as Python's difflib does.
package textdiff

import (
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Unified is the unified diff of two texts, in lines without their ends.
func Unified(a, b, from, to string) ([]string, error) {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: ended(a), B: ended(b), FromFile: from, ToFile: to, Context: 3})
	if err != nil || text == "" {
		return []string{}, err
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), nil
}

// lineEnds are what Python's splitlines takes for the end of a line, besides "\n".
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\x1c", "\n", "\x1d", "\n", "\x1e", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// Lines splits a text as Python's splitlines does.
func Lines(s string) []string {
	lines := strings.Split(lineEnds.Replace(s), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		return lines[:last]
	}
	return lines
}

// ended splits a text into lines, each with "\n" at its end.
func ended(s string) []string {
	lines := strings.SplitAfter(lineEnds.Replace(s), "\n")
	last := len(lines) - 1
	if lines[last] == "" {
		return lines[:last]
	}
	lines[last] += "\n"
	return lines
}
