package chats

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// sieve tells most texts without a word from those with it, in a kilobyte for a chat: which runs of three bytes are in the
// folded text, as a hashed set of bits. What it lets through has to be looked at; what it holds back has the word for
// certain not, however the database folds the case of letters.
type sieve struct {
	set []byte // a power of two of bytes

	updated, size int64 // of the chat when its texts were read: updated_at, and what sizeOf gives
	loaded        int64 // Unix seconds
	apart         bool  // rows of messages said something that the document did not; on Postgres
}

const (
	sieveMost  = 8 << 10 // bytes of the largest set
	sieveLeast = 64
	sieveFull  = 25 // percent of the bits that may be set before the next size is taken
)

// newSieve makes the set of some texts.
func newSieve(list ...string) *sieve {
	var most [sieveMost]byte
	set := most[:]
	var f folder
	for _, s := range list {
		f.fold(s)
		key, run := uint32(0), 0 // the last bytes, and how many of them belong together
		for _, c := range f.out {
			if c == apart {
				run = 0
				continue
			}
			key = key>>8 | uint32(c)<<16
			if run++; run >= 3 {
				h := mix(key)
				most[h>>3&(sieveMost-1)] |= 1 << (h & 7)
			}
		}
	}
	for len(set) > sieveLeast {
		half := len(set) / 2
		ones := 0
		for i := 0; i < half; i += 8 {
			ones += bits.OnesCount64(binary.LittleEndian.Uint64(set[i:]) | binary.LittleEndian.Uint64(set[half+i:]))
		}
		if ones*100 > half*8*sieveFull {
			break
		}
		for i := range half {
			set[i] |= set[half+i]
		}
		set = set[:half]
	}
	return &sieve{set: append([]byte(nil), set...)}
}

// mix spreads the bits of three bytes.
func mix(key uint32) uint32 { return key * 0x9E3779B1 >> 12 }

func gram(a, b, c byte) uint32 { return mix(uint32(a) | uint32(b)<<8 | uint32(c)<<16) }

// needle is what a text has to have for a word to be in it; none where the word is too short to tell.
type needle []uint32

// newNeedle reads a word, in which %, _ and \ may be signs of LIKE.
func newNeedle(word string) (n needle) {
	for _, piece := range pieces(word) {
		n = append(n, literalNeedle(piece)...)
	}
	return n
}

func pieces(word string) []string {
	return strings.FieldsFunc(word, func(r rune) bool { return r == '%' || r == '_' || r == '\\' })
}

// literalNeedle reads a word that stands for itself.
func literalNeedle(word string) (n needle) {
	var f folder
	f.fold(word)
	for b := f.out; len(b) >= 3; b = b[1:] {
		n = append(n, gram(b[0], b[1], b[2]))
	}
	return n
}

// may says whether the texts could have the word; false is certain.
func (v *sieve) may(n needle) bool {
	if v == nil {
		return true
	}
	mask := uint32(len(v.set) - 1)
	for _, h := range n {
		if v.set[h>>3&mask]&(1<<(h&7)) == 0 {
			return false
		}
	}
	return true
}

// titleMay says whether a title could have the word, in the same sense.
func titleMay(title, word string) bool {
	var f, g folder
	f.fold(title)
	text := string(f.out)
	for _, piece := range pieces(word) {
		g.fold(piece)
		if !strings.Contains(text, str(g.out)) {
			return false
		}
	}
	return true
}

// folder makes texts equal that differ in the case of letters only, whichever rules of case are asked: those of ASCII, of
// this program, of the C library or of ICU.
type folder struct{ out []byte }

// apart stands in a folded text between messages; it is no byte of UTF-8.
const apart = 0xFF

func (f *folder) fold(s string) {
	f.out = slices.Grow(f.out[:0], len(s)+utf8.UTFMax)
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			f.out = append(f.out, foldASCII[c])
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if to := foldRune(r); to != 0 {
			f.out = utf8.AppendRune(f.out, to)
		}
	}
}

var foldASCII = func() (t [utf8.RuneSelf]byte) {
	for c := range byte(utf8.RuneSelf) {
		t[c] = c
		if c >= 'a' && c <= 'z' {
			t[c] = c - ('a' - 'A')
		}
	}
	t[0] = apart
	return t
}()

// folds are the folded forms of the characters that most scripts with two cases have.
var folds = sync.OnceValue(func() *[0x2000]rune {
	var t [0x2000]rune
	for r := range rune(len(t)) {
		t[r] = slowFold(r)
	}
	return &t
})

// foldRune gives the one of a character's forms that stands for all, and 0 for a sign that only some rules add.
func foldRune(r rune) rune {
	switch {
	case r < 0x2000:
		return folds()[r]
	case r >= 0x2E80 && r < 0xA640 || r >= 0xAC00 && r < 0xFB00: // have no cases
		return r
	}
	return slowFold(r)
}

func slowFold(r rune) rune {
	switch {
	case r == 0x130 || r == 0x131: // i with and without its dot
		return 'I'
	case r == 0x307: // the dot
		return 0
	}
	least := r
	for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
		least = min(least, o)
	}
	return least
}
