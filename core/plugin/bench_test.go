package plugin

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/galleychat/galley/core/llm"
)

// BenchmarkGET asks a plugin and, side by side, the same handler built in.
func BenchmarkGET(b *testing.B) {
	h := newBench(b, Options{})
	h.router.Handle("GET /builtin/hello/{name}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "Hello, "+r.PathValue("name")+"!")
	}))
	h.put(b, Manifest{ID: "basic"}, "basic")
	h.start(b)
	for name, path := range map[string]string{"plugin": "/api/v1/plugins/basic/hello/x", "builtin": "/builtin/hello/x"} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req, _ := http.NewRequest("GET", h.url+path, nil)
					req.Header.Set("Authorization", "Bearer x")
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != 200 {
						b.Fatal(resp.StatusCode)
					}
				}
			})
		})
		b.Run(name+"-latency", func(b *testing.B) {
			for b.Loop() {
				req, _ := http.NewRequest("GET", h.url+path, nil)
				req.Header.Set("Authorization", "Bearer x")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}

// BenchmarkChat counts chunks of a streamed answer.
func BenchmarkChat(b *testing.B) {
	h := newBench(b, Options{})
	h.put(b, Manifest{ID: "basic"}, "basic")
	h.start(b)
	h.llm.Models(context.Background(), nil)
	t, err := h.llm.Resolve(context.Background(), nil, "flood")
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		resp, err := t.Chat(context.Background(), &llm.Request{Body: []byte(`{"model":"flood","messages":[{"role":"user","content":"x"}]}`), Stream: true})
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range resp.Chunks() {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "chunks/s")
}
