package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/galleychat/galley/core/auth"
)

// Call is a request being answered.
type Call struct {
	W         http.ResponseWriter
	R         *http.Request
	Principal *auth.Principal // nil on public endpoints and for strangers on optional ones
	Log       *slog.Logger
	status    int
	route     *Route
	uploads   []*Upload // removed once the request is answered
	deadline  bool      // a write deadline was set
}

// Context is the request's: cancelled when the client goes.
func (c *Call) Context() context.Context { return c.R.Context() }

// Status sets the status of a successful answer, 200 otherwise.
func (c *Call) Status(code int) { c.status = code }

// Header is the answer's header.
func (c *Call) Header() http.Header { return c.W.Header() }

// UserID is the caller's id, "" for a stranger.
func (c *Call) UserID() string {
	if c.Principal == nil {
		return ""
	}
	return c.Principal.ID
}

// IsAdmin says whether the caller is an administrator.
func (c *Call) IsAdmin() bool { return c.Principal != nil && c.Principal.IsAdmin() }

// ClientIP is the address of the caller, without its port; behind a trusted proxy that of its client.
func (c *Call) ClientIP() string { return ClientIP(c.R) }

// Origin is the caller's address of this server, such as https://chat.example: scheme and host as the caller sent them.
func (c *Call) Origin() string { return Scheme(c.R) + "://" + c.R.Host }

// Detached is a context that lives on after the request, with its values (trace, request id), and at most d.
func (c *Call) Detached(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.R.Context()), d)
}

// bodyPause is how long a body may pause where the endpoint says nothing.
const bodyPause = time.Minute

// readDeadline has the reading of the body fail if it pauses for longer than d, until stop is called: only where the
// body was read, or else net/http would wait for its rest.
func (c *Call) readDeadline(d time.Duration) (stop func()) {
	if c.R.ContentLength == 0 || c.R.Body == nil || c.R.Body == http.NoBody {
		return func() {}
	}
	if d == 0 {
		d = bodyPause
	}
	ctl := http.NewResponseController(c.W)
	if ctl.SetReadDeadline(time.Now().Add(d)) != nil {
		return func() {} // not a connection: a test's recorder
	}
	body := c.R.Body
	c.R.Body = &pacedBody{ReadCloser: body, ctl: ctl, pause: d}
	return func() {
		c.R.Body = body
		_ = ctl.SetReadDeadline(time.Time{})
	}
}

// pacedBody moves the deadline on with each read.
type pacedBody struct {
	io.ReadCloser
	ctl   *http.ResponseController
	pause time.Duration
	reads int
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.reads++; b.reads > 1 {
		_ = b.ctl.SetReadDeadline(time.Now().Add(b.pause))
	}
	return b.ReadCloser.Read(p)
}

// writeDeadline limits how long writes of the answer may take from now on. It ends with the call.
func (c *Call) writeDeadline(d time.Duration) {
	c.deadline = true
	_ = http.NewResponseController(c.W).SetWriteDeadline(time.Now().Add(d))
}

// close ends what lives as long as the call.
func (c *Call) close() {
	for _, u := range c.uploads {
		u.remove()
	}
	if c.deadline {
		_ = http.NewResponseController(c.W).SetWriteDeadline(time.Time{})
	}
}
