package llm

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Source yields a stream's events as JSON text, each valid until the next call; io.EOF ends it. Close ends the
// call behind it and may be called at any time, more than once.
type Source interface {
	Next() ([]byte, error)
	Close() error
}

// Response is a provider's answer. A streamed one must be closed, or read to its end by Chunks or Relay.
//
// A Response belongs to one goroutine; to end it from another, cancel the context that was given to Chat.
//
// A provider that was asked for a stream may answer without one (Stream is false then), and so does a failing
// one that answers 200.
type Response struct {
	Status int
	Header http.Header // headers to pass on, with Content-Type
	Stream bool        // Server-Sent Events; else a whole body

	lead []byte // SSE text before the provider's
	body []byte
	raw  io.ReadCloser // SSE text
	src  Source        // or events
	call Call          // never nil
	once sync.Once
	tail tailBuffer // of a raw relay, to find the usage
}

// NewBody returns a whole answer.
func NewBody(status int, h http.Header, body []byte) *Response {
	return &Response{Status: status, Header: h, body: body, call: noCall{}}
}

// NewRawStream returns a streamed answer whose text is already Server-Sent Events in OpenAI form.
func NewRawStream(status int, h http.Header, body io.ReadCloser) *Response {
	return &Response{Status: status, Header: h, Stream: true, raw: body, call: noCall{}}
}

// NewStream returns a streamed answer made of events.
func NewStream(h http.Header, src Source) *Response {
	h.Set("Content-Type", "text/event-stream")
	return &Response{Status: http.StatusOK, Header: h, Stream: true, src: src, call: noCall{}}
}

// Body returns the whole answer; it is nil for a stream.
func (r *Response) Body() []byte { return r.body }

// JSON returns the whole answer as one JSON value: itself if the provider sent JSON, null if it sent nothing,
// else a JSON string of its text. That is what clients get for a provider that answers 200 with no JSON.
func (r *Response) JSON() jsontext.Value {
	trimmed := jsontext.Value(bytes.TrimSpace(r.body))
	if IsJSONType(r.Header.Get("Content-Type")) {
		if len(trimmed) == 0 {
			return jsontext.Value("null")
		}
		if trimmed.IsValid(jsonOptions...) {
			return trimmed
		}
	}
	return rawjson.Quote(string(r.body))
}

// Lead puts an event of our own, a JSON object, before those of the provider: as the first event of a stream that is
// relayed, or as further members of a whole answer that is an object.
func (r *Response) Lead(event jsontext.Value) {
	if r.Stream {
		r.lead = append(append(append(r.lead, "data: "...), event...), "\n\n"...)
		return
	}
	if v := jsondoc.Doc(r.JSON()); v.Kind() == '{' {
		r.body = v.Merge(jsondoc.Doc(event))
	}
}

// Close ends the call. It may be called more than once.
func (r *Response) Close() error {
	r.finish(nil)
	return nil
}

// finish closes what is behind the answer and reports the end of the call once.
func (r *Response) finish(err error) {
	r.once.Do(func() {
		if r.raw != nil {
			_ = r.raw.Close()
		}
		if r.src != nil {
			_ = r.src.Close()
		}
		if _, unobserved := r.call.(noCall); !unobserved {
			r.call.Done(r.tokens(), err)
		}
	})
}

func (r *Response) tokens() Tokens {
	if !r.Stream {
		var c Chunk
		if new(Decoder).Decode(r.body, &c) == nil {
			return UsageTokens(c.Usage)
		}
		return Tokens{}
	}
	return r.tail.tokens()
}

// Relay writes the answer to w with its status and headers, flushing after every piece, and closes it. A whole
// answer is written as JSON, see [Response.JSON]. An error after the first byte cannot be told to the client
// any more: the caller should abort the connection (panic(http.ErrAbortHandler)) on a [StreamError].
func (r *Response) Relay(w http.ResponseWriter) error {
	h := w.Header()
	if !r.Stream {
		v := r.JSON()
		h.Set("Content-Type", "application/json")
		w.WriteHeader(r.Status)
		_, err := w.Write(v)
		return errors.Join(err, r.Close())
	}
	for k, v := range r.Header {
		h[k] = v
	}
	w.WriteHeader(r.Status)
	rc := http.NewResponseController(w)
	flush := func() error {
		if err := rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	}
	if err := flush(); err != nil { // the client sees at once that the answer has begun
		r.finish(err)
		return err
	}
	return r.CopyTo(w, flush)
}

// CopyTo writes a stream's text to w as it comes, calling flush (if not nil) after every piece, and closes it.
// The bytes of an OpenAI-compatible provider are passed through unchanged.
func (r *Response) CopyTo(w io.Writer, flush func() error) (err error) {
	defer func() { r.finish(err) }()
	out := relayWriter{w: w, flush: flush, r: r}
	if len(r.lead) > 0 {
		if err := out.write(r.lead); err != nil {
			return err
		}
	}
	if r.src != nil {
		return r.copyEvents(&out)
	}
	if r.raw == nil {
		_, err = w.Write(r.body)
		return err
	}
	bp := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(bp)
	for {
		n, rerr := r.raw.Read(*bp)
		if n > 0 {
			if err = out.write((*bp)[:n]); err != nil {
				return err
			}
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return streamErr(rerr)
		}
	}
}

var relayBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (r *Response) copyEvents(out *relayWriter) error {
	var text []byte // events that are not written yet, because more were here already
	buffered, _ := r.src.(Buffered)
	for {
		ev, err := r.src.Next()
		if err == io.EOF {
			return out.write(append(text, "data: [DONE]\n\n"...))
		}
		if err != nil {
			if len(text) > 0 {
				err = errors.Join(streamErr(err), out.write(text))
			}
			return streamErr(err)
		}
		text = append(append(append(text, "data: "...), ev...), "\n\n"...)
		if buffered != nil && len(text) < maxJoined && buffered.More() {
			continue
		}
		if err := out.write(text); err != nil {
			return err
		}
		text = text[:0]
	}
}

// maxJoined is how much text of events that are here already is written in one go.
const maxJoined = 16 << 10

type relayWriter struct {
	w     io.Writer
	flush func() error
	r     *Response
	begun bool
}

func (o *relayWriter) write(p []byte) error {
	if !o.begun {
		o.begun = true
		o.r.call.FirstToken()
	}
	o.r.tail.write(p)
	if _, err := o.w.Write(p); err != nil {
		return err
	}
	if o.flush != nil {
		return o.flush()
	}
	return nil
}

// Chunks iterates over the events of the answer, decoded, and closes it at the end of the loop. The Chunk is
// reused: see its comment for what may be kept. Events that are no JSON objects are skipped. An error is the
// last thing yielded: a [*StreamError], [ErrEventTooLarge], or what the context ended with.
//
// A whole answer gives one Chunk if it is a JSON object, otherwise none.
func (r *Response) Chunks() iter.Seq2[*Chunk, error] {
	return func(yield func(*Chunk, error) bool) {
		var end error
		defer func() { r.finish(end) }()
		next := r.decoded()
		begun := false
		for {
			c, err := next()
			if err == io.EOF {
				return
			}
			if err != nil {
				end = streamErr(err)
				yield(nil, end)
				return
			}
			if !begun && (c.Content != "" || c.Reasoning != "" || len(c.ToolCalls) > 0) {
				begun = true
				r.call.FirstToken()
			}
			if c.Usage != nil {
				r.tail.usage = append(r.tail.usage[:0], c.Usage...)
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// decoded returns a function that decodes the next event.
func (r *Response) decoded() func() (*Chunk, error) {
	var (
		dec   Decoder
		chunk Chunk
	)
	switch {
	case r.src != nil:
		buffered, _ := r.src.(Buffered)
		return func() (*Chunk, error) {
			for {
				ev, err := r.src.Next()
				if err != nil {
					return nil, err
				}
				if dec.Decode(ev, &chunk) == nil {
					chunk.More = buffered != nil && buffered.More()
					return &chunk, nil
				}
			}
		}
	case r.raw != nil:
		s := sseReader{lines: NewLineReader(r.raw)}
		return func() (*Chunk, error) { return nextEvent(&s, &dec, &chunk) }
	}
	done := false
	return func() (*Chunk, error) {
		if done || dec.Decode(r.body, &chunk) != nil {
			return nil, io.EOF
		}
		done = true
		return &chunk, nil
	}
}

// nextEvent decodes the next event of an SSE stream; [DONE] is the end, whatever follows.
func nextEvent(s *sseReader, dec *Decoder, c *Chunk) (*Chunk, error) {
	for {
		var err error
		fresh := false // err is about the payload that next returns
		payload, plain, rerr := s.next(func(data []byte) bool {
			err = dec.Decode(data, c)
			fresh = true
			return !errors.Is(err, io.ErrUnexpectedEOF)
		})
		if rerr != nil {
			return nil, rerr
		}
		if string(payload) == "[DONE]" {
			return nil, io.EOF
		}
		if !fresh || plain || errors.Is(err, io.ErrUnexpectedEOF) {
			err = dec.Decode(payload, c)
		}
		if err == nil && (!plain || c.Error != nil) {
			c.Plain, c.More = plain, s.lines.More()
			return c, nil
		}
	}
}

// tailBuffer keeps the end of a relayed stream, where the usage is.
type tailBuffer struct {
	buf   []byte
	usage []byte
}

const tailSize = 4 << 10

func (t *tailBuffer) write(p []byte) {
	if len(p) >= tailSize {
		t.buf = append(t.buf[:0], p[len(p)-tailSize:]...)
		return
	}
	if len(t.buf)+len(p) > 4*tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
	t.buf = append(t.buf, p...)
}

func (t *tailBuffer) tokens() Tokens {
	if t.usage != nil {
		return UsageTokens(t.usage)
	}
	i := bytes.LastIndex(t.buf, []byte(`"usage":`))
	if i < 0 {
		return Tokens{}
	}
	dec := jsontext.NewDecoder(bytes.NewReader(t.buf[i+len(`"usage":`):]), jsonOptions...)
	v, err := dec.ReadValue()
	if err != nil {
		return Tokens{}
	}
	return UsageTokens(v)
}
