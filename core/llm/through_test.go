package llm

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// upper is a step that writes events in capitals.
type upper struct{ Source }

func (u upper) Next() ([]byte, error) {
	e, err := u.Source.Next()
	return bytes.ToUpper(e), err
}

// closing is a body that notes its end.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

func TestThrough(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name, text string
		end        error
		want       string
	}{
		{"events", ": hi\r\nevent: x\ndata: {\"a\":1}\n\ndata: {\"b\":2}\ndata: [DONE]\n\ndata: {\"late\":1}\n\n", nil, "data: {\"A\":1}\n\ndata: {\"B\":2}\n\ndata: [DONE]\n\n"},
		{"over several lines", "data: {\"a\":\ndata: 1}\n\n", nil, "data: {\"A\":\n1}\n\ndata: [DONE]\n\n"},
		{"no JSON is skipped", "data: hello\n\nhello\n{\"x\":1}\ndata: {\"a\":1}\n\n", nil, "data: {\"A\":1}\n\ndata: [DONE]\n\n"},
		{"a bare error", "{\"error\":\"e\"}\n", nil, "data: {\"ERROR\":\"E\"}\n\ndata: [DONE]\n\n"},
		{"cut", "data: {\"a\":1}\n\ndata: {\"b", boom, "data: {\"A\":1}\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in io.Reader = strings.NewReader(tt.text)
			if tt.end != nil {
				in = io.MultiReader(in, iotest.ErrReader(tt.end))
			}
			body := &closing{Reader: iotest.OneByteReader(in)}
			r := NewRawStream(200, http.Header{}, body)
			r.Through(func(s Source) Source { return upper{s} })
			var out strings.Builder
			err := r.CopyTo(&out, nil)
			if out.String() != tt.want || !body.closed || tt.end == nil && err != nil || tt.end != nil && !errors.As(err, new(*StreamError)) {
				t.Errorf("%q %v, closed %v", out.String(), err, body.closed)
			}
		})
	}
	src := &script{events: []string{`{"a":1}`}, end: io.EOF}
	r := NewStream(http.Header{}, src)
	r.Through(func(s Source) Source { return upper{s} })
	r.Through(func(s Source) Source { return upper{s} })
	for c, err := range r.Chunks() {
		if err != nil || string(c.Raw) != `{"A":1}` {
			t.Errorf("%s %v", c.Raw, err)
		}
	}
	if !src.closed {
		t.Error("not closed")
	}
	whole := NewBody(200, http.Header{}, []byte("{}"))
	whole.Through(func(Source) Source { t.Error("a whole answer has no events"); return nil })
	if string(whole.Body()) != "{}" {
		t.Errorf("%s", whole.Body())
	}
}
