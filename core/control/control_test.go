package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func start(t *testing.T, dir, text string) (s *Server, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	s = New(dir, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }), slog.New(slog.NewTextHandler(log, nil)))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s, log
}

// ask gives the answer of the server of a folder, or the error of looking for one.
func ask(t *testing.T, dir string) (string, error) {
	t.Helper()
	c, err := Connect(t.Context(), dir)
	if err != nil {
		return "", err
	}
	resp, err := c.Get("http://galley/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}

func TestSocket(t *testing.T) {
	short, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"in the data folder": short, "elsewhere": long} {
		t.Run(name, func(t *testing.T) {
			if _, err := ask(t, dir); !errors.Is(err, ErrNoServer) {
				t.Fatalf("without a server: %v", err)
			}
			s, _ := start(t, dir, "first")
			info, err := os.Stat(Path(dir))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("the socket: %v, %v", info, err)
			}
			if (filepath.Dir(Path(dir)) == dir) != (dir == short) {
				t.Errorf("the socket is %s", Path(dir))
			}
			if got, err := ask(t, dir); got != "first" || err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
			// a second server leaves the first one's socket alone
			second, log := start(t, dir, "second")
			if !strings.Contains(log.String(), errInUse.Error()) {
				t.Errorf("log of the second: %s", log)
			}
			if err := second.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := ask(t, dir); got != "first" || err != nil {
				t.Fatalf("after a second one: %q, %v", got, err)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(Path(dir)); err == nil {
				t.Error("the socket is still there")
			}
			if _, err := ask(t, dir); !errors.Is(err, ErrNoServer) {
				t.Fatalf("after the end: %v", err)
			}
		})
	}
}

// TestStale has a socket in the way that a killed process left, and then a file that is none of ours.
func TestStale(t *testing.T) {
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := New(dir, nil, slog.Default())
	l, err := s.listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(Path(dir)); err != nil {
		t.Fatal(err)
	}
	next, _ := start(t, dir, "next")
	if got, err := ask(t, dir); got != "next" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := next.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Path(dir), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, log := start(t, dir, "never")
	if raw, err := os.ReadFile(Path(dir)); string(raw) != "mine" || err != nil || log.Len() == 0 {
		t.Errorf("the file has %q, %v; log %s", raw, err, log)
	}
}

// TestStopWithRequest ends a request that would not end by itself.
func TestStopWithRequest(t *testing.T) {
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	begun := make(chan struct{})
	s := New(dir, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}), slog.Default())
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := c.Get("http://galley/")
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-begun
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-answered
}
