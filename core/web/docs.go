package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

//go:embed docs.html
var docsPage string

// Describe registers the API's own description: the document at /openapi.json and a page that shows it at /docs. Call it
// before Finish.
func (r *Router) Describe() {
	r.Handle("GET /openapi.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		_ = writeBody(w, http.StatusOK, typeJSON, r.OpenAPI())
	}))
	policy := docsPolicy(docsPage)
	page := []byte(docsPage)
	r.Handle("GET /docs", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		_ = writeBody(w, http.StatusOK, []string{"text/html; charset=utf-8"}, page)
	}))
}

// docsPolicy allows the page its own script and style, by their hashes, and requests to this server; nothing else.
func docsPolicy(page string) string {
	return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; img-src data:; " +
		"script-src '" + inlineHash(page, "script") + "'; style-src '" + inlineHash(page, "style") + "'"
}

func inlineHash(page, element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	text, _, _ := strings.Cut(rest, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
