package web

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Raw is an answer with a body of its own kind, written as it is.
type Raw struct {
	Status int // 0 means 200
	Type   string
	Body   []byte
	Header http.Header
}

// Done says that the handler has written its answer itself.
type Done struct{}

// NullAnswer is an answer of JSON null: what a Python function without a return value gives.
type NullAnswer struct{}

// MarshalJSONTo writes null.
func (NullAnswer) MarshalJSONTo(e *jsontext.Encoder) error { return e.WriteToken(jsontext.Null) }

// M is a JSON object made on the spot. Its members are sorted by name.
type M map[string]any

var marshalOptions = json.JoinOptions(jsondoc.Options(), json.Deterministic(true))

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the largest buffer kept for later answers, so that one big answer does not stay in memory.
const maxPooled = 1 << 18

// release gives a buffer back, unless it has grown too large to be kept.
func release(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		buffers.Put(b)
	}
}

var typeJSON = []string{"application/json"}

// WriteJSON answers with a status and a JSON body.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	if d, ok := v.(jsondoc.Doc); ok {
		if len(d) == 0 {
			d = jsondoc.Doc("null")
		}
		return writeBody(w, status, typeJSON, d)
	}
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer release(b)
	if err := json.MarshalWrite(b, v, marshalOptions); err != nil {
		return err
	}
	return writeBody(w, status, typeJSON, b.Bytes())
}

// writeBody answers with a whole body. A type that the handler has set stays.
func writeBody(w http.ResponseWriter, status int, kind []string, body []byte) error {
	h := w.Header()
	if h["Content-Type"] == nil && kind != nil {
		h["Content-Type"] = kind
	}
	if rw, ok := w.(*response); ok {
		return rw.whole(status, body)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

// WriteError answers with an error in the reference's form. What a handler has set of the answer that it did not give
// is taken back.
func WriteError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Status: http.StatusInternalServerError, Detail: TextInternal}
	}
	h := w.Header()
	for _, k := range [...]string{"Content-Length", "Content-Encoding", "Content-Disposition", "Etag", "Last-Modified", "Cache-Control", "Accept-Ranges"} {
		delete(h, k)
	}
	h["Content-Type"] = typeJSON
	for k, v := range e.Header {
		h[k] = v
	}
	if e.Body != nil {
		_ = WriteJSON(w, e.Status, e.Body)
		return
	}
	if ps, ok := e.Detail.(Problems); ok {
		_ = WriteJSON(w, e.Status, struct {
			Detail Problems `json:"detail"`
		}{ps})
		return
	}
	_ = WriteJSON(w, e.Status, struct {
		Detail any `json:"detail"`
	}{e.Detail})
}
