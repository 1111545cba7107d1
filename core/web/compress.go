package web

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// minCompress is how large an answer must be to be worth compressing. A stream, whose size nobody knows, counts as
// large once it is flushed.
const minCompress = 1 << 10

// At level 1 klauspost/compress was 2.5 times as fast as the standard library on JSON, with a smaller result and two
// thirds of the memory.
var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// acceptsGzip says whether the client takes gzip and would gain by it. Over the loopback, where no proxy says that the
// client is elsewhere, it would not.
func acceptsGzip(r *http.Request) bool {
	accept := r.Header["Accept-Encoding"]
	if len(accept) == 0 || r.Method == http.MethodHead || isLocal(r) {
		return false
	}
	for _, line := range accept {
		for line != "" {
			var coding string
			coding, line, _ = strings.Cut(line, ",")
			name, q, _ := strings.Cut(coding, ";")
			name = strings.TrimSpace(name)
			if !strings.EqualFold(name, "gzip") && name != "*" {
				continue
			}
			q = strings.TrimSpace(q)
			if v, ok := strings.CutPrefix(q, "q="); ok {
				if f, err := strconv.ParseFloat(v, 64); err == nil && f == 0 {
					return false
				}
			}
			return true
		}
	}
	return false
}

func isLocal(r *http.Request) bool {
	if r.Header["X-Forwarded-For"] != nil || r.Header["Forwarded"] != nil {
		return false
	}
	addr := r.RemoteAddr
	return strings.HasPrefix(addr, "127.") || strings.HasPrefix(addr, "[::1]") || addr == "" || addr[0] == '@'
}

// compressible says whether an answer of this kind shrinks and may be changed. Event streams stay as they are: what
// waits in a compressor would be late.
func compressible(status int, h http.Header) bool {
	if status < 200 || status == http.StatusNoContent || status == http.StatusPartialContent || status == http.StatusNotModified {
		return false
	}
	if h["Content-Encoding"] != nil || h["Content-Range"] != nil || h["Content-Type"] == nil || strings.Contains(h.Get("Cache-Control"), "no-transform") {
		return false
	}
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	main, sub, _ := strings.Cut(kind, "/")
	switch main {
	case "text":
		return sub != "event-stream"
	case "application":
		switch sub {
		case "json", "javascript", "xml", "x-ndjson", "jsonl", "wasm", "manifest+json", "x-javascript", "yaml", "x-yaml", "graphql":
			return true
		}
		return strings.HasSuffix(sub, "+json") || strings.HasSuffix(sub, "+xml")
	case "image":
		return sub == "svg+xml" || sub == "bmp" || sub == "x-icon"
	case "font":
		return sub == "ttf" || sub == "otf"
	}
	return false
}

// gzipHeader changes the header of an answer to that of its compressed form.
func gzipHeader(h http.Header) {
	delete(h, "Content-Length")
	delete(h, "Accept-Ranges")
	h["Content-Encoding"] = codingGzip
	if tag := h.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h.Set("Etag", "W/"+tag) // same meaning, other bytes
	}
}

var codingGzip = []string{"gzip"}

func addVary(h http.Header, name string) {
	for _, v := range h["Vary"] {
		if strings.Contains(v, name) || v == "*" {
			return
		}
	}
	h.Add("Vary", name)
}

// gzipWhole compresses a body at once into b, if that makes it smaller.
func gzipWhole(b *bytes.Buffer, body []byte) bool {
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(b)
	if _, err := z.Write(body); err != nil {
		return false
	}
	return z.Close() == nil && b.Len() < len(body)
}
