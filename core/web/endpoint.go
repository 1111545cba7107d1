package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

// Endpoint is a declared operation.
type Endpoint struct {
	Level   auth.Level
	Summary string // one line in the API's description
	MaxBody int64  // bytes; 0 means the router's
	// ReadTimeout is how long the body may pause while it is read, 0 means a minute. WriteTimeout is how long the answer
	// may take from the handler's start, 0 means for ever.
	ReadTimeout, WriteTimeout time.Duration
	// Admit, if not nil, may refuse the caller once it is known who they are, before the fields are looked at.
	Admit func(c *Call) error
	in    *plan
	pc    uintptr      // of the handler, for its name
	out   reflect.Type // nil where the answer is not a JSON value of one type
	run   func(c *Call, body requestBody) error
}

// JSON declares an operation that answers with the JSON of what h returns. Out may be jsondoc.Doc (passed through), Raw
// (any content), Done (h has answered itself) or any value.
func JSON[In, Out any](level auth.Level, h func(*Call, In) (Out, error)) *Endpoint {
	e := &Endpoint{Level: level, in: compile(reflect.TypeFor[In]()), out: reflect.TypeFor[Out](), pc: reflect.ValueOf(h).Pointer()}
	e.run = func(c *Call, body requestBody) error {
		var in In
		if ps := e.in.bind(reflect.ValueOf(&in).Elem(), c.R, body); len(ps) > 0 {
			return &Error{Status: http.StatusUnprocessableEntity, Detail: ps}
		}
		out, err := h(c, in)
		if err != nil {
			return err
		}
		return c.answer(out)
	}
	return e
}

// With sets what the declaration leaves at its default.
func (e *Endpoint) With(f func(*Endpoint)) *Endpoint {
	f(e)
	return e
}

// None is the In of an operation that takes nothing.
type None struct{}

func (c *Call) answer(out any) error {
	status := c.status
	if status == 0 {
		status = http.StatusOK
	}
	switch v := out.(type) {
	case Done:
		return nil
	case *Raw:
		return c.raw(*v)
	case Raw:
		return c.raw(v)
	}
	return WriteJSON(c.W, status, out)
}

func (c *Call) raw(v Raw) error {
	for k, vs := range v.Header {
		c.W.Header()[k] = vs
	}
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	var kind []string
	if v.Type != "" {
		kind = []string{v.Type}
	}
	return writeBody(c.W, v.Status, kind, v.Body)
}

// handler is the order of checks: the body's syntax, the caller, the fields, then the work.
func (e *Endpoint) handler(r *Router, en entry) http.HandlerFunc {
	callers := r.o.Auth
	if en.auth != nil {
		callers = en.auth
	}
	limit := e.MaxBody
	switch {
	case limit != 0:
	case e.in.form != nil:
		limit = r.o.MaxUpload
	default:
		limit = r.o.MaxBody
	}
	return func(w http.ResponseWriter, req *http.Request) {
		c := &Call{W: w, R: req, Log: r.o.Logger, route: en.route}
		if e.WriteTimeout > 0 {
			c.writeDeadline(e.WriteTimeout)
		}
		defer c.close()
		var err error
		if en.before != nil {
			err = en.before(c)
		}
		if err == nil {
			err = e.serve(r, c, callers, limit)
		}
		if err == nil {
			return
		}
		if rw, ok := w.(*response); ok && rw.sent() {
			if req.Context().Err() == nil {
				r.o.Logger.WarnContext(req.Context(), "answer broken off", "pattern", en.route.Path, "error", err, "request_id", RequestID(req.Context()))
			}
			return
		}
		if rw, ok := w.(*response); ok {
			rw.reset()
		}
		r.fail(c, en.errors, err)
	}
}

func (e *Endpoint) serve(r *Router, c *Call, callers Authenticator, limit int64) error {
	var body requestBody
	if e.in.body != nil {
		stop := c.readDeadline(e.ReadTimeout)
		var err error
		if body, err = readBody(c.W, c.R, limit); err != nil {
			return err
		}
		stop()
	}
	if e.Level != auth.Public && callers != nil {
		p, err := callers.Authorize(c.R, e.Level)
		if err != nil {
			return err
		}
		c.Principal = p
		if rw, ok := c.W.(*response); ok {
			rw.caller(p)
		}
	}
	if e.Admit != nil {
		if err := e.Admit(c); err != nil {
			return err
		}
	}
	if e.in.form != nil {
		// after the caller is known, unlike JSON: a stranger shall not fill the disk
		stop := c.readDeadline(e.ReadTimeout)
		form, err := c.readForm(limit, r.o.UploadDir)
		if err != nil {
			return err
		}
		stop()
		body.form = form
	}
	return e.run(c, body)
}

// fail answers with an error; unexpected ones are logged and told to the client only by the request's id.
func (r *Router) fail(c *Call, group func(*Error) *Error, err error) {
	var e *Error
	switch {
	case errors.As(err, &e):
	case c.R.Context().Err() != nil:
		// The client has gone; nobody reads the answer. 499 is what proxies log for it.
		e = &Error{Status: 499, Detail: "Client Closed Request", Cause: err}
	default:
		e = &Error{Status: http.StatusInternalServerError, Detail: TextInternal, Cause: err}
	}
	if e.Status == http.StatusInternalServerError {
		r.o.Logger.ErrorContext(c.R.Context(), "request failed", "method", c.R.Method, "path", c.R.URL.Path, "error", err,
			"request_id", RequestID(c.R.Context()))
	}
	if group != nil {
		e = group(e)
	}
	WriteError(c.W, e)
}

var errBody = Fail(http.StatusBadRequest, "There was an error parsing the body")

// readFailed is the answer to a body that could not be read to its end; its connection is of no more use.
func readFailed(w http.ResponseWriter, err error, detail any) *Error {
	w.Header().Set("Connection", "close")
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return Fail(http.StatusRequestEntityTooLarge, "Request body is too large")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Because(http.StatusRequestTimeout, "Request timeout", err)
	}
	return Because(http.StatusBadRequest, detail, err)
}

// readBody reads a body and checks its syntax, whoever sends it.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (requestBody, error) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return requestBody{}, nil
	}
	if r.ContentLength > limit {
		return requestBody{}, readFailed(w, &http.MaxBytesError{Limit: limit}, nil)
	}
	var b []byte
	var err error
	if n := r.ContentLength; n > 0 {
		// grown as it arrives beyond a megabyte, so that a claimed length alone takes no memory
		buf := bytes.NewBuffer(make([]byte, 0, min(n, 1<<20)+bytes.MinRead))
		_, err = buf.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
		b = buf.Bytes()
	} else {
		b, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	switch {
	case err != nil:
		return requestBody{}, readFailed(w, err, errBody.Detail)
	case len(b) == 0:
		return requestBody{}, nil
	}
	if !isJSONType(r.Header.Get("Content-Type")) {
		if !utf8.Valid(b) {
			b = []byte(strings.ToValidUTF8(string(b), "\uFFFD"))
		}
		return requestBody{doc: jsondoc.Of(string(b)), present: true, bytes: true}, nil
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(b) {
		return requestBody{}, errBody
	}
	doc, bad := jsondoc.Check(b)
	if bad != nil {
		if bad.Msg == jsondoc.ErrDepth {
			return requestBody{}, errBody
		}
		return requestBody{}, Invalid(Problem{Type: "json_invalid", Loc: Loc{"body", bad.Pos}, Msg: "JSON decode error", Input: jsondoc.Doc("{}"),
			Ctx: map[string]any{"error": bad.Msg}})
	}
	return requestBody{doc: doc, present: true}, nil
}
