package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

type contextKey int

const (
	keyRequestID contextKey = iota
)

// RequestID is the id of the request that a context belongs to.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(keyRequestID).(string)
	return id
}

// response counts what is written, and knows whether the header went out.
type response struct {
	http.ResponseWriter
	status  int
	written int64
}

func (w *response) WriteHeader(code int) {
	if w.status == 0 && code >= 200 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// ReadFrom keeps the kernel's copy (sendfile) for files.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := io.Copy(w.ResponseWriter, r)
	w.written += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection: flushes, deadlines, hijacking.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush sends what is buffered.
func (w *response) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// frame is what every request goes through: request id, CORS, observer, recovery from panics, log.
func (r *Router) frame(route *Route, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(raw http.ResponseWriter, req *http.Request) {
		w := &response{ResponseWriter: raw}
		id := req.Header.Get("X-Request-Id")
		if !validRequestID(id) {
			id = uuid.NewString()
		}
		ctx := context.WithValue(req.Context(), keyRequestID, id)
		var done func(int, int64)
		if route != nil && route.observer != nil {
			ctx, done = route.observer.Begin(req.WithContext(ctx))
		}
		inner := req.WithContext(ctx)
		w.Header().Set("X-Request-Id", id)
		start := time.Now()
		defer func() {
			if p := recover(); p != nil {
				r.recovered(w, inner, id, p)
			}
			if done != nil {
				done(w.status, w.written)
			}
			if r.o.Logger.Enabled(ctx, slog.LevelDebug) {
				r.o.Logger.DebugContext(ctx, "request", "method", req.Method, "path", req.URL.Path, "status", w.status, "bytes", w.written,
					"duration", time.Since(start), "request_id", id)
			}
		}()
		if r.cors(w, inner) {
			return
		}
		next(w, inner)
	})
}

func (r *Router) recovered(w *response, req *http.Request, id string, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	r.o.Logger.ErrorContext(req.Context(), "panic in a request", "method", req.Method, "path", req.URL.Path, "request_id", id,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.status != 0 {
		// The answer has begun: break the connection, so that nobody takes it for whole.
		panic(http.ErrAbortHandler)
	}
	WriteError(w, &Error{Status: http.StatusInternalServerError, Detail: "Internal Server Error (request " + id + ")"})
}

func validRequestID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// cors answers a preflight request and sets the headers that let pages of other origins read the answer.
func (r *Router) cors(w http.ResponseWriter, req *http.Request) bool {
	origin := req.Header.Get("Origin")
	if origin == "" || len(r.o.CORS) == 0 {
		return false
	}
	if !slices.Contains(r.o.CORS, "*") && !slices.Contains(r.o.CORS, origin) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Add("Vary", "Origin")
	if req.Method != http.MethodOptions || req.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
	if want := req.Header.Get("Access-Control-Request-Headers"); want != "" {
		h.Set("Access-Control-Allow-Headers", want)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "OK")
	return true
}

func isJSONType(ct string) bool {
	ct, _, _ = strings.Cut(ct, ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	main, sub, ok := strings.Cut(ct, "/")
	return ok && main == "application" && (sub == "json" || strings.HasSuffix(sub, "+json"))
}
