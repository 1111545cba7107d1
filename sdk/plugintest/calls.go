package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// failed is the error of a call as an author knows it: refusals are a [*sdk.Refusal].
func failed(err error) error {
	if r := sdk.RefusalFrom(err); r != nil {
		return r
	}
	return err
}

func (h *Harness) encode(v any) []byte {
	h.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		h.t.Fatalf("plugintest: %v", err)
	}
	return raw
}

func (h *Harness) pbMeta(model string) *pb.Meta {
	m := h.meta
	if m.Model == "" {
		m.Model = model
	}
	out := &pb.Meta{RequestId: m.RequestID, ChatId: m.ChatID, MessageId: m.MessageID, SessionId: m.SessionID, Model: m.Model, Kind: m.Kind, Task: m.Task}
	if !m.Caller.Anonymous() {
		out.Caller = pbCaller(m.Caller)
	}
	return out
}

func pbCaller(c sdk.Caller) *pb.Caller {
	out := &pb.Caller{Id: c.ID, Name: c.Name, Email: c.Email, Role: c.Role}
	for _, g := range c.Groups {
		out.Groups = append(out.Groups, &pb.Group{Id: g.ID, Name: g.Name})
	}
	return out
}

// Models lists the plugin's models.
func (h *Harness) Models() ([]sdk.Model, error) {
	resp, err := pb.NewLlmClient(h.conn).Models(h.t.Context(), &pb.ModelsRequest{Meta: h.pbMeta("")})
	if err != nil {
		return nil, failed(err)
	}
	var out []sdk.Model
	for _, m := range resp.GetModels() {
		out = append(out, sdk.Model{ID: m.GetId(), Name: m.GetName(), Description: m.GetDescription(), OwnedBy: m.GetOwnedBy(), Tags: m.GetTags(), Created: m.GetCreated(), Info: m.GetInfo()})
	}
	return out, nil
}

// Answer is an answer of a model, put together.
type Answer struct {
	Text         string
	Reasoning    string
	ToolCalls    []sdk.ToolCallDelta // whole ones
	FinishReason string
	Usage        *sdk.Usage
	Chunks       []sdk.Chunk // as they came; Raw is what went over the wire
}

func (a *Answer) add(c sdk.Chunk) {
	a.Chunks = append(a.Chunks, c)
	a.Text += c.Text
	a.Reasoning += c.Reasoning
	if c.FinishReason != "" {
		a.FinishReason = c.FinishReason
	}
	if c.Usage != nil {
		a.Usage = c.Usage
	}
	for _, t := range c.ToolCalls {
		for len(a.ToolCalls) <= t.Index {
			a.ToolCalls = append(a.ToolCalls, sdk.ToolCallDelta{Index: len(a.ToolCalls)})
		}
		whole := &a.ToolCalls[t.Index]
		whole.ID += t.ID
		whole.Name += t.Name
		whole.Arguments += t.Arguments
	}
}

// Chat asks a model of the plugin's and waits for the whole answer. With an error, the answer is what came before it.
func (h *Harness) Chat(ctx context.Context, model string, messages ...sdk.Message) (Answer, error) {
	var a Answer
	for c, err := range h.ChatStream(ctx, map[string]any{"model": model, "messages": messages, "stream": true, "stream_options": map[string]any{"include_usage": true}}) {
		if err != nil {
			return a, err
		}
		a.add(c)
	}
	return a, nil
}

