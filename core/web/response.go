package web

import (
	"bytes"
	"io"
	"net/http"
	"strconv"

	"github.com/klauspost/compress/gzip"
)

// response is the ResponseWriter of every request: it knows whether the answer began, counts its bytes and compresses
// what is worth it.
type response struct {
	http.ResponseWriter
	req      *http.Request
	header   http.Header
	status   int // 0 until the handler gave one
	written  int64
	compress bool // the router may compress
	mode     mode
	gz       *gzip.Writer
	fixed    http.Header  // of every answer
	held     []byte       // of an answer whose size is not known yet
	body     *patientBody // of a dynamic route's request, nil for none
	rec      *Record      // nil where the request is not recorded
}

type mode uint8

const (
	undecided mode = iota
	plain          // goes out as it is
	holding        // status and first bytes wait until it is clear whether to compress
	gzipped
)

func (w *response) Header() http.Header { return w.header }

// fix sets the headers that every answer has, in place of the handler's own: the operator knows better. A policy for
// contents comes on top of the handler's, since browsers keep to both.
func (w *response) fix() {
	for k, v := range w.fixed {
		if own := w.header[k]; own != nil && k == "Content-Security-Policy" {
			v = append(own[:len(own):len(own)], v...)
		}
		w.header[k] = v
	}
}

// sent says whether something may have gone out, so that the answer cannot be replaced.
func (w *response) sent() bool { return w.mode == plain || w.mode == gzipped }

func (w *response) WriteHeader(code int) {
	if code < 200 && code != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(code)
		return
	}
	if w.status != 0 {
		if w.mode == plain {
			w.ResponseWriter.WriteHeader(code) // logs the caller
		}
		return
	}
	w.status = code
	w.fix()
	if !w.compress || !compressible(code, w.header) {
		w.plain()
		return
	}
	length := -1
	if v := w.header["Content-Length"]; len(v) > 0 {
		length, _ = strconv.Atoi(v[0])
	}
	if length >= 0 && length < minCompress {
		w.plain()
		return
	}
	if !acceptsGzip(w.req) {
		if !isLocal(w.req) {
			addVary(w.header, "Accept-Encoding")
		}
		w.plain()
		return
	}
	addVary(w.header, "Accept-Encoding")
	if length < 0 {
		w.mode = holding
		return
	}
	w.gzip()
}

func (w *response) plain() {
	w.mode = plain
	w.ResponseWriter.WriteHeader(w.status)
}

func (w *response) gzip() {
	w.mode = gzipped
	gzipHeader(w.header)
	w.ResponseWriter.WriteHeader(w.status)
	w.gz = gzipWriters.Get().(*gzip.Writer)
	w.gz.Reset(w.ResponseWriter)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.written += int64(len(b))
	w.keep(b)
	if w.mode == holding {
		if len(w.held)+len(b) < minCompress {
			w.held = append(w.held, b...)
			return len(b), nil
		}
		w.gzip()
		if err := w.release(); err != nil {
			return 0, err
		}
	}
	if w.mode == gzipped {
		return w.gz.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// release writes what was held back.
func (w *response) release() error {
	if len(w.held) == 0 {
		return nil
	}
	_, err := w.gz.Write(w.held)
	w.held = nil
	return err
}

// whole writes an answer whose body is known; the body is not kept.
func (w *response) whole(status int, body []byte) error {
	if w.status != 0 {
		_, err := w.Write(body) // somebody began another answer
		return err
	}
	w.fix()
	w.keep(body)
	if w.compress && len(body) >= minCompress && compressible(status, w.header) && !isLocal(w.req) {
		addVary(w.header, "Accept-Encoding")
		if acceptsGzip(w.req) {
			b := buffers.Get().(*bytes.Buffer)
			b.Reset()
			defer release(b)
			if gzipWhole(b, body) {
				gzipHeader(w.header)
				body = b.Bytes()
			}
		}
	}
	w.status, w.mode = status, plain
	if len(body) > 1024 || w.req.Method == http.MethodHead { // net/http counts small ones itself
		w.header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.ResponseWriter.WriteHeader(status)
	n, err := w.ResponseWriter.Write(body)
	w.written += int64(n)
	return err
}

// ReadFrom keeps the kernel's copy (sendfile) for files that go out as they are.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.mode != plain || w.rec != nil {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	n, err := io.Copy(w.ResponseWriter, r)
	w.written += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection: deadlines, hijacking, full duplex.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush sends what is buffered.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError sends what is buffered.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.mode == holding {
		w.gzip()
		if err := w.release(); err != nil {
			return err
		}
	}
	if w.mode == gzipped {
		if err := w.gz.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// finish ends the answer once the handler has returned.
func (w *response) finish() {
	switch w.mode {
	case undecided:
		w.fix() // net/http answers with an empty 200
	case holding:
		w.plain()
		_, _ = w.ResponseWriter.Write(w.held)
	case gzipped:
		_ = w.gz.Close()
		w.drop()
	}
}

// drop gives the compressor back without ending the answer.
func (w *response) drop() {
	if w.gz != nil {
		w.gz.Reset(nil)
		gzipWriters.Put(w.gz)
		w.gz = nil
	}
}

// reset forgets an answer of which nothing went out.
func (w *response) reset() {
	if w.rec != nil {
		w.rec.Answered.forget()
	}
	if w.status != 0 {
		for k := range w.fixed {
			delete(w.header, k) // set again with the answer that comes
		}
	}
	w.status, w.mode, w.held, w.written = 0, undecided, nil, 0
}
