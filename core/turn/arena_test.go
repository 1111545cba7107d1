package turn

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
)

// arenas is a finder that knows one arena, "ring", of one model.
type arenas struct{ models.Finder }

func (a arenas) Find(ctx context.Context, c *llm.Caller, id string) (*models.Model, bool) {
	if id == "ring" {
		return &models.Model{ID: id, OwnedBy: "arena", Arena: &models.Arena{ModelIDs: []string{"m2"}}}, true
	}
	return a.Finder.Find(ctx, c, id)
}

// TestArenaIsTold has programs and pages told which model of an arena has answered.
func TestArenaIsTold(t *testing.T) {
	whole := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"hi"}}]}`)
	}
	const picked = `{"selected_model_id":"m2"}`
	for name, c := range map[string]struct {
		chat http.HandlerFunc
		body string
		want string // how the answer begins, or what is in it
	}{
		"a program's stream": {streamed(delta(`{"content":"hi"}`), finished), `{"model":"ring","stream":true,"messages":[]}`, "data: " + picked + "\n\ndata: {"},
		"a program":          {whole, `{"model":"ring","messages":[]}`, `"selected_model_id":"m2"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.chat)
			b.Models = arenas{b.Models}
			res, err := b.run(c.body)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			if err := res.Response.Relay(w); err != nil || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%s, %v", w.Body, err)
			}
			if asked := <-b.asked; asked.Text("model") != "m2" {
				t.Errorf("%s", asked)
			}
		})
	}
	for name, c := range map[string]struct {
		chat   http.HandlerFunc
		stream string
		alone  bool // it is told in an event of its own
	}{"a page's stream": {streamed(delta(`{"content":"hi"}`), finished), "true", true}, "a page": {whole, "false", false}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.chat)
			b.Models = arenas{b.Models}
			res, err := b.run(strings.NewReplacer(`"model":"m"`, `"model":"ring"`, `"stream":true`, `"stream":`+c.stream).Replace(question))
			if err != nil {
				t.Fatal(err)
			}
			alone, told := false, false
			for _, e := range b.rt.wait(t, "end", ended) {
				d := e.Get("data", "data")
				alone = alone || string(d) == picked
				told = told || d.Text("selected_model_id") == "m2"
			}
			if alone != c.alone || !told || b.store.message(res.Body.Text("chat_id"), "a1").Text("selectedModelId") != "m2" {
				t.Errorf("alone %t, told %t, %s", alone, told, b.store.message(res.Body.Text("chat_id"), "a1"))
			}
		})
	}
}
