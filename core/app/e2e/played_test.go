package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/sdk"
)

// playVariable says which plugin the test binary plays.
const playVariable = "E2E_PLUGIN"

var playedPlugins = map[string]func() sdk.Plugin{
	"talker": talkerPlugin, "adder": adderPlugin, "editor": editorPlugin, "whole": wholePlugin,
	"late": func() sdk.Plugin { p := adderPlugin(); p.ID = "late"; return p },
}

// putPlugin writes the manifest of a played plugin into a plugins folder, over the one that may be there.
func putPlugin(t *testing.T, folder, kind string, m plugin.Manifest) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if m.ID == "" {
		m.ID = kind
	}
	m.Command = exe
	m.Environment = map[string]string{playVariable: kind, "E2E_VERSION": m.Version}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(folder, m.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, plugin.ManifestName), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// playedVersion is the version that the manifest gives the plugin.
func playedVersion() string {
	if v := os.Getenv("E2E_VERSION"); v != "" {
		return v
	}
	return "1.0.0"
}

// talkerPlugin has a model; its endpoint tells how many answers were broken off by who asked.
func talkerPlugin() sdk.Plugin {
	t := &talker{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stopped", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, t.stopped.Load()) })
	return sdk.Plugin{ID: "talker", Name: "Talker", Version: playedVersion(), LLM: t, HTTP: mux}
}

const (
	talkerModel = "talker-large"
	talkerName  = "Talker Large"
)

// talker repeats what it is told, thinks where that has "think", calls a tool where it has "sum", and goes on until it
// is stopped where it has "endless". The word "crash" ends its process in mid-answer.
type talker struct{ stopped atomic.Int64 }

// Models implements sdk.LLM.
func (*talker) Models(context.Context) ([]sdk.Model, error) {
	return []sdk.Model{
		{ID: talkerModel, Name: talkerName, Description: "Repeats what it is told", Tags: []string{"Plugin"}},
		{ID: "talker-small", Name: "Talker Small"},
	}, nil
}

// Chat implements sdk.LLM.
func (t *talker) Chat(ctx context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) {
		messages := req.Messages()
		if len(messages) == 0 {
			yield(sdk.Chunk{}, sdk.Refuse(http.StatusBadRequest, "There are no messages."))
			return
		}
		last := messages[len(messages)-1]
		text, ok := last.Text(), true
		say := func(text string) {
			for word := range strings.SplitAfterSeq(text, " ") {
				ok = ok && pause(ctx, 5*time.Millisecond) && yield(sdk.Chunk{Text: word}, nil)
			}
		}
		switch {
		case sdk.MetaFrom(ctx).Task != "":
			say(echo(text))
		case last.Role == "tool":
			say("The tool says " + text)
		case strings.Contains(text, "crash"):
			say("It was a dark and stormy night ")
			os.Exit(3)
		case strings.Contains(text, "endless"):
			for ok {
				say("on and on ")
			}
		case strings.Contains(text, "sum") && offers(req, "add"):
			ok = yield(sdk.Chunk{ToolCalls: []sdk.ToolCallDelta{{ID: "call_1", Name: "add"}}}, nil) &&
				yield(sdk.Chunk{ToolCalls: []sdk.ToolCallDelta{{Arguments: `{"a": 19, `}}}, nil) &&
				yield(sdk.Chunk{ToolCalls: []sdk.ToolCallDelta{{Arguments: `"b": 23}`}}}, nil) &&
				yield(sdk.Chunk{FinishReason: "tool_calls"}, nil)
		default:
			if strings.Contains(text, "think") {
				ok = yield(sdk.Chunk{Reasoning: "Let me weigh this carefully."}, nil)
			}
			say("You said: " + text)
		}
		if !ok {
			t.stopped.Add(1)
			return
		}
		n := len(strings.Fields(text))
		yield(sdk.Chunk{Usage: &sdk.Usage{PromptTokens: n, CompletionTokens: n + 2, TotalTokens: 2*n + 2}}, nil)
	}
}

