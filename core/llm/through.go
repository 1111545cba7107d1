package llm

import (
	"errors"
	"io"
)

// Through puts a step between the events of a streamed answer and whoever reads them: step gets them as they come and
// gives the Source to be read in their place, whose Close has to close the one it was given. Whole answers stay as they
// are. It is to be called before the answer is read.
//
// What is no event in the provider's text (comments, names of events) is not passed on then.
func (r *Response) Through(step func(Source) Source) {
	switch {
	case r.src != nil:
		r.src = step(r.src)
	case r.raw != nil:
		r.src = step(&rawEvents{body: r.raw, sse: sseReader{lines: NewLineReader(r.raw)}})
		r.raw = nil
	}
}

// rawEvents are the events in the text of a stream.
type rawEvents struct {
	body  io.Closer
	sse   sseReader
	dec   Decoder
	chunk Chunk
}

// Next implements Source. Events that are no JSON objects are skipped.
func (e *rawEvents) Next() ([]byte, error) {
	for {
		payload, plain, err := e.sse.next(func(data []byte) bool {
			return !errors.Is(e.dec.Decode(data, &e.chunk), io.ErrUnexpectedEOF)
		})
		switch {
		case err != nil:
			return nil, err
		case string(payload) == "[DONE]":
			return nil, io.EOF
		case e.dec.Decode(payload, &e.chunk) == nil && (!plain || e.chunk.Error != nil):
			return payload, nil
		}
	}
}

// Close implements Source.
func (e *rawEvents) Close() error { return e.body.Close() }