// ChatStream asks a model with a whole chat completion request, whose members model and stream count. Ending the loop is
// what a client does that goes away.
func (h *Harness) ChatStream(ctx context.Context, body any) iter.Seq2[sdk.Chunk, error] {
	raw := h.encode(body)
	var head struct {
		Model  string
		Stream bool
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		h.t.Fatalf("plugintest: %v", err)
	}
	return func(yield func(sdk.Chunk, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := pb.NewLlmClient(h.conn).Chat(ctx, &pb.ChatRequest{Meta: h.pbMeta(head.Model), Model: head.Model, Body: raw, Stream: head.Stream})
		for err == nil {
			var part *pb.ChatResponse
			if part, err = stream.Recv(); err != nil {
				break
			}
			for _, raw := range part.GetChunks() {
				var c sdk.Chunk
				if err := json.Unmarshal(raw, &c); err != nil {
					yield(sdk.Chunk{Raw: raw}, err)
					return
				}
				if !yield(c, nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(sdk.Chunk{}, failed(err))
		}
	}
}

// Embed makes embeddings with a model of the plugin's.
func (h *Harness) Embed(model string, input ...string) ([][]float32, error) {
	resp, err := pb.NewLlmClient(h.conn).Embed(h.t.Context(), &pb.EmbedRequest{Meta: h.pbMeta(model), Model: model, Input: input})
	if err != nil {
		return nil, failed(err)
	}
	var out [][]float32
	for _, e := range resp.GetEmbeddings() {
		out = append(out, e.GetValues())
	}
	return out, nil
}

// Inlet passes a request through the filter and gives what the model would get.
func (h *Harness) Inlet(body any) (*sdk.Body, error) {
	raw := h.encode(body)
	resp, err := pb.NewFilterClient(h.conn).Inlet(h.t.Context(), &pb.InletRequest{Meta: h.pbMeta(modelOf(raw)), Body: raw})
	return changed(raw, resp.GetBody()), failed(err)
}

// Outlet passes a chat after an answer through the filter and gives what would be stored.
func (h *Harness) Outlet(body any) (*sdk.Body, error) {
	raw := h.encode(body)
	resp, err := pb.NewFilterClient(h.conn).Outlet(h.t.Context(), &pb.OutletRequest{Meta: h.pbMeta(modelOf(raw)), Body: raw})
	return changed(raw, resp.GetBody()), failed(err)
}

func modelOf(raw []byte) (model string) {
	sdk.NewBody(raw).Get("model", &model)
	return model
}

func changed(before, after []byte) *sdk.Body {
	if len(after) > 0 {
		return sdk.NewBody(after)
	}
	return sdk.NewBody(before)
}

// Stream passes the chunks of one answer through the filter and gives those that the client would get.
func (h *Harness) Stream(chunks ...sdk.Chunk) ([]sdk.Chunk, error) {
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	s, err := pb.NewFilterClient(h.conn).Stream(ctx)
	if err != nil {
		return nil, failed(err)
	}
	var out []sdk.Chunk
	for i, c := range chunks {
		req := &pb.StreamRequest{Chunks: [][]byte{h.encode(c)}}
		if i == 0 {
			req.Meta = h.pbMeta("")
		}
		if err := s.Send(req); err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
			return out, failed(err)
		}
		resp, err := s.Recv()
		if err != nil {
			return out, failed(err)
		}
		for _, raw := range resp.GetChunks() {
			var c sdk.Chunk
			if err := json.Unmarshal(raw, &c); err != nil {
				return out, err
			}
			out = append(out, c)
		}
	}
	if err := s.CloseSend(); err != nil {
		return out, err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return out, failed(err)
	}
	return out, nil
}

// Event is what a tool showed while it ran.
type Event struct {
	Type string
	Data json.RawMessage
}

// ToolResult is what the model is told.
type ToolResult struct {
	Text   string          // where the tool gave a text, or failed
	JSON   json.RawMessage // where it gave anything else
	Error  bool            // the tool failed and Text says why
	Events []Event
}

// CallTool runs a tool with arguments that encode to a JSON object. The error is one of the call, not of the tool.
func (h *Harness) CallTool(name string, arguments any) (ToolResult, error) {
	var out ToolResult
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	s, err := pb.NewToolsClient(h.conn).Call(ctx, &pb.CallRequest{Meta: h.pbMeta(""), Name: name, Arguments: h.encode(arguments)})
	if err != nil {
		return out, failed(err)
	}
	ended := false
	for {
		item, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF) && ended:
			return out, nil
		case errors.Is(err, io.EOF):
			return out, errors.New("plugintest: the call ended without a result")
		case err != nil:
			return out, failed(err)
		case ended:
			return out, errors.New("plugintest: something came after the result")
		}
		if e := item.GetEvent(); e != nil {
			out.Events = append(out.Events, Event{e.GetType(), e.GetData()})
		}
		if r := item.GetResult(); r != nil {
			ended = true
			out.Text, out.JSON, out.Error = r.GetText(), r.GetJson(), r.GetError()
		}
	}
}

// Violation is one thing that is wrong with a configuration.
type Violation struct{ Path, Message string }

// Configure gives the plugin a configuration, which encodes to a JSON object. Violations say that it keeps the one before.
func (h *Harness) Configure(values any) []Violation {
	h.t.Helper()
	wrong, err := h.configure(values)
	if err != nil {
		h.t.Fatal(err)
	}
	return wrong
}

func (h *Harness) configure(values any) (wrong []Violation, err error) {
	if values == nil {
		values = struct{}{}
	}
	resp, err := pb.NewLifecycleClient(h.conn).Configure(h.t.Context(), &pb.ConfigureRequest{Config: h.encode(values)})
	if err != nil {
		return nil, failed(err)
	}
	for _, v := range resp.GetViolations() {
		wrong = append(wrong, Violation{v.GetPath(), v.GetMessage()})
	}
	if len(wrong) == 0 {
		h.base.config = resp.GetConfig()
	}
	return wrong, nil
}

// Config is the configuration that the plugin runs with, defaults included.
func (h *Harness) Config() json.RawMessage { return h.base.config }

// Describe is what the plugin says of itself.
func (h *Harness) Describe() *pb.DescribeResponse { return h.description }

// Check asks for the plugin's health: "ok", "degraded" or "failed", and why.
func (h *Harness) Check() (state, message string) {
	h.t.Helper()
	resp, err := pb.NewLifecycleClient(h.conn).Check(h.t.Context(), &pb.CheckRequest{})
	if err != nil {
		return "failed", err.Error()
	}
	return strings.ToLower(strings.TrimPrefix(resp.GetStatus().String(), "STATUS_")), resp.GetMessage()
}

// Metrics is the text of the plugin's metrics, "" if it has none.
func (h *Harness) Metrics() (string, error) {
	resp, err := pb.NewLifecycleClient(h.conn).Metrics(h.t.Context(), &pb.MetricsRequest{})
	if status.Code(err) == codes.Unimplemented {
		return "", nil
	}
	return string(resp.GetText()), err
}
