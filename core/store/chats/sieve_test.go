package chats

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
)

// TestSieveLetsThrough looks for parts of texts, in other cases, in the sieves of the texts.
func TestSieveLetsThrough(t *testing.T) {
	letters := []rune("abcXYZ 0_%äÖßẞÅÅſkKİıi̇ΣςσЖжДдⅨⅸǄǅǆ数据库🙂ᲀꙀꙁ")
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteRune(letters[rng.IntN(len(letters))])
		}
		return b.String()
	}
	cases := map[string]func(string) string{"as it is": func(s string) string { return s }, "upper": strings.ToUpper, "lower": strings.ToLower, "title": strings.ToTitle,
		"ASCII": lowerASCII, "folded": func(s string) string {
			return strings.Map(func(r rune) rune { return unicode.SimpleFold(r) }, s)
		},
		"ICU":  func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "İ", "i̇")) },
		"Turk": func(s string) string { return strings.ToLowerSpecial(unicode.TurkishCase, s) }}
	for range 3000 {
		s := text(30)
		v := newSieve("before", s)
		runes := []rune(s)
		from := rng.IntN(len(runes))
		part := string(runes[from : from+rng.IntN(len(runes)-from)])
		for name, f := range cases {
			if name == "upper" && strings.Contains(part, "ß") {
				continue // ToUpper leaves it
			}
			if word := f(part); !v.may(newNeedle(word)) || !titleMay(s, word) {
				t.Fatalf("%s: %q is held back, which is in %q", name, word, s)
			}
		}
	}
}

// TestSieveHoldsBack counts what is let through needlessly in texts as long as chats are.
func TestSieveHoldsBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var words []string
	for range 3000 {
		w := ""
		for range 2 + rng.IntN(3) {
			w += string(rune('a'+rng.IntN(20))) + string("aeiou"[rng.IntN(5)])
		}
		words = append(words, w)
	}
	through, bytes := 0, 0
	for i := range 200 {
		var b strings.Builder
		for range 1500 {
			b.WriteString(words[rng.IntN(1500)] + " ")
		}
		v := newSieve(b.String())
		bytes += len(v.set)
		for k := range 10 {
			if v.may(newNeedle(fmt.Sprintf("%s%s", "absent", words[1500+i+k]))) {
				through++
			}
		}
	}
	t.Logf("%d of 2000 let through, %d bytes a text", through, bytes/200)
	if through > 40 || bytes/200 > 4<<10 {
		t.Errorf("%d of 2000 let through, %d bytes a text", through, bytes/200)
	}
}

func TestSieveOfShortWords(t *testing.T) {
	v := newSieve("x")
	for _, word := range []string{"", "a", "ab", "%", "a%b_c", `a\b`} {
		if !v.may(newNeedle(word)) {
			t.Errorf("%q cannot be told, but is held back", word)
		}
	}
	if v.may(newNeedle("abc")) || !(*sieve)(nil).may(newNeedle("abc")) {
		t.Error("a word of three letters, and no sieve")
	}
}

func BenchmarkSieve(b *testing.B) {
	s := strings.Repeat("Some plain words about rivers, canals and größe locks. ", 200)
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		newSieve(s)
	}
}
