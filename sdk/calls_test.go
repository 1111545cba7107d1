package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

func TestEmbed(t *testing.T) {
	h := plugintest.Start(t, plugin(func(p *sdk.Plugin) { p.LLM = embedder{} }))
	if v, err := h.Embed("m", "a", "bcd"); err != nil || fmt.Sprint(v) != "[[1] [3]]" {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := plugintest.Start(t, chunks()).Embed("m", "a"); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	// what a plugin has no field for is not there
	if _, err := plugintest.Start(t, plugin(func(*sdk.Plugin) {})).Models(); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

func TestFilter(t *testing.T) {
	h := plugintest.Start(t, plugin(func(p *sdk.Plugin) {
		p.Filter = &sdk.Filter{
			Inlet: func(ctx context.Context, b *sdk.Body) error {
				if b.Get("touch", new(bool)) {
					b.SetMessages(append(b.Messages(), sdk.SystemMessage("by "+sdk.CallerFrom(ctx).Name)))
				}
				if b.Get("spoil", new(bool)) {
					b.Set("n", func() {})
				}
				return nil
			},
			Stream: func(ctx context.Context) (sdk.StreamFilter, error) {
				seen := 0
				return sdk.StreamFunc(func(c sdk.Chunk) ([]sdk.Chunk, error) {
					seen++
					c.Text = strings.ReplaceAll(c.Text, "bad", fmt.Sprintf("%s%d", sdk.MetaFrom(ctx).Caller.Role, seen))
					return []sdk.Chunk{c}, nil
				}), nil
			},
		}
	}))
	if b, err := h.Inlet(map[string]any{"messages": []any{}}); err != nil || string(b.Raw()) != `{"messages":[]}` {
		t.Errorf("%s, %v", b.Raw(), err)
	}
	if b, err := h.Inlet(map[string]any{"messages": []any{}, "touch": true}); err != nil || b.Messages()[0].Text() != "by Test User" {
		t.Errorf("%s, %v", b.Raw(), err)
	}
	if _, err := h.Inlet(map[string]any{"spoil": true}); status.Code(err) != codes.Internal {
		t.Errorf("a change that cannot be encoded: %v", err)
	}
	if b, err := h.Outlet(map[string]any{"x": 1}); err != nil || string(b.Raw()) != `{"x":1}` {
		t.Errorf("there is no outlet: %s, %v", b.Raw(), err)
	}
	out, err := h.Stream(sdk.Chunk{Text: "good"}, sdk.Chunk{Text: "bad"}, sdk.Chunk{FinishReason: "stop"})
	if err != nil || len(out) != 3 || out[0].Text != "good" || out[1].Text != "user2" || out[2].FinishReason != "stop" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestToolCalls(t *testing.T) {
	type in struct {
		What string `json:"what"`
	}
	late := make(chan *sdk.ToolCall, 1)
	h := plugintest.Start(t, plugin(func(p *sdk.Plugin) {
		p.Tools = []sdk.Tool{sdk.NewTool("t", "d", func(ctx context.Context, i in) (any, error) {
			call := sdk.ToolCallFrom(ctx)
			switch i.What {
			case "object":
				return map[string]any{"a": "<b>"}, nil
			case "nothing":
				return nil, nil
			case "binary":
				return "a\xffb", nil
			case "events":
				return "done", errors.Join(call.Status("working", false), call.Emit("citation", map[string]int{"n": 1}), call.Status("worked", true))
			case "refusal":
				return nil, sdk.Refuse(403, "not you, "+sdk.CallerFrom(ctx).Name)
			case "unencodable":
				return func() {}, nil
			case "late":
				late <- call
				return "ok", nil
			}
			return "", errors.New("no " + i.What)
		})}
	}))
	for what, want := range map[string]string{
		"object": `|{"a":"<b>"}|false`, "nothing": "|null|false", "binary": "a\uFFFDb||false", "events": "done||false", "refusal": "not you, Test User||true", "x": "no x||true",
	} {
		r, err := h.CallTool("t", in{what})
		if got := fmt.Sprintf("%s|%s|%v", r.Text, r.JSON, r.Error); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", what, got, err, want)
		}
		if what == "events" && fmt.Sprintf("%s", r.Events) != `[{status {"description":"working","done":false}} {citation {"n":1}} {status {"description":"worked","done":true}}]` {
			t.Errorf("%s", r.Events)
		}
	}
	if r, err := h.CallTool("t", map[string]any{"what": 1}); err != nil || !r.Error || r.Text != "the argument what must be a text, not number" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := h.CallTool("t", in{"unencodable"}); status.Code(err) != codes.Internal {
		t.Error(err)
	}
	if _, err := h.CallTool("none", in{}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	if _, err := h.CallTool("t", in{"late"}); err != nil || (<-late).Status("too late", true) == nil {
		t.Errorf("%v; an event after the end was taken", err)
	}
}
