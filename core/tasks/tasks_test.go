package tasks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/prompt"
)

func TestPick(t *testing.T) {
	arena := func(exclude bool, ids ...string) *models.Model {
		return &models.Model{ID: "arena", Arena: &models.Arena{ModelIDs: ids, Exclude: exclude}}
	}
	all := []*models.Model{{ID: "a"}, {ID: "b"}, {ID: "c"}, arena(false)}
	for _, c := range []struct {
		arena *models.Model
		want  string
	}{
		{arena(false), "abc"}, {arena(false, "a", "c"), "ac"}, {arena(true, "a"), "bc"}, {arena(false, "gone"), "abc"}, {&models.Model{ID: "b"}, "b"},
	} {
		seen := map[string]bool{}
		for range 200 {
			m, ok := Pick(c.arena, all)
			if !ok {
				t.Fatal("nothing picked")
			}
			seen[m.ID] = true
		}
		for _, id := range []string{"a", "b", "c", "arena"} {
			if seen[id] != strings.Contains(c.want, id) {
				t.Errorf("%+v: %s picked: %v", c.arena.Arena, id, seen[id])
			}
		}
	}
	if _, ok := Pick(arena(false), nil); ok {
		t.Error("picked from nothing")
	}
}

func TestFollowUpMessages(t *testing.T) {
	var list []jsondoc.Doc
	for i := range 8 {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		list = append(list, message(role, fmt.Sprint(i)))
	}
	list[6] = message("user", strings.Repeat("x", 1200))
	list[5] = jsondoc.Doc(`{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"image_url"},{"type":"text","text":"b"}]}`)
	got := followUpMessages(list, true)
	if len(got) != 5 || got[0].Text("content") != "0" || got[2].Text("content") != "a\nb" || len(got[3].Text("content")) != 1000 {
		t.Errorf("%s", jsondoc.Array(got...))
	}
	if got = followUpMessages(list, false); len(got) != 8 || len(got[6].Text("content")) != 1200 {
		t.Errorf("of an own template: %d messages", len(got))
	}
}

// TestTemplates holds that every template asks for the JSON that clients read, and leaves no variable open.
func TestTemplates(t *testing.T) {
	for text, key := range map[string]string{titleTemplate: `"title"`, tagsTemplate: `"tags"`, followUpTemplate: `"follow_ups"`, queryTemplate: `"queries"`,
		imageTemplate: `"prompt"`, autocompleteTemplate: `"text"`, emojiTemplate: "", moaTemplate: ""} {
		if !strings.Contains(text, key) {
			t.Errorf("no %s in %.60q", key, text)
		}
		filled := prompt.Messages(prompt.Responses(prompt.Prompt(text, "p"), nil), []jsondoc.Doc{})
		filled = (&prompt.Renderer{}).Server(t.Context(), nil, strings.ReplaceAll(filled, "{{TYPE}}", ""))
		if strings.Contains(filled, "{{") {
			t.Errorf("open variable in %q", filled)
		}
	}
}
