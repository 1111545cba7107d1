package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// filterEntry is the filter of a ready plugin.
type filterEntry struct {
	u      *unit
	id     string
	spec   *pb.FilterSpec
	models map[string]bool // nil: all
}

// newFilterEntry is the filter of an instance, nil if it has none.
func newFilterEntry(u *unit, inst *instance) *filterEntry {
	spec := inst.what.GetFilter()
	if spec == nil {
		return nil
	}
	e := &filterEntry{u: u, id: inst.id(), spec: spec}
	for _, id := range spec.GetModels() {
		if e.models == nil {
			e.models = map[string]bool{}
		}
		e.models[id] = true
	}
	return e
}

func (e *filterEntry) applies(c *filter.Call) bool {
	if c.Kind == filter.KindTask && !e.spec.GetTasks() {
		return false
	}
	return e.models == nil || e.models[c.ModelID]
}

// Filters gives the filters of all ready plugins.
func (m *Manager) Filters() filter.Set { return filterSet{m} }

type filterSet struct{ m *Manager }

// For implements filter.Set.
func (s filterSet) For(c *filter.Call) filter.Chain {
	all := s.m.offered().filters
	if len(all) == 0 {
		return nil
	}
	var chain *filterChain
	for _, e := range all {
		if e.applies(c) {
			if chain == nil {
				chain = &filterChain{m: s.m, call: c}
			}
			chain.entries = append(chain.entries, e)
		}
	}
	if chain == nil {
		return nil
	}
	return chain
}

// filterChain is the filters of one call.
type filterChain struct {
	m       *Manager
	call    *filter.Call
	entries []*filterEntry
	told    *pb.Meta
}

func (c *filterChain) meta(ctx context.Context) (*pb.Meta, error) {
	if c.told != nil {
		return c.told, nil
	}
	meta, err := c.m.meta(ctx, c.call.Principal)
	if err != nil {
		return nil, err
	}
	meta.ChatId, meta.MessageId, meta.SessionId = c.call.ChatID, c.call.MessageID, c.call.SessionID
	meta.Model, meta.Kind, meta.Task = c.call.ModelID, string(c.call.Kind), c.call.Task
	c.told = meta
	return meta, nil
}

// Inlet implements filter.Chain.
func (c *filterChain) Inlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	return c.each(ctx, body, "inlet", (*pb.FilterSpec).GetInlet, func(ctx context.Context, f pb.FilterClient, meta *pb.Meta, body []byte) ([]byte, error) {
		resp, err := f.Inlet(ctx, &pb.InletRequest{Meta: meta, Body: body})
		return resp.GetBody(), err
	})
}

// HasOutlet implements filter.Chain.
func (c *filterChain) HasOutlet() bool {
	return slices.ContainsFunc(c.entries, func(e *filterEntry) bool { return e.spec.GetOutlet() })
}

// Outlet implements filter.Chain.
func (c *filterChain) Outlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	return c.each(ctx, body, "outlet", (*pb.FilterSpec).GetOutlet, func(ctx context.Context, f pb.FilterClient, meta *pb.Meta, body []byte) ([]byte, error) {
		resp, err := f.Outlet(ctx, &pb.OutletRequest{Meta: meta, Body: body})
		return resp.GetBody(), err
	})
}

// each passes a document through those filters that have a function.
func (c *filterChain) each(ctx context.Context, body jsondoc.Doc, what string, has func(*pb.FilterSpec) bool,
	call func(context.Context, pb.FilterClient, *pb.Meta, []byte) ([]byte, error)) (jsondoc.Doc, error) {
	for _, e := range c.entries {
		if !has(e.spec) || askedBy(ctx, e.id) {
			continue
		}
		meta, err := c.meta(ctx)
		if err != nil {
			return nil, err
		}
		next, err := e.one(ctx, what, meta, body, call)
		if err != nil {
			return nil, err
		}
		body = next
	}
	return body, nil
}

func (e *filterEntry) one(ctx context.Context, what string, meta *pb.Meta, body jsondoc.Doc,
	call func(context.Context, pb.FilterClient, *pb.Meta, []byte) ([]byte, error)) (out jsondoc.Doc, err error) {
	inst, err := e.u.call()
	if err != nil || inst.filter == nil {
		if err == nil {
			inst.release()
		}
		return body, e.absent(what)
	}
	defer inst.release()
	done := inst.series.call(what)
	asked, cancel := context.WithTimeout(ctx, inst.limits().response())
	defer cancel()
	changed, err := call(asked, inst.filter, meta, body)
	done(err)
	if err != nil {
		return e.failed(ctx, what, body, err)
	}
	if len(changed) == 0 {
		return body, nil
	}
	doc, bad := jsondoc.Check(changed)
	if bad != nil || doc.Kind() != '{' {
		return e.failed(ctx, what, body, status.Error(codes.Internal, "it gave no JSON object"))
	}
	return doc, nil
}

