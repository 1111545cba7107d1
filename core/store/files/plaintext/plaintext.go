// Package plaintext reads the text of files whose format is text: plain text, code, Markdown, CSV, HTML, and of Word
// documents (docx). The result is what the reference stores for them, but for its repair of text that was decoded wrongly
// before.
package plaintext

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// ErrFormat is the error of a file whose format is not text; the text is the reference's (of its edition without
// extractors of its own).
var ErrFormat = errors.New("This file type requires an external document extractor in slim. Configure one that supports it.") //nolint:staticcheck // shown to users

// binary are extensions of documents that need an extractor, whatever their bytes look like.
var binary = set("pdf doc xls xlsx ppt pptx msg odt epub")

// binaryTypes are content types of such documents.
var binaryTypes = set("application/epub+zip application/msword application/vnd.ms-excel application/vnd.ms-powerpoint application/pdf " +
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet " +
	"application/vnd.openxmlformats-officedocument.presentationml.presentation")

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// HeadSize is how many bytes Is and Readable look at.
const HeadSize = 8192

// Readable says whether Extract can read a file, from the first HeadSize bytes. The name's extension says more than the
// content type.
func Readable(name, contentType string, head []byte) bool {
	ext := extension(name)
	if isDocx(ext, contentType) {
		return true
	}
	if binary[ext] || !texts[ext] && binaryTypes[contentType] {
		return false
	}
	return Is(head) || hasUTF16Mark(head)
}

// texts are extensions that go before any content type.
var texts = set("csv htm html md rst xml")

func isDocx(ext, contentType string) bool {
	return ext == "docx" || contentType == docxType && !binary[ext] && !texts[ext]
}

func extension(name string) string { return strings.ToLower(name[strings.LastIndexByte(name, '.')+1:]) }

// Extract reads the text of a file from its content; ErrFormat where it is not Readable.
func Extract(name, contentType string, content []byte) (string, error) {
	if !Readable(name, contentType, content) {
		return "", ErrFormat
	}
	ext := extension(name)
	if isDocx(ext, contentType) {
		text, err := fromDocx(content)
		return tidy(text), err
	}
	text := decode(content)
	var err error
	switch ext {
	case "csv":
		if text, err = fromCSV(text); err != nil {
			return "", err
		}
	case "htm", "html":
		text = fromHTML(newlines(text))
	}
	return tidy(text), nil
}

// Is says whether content looks like text: its first bytes hold no NUL.
func Is(content []byte) bool {
	head := content[:min(len(content), HeadSize)]
	for _, c := range head {
		if c == 0 {
			return false
		}
	}
	return len(head) > 0
}

func hasUTF16Mark(b []byte) bool {
	return len(b) >= 2 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff)
}

// decode reads UTF-8, UTF-16 with a byte order mark, and takes all else for Windows-1252.
func decode(b []byte) string {
	switch {
	case utf8.Valid(b):
		return string(b)
	case hasUTF16Mark(b):
		return decodeUTF16(b)
	}
	var out strings.Builder
	out.Grow(len(b) + len(b)/8)
	for _, c := range b {
		if c >= 0x80 && c < 0xa0 {
			out.WriteRune(windows1252[c-0x80])
		} else {
			out.WriteRune(rune(c))
		}
	}
	return out.String()
}

func decodeUTF16(b []byte) string {
	low := 0
	if b[0] == 0xfe {
		low = 1
	}
	var out strings.Builder
	for i := 2; i+1 < len(b); i += 2 {
		r := rune(b[i+low]) | rune(b[i+1-low])<<8
		if r >= 0xd800 && r < 0xdc00 && i+3 < len(b) {
			if next := rune(b[i+2+low]) | rune(b[i+3-low])<<8; next >= 0xdc00 && next < 0xe000 {
				r = (r-0xd800)<<10 + next - 0xdc00 + 0x10000
				i += 2
			}
		}
		out.WriteRune(r) // a lone surrogate becomes U+FFFD
	}
	return out.String()
}

// windows1252 are the characters 0x80 to 0x9f.
var windows1252 = [32]rune{'€', 0x81, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0x8d, 'Ž', 0x8f,
	0x90, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0x9d, 'ž', 'Ÿ'}
