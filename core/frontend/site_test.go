package frontend

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serve starts a server for a site and returns its address.
func serve(t *testing.T, o Options) (*Site, string) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	return s, ts.Listener.Addr().String()
}

// ask sends a request line as it stands, which net/http's client would tidy, and reads the answer.
func ask(t *testing.T, addr, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: galley\r\nConnection: close\r\n", method, path)
	for _, h := range header {
		fmt.Fprintf(conn, "%s\r\n", h)
	}
	fmt.Fprint(conn, "\r\n")
	req, _ := http.NewRequest(method, "/", nil)
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(body)
}

const (
	appHTML  = "<!doctype html><title>App</title>"
	notFound = `{"detail":"Not Found"}`
	script   = "/_app/immutable/entry/start.abc.js"
)

func TestSiteAnswers(t *testing.T) {
	data, _ := installed(t)
	overlay := t.TempDir()
	if err := os.WriteFile(filepath.Join(overlay, "logo.png"), []byte("own logo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "secret.js"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, Options{DataDir: data, StaticDir: overlay})
	const html, js, png = "text/html; charset=utf-8", "text/javascript; charset=utf-8", "image/png"
	tests := []struct {
		method, path string
		status       int
		typ, body    string
	}{
		{"GET", "/", 200, html, appHTML},
		{"GET", "/index.html", 200, html, appHTML},
		{"GET", "/c/123", 200, html, appHTML},
		{"GET", "/api/v1/nope", 200, html, appHTML},
		{"GET", "//api/version", 200, html, appHTML},
		{"GET", "/api/version/", 200, html, appHTML},
		{"GET", "/missing.JS", 200, html, appHTML},
		{"GET", "/_app", 200, html, appHTML},
		{"GET", "/static", 200, html, appHTML},
		{"GET", "/" + strings.Repeat("a", 300), 200, html, appHTML},
		{"HEAD", "/", 200, html, ""},
		{"HEAD", "/c/123", 200, html, ""},
		{"GET", script, 200, js, big},
		{"GET", script + "/", 200, js, big},
		{"GET", "/_app/immutable/start.abc.js.map", 200, "application/json", big},
		{"GET", "/missing.js", 404, "application/json", notFound},
		{"GET", "/index.html/missing.js", 404, "application/json", notFound},
		{"HEAD", "/missing.js", 404, "application/json", ""},
		{"GET", "/static/favicon.png", 200, png, "\x89PNG frontend"},
		{"GET", "/static/custom.css", 200, "text/css; charset=utf-8", ""},
		{"GET", "/static/swagger-ui/swagger-ui.css", 200, "text/css; charset=utf-8", "body {}"},
		{"GET", "/static/logo.png", 200, png, "own logo"},
		{"GET", "/static/", 404, "application/json", notFound},
		{"GET", "/static/nope.png", 404, "application/json", notFound},
		{"GET", "/static/swagger-ui", 404, "application/json", notFound},
		{"GET", "/pyodide/pyodide.asm.wasm", 200, "application/wasm", "\x00asm" + big},
		{"GET", "/pyodide/nope", 404, "application/json", notFound},
		{"GET", "/pyodide", 200, html, appHTML},
		{"POST", "/", 405, "application/json", `{"detail":"Method Not Allowed"}`},
		{"DELETE", "/api/version", 405, "application/json", `{"detail":"Method Not Allowed"}`},
		{"PUT", "/static/favicon.png", 405, "application/json", `{"detail":"Method Not Allowed"}`},
		{"OPTIONS", "/missing.js", 405, "application/json", `{"detail":"Method Not Allowed"}`},
		// Nothing outside the mount is reached, whatever the spelling.
		{"GET", "/../../secret.js", 404, "application/json", notFound},
		{"GET", "/..%2f..%2f..%2fsecret.js", 404, "application/json", notFound},
		{"GET", "/_app/../../manifest.json", 200, html, appHTML},
		{"GET", "/%2e%2e/manifest.json", 200, html, appHTML},
		{"GET", "/..%5c..%5cmanifest.json", 200, html, appHTML},
		{"GET", "/static/../index.html", 404, "application/json", notFound},
		{"GET", "/static/..%2findex.html", 404, "application/json", notFound},
		{"GET", "/static/%2fetc%2fpasswd", 404, "application/json", notFound},
		{"GET", "/pyodide/../index.html", 404, "application/json", notFound},
		{"GET", "/index.html%00.png", 200, html, appHTML},
		{"GET", "/static/favicon.png%00", 404, "application/json", notFound},
		{"GET", "/_galley/../page.go", 404, "application/json", notFound},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path[:min(len(tt.path), 60)], func(t *testing.T) {
			resp, body := ask(t, addr, tt.method, tt.path)
			if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != tt.typ || body != tt.body {
				t.Errorf("got %d %q %.60q, want %d %q %.60q", resp.StatusCode, resp.Header.Get("Content-Type"), body, tt.status, tt.typ, tt.body)
			}
			if tt.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow is %q", resp.Header.Get("Allow"))
			}
			wantCache := ""
			if tt.status == 200 && tt.typ == html {
				wantCache = "no-cache"
			}
			if got := resp.Header.Get("Cache-Control"); got != wantCache {
				t.Errorf("Cache-Control is %q, want %q", got, wantCache)
			}
			wantOrigin := ""
			if tt.typ == "application/wasm" {
				wantOrigin = "*"
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != wantOrigin {
				t.Errorf("Access-Control-Allow-Origin is %q, want %q", got, wantOrigin)
			}
		})
	}
}

func TestSiteRefusesLinksOutside(t *testing.T) {
	data, in := installed(t)
	if err := os.Symlink("/etc/hostname", filepath.Join(in.Path, buildDir, "host.txt")); err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, Options{DataDir: data})
	if _, body := ask(t, addr, "GET", "/host.txt"); body != appHTML {
		t.Errorf("a link out of the installation was followed: %q", body)
	}
}

