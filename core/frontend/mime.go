package frontend

import (
	"path"
	"strings"
)

// mediaTypes are those the reference's static mounts give (Python's mimetypes with
// its four corrections), fixed here so that no table of the machine alters them: a
// module script with another type than text/javascript does not run.
var mediaTypes = map[string]string{
	".css":         "text/css",
	".csv":         "text/csv",
	".gif":         "image/gif",
	".html":        "text/html",
	".ico":         "image/vnd.microsoft.icon",
	".jpeg":        "image/jpeg",
	".jpg":         "image/jpeg",
	".js":          "text/javascript",
	".json":        "application/json",
	".map":         "application/json",
	".md":          "text/markdown",
	".mjs":         "text/javascript",
	".mp3":         "audio/mpeg",
	".mp4":         "video/mp4",
	".pdf":         "application/pdf",
	".png":         "image/png",
	".svg":         "image/svg+xml",
	".ttf":         "font/ttf",
	".txt":         "text/plain",
	".wasm":        "application/wasm",
	".wav":         "audio/x-wav",
	".webmanifest": "application/manifest+json",
	".webm":        "video/webm",
	".webp":        "image/webp",
	".woff":        "font/woff",
	".woff2":       "font/woff2",
	".xml":         "application/xml",
	".zip":         "application/zip",
}

// contentType is the Content-Type of a file by its name. All texts are UTF-8.
func contentType(name string) string {
	t, ok := mediaTypes[strings.ToLower(path.Ext(name))]
	if !ok {
		return "application/octet-stream"
	}
	if strings.HasPrefix(t, "text/") {
		t += "; charset=utf-8"
	}
	return t
}

// compressible tells whether files of this type shrink: texts, fonts without own compression, WebAssembly.
func compressible(name string) bool {
	switch t := mediaTypes[strings.ToLower(path.Ext(name))]; t {
	case "application/json", "application/manifest+json", "application/wasm", "application/xml",
		"font/ttf", "image/svg+xml", "image/vnd.microsoft.icon":
		return true
	default:
		return strings.HasPrefix(t, "text/")
	}
}
