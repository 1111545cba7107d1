package compact

import (
	"context"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
)

func docs(texts ...string) (out []jsondoc.Doc) {
	for _, t := range texts {
		out = append(out, jsondoc.Doc(t))
	}
	return out
}

func TestMeasure(t *testing.T) {
	for name, tc := range map[string]struct {
		messages []jsondoc.Doc
		want     int
	}{
		"by length":          {docs(`{"content":"Name a river"}`, `{"content":"The Rhine"}`), 4 + 3 + 4 + 2},
		"as reported":        {docs(`{"content":"x"}`, `{"content":"y","usage":{"prompt_tokens":30,"completion_tokens":5}}`, `{"content":"12345678"}`), 35 + 6},
		"after a checkpoint": {docs(`{"content":"long ago"}`, `{"content":"now","contextSummary":"12345678"}`), 2 + 4 + 1},
		"image and parts":    {docs(`{"content":[{"type":"image_url"},{"type":"text","text":"12345678"}]}`), 4 + 1000 + 2},
		"inline data":        {docs(`{"content":"","files":[{"url":"data:image/png;base64,AAAABBBBCCCC"}]}`), 4 + 3},
	} {
		if got := Measure(tc.messages, 100); got.Tokens != tc.want || got.Percent != tc.want {
			t.Errorf("%s: %+v, want %d tokens", name, got, tc.want)
		}
	}
}

func TestToolCheckpoint(t *testing.T) {
	got, summary := Checkpoint(docs(`{"id":"q","content":"go"}`, `{"id":"a","output":[{"type":"function_call","call_id":"1"},{"type":"function_call_output","call_id":"1"},
		{"type":"reasoning"},{"type":"function_call","call_id":"2"},{"type":"open_webui:context_compaction","call_id":"2","summary":"S"},{"type":"message"}]}`))
	if summary != "S" || len(got) != 2 || got[1].Get("output").Len() != 3 || got[1].Text("output", "0", "type") != "reasoning" {
		t.Errorf("%s: %s", summary, got)
	}
}

func TestBoundary(t *testing.T) {
	u, a := `{"role":"user"}`, `{"role":"assistant"}`
	for name, tc := range map[string]struct {
		messages []jsondoc.Doc
		want     int
	}{
		"ten":       {docs(u, a, u, a, u, a, u, a, u, a), 6},
		"two turns": {docs(u, a, u, a), 2},
		"one turn":  {docs(u, a), 0},
		"tools":     {docs(u, `{"role":"assistant","tool_calls":[1]}`, `{"role":"tool"}`, `{"role":"assistant","tool_calls":[1]}`, `{"role":"tool"}`, a), 3},
	} {
		if got := Boundary(tc.messages, 40); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

type fakeModel struct {
	body   jsondoc.Doc
	answer string
}

func (f *fakeModel) Complete(_ context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	f.body = body
	return jsondoc.Doc(f.answer), nil
}

func (f *fakeModel) Known(_ context.Context, id string) (jsondoc.Doc, bool) {
	return jsondoc.Doc(`{"max_tokens":77}`), id == "m"
}

func TestSummarize(t *testing.T) {
	f := &fakeModel{answer: `{"choices":[{"message":{"content":" Rivers. "}}]}`}
	job := Job{Old: docs(`{"role":"user","content":"Name a river"}`, `{"role":"assistant","content":"The Rhine"}`), Recent: docs(`{"role":"user","content":"More"}`), Previous: "P", ModelID: "m"}
	c := Config{Template: "{{PREVIOUS_SUMMARY}}|{{COMPACTED_MESSAGES:START:1}}|{{RECENT_MESSAGES}}|{{prompt}}", Model: "gone"}
	got, err := Summarize(context.Background(), c, f, job)
	if err != nil || got != "Rivers." {
		t.Fatalf("%q, %v", got, err)
	}
	if p := f.body.Text("messages", "0", "content"); p != "P|USER: Name a river|USER: More|More" {
		t.Errorf("prompt %q", p)
	}
	if n, _ := f.body.Int("params", "max_tokens"); n != 77 || f.body.Text("model") != "m" {
		t.Errorf("body %s", f.body)
	}
	f.answer = `{"choices":[]}`
	if got, err = Summarize(context.Background(), c, f, job); err != nil || got != "P\n- user: Name a river\n- assistant: The Rhine" {
		t.Errorf("without an answer: %q, %v", got, err)
	}
	job.ModelID = "other"
	if _, err = Summarize(context.Background(), c, f, job); err == nil || !strings.Contains(err.Error(), "no model") {
		t.Errorf("unknown model: %v", err)
	}
}
