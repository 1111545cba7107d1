package frontend

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"time"
)

//go:embed assets
var assets embed.FS

// pagePrefix is where the built-in page and its files lie. They are served with an
// installed frontend too, as a light way in.
const pagePrefix = "/_galley/"

// pagePolicy lets the page load its own files and call its own server, no more.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// fallbackStatic maps the names the reference has in its static folder to embedded
// ones, so that links to them work with no frontend installed.
var fallbackStatic = map[string]string{
	"apple-touch-icon.png":         "icon.png",
	"custom.css":                   "empty.css",
	"favicon-96x96.png":            "icon.png",
	"favicon.ico":                  "icon.png",
	"favicon.png":                  "icon.png",
	"favicon.svg":                  "icon.svg",
	"loader.js":                    "empty.js",
	"logo.png":                     "icon.png",
	"splash-dark.png":              "icon.png",
	"splash.png":                   "icon.png",
	"user.png":                     "user.png",
	"web-app-manifest-192x192.png": "icon.png",
	"web-app-manifest-512x512.png": "icon.png",
}

// etags of the embedded files by path: they have no modification time.
var etags = embeddedETags()

func embeddedETags() map[string]string {
	tags := map[string]string{}
	err := fs.WalkDir(assets, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := assets.ReadFile(name)
		sum := sha256.Sum256(data)
		tags[name] = `"` + hex.EncodeToString(sum[:12]) + `"`
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return tags
}

// servePage answers with the built-in page.
func servePage(w http.ResponseWriter, r *http.Request) {
	serveEmbedded(w, r, "assets/page/index.html")
}

// servePageAsset answers with a file of the built-in page; name "" is the page itself.
func servePageAsset(w http.ResponseWriter, r *http.Request, name string) {
	if name == "" {
		servePage(w, r)
	} else if !serveEmbedded(w, r, "assets/page/"+name) {
		writeDetail(w, http.StatusNotFound)
	}
}

// serveFallback answers with the embedded stand-in for /static/name, if there is one.
func serveFallback(w http.ResponseWriter, r *http.Request, name string) bool {
	file := fallbackStatic[name]
	return file != "" && serveEmbedded(w, r, "assets/static/"+file)
}

// serveEmbedded answers with an embedded file and reports whether there is one. The
// client asks again each time: another release or a frontend may take the address.
func serveEmbedded(w http.ResponseWriter, r *http.Request, name string) bool {
	tag, ok := etags[name]
	if !ok {
		return false
	}
	data, err := assets.ReadFile(name)
	if err != nil {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", contentType(name))
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", tag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	return true
}
