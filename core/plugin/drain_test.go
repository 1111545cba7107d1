package plugin

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestUnreadBodies has bodies that no plugin takes: their connections are good for further requests, but for those of which
// too much is left.
func TestUnreadBodies(t *testing.T) {
	var logged syncBuffer
	b := newBackend(filepath.Join(t.TempDir(), "nobody"), &tls.Config{MinVersion: tls.VersionTLS13}, time.Second)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if err := b.serve(w, r, "/", http.Header{}); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	server.Config.ErrorLog = log.New(&logged, "", 0)
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	text := strings.Repeat("x", 50<<10)
	for name, body := range map[string]func() io.Reader{
		"none":    func() io.Reader { return nil },
		"short":   func() io.Reader { return strings.NewReader("short") },
		"long":    func() io.Reader { return strings.NewReader(text) },
		"chunked": func() io.Reader { return io.MultiReader(strings.NewReader(text), strings.NewReader("end")) },
	} {
		for range 20 {
			resp, err := client.Post(server.URL, "text/plain", body())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: %d", name, resp.StatusCode)
			}
		}
	}
	// too long, and one that never ends
	endless, end := io.Pipe()
	defer end.Close()
	for _, body := range []io.Reader{bytes.NewReader(make([]byte, 4*drainBytes)), io.LimitReader(nothing{}, 32<<20), endless} {
		if resp, err := client.Post(server.URL, "text/plain", body); err == nil { // the connection may break first
			_ = resp.Body.Close()
		}
	}
	if text := logged.String(); text != "" {
		t.Error(text)
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
