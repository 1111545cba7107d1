package plugin

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/plugin/process"
)

// boundRunner runs a process for go-plugin, whose start cannot be interrupted: until free is called the process is killed
// when ctx ends. go-plugin gets the first line that the process prints; what follows, which it would lose, is logged.
type boundRunner struct {
	*process.Runner
	ctx    context.Context
	log    *process.Log
	out    *io.PipeReader
	unbind func() bool
	silent atomic.Bool // the process closed its output before the first line, and went on
}

// Start implements runner.Runner.
func (r *boundRunner) Start(ctx context.Context) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.Runner.Start(ctx); err != nil {
		return err
	}
	p := r.Process()
	r.unbind = context.AfterFunc(r.ctx, func() { _ = p.Kill(r.ctx) })
	var in *io.PipeWriter
	r.out, in = io.Pipe()
	go r.read(p, in)
	return nil
}

// read passes the first line on to go-plugin and logs the others.
func (r *boundRunner) read(p *process.Process, to *io.PipeWriter) {
	defer func() { _ = to.Close() }()
	in := bufio.NewReaderSize(p.Stdout(), 32<<10)
	line, err := in.ReadSlice('\n')
	if err == io.EOF && len(line) == 0 { // it is ending: how, is to be known before go-plugin kills it
		select {
		case <-p.Done():
		case <-time.After(time.Second):
			r.silent.Store(true)
		}
		return
	}
	_, _ = to.Write(append(bytes.TrimRight(line, "\n"), '\n')) // it may be cut
	_, _ = r.log.ReadFrom(in)
}

// Stdout implements runner.Runner.
func (r *boundRunner) Stdout() io.ReadCloser { return r.out }

// free lets the process outlive ctx; false says that it is too late.
func (r *boundRunner) free() bool { return r.unbind() }

// process is the process, nil if there is none.
func (r *boundRunner) process() *process.Process {
	if r.Runner == nil {
		return nil
	}
	return r.Process()
}
