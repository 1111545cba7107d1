package turn

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
)

// Listen implements Browsers.
func (p *page) Listen(string, string, func(jsondoc.Doc)) func() { return func() {} }

// fetching is a page that asks a provider of its own.
type fetching struct {
	mu     sync.Mutex
	asked  []jsondoc.Doc
	events []string // that follow the acknowledgement
	answer string
	listen map[string]func(jsondoc.Doc)
}

func (f *fetching) Listen(_, event string, g func(jsondoc.Doc)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listen[event] = g
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listen, event)
	}
}

func (f *fetching) Ask(_ context.Context, _, _ string, payload jsondoc.Doc) (jsondoc.Doc, error) {
	f.mu.Lock()
	f.asked = append(f.asked, payload)
	g := f.listen[payload.Text("data", "data", "channel")]
	f.mu.Unlock()
	if g != nil {
		for _, e := range f.events {
			g(jsondoc.Doc(e))
		}
	}
	return jsondoc.Doc(f.answer), nil
}

func TestPageModels(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		events []string
		stream bool
		text   string
		fail   string
	}{
		"stream": {`{"status":true}`, []string{jsondoc.Text("data: " + delta(`{"content":"Hel"}`)).String(), jsondoc.Text(delta(`{"content":"lo"}`)).String(), finished, `{"done":true}`}, true, "Hello", ""},
		"whole":  {`{"choices":[{"message":{"role":"assistant","content":"Hello"}}]}`, nil, false, "Hello", ""},
		"error":  {`{"error":{"message":"no key"}}`, nil, true, "", "no key"},
		"gone":   {`{"error":"no key"}`, nil, false, "", "no key"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, streamed(finished))
			f := &fetching{answer: c.answer, events: c.events, listen: map[string]func(jsondoc.Doc){}}
			b.Browsers = f
			body := jsondoc.Doc(strings.Replace(question, `"model":"m"`, `"model":"mine","model_item":{"id":"mine","direct":true,"urlIdx":1}`, 1)).Set(jsondoc.Of(c.stream), "stream")
			res, err := b.run(string(body))
			if err != nil {
				t.Fatal(err)
			}
			b.rt.wait(t, "end", ended)
			m := b.store.message(res.Body.Text("chat_id"), "a1")
			if m.Text("content") != c.text || m.Text("error", "content") != c.fail || !m.Bool("done") {
				t.Errorf("%s", m)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.asked) != 1 || len(f.listen) != 0 {
				t.Fatalf("asked %v, %d still listen", f.asked, len(f.listen))
			}
			d := f.asked[0].Get("data", "data")
			if f.asked[0].Text("data", "type") != "request:chat:completion" || d.Text("form_data", "model") != "mine" || d.Text("model", "id") != "mine" ||
				!strings.HasPrefix(d.Text("channel"), "u1:s1:") || d.Get("form_data", "messages").Len() != 1 {
				t.Errorf("%s", d)
			}
			if len(b.asked) != 0 {
				t.Error("the server asked a provider")
			}
		})
	}
	t.Run("no page", func(t *testing.T) {
		b := newBench(t, streamed(finished))
		if _, err := b.run(`{"model":"mine","model_item":{"direct":true},"messages":[]}`); err == nil || !strings.Contains(err.Error(), "session disconnected") {
			t.Error(err)
		}
	})
}
