package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

func (s *server) bench(b *testing.B, method, path, body string) {
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+s.adminKey)
		r.Header.Set("Content-Type", "application/json")
		s.Router.ServeHTTP(&discard{http.Header{}}, r)
	}
}

// BenchmarkConfig is GET /api/config of an administrator, all but the connection.
func BenchmarkConfig(b *testing.B) { newServer(b).people().bench(b, "GET", "/api/config", "") }

// BenchmarkCompletion is a short stream through the server, the provider included.
func BenchmarkCompletion(b *testing.B) {
	newServer(b).people().bench(b, "POST", "/api/chat/completions", `{"model":"good","stream":true,"messages":[{"role":"user","content":"hi"}]}`)
}

// BenchmarkProvider is the same stream without the server.
func BenchmarkProvider(b *testing.B) {
	p := newProvider(b)
	for b.Loop() {
		resp, err := p.Client().Post(p.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"good","stream":true}`))
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 4096)
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		resp.Body.Close()
	}
}

// BenchmarkMessages is the stream in Anthropic's form.
func BenchmarkMessages(b *testing.B) {
	newServer(b).people().bench(b, "POST", "/api/v1/messages", `{"model":"good","stream":true,"messages":[{"role":"user","content":"hi"}]}`)
}
