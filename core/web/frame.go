package web

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

type contextKey int

const (
	keyRequestID contextKey = iota
	keyPeer
	keyRecord
)

// RequestID is the id of the request that a context belongs to.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(keyRequestID).(string)
	return id
}

// requestContext is a request's context with its id, as the values of a header, and the other end of its connection.
type requestContext struct {
	context.Context
	id   [1]string
	peer string
	rec  *Record
}

func (c *requestContext) Value(key any) any {
	switch key {
	case keyRequestID:
		return c.id[0]
	case keyPeer:
		return c.peer
	case keyRecord:
		return c.rec
	}
	return c.Context.Value(key)
}

// exchange is all that a request needs, so that it takes one piece of memory.
type exchange struct {
	w   response
	ctx requestContext
}

// frame is what every request goes through: request id, CORS, observer, recovery from panics, log.
func (r *Router) frame(o Observer, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(raw http.ResponseWriter, req *http.Request) {
		x := &exchange{w: response{ResponseWriter: raw, header: raw.Header(), compress: r.o.Compress}}
		x.ctx = requestContext{Context: req.Context(), id: [1]string{requestID(req)}, peer: req.RemoteAddr}
		req = req.WithContext(&x.ctx)
		r.o.Proxies.apply(req)
		var done func(int, int64)
		if o != nil {
			var ctx context.Context
			if ctx, done = o.Begin(req); ctx != req.Context() {
				req = req.WithContext(ctx)
			}
		}
		w := &x.w
		w.req = req
		w.header["X-Request-Id"] = x.ctx.id[:]
		w.fixed = r.o.Headers
		if r.o.Audit != nil {
			w.record(r.o.Audit, req)
			x.ctx.rec = w.rec
		}
		debugging := r.o.Logger.Enabled(req.Context(), slog.LevelDebug)
		var start time.Time
		if debugging {
			start = time.Now()
		}
		finished := false
		defer func() {
			var broken bool
			if !finished {
				broken = r.recovered(w, req, recover())
			}
			if broken {
				w.drop()
			} else {
				w.finish()
			}
			if done != nil {
				done(w.status, w.written)
			}
			if w.rec != nil {
				w.rec.Status = w.status
				r.o.Audit.End(req, w.rec)
			}
			if debugging {
				r.o.Logger.DebugContext(req.Context(), "request", "method", req.Method, "path", req.URL.Path, "status", w.status, "bytes", w.written,
					"duration", time.Since(start), "request_id", x.ctx.id[0])
			}
			if broken {
				panic(http.ErrAbortHandler) // the connection breaks, so that nobody takes the answer for whole
			}
		}()
		if !r.cors(w.header, w, req) {
			next(w, req)
		}
		finished = true
	})
}

// recovered answers a request whose handler has panicked, and says whether its connection must be broken instead.
func (r *Router) recovered(w *response, req *http.Request, p any) bool {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	id := RequestID(req.Context())
	r.o.Logger.ErrorContext(req.Context(), "panic in a request", "method", req.Method, "path", req.URL.Path, "request_id", id,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.sent() {
		return true
	}
	w.reset()
	WriteError(w, &Error{Status: http.StatusInternalServerError, Detail: "Internal Server Error (request " + id + ")"})
	return false
}

// requestID is the id that a proxy has given a request, or a new UUID. It names a request in logs and is no secret.
func requestID(req *http.Request) string {
	if v := req.Header["X-Request-Id"]; len(v) > 0 && validRequestID(v[0]) {
		return v[0]
	}
	var b [16]byte
	for i := 0; i < 16; i += 8 {
		n := rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(n >> (8 * j))
		}
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	out[8] = '-'
	hex.Encode(out[9:13], b[4:6])
	out[13] = '-'
	hex.Encode(out[14:18], b[6:8])
	out[18] = '-'
	hex.Encode(out[19:23], b[8:10])
	out[23] = '-'
	hex.Encode(out[24:36], b[10:16])
	return string(out[:])
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

// isJSONType follows Python's email.message, which FastAPI asks: parameters are ignored, and what has not exactly one
// slash is text/plain.
func isJSONType(ct string) bool {
	if ct == "application/json" {
		return true
	}
	ct, _, _ = strings.Cut(ct, ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	sub, ok := strings.CutPrefix(ct, "application/")
	return ok && !strings.Contains(sub, "/") && (sub == "json" || strings.HasSuffix(sub, "+json"))
}