func TestSiteConditionalAndRange(t *testing.T) {
	data, _ := installed(t)
	_, addr := serve(t, Options{DataDir: data})
	first, _ := ask(t, addr, "GET", script)
	tag, modified := first.Header.Get("ETag"), first.Header.Get("Last-Modified")
	zipped, _ := ask(t, addr, "GET", script, "Accept-Encoding: gzip")
	ztag := zipped.Header.Get("ETag")
	if tag == "" || modified == "" || first.Header.Get("Accept-Ranges") != "bytes" || ztag == tag {
		t.Fatalf("headers %v, gzip tag %s", first.Header, ztag)
	}
	tests := []struct {
		name   string
		header []string
		status int
		body   string
	}{
		{"same tag", []string{"If-None-Match: " + tag}, 304, ""},
		{"one of the tags, weak", []string{`If-None-Match: "x", W/` + tag}, 304, ""},
		{"any tag", []string{"If-None-Match: *"}, 304, ""},
		{"other tag", []string{`If-None-Match: "x"`, "If-Modified-Since: " + modified}, 200, big},
		{"tag of the gzip form", []string{"If-None-Match: " + ztag}, 200, big},
		{"gzip, same tag", []string{"Accept-Encoding: gzip", "If-None-Match: " + ztag}, 304, ""},
		{"not modified since", []string{"If-Modified-Since: " + modified}, 304, ""},
		{"modified since", []string{"If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"}, 200, big},
		{"range", []string{"Range: bytes=6-11"}, 206, "answer"},
		{"last bytes", []string{"Range: bytes=-6"}, 206, "again\n"},
		{"range counts plain bytes", []string{"Range: bytes=6-11", "Accept-Encoding: gzip"}, 206, "answer"},
		{"range of the same file", []string{"Range: bytes=6-11", "If-Range: " + tag}, 206, "answer"},
		{"range of another file", []string{"Range: bytes=6-11", `If-Range: "x"`}, 200, big},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := ask(t, addr, "GET", script, tt.header...)
			if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("got %d %.40q, want %d %.40q", resp.StatusCode, body, tt.status, tt.body)
			}
		})
	}
	resp, _ := ask(t, addr, "GET", script, "Range: bytes=99999999-")
	if want := fmt.Sprintf("bytes */%d", len(big)); resp.StatusCode != 416 || resp.Header.Get("Content-Range") != want {
		t.Errorf("range behind the end: %d %q", resp.StatusCode, resp.Header.Get("Content-Range"))
	}
}

