package turn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// longChat puts a conversation of some rounds into the store, each question and answer of about a hundred tokens.
func longChat(b *bench, rounds int) {
	b.store.add("c1", "u1")
	parent := "null"
	for i := range rounds {
		n := string(rune('a' + i))
		b.store.messages["c1"]["q"+n] = jsondoc.Doc(`{"id":"q` + n + `","parentId":` + parent + `,"role":"user","content":"` + n + strings.Repeat(" why", 100) + `"}`)
		b.store.messages["c1"]["r"+n] = jsondoc.Doc(`{"id":"r` + n + `","parentId":"q` + n + `","role":"assistant","content":"` + n + strings.Repeat(" so.", 100) + `"}`)
		parent = `"r` + n + `"`
	}
}

const further = `{"stream":true,"model":"m","session_id":"s1","chat_id":"c1","id":"a1","parent_id":"q1","params":{"system":"x"},
 "messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"and?"}],
 "user_message":{"id":"q1","parentId":"re","role":"user","content":"and?"}}`

func compacting(t *testing.T, b *bench, threshold int) {
	t.Helper()
	err := b.Settings.Set(context.Background(), config.Changes{
		"chat.context_compaction.enable": true, "chat.context_compaction.token_threshold": threshold, "chat.context_compaction.token_cap": 100000,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// summarised answers the first request with a summary, or an error if that is "", and all others with a stream.
func summarised(summary string) http.HandlerFunc {
	var first atomic.Bool
	chat := streamed(delta(`{"content":"fine"}`), finished)
	return func(w http.ResponseWriter, r *http.Request) {
		if first.Swap(true) {
			chat(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if summary == "" {
			w.WriteHeader(500)
		}
		_, _ = w.Write([]byte(`{"choices":[{"message":{"role":"assistant","content":"` + summary + `"}}]}`))
	}
}

func TestCompaction(t *testing.T) {
	for name, c := range map[string]struct {
		threshold int
		stored    string // a summary that is stored already, at qc
		summary   string
		kept      int    // messages that are sent
		system    string // of the request
		noted     string // at qc
		told      int
	}{
		"short enough":        {100000, "", "S", 12, "Be brief.", "", 0},
		"too long":            {300, "", "S", 6, "Be brief.\n[CONVERSATION SUMMARY]\nS", "", 2},
		"summarised before":   {100000, "old", "S", 8, "Be brief.\n[CONVERSATION SUMMARY]\nold", "old", 0},
		"the model would not": {300, "", "", 6, "Be brief.\n[CONVERSATION SUMMARY]\n- user: a why", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			answer := streamed(delta(`{"content":"fine"}`), finished)
			if c.threshold == 300 {
				answer = summarised(c.summary)
			}
			b := newBench(t, answer)
			longChat(b, 5)
			if c.stored != "" {
				b.store.messages["c1"]["qc"] = b.store.messages["c1"]["qc"].Set(jsondoc.Text(c.stored), "contextSummary")
			}
			compacting(t, b, c.threshold)
			if _, err := b.run(further); err != nil {
				t.Fatal(err)
			}
			events := b.rt.wait(t, "end", ended)
			asked := <-b.asked
			if c.threshold == 300 {
				if text := asked.Text("messages", "0", "content"); asked.Get("messages").Len() != 1 || !strings.Contains(text, "why") {
					t.Errorf("for a summary: %s", asked)
				}
				asked = <-b.asked
			}
			if asked.Get("messages").Len() != c.kept || !strings.HasPrefix(asked.Text("messages", "0", "content"), c.system) {
				t.Errorf("%d messages: %s", asked.Get("messages").Len(), asked)
			}
			told := 0
			for _, e := range events {
				if e.Text("data", "type") == "context_compaction" {
					told++
				}
			}
			if told != c.told {
				t.Errorf("%d events of compaction", told)
			}
			if got := b.store.message("c1", "qc").Text("contextSummary"); got != c.noted {
				t.Errorf("noted at qc: %q", got)
			}
			if c.kept == 6 && !strings.HasSuffix(asked.Text("messages", "0", "content"), b.store.message("c1", "qd").Text("contextSummary")) {
				t.Errorf("%s", b.store.message("c1", "qd"))
			}
			if m := b.store.message("c1", "a1"); m.Text("content") != "fine" {
				t.Errorf("%s", m)
			}
		})
	}
}

// gallery is an Images with one image.
type gallery struct{}

func (gallery) Inline(_ context.Context, _ *auth.Principal, address string) (string, bool) {
	return "data:image/png;base64,QUJD", address == "f1"
}

func (gallery) Keep(_ context.Context, _ *auth.Principal, data string) (address, id string, err error) {
	if !strings.HasSuffix(data, "QUJD") {
		return "", "", errors.New("no image")
	}
	return "/api/v1/files/f3/content", "f3", nil
}

func TestImagesOfAnswers(t *testing.T) {
	image := func(url string) string { return `{"type":"image_url","image_url":{"url":"` + url + `"}}` }
	b := newBench(t, streamed(delta(`{"content":"see"}`), delta(`{"images":[`+image("data:image/png;base64,QUJD")+","+image("data:image/png;base64,no")+","+image("http://x/y.png")+`]}`), finished))
	b.Images = gallery{}
	res, err := b.run(question)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"files":[{"type":"image","url":"/api/v1/files/f3/content"},{"type":"image","url":"http://x/y.png"}]}`
	var shown string
	for _, e := range b.rt.wait(t, "end", ended) {
		if e.Text("data", "type") == "chat:message:files" {
			shown = string(e.Get("data", "data"))
		}
	}
	if m := b.store.message(res.Body.Text("chat_id"), "a1"); shown != want || string(m.Get("saved files")) != want {
		t.Errorf("shown %s, stored %s", shown, m)
	}
}

func TestVoice(t *testing.T) {
	b := newBench(t, streamed(delta(`{"content":"fine"}`), finished))
	run := func() jsondoc.Doc {
		if _, err := b.run(strings.Replace(question, `"params"`, `"features":{"voice":true},"params"`, 1)); err != nil {
			t.Fatal(err)
		}
		b.rt.wait(t, "end", ended)
		return (<-b.asked).Get("messages", "0")
	}
	if m := run(); m.Text("role") != "system" || !strings.Contains(m.Text("content"), "voice call") {
		t.Errorf("%s", m)
	}
	for changes, want := range map[string]string{"task.voice.prompt_template": "Speak up.", "task.voice.prompt.enable": ""} {
		var v any = want
		if want == "" {
			v = false
		}
		if err := b.Settings.Set(context.Background(), config.Changes{changes: v}); err != nil {
			t.Fatal(err)
		}
		m := run()
		if off := !config.TaskVoicePromptEnable.Get(b.Settings.Snapshot()); off != (m.Text("role") == "user") || !off && m.Text("content") != "Speak up." {
			t.Errorf("%s: %s", changes, m)
		}
		if err := b.Settings.Set(context.Background(), config.Changes{"task.voice.prompt.enable": true}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImagesAndFiles(t *testing.T) {
	b := newBench(t, streamed(delta(`{"content":"fine"}`), finished))
	b.Images = gallery{}
	b.store.add("c1", "u1")
	b.store.messages["c1"]["q0"] = jsondoc.Doc(`{"id":"q0","role":"user","content":"see","files":[{"type":"image","id":"f1","url":"f1","name":"a.png","content_type":"image/png"},{"type":"chat","id":"c9","name":"old"}]}`)
	b.store.messages["c1"]["a0"] = jsondoc.Doc(`{"id":"a0","parentId":"q0","role":"assistant","content":"ok"}`)
	body := strings.Replace(further, `"parentId":"re"`, `"parentId":"a0","files":[{"type":"image","url":"f2"},{"type":"image","url":"data:image/png;base64,AAAA"}]`, 1)
	for name, c := range map[string]struct{ body, first, last string }{
		"page": {body,
			`[{"type":"text","text":"<attached_files>\n<file type=\"image\" id=\"f1\" url=\"f1\" content_type=\"image/png\" name=\"a.png\"/>\n<file type=\"chat\" id=\"c9\" name=\"old\"/>\n</attached_files>\n\n"},{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}]`,
			`[{"type":"text","text":"<attached_files>\n<file type=\"image\" id=\"f2\" url=\"f2\"/>\n</attached_files>\n\n"},{"type":"text","text":"and?"},{"type":"image_url","image_url":{"url":"f2"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]`},
		"a model without tools": {strings.Replace(body, `"params":{`, `"params":{"function_calling":"legacy",`, 1),
			`[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}]`,
			`[{"type":"text","text":"and?"},{"type":"image_url","image_url":{"url":"f2"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := b.run(c.body); err != nil {
				t.Fatal(err)
			}
			asked := <-b.asked
			b.rt.wait(t, "end", ended)
			if got := string(asked.Get("messages", "1", "content")); got != c.first {
				t.Errorf("first\n%s\nwant\n%s", got, c.first)
			}
			if got := string(asked.Get("messages", "3", "content")); got != c.last {
				t.Errorf("last\n%s\nwant\n%s", got, c.last)
			}
			if strings.Contains(string(asked), `"files"`) {
				t.Errorf("%s", asked)
			}
		})
	}
}

func TestInlineKeepsShape(t *testing.T) {
	e := &Engine{Deps: Deps{Images: gallery{}}}
	for in, want := range map[string]string{
		`{"type":"image_url","image_url":{"url":"f1","detail":"low","x":1}}`: `{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD","detail":"low"}}`,
		`{"type":"input_image","image_url":"f1","x":1}`:                      `{"type":"input_image","image_url":"data:image/png;base64,QUJD","x":1}`,
		`{"type":"image_url","image_url":{"url":"f2"}}`:                      "",
		`{"type":"image_url"}`:                                               "",
		`{"type":"text","text":"f1"}`:                                        "",
	} {
		if got := string(e.inlinePart(context.Background(), &Turn{}, jsondoc.Doc(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
