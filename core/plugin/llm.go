package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// provider has the models of a plugin among those of all providers.
type provider struct {
	u  *unit
	id string
}

var _ llm.Provider = (*provider)(nil)

func providerID(id string) string { return "plugin/" + id }

// ID implements llm.Provider.
func (p *provider) ID() string { return providerID(p.id) }

// Models implements llm.Provider.
func (p *provider) Models(ctx context.Context, _ *llm.Caller) ([]llm.Model, error) {
	inst, err := p.u.call()
	if err != nil {
		return nil, err
	}
	defer inst.release()
	ctx, cancel := context.WithTimeout(ctx, inst.limits().response())
	defer cancel()
	resp, err := inst.llm.Models(ctx, &pb.ModelsRequest{})
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.id, plain(err))
	}
	return p.models(resp), nil
}

// models are those that a plugin has named; nil if it has not answered.
func (p *provider) models(resp *pb.ModelsResponse) []llm.Model {
	if resp == nil {
		return nil
	}
	out := make([]llm.Model, 0, len(resp.GetModels()))
	for _, m := range resp.GetModels() {
		if m.GetId() == "" {
			continue
		}
		out = append(out, p.model(m))
	}
	return out
}

func (p *provider) model(m *pb.Model) llm.Model {
	name, by := orText(m.GetName(), m.GetId()), orText(m.GetOwnedBy(), p.id)
	tags := make([]map[string]string, 0, len(m.GetTags()))
	for _, t := range m.GetTags() {
		tags = append(tags, map[string]string{"name": t})
	}
	var b jsondoc.Builder
	b.Add("id", m.GetId())
	b.Add("name", name)
	b.Add("object", "model")
	b.Add("created", m.GetCreated())
	b.Add("owned_by", by)
	b.Add("connection_type", "local")
	b.Add("tags", tags)
	if d := m.GetDescription(); d != "" {
		b.Add("description", d)
	}
	b.Add("plugin", p.id)
	entry := b.Done()
	if info := m.GetInfo(); len(info) > 0 {
		if doc, bad := jsondoc.Check(info); bad == nil && doc.Kind() == '{' {
			entry = doc.Merge(entry)
		}
	}
	return llm.Model{ID: m.GetId(), Upstream: m.GetId(), Name: name, OwnedBy: by, ConnectionType: "local", Entry: []byte(entry), Native: []byte(entry)}
}

// Chat implements llm.Provider.
func (p *provider) Chat(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	inst, err := p.u.call()
	if err != nil {
		return nil, p.absent()
	}
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	end := func() {
		cancel()
		inst.release()
	}
	s := &chunkSource{p: p, end: end}
	body := jsondoc.Doc(req.Body)
	if len(req.Params) > 0 {
		body = jsondoc.Doc(req.Params).Merge(body)
	}
	done := inst.series.call("chat")
	s.done = done
	s.stream, err = inst.llm.Chat(ctx, &pb.ChatRequest{Meta: metaOf(req.Caller), Model: req.Model, Body: body, Stream: req.Stream})
	if err == nil {
		err = s.first(inst.limits().response(), cancel)
	}
	if err != nil {
		s.err = err
		s.Close()
		return nil, p.failure(asked, err)
	}
	if req.Stream {
		return llm.NewStream(http.Header{}, s), nil
	}
	defer s.Close()
	whole, err := llm.Collect(s)
	if err != nil {
		if s.err != nil && s.err != io.EOF {
			err = s.err // with its code
		}
		return nil, p.failure(asked, err)
	}
	return llm.NewBody(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, whole), nil
}

