package llm

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

const smallChunk = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"echo-small",` +
	`"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}`

func streamOf(n int) []byte {
	return []byte(string(bytes.Repeat([]byte("data: "+smallChunk+"\n\n"), n)) + "data: [DONE]\n\n")
}

// BenchmarkDecode measures small chunks decoded from an SSE stream; the rate is printed as chunks/s.
func BenchmarkDecode(b *testing.B) {
	const n = 1000
	text := streamOf(n)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		resp := NewRawStream(200, http.Header{}, io.NopCloser(bytes.NewReader(text)))
		got := 0
		for c, err := range resp.Chunks() {
			if err != nil {
				b.Fatal(err)
			}
			if c.Content != "" {
				got++
			}
		}
		if got != n {
			b.Fatal(got)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "chunks/s")
}

// pieces reads like a network stream: one event a read.
type pieces struct {
	piece []byte
	left  int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	p.left--
	return copy(b, p.piece), nil
}

// BenchmarkRelay measures what the relay adds to each event besides reading and writing it.
func BenchmarkRelay(b *testing.B) {
	const n = 1000
	piece := []byte("data: " + smallChunk + "\n\n")
	b.SetBytes(int64(len(piece) * n))
	b.ReportAllocs()
	flush := func() error { return nil }
	for b.Loop() {
		resp := NewRawStream(200, http.Header{}, io.NopCloser(&pieces{piece, n}))
		if err := resp.CopyTo(io.Discard, flush); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkDecodeToolCall(b *testing.B) {
	raw := []byte(`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]},"finish_reason":null}]}`)
	var d Decoder
	var c Chunk
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(raw, &c); err != nil || c.ToolCalls[0].Arguments != `{"a":` {
			b.Fatal(err, fmt.Sprint(c.ToolCalls))
		}
	}
}
