package filter

import (
	"bytes"
	"context"
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
)

// Join makes one chain of several: each gets what the one before it gave, in all stages. Nil for none.
func Join(chains ...Chain) Chain {
	switch len(chains) {
	case 0:
		return nil
	case 1:
		return chains[0]
	}
	return joined(chains)
}

type joined []Chain

// Inlet implements Chain.
func (j joined) Inlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	for _, c := range j {
		var err error
		if body, err = c.Inlet(ctx, body); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// Stream implements Chain.
func (j joined) Stream(ctx context.Context) (StreamFilter, bool) {
	var filters joinedStream
	for _, c := range j {
		if f, ok := c.Stream(ctx); ok {
			filters = append(filters, f)
		}
	}
	switch len(filters) {
	case 0:
		return nil, false
	case 1:
		return filters[0], true
	}
	return filters, true
}

// HasOutlet implements Chain.
func (j joined) HasOutlet() bool {
	for _, c := range j {
		if c.HasOutlet() {
			return true
		}
	}
	return false
}

// Outlet implements Chain.
func (j joined) Outlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	for _, c := range j {
		if !c.HasOutlet() {
			continue
		}
		var err error
		if body, err = c.Outlet(ctx, body); err != nil {
			return nil, err
		}
	}
	return body, nil
}

type joinedStream []StreamFilter

// Chunk implements StreamFilter.
func (j joinedStream) Chunk(ctx context.Context, chunk []byte) ([][]byte, error) {
	chunks := [][]byte{chunk}
	for _, f := range j {
		var next [][]byte
		for _, c := range chunks {
			out, err := f.Chunk(ctx, c)
			if err != nil {
				return nil, err
			}
			if len(chunks) == 1 {
				next = out
				break
			}
			for _, o := range out { // the next call takes its memory
				next = append(next, bytes.Clone(o))
			}
		}
		chunks = next
	}
	return chunks, nil
}

// Close implements StreamFilter. All are closed, even if one panics.
func (j joinedStream) Close() (err error) {
	for _, f := range j {
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	return nil
}
