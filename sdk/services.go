package sdk

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

type llmService struct {
	pb.UnimplementedLlmServer
	s *Server
}

func (l *llmService) Models(ctx context.Context, req *pb.ModelsRequest) (*pb.ModelsResponse, error) {
	ctx = withMeta(ctx, req.GetMeta())
	list, err := l.s.p.LLM.Models(ctx)
	if err != nil {
		return nil, failure(ctx, "Models", err)
	}
	resp := &pb.ModelsResponse{}
	for _, m := range list {
		resp.Models = append(resp.Models, &pb.Model{Id: m.ID, Name: m.Name, Description: m.Description, OwnedBy: m.OwnedBy, Tags: m.Tags, Created: m.Created, Info: m.Info})
	}
	return resp, nil
}

func (l *llmService) Chat(req *pb.ChatRequest, out grpc.ServerStreamingServer[pb.ChatResponse]) error {
	ctx := withMeta(out.Context(), req.GetMeta())
	b := newBatch(out)
	defer b.close() // also where the plugin panics
	enc := newChunkEncoder("chatcmpl-"+rand.Text(), req.GetModel(), time.Now().Unix())
	enc.role = true
	var failed error
	var usage *Usage
	for c, err := range l.s.p.LLM.Chat(ctx, &ChatRequest{Body: NewBody(req.GetBody()), Model: req.GetModel(), Stream: req.GetStream()}) {
		if err != nil {
			failed = err
			break
		}
		if c.Usage != nil && c.Raw == nil { // sent last, after the end of the text
			usage, c.Usage = c.Usage, nil
		}
		if c.empty() {
			continue
		}
		if !b.add(enc.encode(&c)) {
			break
		}
	}
	if failed == nil && !enc.finished {
		b.add(enc.encode(&Chunk{FinishReason: "stop"}))
	}
	if failed == nil && usage != nil {
		b.add(enc.encode(&Chunk{Usage: usage}))
	}
	if err := b.close(); err != nil {
		return err
	}
	return failure(ctx, "Chat", failed)
}

// maxPending is how many bytes of chunks wait for the connection before the model is made to wait too.
const maxPending = 256 << 10

// batch sends chunks: those that become ready while a message is under way go together in the next.
type batch struct {
	out     grpc.ServerStreamingServer[pb.ChatResponse]
	mu      sync.Mutex
	room    *sync.Cond // of those that add
	work    *sync.Cond // of the sender
	chunks  [][]byte
	bytes   int
	closed  bool
	err     error
	stopped chan struct{}
}

func newBatch(out grpc.ServerStreamingServer[pb.ChatResponse]) *batch {
	b := &batch{out: out, stopped: make(chan struct{})}
	b.room, b.work = sync.NewCond(&b.mu), sync.NewCond(&b.mu)
	go b.send()
	return b
}

// add queues a chunk; false says that nobody listens any more.
func (b *batch) add(chunk []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.bytes >= maxPending && b.err == nil && !b.closed {
		b.room.Wait()
	}
	if b.closed || b.err != nil || b.out.Context().Err() != nil {
		return false
	}
	b.chunks = append(b.chunks, chunk)
	b.bytes += len(chunk)
	b.work.Signal()
	return true
}

func (b *batch) send() {
	defer close(b.stopped)
	for {
		b.mu.Lock()
		for len(b.chunks) == 0 && !b.closed {
			b.work.Wait()
		}
		chunks := b.chunks
		b.chunks, b.bytes = nil, 0
		b.room.Broadcast()
		b.mu.Unlock()
		if len(chunks) == 0 {
			return
		}
		if err := b.out.Send(&pb.ChatResponse{Chunks: chunks}); err != nil {
			b.mu.Lock()
			b.err = err
			b.room.Broadcast()
			b.mu.Unlock()
			return
		}
	}
}

// close sends what is left. It may be called again.
func (b *batch) close() error {
	b.mu.Lock()
	b.closed = true
	b.work.Signal()
	b.mu.Unlock()
	<-b.stopped
	return b.err
}

