package plaintext

import (
	"regexp"
	"strings"
)

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func newlines(s string) string {
	if !strings.Contains(s, "\r") {
		return s
	}
	return lineEnds.Replace(s)
}

var (
	otherLineEnds = strings.NewReplacer("\u2028", "\n", "\u2029", "\n", "\u0085", "\n")
	ligatures     = strings.NewReplacer("Ĳ", "IJ", "ĳ", "ij", "ŉ", "ʼn", "Ǳ", "DZ", "ǲ", "Dz", "ǳ", "dz", "Ǆ", "DŽ", "ǅ", "Dž", "ǆ", "dž", "Ǉ", "LJ", "ǈ", "Lj", "ǉ", "lj",
		"Ǌ", "NJ", "ǋ", "Nj", "ǌ", "nj", "ﬀ", "ff", "ﬁ", "fi", "ﬂ", "fl", "ﬃ", "ffi", "ﬄ", "ffl", "ﬅ", "ſt", "ﬆ", "st")
	escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
)

// tidy does what the reference's text fixer does to sound text: one kind of line end, ligatures taken apart, no terminal
// escapes and no control characters, a byte order mark among them.
func tidy(s string) string {
	s = newlines(s)
	plain := true
	for _, r := range s {
		if r >= 0x80 || r < 0x20 && r != '\n' && r != '\t' || r == 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	if strings.Contains(s, "\x1b") {
		s = escapes.ReplaceAllString(s, "")
	}
	s = otherLineEnds.Replace(ligatures.Replace(s))
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x09, r == 0x0b, r >= 0x0e && r < 0x20, r == 0x7f, r >= 0x206a && r <= 0x206f, r == 0xfeff, r >= 0xfff9 && r <= 0xfffc:
			return -1
		}
		return r
	}, s)
}
