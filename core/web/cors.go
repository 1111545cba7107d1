package web

import (
	"io"
	"net/http"
	"slices"
	"strings"
)

// Values of headers that every answer may share; nobody changes a slice of a header in place.
var (
	varyOrigin    = []string{"Origin"}
	allowTrue     = []string{"true"}
	corsMethods   = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"}
	corsMethodSet = strings.Join(corsMethods, ", ")
)

// cors sets the headers that let pages of other origins read the answer, as Starlette's CORSMiddleware does with
// credentials and all methods and headers allowed. It answers a preflight request itself and then says true.
func (r *Router) cors(h http.Header, w http.ResponseWriter, req *http.Request) bool {
	if len(r.o.CORS) == 0 {
		return false
	}
	origins := req.Header["Origin"]
	if len(origins) == 0 {
		h["Vary"] = varyOrigin
		return false
	}
	origin := origins[0]
	allowed := r.anyOrigin || slices.Contains(r.o.CORS, origin)
	h["Access-Control-Allow-Credentials"] = allowTrue
	if allowed {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	if req.Method == http.MethodOptions && req.Header["Access-Control-Request-Method"] != nil {
		preflight(h, w, req, allowed)
		return true
	}
	h["Vary"] = varyOrigin
	return false
}

func preflight(h http.Header, w http.ResponseWriter, req *http.Request, allowed bool) {
	h.Set("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network")
	h.Set("Access-Control-Allow-Methods", corsMethodSet)
	h.Set("Access-Control-Max-Age", "600")
	if want := req.Header["Access-Control-Request-Headers"]; want != nil {
		h.Set("Access-Control-Allow-Headers", want[0])
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	var failures []string
	if !allowed {
		failures = append(failures, "origin")
	}
	if !slices.Contains(corsMethods, req.Header.Get("Access-Control-Request-Method")) {
		failures = append(failures, "method")
	}
	if req.Header["Access-Control-Request-Private-Network"] != nil {
		failures = append(failures, "private-network")
	}
	if failures != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "Disallowed CORS "+strings.Join(failures, ", "))
		return
	}
	_, _ = io.WriteString(w, "OK")
}
