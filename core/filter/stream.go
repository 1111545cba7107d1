package filter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// Stream puts the stream filters between a streamed answer and its reader. Whole answers, and streams that no filter
// looks at, stay as they are. It is to be called before the answer is read.
func (f *Filters) Stream(ctx context.Context, r *llm.Response) {
	if f == nil || !r.Stream {
		return
	}
	var sf StreamFilter
	looks := false
	if err := f.guard("stream", func() error { sf, looks = f.chain.Stream(ctx); return nil }); err != nil {
		sf, looks = failing{err}, true
	}
	if looks && sf != nil {
		r.Through(func(src llm.Source) llm.Source { return &stream{f: f, ctx: ctx, src: src, filter: sf} })
	}
}

// stream is a source whose events have passed a filter.
type stream struct {
	f      *Filters
	ctx    context.Context
	src    llm.Source
	filter StreamFilter
	ready  [][]byte // given by the filter and not yet read
	ended  bool     // by an error of the filter
	closed bool
}

// Next implements llm.Source.
func (s *stream) Next() ([]byte, error) {
	for {
		for len(s.ready) > 0 {
			next := s.ready[0]
			s.ready = s.ready[1:]
			if next == nil {
				continue
			}
			return next, nil
		}
		if s.ended {
			return nil, io.EOF
		}
		event, err := s.src.Next()
		if err != nil {
			return nil, err
		}
		if err = s.f.guard("stream", func() (err error) { s.ready, err = s.filter.Chunk(s.ctx, event); return err }); err == nil {
			err = fit(s.ready)
		}
		if err == nil {
			continue
		}
		if s.ctx.Err() != nil {
			return nil, context.Cause(s.ctx)
		}
		s.ready, s.ended = nil, true
		_ = s.src.Close()
		s.f.log.WarnContext(s.ctx, "a stream filter failed", "model", s.f.call.ModelID, "error", err)
		return failure(err), nil
	}
}

// Close implements llm.Source.
func (s *stream) Close() error {
	err := s.src.Close()
	if s.closed {
		return err
	}
	s.closed = true
	return errors.Join(err, s.f.guard("stream", s.filter.Close))
}

// failure is the event that ends a stream whose filter failed.
func failure(err error) []byte {
	return jsondoc.Object("error", jsondoc.Object("message", jsondoc.Text(Text(err))))
}

// fit checks what a filter gave for a chunk: JSON objects, each on one line since that is what events are written on.
// Those that say nothing are taken out (set to nil).
func fit(chunks [][]byte) error {
	for i, c := range chunks {
		d, bad := jsondoc.Check(c)
		switch {
		case len(bytes.TrimSpace(c)) == 0 || bad == nil && !d.Truthy():
			chunks[i] = nil
			continue
		case bad != nil:
			return fmt.Errorf("a filter gave no JSON: %w", bad)
		case d.Kind() != '{':
			return fmt.Errorf("a filter gave no object but %.40q", string(c))
		}
		if bytes.ContainsAny(d, "\r\n") {
			v := jsontext.Value(bytes.Clone(d))
			if err := v.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
				return err
			}
			d = jsondoc.Doc(v)
		}
		chunks[i] = d
	}
	return nil
}

// failing is a stream filter that could not be begun.
type failing struct{ err error }

func (s failing) Chunk(context.Context, []byte) ([][]byte, error) { return nil, s.err }
func (s failing) Close() error                                    { return nil }

// outletPatience is how long an outlet may take once the request it belongs to has gone.
const outletPatience = 30 * time.Second

// listener reads along with a stream, for the outlet of an answer that is streamed to a program.
type listener struct {
	f       *Filters
	ctx     context.Context
	src     llm.Source
	request jsondoc.Doc
	dec     llm.Decoder
	chunk   llm.Chunk
	text    strings.Builder
	answer  Answer
	closed  bool
}

// Next implements llm.Source.
func (l *listener) Next() ([]byte, error) {
	event, err := l.src.Next()
	if err != nil || l.dec.Decode(event, &l.chunk) != nil {
		return event, err
	}
	l.text.WriteString(l.chunk.Content)
	if l.chunk.Usage != nil {
		l.answer.Usage = append(l.answer.Usage[:0], l.chunk.Usage...)
	}
	if l.chunk.FinishReason != "" {
		l.answer.FinishReason = l.chunk.FinishReason
	}
	return event, nil
}

// Close implements llm.Source. The answer has been read as far as it was wanted: the outlet is told of it.
func (l *listener) Close() error {
	err := l.src.Close()
	if l.closed {
		return err
	}
	l.closed = true
	if l.text.Len() == 0 && l.answer.Usage == nil {
		return err
	}
	l.answer.Content = l.text.String()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), outletPatience)
	defer cancel()
	l.f.Outlet(ctx, l.f.outletBody(l.request, l.answer))
	return err
}
