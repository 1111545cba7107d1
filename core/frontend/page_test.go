package frontend

import (
	"image/png"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestPageAnswers(t *testing.T) {
	_, addr := serve(t, Options{DataDir: t.TempDir()})
	tests := []struct {
		method, path string
		status       int
		typ          string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/c/some-chat", 200, "text/html; charset=utf-8"},
		{"GET", "/_galley/", 200, "text/html; charset=utf-8"},
		{"GET", "/_galley/app.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/_galley/page.css", 200, "text/css; charset=utf-8"},
		{"GET", "/_galley/none.css", 404, "application/json"},
		{"GET", "/missing.js", 404, "application/json"},
		{"POST", "/", 405, "application/json"},
		{"GET", "/static/nope.png", 404, "application/json"},
		{"GET", "/static/custom.css", 200, "text/css; charset=utf-8"},
		{"GET", "/static/loader.js", 200, "text/javascript; charset=utf-8"},
	}
	for name, file := range fallbackStatic {
		if strings.HasSuffix(file, ".png") {
			tests = append(tests, struct {
				method, path string
				status       int
				typ          string
			}{"GET", "/static/" + name, 200, "image/png"})
		}
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			resp, _ := ask(t, addr, tt.method, tt.path)
			if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != tt.typ {
				t.Errorf("got %d %q", resp.StatusCode, resp.Header.Get("Content-Type"))
			}
			if tt.status == 200 && resp.Header.Get("Content-Security-Policy") != pagePolicy {
				t.Errorf("policy is %q", resp.Header.Get("Content-Security-Policy"))
			}
		})
	}
	first, _ := ask(t, addr, "GET", "/")
	if resp, _ := ask(t, addr, "GET", "/", "If-None-Match: "+first.Header.Get("ETag")); resp.StatusCode != http.StatusNotModified {
		t.Errorf("same tag: %d", resp.StatusCode)
	}
}

// voidElements have no end tag.
var voidElements = []string{"meta", "link", "img", "input", "br"}

func TestPageHTML(t *testing.T) {
	text, err := assets.ReadFile("assets/page/index.html")
	if err != nil {
		t.Fatal(err)
	}
	var open, ids, labels []string
	z := html.NewTokenizer(strings.NewReader(string(text)))
	for z.Next() != html.ErrorToken {
		token := z.Token()
		switch token.Type {
		case html.StartTagToken:
			if !slices.Contains(voidElements, token.Data) {
				open = append(open, token.Data)
			}
			for _, a := range token.Attr {
				checkAttribute(t, token.Data, a)
				switch a.Key {
				case "id":
					if slices.Contains(ids, a.Val) {
						t.Errorf("id %q is there twice", a.Val)
					}
					ids = append(ids, a.Val)
				case "for", "aria-controls", "aria-labelledby":
					labels = append(labels, a.Val)
				}
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> closes %v", token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("left open: %v", open)
	}
	for _, id := range labels {
		if !slices.Contains(ids, id) {
			t.Errorf("nothing has the id %q that a label names", id)
		}
	}
	for _, id := range scriptIDs(t) {
		if !slices.Contains(ids, id) {
			t.Errorf("nothing has the id %q that a script looks for", id)
		}
	}
}

// checkAttribute holds the page to its policy: no inline script or style, own files only.
func checkAttribute(t *testing.T, element string, a html.Attribute) {
	switch {
	case strings.HasPrefix(a.Key, "on") || a.Key == "style":
		t.Errorf("<%s %s> is inline code, which the policy forbids", element, a.Key)
	case a.Key == "src" || a.Key == "href" || a.Key == "action":
		name, own := strings.CutPrefix(a.Val, pagePrefix)
		if fallback, ok := strings.CutPrefix(a.Val, "/static/"); ok {
			name, own = "../static/"+fallbackStatic[fallback], true
		}
		if _, err := fs.Stat(assets, path.Join("assets/page", name)); !own || err != nil {
			t.Errorf("<%s %s=%q> is no embedded file", element, a.Key, a.Val)
		}
	}
}

// scriptIDs are the element ids the scripts ask for as literals.
func scriptIDs(t *testing.T) (ids []string) {
	pattern := regexp.MustCompile(`\bel\('([\w-]+)'\)`)
	for name, text := range pageFiles(t, ".js") {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			ids = append(ids, m[1])
		}
		if len(text) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	if len(ids) < 20 {
		t.Errorf("only %d ids found in the scripts", len(ids))
	}
	return ids
}

func pageFiles(t *testing.T, ext string) map[string]string {
	t.Helper()
	found := map[string]string{}
	names, err := fs.Glob(assets, "assets/page/*"+ext)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s files: %v", ext, err)
	}
	for _, name := range names {
		text, err := assets.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = string(text)
	}
	return found
}

func TestPageHasNoExternalReference(t *testing.T) {
	external := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]|@import|url\(`)
	unsafe := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|javascript:`)
	for _, ext := range []string{".html", ".css", ".js"} {
		for name, text := range pageFiles(t, ext) {
			if m := external.FindString(text); m != "" {
				t.Errorf("%s refers to %q", name, m)
			}
			if m := unsafe.FindString(text); m != "" {
				t.Errorf("%s uses %q", name, m)
			}
		}
	}
}

func TestFallbackImages(t *testing.T) {
	for _, name := range []string{"icon.png", "user.png"} {
		f, err := assets.Open("assets/static/" + name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.DecodeConfig(f)
		f.Close()
		if err != nil || img.Width != img.Height || img.Width < 96 {
			t.Errorf("%s: %+v, %v", name, img, err)
		}
	}
}