func (l *llmService) Embed(ctx context.Context, req *pb.EmbedRequest) (*pb.EmbedResponse, error) {
	e, ok := l.s.p.LLM.(Embedder)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "no embeddings")
	}
	ctx = withMeta(ctx, req.GetMeta())
	vectors, err := e.Embed(ctx, req.GetModel(), req.GetInput())
	if err != nil {
		return nil, failure(ctx, "Embed", err)
	}
	resp := &pb.EmbedResponse{}
	for _, v := range vectors {
		resp.Embeddings = append(resp.Embeddings, &pb.Embedding{Values: v})
	}
	return resp, nil
}

type filterService struct {
	pb.UnimplementedFilterServer
	s *Server
}

func (f *filterService) Inlet(ctx context.Context, req *pb.InletRequest) (*pb.InletResponse, error) {
	body, err := change(withMeta(ctx, req.GetMeta()), "Inlet", f.s.p.Filter.Inlet, req.GetBody())
	return &pb.InletResponse{Body: body}, err
}

func (f *filterService) Outlet(ctx context.Context, req *pb.OutletRequest) (*pb.OutletResponse, error) {
	body, err := change(withMeta(ctx, req.GetMeta()), "Outlet", f.s.p.Filter.Outlet, req.GetBody())
	return &pb.OutletResponse{Body: body}, err
}

// change runs an inlet or outlet and gives the body if it changed.
func change(ctx context.Context, method string, f func(context.Context, *Body) error, raw []byte) ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	body := NewBody(raw)
	err := f(ctx, body)
	if err == nil {
		err = body.Err()
	}
	if err != nil {
		return nil, failure(ctx, method, err)
	}
	if !body.Changed() {
		return nil, nil
	}
	return body.Raw(), nil
}

func (f *filterService) Stream(s grpc.BidiStreamingServer[pb.StreamRequest, pb.StreamResponse]) error {
	var filter StreamFilter
	ctx := s.Context()
	for first := true; ; first = false {
		req, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first {
			if f.s.p.Filter.Stream == nil {
				return status.Error(codes.Unimplemented, "no stream filter")
			}
			ctx = withMeta(ctx, req.GetMeta())
			if filter, err = f.s.p.Filter.Stream(ctx); err != nil {
				return failure(ctx, "Stream", err)
			}
		}
		resp := &pb.StreamResponse{}
		if filter == nil {
			resp.Chunks = req.GetChunks()
			req.Chunks = nil
		}
		for _, raw := range req.GetChunks() {
			out, err := through(filter, raw)
			if err != nil {
				return failure(ctx, "Stream", err)
			}
			resp.Chunks = append(resp.Chunks, out...)
		}
		if err := s.Send(resp); err != nil {
			return err
		}
	}
}

type toolsService struct {
	pb.UnimplementedToolsServer
	s *Server
}

func (t *toolsService) Call(req *pb.CallRequest, out grpc.ServerStreamingServer[pb.CallResponse]) error {
	ctx := withMeta(out.Context(), req.GetMeta())
	var tool *Tool
	for i := range t.s.p.Tools {
		if t.s.p.Tools[i].Name == req.GetName() {
			tool = &t.s.p.Tools[i]
		}
	}
	if tool == nil {
		return status.Errorf(codes.NotFound, "no tool %q", req.GetName())
	}
	var mu sync.Mutex // a tool may emit from several goroutines
	ended := false
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
	}()
	call := &ToolCall{Arguments: req.GetArguments(), emit: func(kind string, data any) error {
		raw, err := marshal(data)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return errors.New("sdk: the tool's call has ended")
		}
		return out.Send(&pb.CallResponse{Item: &pb.CallResponse_Event{Event: &pb.Event{Type: kind, Data: raw}}})
	}}
	result, err := tool.Call(ctx, call)
	r := &pb.CallResult{}
	var refusal *Refusal
	switch s, isText := result.(string); {
	case errors.As(err, &refusal):
		r.Text, r.Error = refusal.Detail, true
	case err != nil:
		r.Text, r.Error = err.Error(), true
	case isText:
		r.Text = s
	default:
		raw, err := marshal(result)
		if err != nil {
			return status.Errorf(codes.Internal, "the result cannot be encoded: %v", err)
		}
		r.Json = raw
	}
	r.Text = utf8Text(r.Text)
	mu.Lock()
	defer mu.Unlock()
	ended = true
	return out.Send(&pb.CallResponse{Item: &pb.CallResponse_Result{Result: r}})
}
