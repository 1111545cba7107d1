package plaintext

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// fromHTML gives the text between the tags, where white space alone is shortened to a line end or a space; scripts, styles
// and templates have none.
func fromHTML(text string) string {
	var out strings.Builder
	var hidden, kept, tags int // depth in elements without text and in those that keep white space; tags seen
	z := html.NewTokenizer(strings.NewReader(text))
	for {
		switch z.Next() {
		case html.ErrorToken: // the end: a reader of a string does not fail
			return out.String()
		case html.TextToken:
			if hidden == 0 {
				out.WriteString(shorten(string(z.Text()), kept > 0, tags == 0))
			}
		case html.StartTagToken:
			tags++
			tag := nextTag(z)
			if tag == atom.Noscript {
				z.NextIsNotRawText()
			}
			count(tag, &hidden, &kept, 1)
		case html.EndTagToken:
			count(nextTag(z), &hidden, &kept, -1)
		}
	}
}

func nextTag(z *html.Tokenizer) atom.Atom {
	name, _ := z.TagName()
	return atom.Lookup(name)
}

func count(tag atom.Atom, hidden, kept *int, by int) {
	switch tag {
	case atom.Script, atom.Style, atom.Template:
		*hidden = max(*hidden+by, 0)
	case atom.Pre, atom.Textarea:
		*kept = max(*kept+by, 0)
	}
}

func shorten(s string, keep, first bool) string {
	switch {
	case keep || strings.Trim(s, " \t\n\r\f\v") != "":
		return s
	case first:
		return ""
	case strings.Contains(s, "\n"):
		return "\n"
	}
	return " "
}