// absent is what a client is answered while the plugin is not there.
func (p *provider) absent() error {
	return llm.DetailError(http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is not running", p.id), nil)
}

// failure is what a client is answered when a plugin's model fails.
func (p *provider) failure(ctx context.Context, err error) error {
	if r := refusalOf(err); r != nil {
		e := llm.DetailError(int(r.GetStatus()), r.GetDetail(), nil)
		e.RetryAfter = refusalHeader(r).Get("Retry-After")
		return e
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return llm.DetailError(http.StatusBadGateway, fmt.Sprintf("The plugin %s broke off", p.id), err)
	case codes.Unimplemented:
		return llm.DetailError(http.StatusNotFound, fmt.Sprintf("The plugin %s serves no models", p.id), err)
	}
	if errors.Is(err, errSlow) {
		return llm.DetailError(http.StatusGatewayTimeout, fmt.Sprintf("The plugin %s did not answer in time", p.id), err)
	}
	p.u.logger().Warn("a model failed", "error", err)
	return llm.DetailError(http.StatusBadGateway, failed(p.id), err)
}

// failed is what clients are told of errors that are no refusals: their texts are for the log.
func failed(id string) string { return fmt.Sprintf("The plugin %s failed", id) }

// refusalOf is the refusal that an error of a call carries; nil if there is none.
func refusalOf(err error) *pb.Refusal {
	s, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, d := range s.Details() {
		if r, ok := d.(*pb.Refusal); ok && r.GetStatus() >= 400 && r.GetStatus() < 600 {
			return r
		}
	}
	return nil
}

var errSlow = errors.New("no answer in time")

// chunkSource gives the chunks of a plugin's answer.
type chunkSource struct {
	p      *provider
	stream grpc.ServerStreamingClient[pb.ChatResponse]
	chunks [][]byte
	end    func()
	done   func(error)
	closed bool
	err    error
}

// first waits for the first chunks, so that a refusal can still be the answer.
func (s *chunkSource) first(limit time.Duration, cancel func()) error {
	timer := time.AfterFunc(limit, cancel)
	err := s.fill()
	if !timer.Stop() && err != nil {
		return errSlow
	}
	if err == io.EOF { // an answer without a word
		s.err, err = err, nil
	}
	return err
}

func (s *chunkSource) fill() error {
	if s.err != nil {
		return s.err
	}
	resp, err := s.stream.Recv()
	if err != nil {
		s.err = err
		return err
	}
	s.chunks = resp.GetChunks()
	return nil
}

// Next implements llm.Source.
func (s *chunkSource) Next() ([]byte, error) {
	for len(s.chunks) == 0 {
		if err := s.fill(); err != nil {
			if err != io.EOF {
				err = s.brokeOff(err)
			}
			return nil, err
		}
	}
	chunk := s.chunks[0]
	s.chunks = s.chunks[1:]
	return chunk, nil
}

// brokeOff is what the reader of a stream is told of an error.
func (s *chunkSource) brokeOff(err error) error {
	if r := refusalOf(err); r != nil {
		return errors.New(r.GetDetail())
	}
	if status.Code(err) == codes.Unavailable { // people see this below what there is of the answer
		return fmt.Errorf("the plugin %s has ended", s.p.id)
	}
	if status.Code(err) != codes.Canceled {
		s.p.u.logger().Warn("a model failed", "error", err)
	}
	return errors.New(failed(s.p.id))
}

// More implements llm.Buffered: further chunks are here already.
func (s *chunkSource) More() bool { return len(s.chunks) > 0 }

// Close implements llm.Source.
func (s *chunkSource) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.end()
	err := s.err
	if err == io.EOF {
		err = nil
	}
	s.done(err)
	return nil
}

// metaOf tells a plugin what a call to a model belongs to.
func metaOf(c *llm.Caller) *pb.Meta {
	if c == nil {
		return &pb.Meta{}
	}
	m := &pb.Meta{
		ChatId: c.Meta.ChatID, MessageId: c.Meta.MessageID, Model: c.Meta.ModelID, Task: c.Meta.Task, Kind: "chat",
	}
	if c.Meta.Task != "" {
		m.Kind = "task"
	}
	if c.ID != "" {
		m.Caller = &pb.Caller{Id: c.ID, Name: c.Name, Email: c.Email, Role: c.Role}
	}
	return m
}
