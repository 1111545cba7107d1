package folders

import "unicode"

// isSpace is what Python's \s matches in text: Unicode white space and the four separators of ASCII.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
