package turn

import (
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/realtime"
)

func TestOutputReplay(t *testing.T) {
	out := jsondoc.Doc(`[
	 {"type":"reasoning","content":[{"type":"output_text","text":"hm"}]},
	 {"type":"message","content":[{"type":"output_text","text":"I look."}]},
	 {"type":"function_call","call_id":"c1","name":"look","arguments":"{}","status":"completed"},
	 {"type":"function_call","call_id":"c2","name":"lost","arguments":"{}","status":"completed"},
	 {"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"seen"},{"type":"input_image","image_url":"u"}]},
	 {"type":"message","content":[{"type":"output_text","text":"Done."}]}]`)
	var roles []string
	for _, m := range messagesOfOutput(out, "thinking", true) {
		roles = append(roles, m.Text("role")+":"+textOf(m))
	}
	if got := strings.Join(roles, "|"); got != "assistant:I look.|tool:seen|user:These images came with the tool results above.|assistant:Done." {
		t.Error(got)
	}
	first := messagesOfOutput(out, "thinking", true)[0]
	if first.Text("thinking") != "hm" || first.Get("tool_calls").Len() != 1 {
		t.Errorf("%s", first.Doc())
	}
}

func TestTagSearchWaitsForTheRestOfATag(t *testing.T) {
	text := "a < b and <thinker> but <think"
	at, _, _, _, next := findStart(reasoningTags, []byte(text), 0)
	if at >= 0 || next != len(text)-len("<think") {
		t.Errorf("at %d, next %d", at, next)
	}
	at, n, which, attributes, _ := findStart(reasoningTags, []byte(text+` a="b">x`), next)
	if at != next || n != len(`<think a="b">`) || which.end != "</think>" || attributes != ` a="b"` {
		t.Errorf("%d %d %v %q", at, n, which, attributes)
	}
}

func TestParams(t *testing.T) {
	body := jsondoc.Open(jsondoc.Doc(`{"model":"m","temperature":1}`))
	applyParams(body, jsondoc.Doc(`{"temperature":0,"top_p":0.5,"system":"s","logit_bias":"1: 200, 2:-5","stop":null,"custom_params":{"a":{"b":1},"t":"7"}}`), "openai")
	if got := string(body.Doc()); got != `{"model":"m","temperature":1,"top_p":0.5,"logit_bias":{"1":100,"2":-5},"a":{"b":1},"t":7}` {
		t.Error(got)
	}
	body = jsondoc.Open(jsondoc.Doc(`{"options":{"seed":1}}`))
	applyParams(body, jsondoc.Doc(`{"seed":2,"num_ctx":9}`), "ollama")
	if got := string(body.Doc()); got != `{"options":{"seed":1,"num_ctx":9}}` {
		t.Error(got)
	}
	p, err := applyControls(jsondoc.Doc(`{}`), jsondoc.Doc(`{"effort":{"default":"low","options":{"low":{"params":{"e":1}},"high":{"params":{"e":2}}}}}`), jsondoc.Doc(`{"effort":"high","gone":"x"}`))
	if err != nil || string(p) != `{"custom_params":{"e":2}}` {
		t.Errorf("%s %v", p, err)
	}
	if _, err := applyControls(nil, jsondoc.Doc(`{"effort":{"options":{}}}`), jsondoc.Doc(`{"effort":"max"}`)); err == nil {
		t.Error("an option that is gone was taken")
	}
}

func TestDetailsAreLeftOut(t *testing.T) {
	if got := withoutDetails("a <details type=\"x\">\nlong\n</details> b ![pic](u) c"); got != "a  b  c" {
		t.Errorf("%q", got)
	}
}

func BenchmarkAnswer(b *testing.B) {
	e := newEmitter(discard{}, "u", "chat", "message", "")
	b.ReportAllocs()
	for b.Loop() {
		a := &answer{em: e, size: 1, tags: reasoningTags}
		for range 200 {
			a.mu.Lock()
			a.say("word ")
			a.flush()
			a.mu.Unlock()
		}
	}
}

type discard struct{}

func (discard) EmitRaw(string, realtime.Packet, ...string)   {}
func (discard) SendLocal(string, realtime.Packet, ...string) {}
func (discard) RoomSize(string) int                          { return 0 }
