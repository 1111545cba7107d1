// Package echo is a plugin with two models that need no network: galley-demo answers from the question's own words, so
// that a fresh installation can be tried, and galley-echo repeats the last message as fast as it can, for measurements.
package echo

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/sdk"
)

// The ids of the models.
const (
	DemoModel = "galley-demo"
	EchoModel = "galley-echo"
)

// Settings is the plugin's configuration.
type Settings struct {
	Pace int `json:"pace" title:"Pace" description:"Milliseconds between two words of a streamed answer of Galley Demo" minimum:"0" maximum:"60000"`
}

// Plugin is the plugin, ready to be served.
func Plugin() sdk.Plugin {
	settings := sdk.NewConfig(Settings{Pace: 20})
	return sdk.Plugin{
		ID: "echo", Name: "Galley Demo", Version: "1.0.0", Description: "Models that answer from the question's own words, without a network",
		LLM: &models{settings}, Config: settings,
	}
}

type models struct{ settings *sdk.Config[Settings] }

// Models implements [sdk.LLM].
func (m *models) Models(context.Context) ([]sdk.Model, error) {
	info := []byte(`{"connection_type":"local"}`)
	return []sdk.Model{
		{ID: DemoModel, Name: "Galley Demo", Description: "Answers from the question's own words", OwnedBy: "galley", Info: info},
		{ID: EchoModel, Name: "Galley Echo", Description: "Repeats the last message at full speed", OwnedBy: "galley", Info: info},
	}, nil
}

// Chat implements [sdk.LLM].
func (m *models) Chat(ctx context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) {
		messages := req.Messages()
		if messages == nil {
			yield(sdk.Chunk{}, sdk.Refuse(http.StatusBadRequest, "messages is not a list of messages"))
			return
		}
		a := answer{limit: maxTokens(req)}
		var pause time.Duration
		switch task := sdk.MetaFrom(ctx).Task; {
		case req.Model == EchoModel && task == "":
			a.parts = echoed(req.Last("user"))
		case req.Model == EchoModel, req.Model == DemoModel:
			a.parts = strings.SplitAfterSeq(reply(messages, task), " ")
			if req.Stream && req.Model == DemoModel {
				pause = time.Duration(m.settings.Get().Pace) * time.Millisecond
			}
		default:
			yield(sdk.Chunk{}, sdk.Refuse(http.StatusNotFound, fmt.Sprintf("there is no model %q", req.Model)))
			return
		}
		if !a.send(ctx, pause, yield) || !wantsUsage(req) {
			return
		}
		prompt := tokens(sizeOf(req))
		yield(sdk.Chunk{Usage: &sdk.Usage{PromptTokens: prompt, CompletionTokens: tokens(a.size), TotalTokens: prompt + tokens(a.size)}}, nil)
	}
}

// maxTokens is the limit that a request sets, 0 for none.
func maxTokens(req *sdk.ChatRequest) (n int) {
	if !req.Get("max_completion_tokens", &n) {
		req.Get("max_tokens", &n)
	}
	return n
}

// wantsUsage says whether the answer tells its tokens: whole answers always do.
func wantsUsage(req *sdk.ChatRequest) bool {
	var options struct {
		IncludeUsage bool `json:"include_usage"`
	}
	req.Get("stream_options", &options)
	return !req.Stream || options.IncludeUsage
}

func sizeOf(req *sdk.ChatRequest) int {
	var raw json.RawMessage
	req.Get("messages", &raw)
	return len(raw)
}

// tokens estimates by the common rule of four bytes each.
func tokens(size int) int { return (size + 3) / 4 }

// answer is a generated answer.
type answer struct {
	parts iter.Seq[string]
	limit int // of parts, 0 for none
	size  int // bytes sent
}

// send gives the parts and the finish; false says that the client is gone.
func (a *answer) send(ctx context.Context, pause time.Duration, yield func(sdk.Chunk, error) bool) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	finish, n := "stop", 0
	for part := range a.parts {
		if a.limit > 0 && n == a.limit {
			finish = "length"
			break
		}
		n++
		if pause > 0 {
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return false
			}
		}
		a.size += len(part)
		if !yield(sdk.Chunk{Text: part}, nil) {
			return false
		}
	}
	return yield(sdk.Chunk{FinishReason: finish}, nil)
}

var ordered = regexp.MustCompile(`^\s*chunks\s+(\d{1,7})\s*$`)

// echoed gives a text back word by word. The text "chunks 50000" gives so many chunks of six bytes.
func echoed(text string) iter.Seq[string] {
	m := ordered.FindStringSubmatch(text)
	if m == nil {
		return strings.SplitAfterSeq(text, " ")
	}
	n, _ := strconv.Atoi(m[1]) // seven digits
	return func(yield func(string) bool) {
		for range n {
			if !yield("chunk ") {
				return
			}
		}
	}
}
