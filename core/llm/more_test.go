package llm

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestMore(t *testing.T) {
	const one, two = `data: {"choices":[{"delta":{"content":"a"}}]}`, `data: {"choices":[{"delta":{"content":"b"}}]}`
	for _, c := range []struct {
		name, stream string
		want         []bool
	}{
		{"two at once", one + "\n\n" + two + "\n\n", []bool{true, false}},
		{"half a line", one + "\n\n" + two[:10], []bool{false}},
		{"comment", one + "\n\n: keep-alive\n\n" + two + "\n\n", []bool{false, false}},
		{"end mark", one + "\n\ndata: [DONE]\n\n", []bool{false}},
		{"no blank lines", one + "\n" + two + "\n", []bool{true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRawStream(200, http.Header{}, io.NopCloser(strings.NewReader(c.stream)))
			var got []bool
			for chunk, err := range r.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, chunk.More)
			}
			if len(got) != len(c.want) {
				t.Fatalf("%v", got)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("chunk %d: %v", i, got[i])
				}
			}
		})
	}
}