// pause waits; false says that the call has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// offers says whether the model may call a tool.
func offers(req *sdk.ChatRequest, name string) bool {
	var tools []struct{ Function struct{ Name string } }
	return req.Get("tools", &tools) && slices.ContainsFunc(tools, func(t struct{ Function struct{ Name string } }) bool { return t.Function.Name == name })
}

// adderPlugin has a tool that shows what it does.
func adderPlugin() sdk.Plugin {
	return sdk.Plugin{ID: "adder", Name: "Calculator", Description: "Adds numbers", Version: playedVersion(), Tools: []sdk.Tool{
		sdk.NewTool("add", "Adds two numbers.", func(ctx context.Context, in struct {
			A int `json:"a" description:"first number"`
			B int `json:"b" description:"second number"`
		}) (any, error) {
			call := sdk.ToolCallFrom(ctx)
			if err := call.Status("Adding numbers", false); err != nil {
				return nil, err
			}
			if !pause(ctx, 200*time.Millisecond) {
				return nil, ctx.Err()
			}
			return map[string]int{"sum": in.A + in.B}, call.Status("Added numbers", true)
		}),
	}}
}

// editing is the configuration of the editor, with a field of each kind that forms have.
type editing struct {
	Prefix   string   `json:"prefix" title:"Prefix" description:"put before each message"`
	MaxWords int      `json:"max_words" title:"Words" description:"longer messages are refused; 0 is no limit" minimum:"0"`
	Capitals bool     `json:"capitals" title:"Capitals"`
	Ending   string   `json:"ending" title:"Ending" enum:"none,please,thanks"`
	Hidden   []string `json:"hidden" title:"Hidden words"`
}

// editorPlugin has a filter that edits what people say, and refuses what is too long.
func editorPlugin() sdk.Plugin {
	config := sdk.NewConfig(editing{Ending: "none", Hidden: []string{}})
	return sdk.Plugin{ID: "editor", Name: "Editor", Version: playedVersion(), Config: config, Filter: &sdk.Filter{
		Inlet: func(_ context.Context, req *sdk.Body) error {
			messages := req.Messages()
			if len(messages) == 0 || messages[len(messages)-1].Role != "user" {
				return nil
			}
			last := &messages[len(messages)-1]
			text, err := config.Get().edit(last.Text())
			if err != nil || text == last.Text() {
				return err
			}
			last.SetText(text)
			req.SetMessages(messages)
			return nil
		},
	}}
}

func (e *editing) edit(text string) (string, error) {
	if n := len(strings.Fields(text)); e.MaxWords > 0 && n > e.MaxWords {
		return "", sdk.Refuse(http.StatusTooManyRequests, fmt.Sprintf("%d words are too many, %d are allowed.", n, e.MaxWords)).With("Retry-After", "60")
	}
	for _, word := range e.Hidden {
		text = strings.ReplaceAll(text, word, "***")
	}
	if e.Capitals {
		text = strings.ToUpper(text)
	}
	if e.Ending != "none" {
		text += " " + e.Ending
	}
	return e.Prefix + text, nil
}

// wholePlugin has one of everything; its endpoint /crash ends the process.
func wholePlugin() sdk.Plugin {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /process", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d %s", os.Getpid(), playedVersion())
	})
	mux.HandleFunc("POST /crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	return sdk.Plugin{
		ID: "whole", Version: playedVersion(), HTTP: mux, LLM: &talker{}, Tools: adderPlugin().Tools,
		Routes: []sdk.Route{{Pattern: "GET /process", Summary: "Tell the process"}, {Pattern: "POST /crash", Access: sdk.Admin}, {Pattern: "GET /slow"}},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "# HELP whole_answer Known.\n# TYPE whole_answer gauge\nwhole_answer 42\n")
		}),
	}
}