// failed is what becomes of a call when its filter fails. A refusal refuses it. Anything else does so only if the filter
// is required: otherwise the call goes on without it, since one plugin's fault must not stop every chat.
func (e *filterEntry) failed(ctx context.Context, what string, body jsondoc.Doc, err error) (jsondoc.Doc, error) {
	if r := refusalOf(err); r != nil {
		return nil, webRefusal(r)
	}
	if status.Code(err) == codes.Canceled && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	e.u.logger().Warn("filter failed", "at", what, "error", plain(err))
	if !e.spec.GetRequired() {
		return body, nil
	}
	code := http.StatusBadGateway
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, errSlow) {
		code = http.StatusGatewayTimeout
	}
	return nil, web.Because(code, fmt.Sprintf("The filter %s failed", e.id), err)
}

// absent is what becomes of a call while the filter's plugin is down.
func (e *filterEntry) absent(what string) error {
	if e.spec.GetRequired() {
		return web.Fail(http.StatusServiceUnavailable, fmt.Sprintf("The filter %s is not running", e.id))
	}
	e.u.logger().Debug("filter is not running", "at", what)
	return nil
}

func webRefusal(r *pb.Refusal) *web.Error {
	e := web.Fail(int(r.GetStatus()), r.GetDetail())
	e.Header = refusalHeader(r)
	return e
}

// refusalHeader is the header of a refusal, without what is no header and what is about the answer's form or connection.
func refusalHeader(r *pb.Refusal) http.Header {
	h := http.Header{}
	for name, value := range r.GetHeaders() {
		if httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value) {
			h.Set(name, value)
		}
	}
	dropHop(h)
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding"} {
		delete(h, name)
	}
	return h
}

// Stream implements filter.Chain.
func (c *filterChain) Stream(ctx context.Context) (filter.StreamFilter, bool) {
	var s *streamChain
	for _, e := range c.entries {
		if !e.spec.GetStream() || askedBy(ctx, e.id) {
			continue
		}
		if s == nil {
			s = &streamChain{chain: c}
		}
		s.links = append(s.links, &streamLink{e: e})
	}
	if s == nil {
		return nil, false
	}
	return s, true
}

// streamChain passes chunks through the stream filters of a call.
type streamChain struct {
	chain *filterChain
	links []*streamLink
}

// streamLink is one answer's stream through one filter. It is opened with the first chunk.
type streamLink struct {
	e      *filterEntry
	inst   *instance
	stream grpc.BidiStreamingClient[pb.StreamRequest, pb.StreamResponse]
	cancel context.CancelFunc
	done   func(error)
	off    bool // it failed and is not required: chunks pass by
}

// Chunk implements filter.StreamFilter.
func (s *streamChain) Chunk(ctx context.Context, chunk []byte) ([][]byte, error) {
	chunks := [][]byte{chunk}
	for _, l := range s.links {
		if l.off || len(chunks) == 0 {
			continue
		}
		next, err := l.pass(ctx, s.chain, chunks)
		if err != nil {
			l.close(err)
			if _, err = l.e.failed(ctx, "stream", nil, err); err != nil {
				return nil, err
			}
			l.off = true
			continue
		}
		chunks = next
	}
	return chunks, nil
}

func (l *streamLink) pass(ctx context.Context, c *filterChain, chunks [][]byte) ([][]byte, error) {
	req := &pb.StreamRequest{Chunks: chunks}
	if l.stream == nil {
		meta, err := c.meta(ctx)
		if err != nil {
			return nil, err
		}
		req.Meta = meta
		if err := l.open(ctx); err != nil {
			return nil, err
		}
	}
	slow := time.AfterFunc(l.inst.limits().response(), l.cancel)
	if err := l.stream.Send(req); err != nil && err != io.EOF { // EOF: Recv says why
		slow.Stop()
		return nil, err
	}
	resp, err := l.stream.Recv()
	switch {
	case !slow.Stop() && err != nil && ctx.Err() == nil:
		err = errSlow
	case err == io.EOF:
		err = status.Error(codes.Internal, "it ended the stream")
	}
	return resp.GetChunks(), err
}

func (l *streamLink) open(ctx context.Context) error {
	inst, err := l.e.u.call()
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	if inst.filter == nil { // the new version has none
		inst.release()
		return status.Error(codes.Unavailable, errNotRunning.Error())
	}
	l.inst, l.done = inst, inst.series.call("stream")
	ctx, l.cancel = context.WithCancel(ctx)
	l.stream, err = inst.filter.Stream(ctx)
	return err
}

func (l *streamLink) close(err error) {
	if l.inst == nil {
		return
	}
	l.cancel()
	l.inst.release()
	l.done(err)
	l.inst = nil
}

// Close implements filter.StreamFilter.
func (s *streamChain) Close() error {
	for _, l := range s.links {
		l.close(nil)
	}
	return nil
}