func TestSiteGzip(t *testing.T) {
	data, in := installed(t)
	_, addr := serve(t, Options{DataDir: data})
	tests := []struct {
		accept string
		zipped bool
	}{
		{"gzip, deflate, br, zstd", true},
		{"br;q=1.0, GZIP;q=0.2", true},
		{"*", true},
		{"*;q=0, gzip", true},
		{"gzip;q=0, *", false},
		{"br", false},
		{"", false},
	}
	for _, tt := range tests {
		t.Run(tt.accept, func(t *testing.T) {
			resp, body := ask(t, addr, "GET", script, "Accept-Encoding: "+tt.accept)
			if resp.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("Vary is %q", resp.Header.Get("Vary"))
			}
			if resp.ContentLength != int64(len(body)) {
				t.Errorf("Content-Length is %d, body has %d", resp.ContentLength, len(body))
			}
			if got := resp.Header.Get("Content-Encoding") == "gzip"; got != tt.zipped {
				t.Fatalf("compressed: %v, want %v", got, tt.zipped)
			}
			if tt.zipped {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				body = string(plain)
			}
			if body != big {
				t.Errorf("body has %d bytes, want %d", len(body), len(big))
			}
		})
	}
	// A bare build folder has no twins.
	_, addr = serve(t, Options{BuildDir: filepath.Join(in.Path, buildDir)})
	if resp, body := ask(t, addr, "GET", script, "Accept-Encoding: gzip"); body != big || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("bare build: %v", resp.Header)
	}
	if _, body := ask(t, addr, "GET", "/static/favicon.png"); body != "\x89PNG frontend" {
		t.Errorf("static file of a bare build: %q", body)
	}
}

func TestSiteTakesUpALaterInstallation(t *testing.T) {
	data := t.TempDir()
	s, addr := serve(t, Options{DataDir: data})
	if s.Path() != "" {
		t.Errorf("Path is %q", s.Path())
	}
	if _, body := ask(t, addr, "GET", "/"); !strings.Contains(body, "galley frontend install") {
		t.Errorf("not the built-in page: %.80q", body)
	}
	in, err := Install(t.Context(), InstallOptions{Dir: Dir(data), Wheel: writeWheel(t, goodWheel(), nil)})
	if err != nil {
		t.Fatal(err)
	}
	if _, body := ask(t, addr, "GET", "/"); body != appHTML || s.Path() != in.Path {
		t.Errorf("after installation: %q from %q", body, s.Path())
	}
	if resp, _ := ask(t, addr, "GET", "/_galley/"); resp.Header.Get("Content-Security-Policy") != pagePolicy {
		t.Error("the built-in page is gone")
	}
	// A repair puts another folder in the place of the open one.
	if err := os.WriteFile(filepath.Join(in.Path, "static/favicon.png"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if in, err = Install(t.Context(), InstallOptions{Dir: Dir(data), Wheel: writeWheel(t, goodWheel(), nil)}); err != nil || !in.Fresh {
		t.Fatalf("repair: %+v, %v", in, err)
	}
	for _, path := range []string{"/", script} {
		if resp, body := ask(t, addr, "GET", path); resp.StatusCode != 200 || strings.Contains(body, "galley frontend install") {
			t.Errorf("%s after repair: %d %.60q", path, resp.StatusCode, body)
		}
	}
	if err := os.RemoveAll(Dir(data)); err != nil {
		t.Fatal(err)
	}
	if resp, body := ask(t, addr, "GET", "/"); resp.StatusCode != 200 || !strings.Contains(body, "galley frontend install") || s.Path() != "" {
		t.Errorf("after removal: %d %.60q from %q", resp.StatusCode, body, s.Path())
	}
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
}
