package main

import (
	"math/rand/v2"
	"strings"
	"unicode"
	"unicode/utf8"
)

// script is a made-up language: words by falling frequency, as Zipf's law has it, and how they stand side by side.
type script struct {
	name   string
	words  []string // safe to stand in JSON
	picks  []uint16 // word numbers, each as often as its frequency asks for
	stop   string   // ends a sentence
	spaced bool
}

// pickBits says how finely frequencies are told apart: the rarest word of 30,000 is about three in a million.
const pickBits = 20

func newScript(name, stop string, spaced bool, size int, syllables []string, common ...string) *script {
	s := &script{name: name, stop: stop, spaced: spaced, words: append([]string{}, common...)}
	rng := rand.New(rand.NewPCG(uint64(len(syllables)), uint64(size))) // the words are the same whatever the seed
	seen := map[string]bool{}
	for _, w := range common {
		seen[w] = true
	}
	for len(s.words) < size {
		n := 2 + len(s.words)*3/size + rng.IntN(2) // rarer words are longer
		if !spaced {
			n = 1 + rng.IntN(3)
		}
		var w strings.Builder
		for range n {
			w.WriteString(syllables[rng.IntN(len(syllables))])
		}
		if !seen[w.String()] {
			seen[w.String()] = true
			s.words = append(s.words, w.String())
		}
	}
	total := 0.0
	for i := range s.words {
		total += 1 / float64(i+2)
	}
	s.picks = make([]uint16, 0, 1<<pickBits)
	sum := 0.0
	for i := range s.words {
		sum += 1 / float64(i+2)
		for float64(len(s.picks)) < sum/total*(1<<pickBits) {
			s.picks = append(s.picks, uint16(i))
		}
	}
	for len(s.picks) < 1<<pickBits { // what rounding left
		s.picks = append(s.picks, 0)
	}
	s.picks = s.picks[:1<<pickBits]
	return s
}

func (s *script) word(rng *rand.Rand) string {
	return s.words[s.picks[rng.Uint64()&uint64(len(s.picks)-1)]]
}

// languages are what chats are written in, the first most of the time.
var languages = []*script{
	newScript("latin", ".", true, 30000, strings.Fields(`ba be bo bra bro ca ce con cor da de di dor en er es fa fi for ga ge gra in ka ki la le li lor ma me mi mo
		na ne no nor pa pe pla po pro ra re ri ro sa se si so spa sta ta te ter ti to tra tri un ur va ve vi vo wa wi za ze`),
		strings.Fields(`the of and to in is that for it as with on be at by this from or an are which you was can will not have what how do we my your
			please could would should when where there data file model server table query error time user list code value function test page`)...),
	newScript("umlauts", ".", true, 8000, strings.Fields(`ab än ber ch dä der ei en er fü ge gen gru hä hei ich ige keit kö lich lö mä mü nö ö ran rü sä schaft sch sö stra tä ten tü ü über ung ver wä zü ßen`),
		strings.Fields(`der die und das für nicht über können möchte größe straße schließen prüfung`)...),
	newScript("cyrillic", ".", true, 8000, strings.Fields(`ба ве го да ен жи за ин ка ле мо на ни ов пе ра ре си ста та ть у фо хо це че ше щи ый эт ю я`),
		strings.Fields(`и в не на что это как по для сервер данные вопрос`)...),
	newScript("han", "。", false, 5000, strings.Split("数据库表格用户问题模型服务器时间文件代码函数错误测试页面查询结果方法系统学习语言工作城市天气今明昨年月日人大小中国上下来去说看想做好新老长高多少", ""),
		"的", "是", "在", "数据", "模型", "问题"),
}

// language picks what a chat is written in.
func language(rng *rand.Rand) *script {
	switch n := rng.IntN(100); {
	case n < 80:
		return languages[0]
	case n < 90:
		return languages[1]
	case n < 96:
		return languages[2]
	}
	return languages[3]
}

// appendText writes about size bytes of sentences, paragraphs and code, in the form in which they stand between the
// quotes of a JSON string.
func (s *script) appendText(b []byte, rng *rand.Rand, size int) []byte {
	end := len(b) + size
	for sentences := 0; len(b) < end; sentences++ {
		switch n := rng.IntN(100); {
		case sentences > 0 && n < 4 && end-len(b) > 300:
			b = appendCode(append(b, `\n\n`...), rng)
			continue
		case sentences > 0 && n < 20:
			b = append(b, `\n\n`...)
		case sentences > 0 && s.spaced:
			b = append(b, ' ')
		}
		b = s.appendSentence(b, rng, end)
	}
	return b
}

func (s *script) appendSentence(b []byte, rng *rand.Rand, end int) []byte {
	words := 5 + rng.IntN(14)
	for i := 0; i < words && (i == 0 || len(b) < end); i++ {
		w := s.word(rng)
		switch {
		case i == 0:
			b = appendCapital(b, w)
			continue
		case s.spaced:
			b = append(b, ' ')
		}
		switch n := rng.IntN(200); n {
		case 0:
			b = append(append(append(b, `\"`...), w...), `\"`...)
		case 1:
			b = append(append(append(b, "**"...), w...), "**"...)
		case 2, 3, 4, 5, 6, 7:
			b = append(append(b, w...), ',')
		default:
			b = append(b, w...)
		}
	}
	switch rng.IntN(20) {
	case 0:
		return append(b, '?')
	case 1:
		return append(b, "! 🙂"...)
	}
	return append(b, s.stop...)
}

func appendCapital(b []byte, w string) []byte {
	r, n := utf8.DecodeRuneInString(w)
	return append(utf8.AppendRune(b, unicode.ToUpper(r)), w[n:]...)
}

// appendCode writes a block of code.
func appendCode(b []byte, rng *rand.Rand) []byte {
	s := languages[0]
	b = append(append(append(b, "```python\\ndef "...), s.word(rng)...), "(self):\\n"...)
	for range 2 + rng.IntN(6) {
		b = append(append(append(b, "    "...), s.word(rng)...), " = "...)
		b = append(append(append(b, s.word(rng)...), '.'), s.word(rng)...)
		b = append(append(append(b, `(\"`...), s.word(rng)...), `\")\n`...)
	}
	return append(b, "```"...)
}

// title is a chat's name of a few words.
func (s *script) title(rng *rand.Rand) string {
	var b []byte
	for i := range 2 + rng.IntN(5) {
		if i == 0 {
			b = appendCapital(b, s.word(rng))
			continue
		}
		if s.spaced {
			b = append(b, ' ')
		}
		b = append(b, s.word(rng)...)
	}
	return string(b)
}
