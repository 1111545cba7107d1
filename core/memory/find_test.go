package memory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
)

// listOf makes memories of lines "path content"; "-" is no path, and a content in capitals is about the user.
func listOf(lines ...string) []Memory {
	var out []Memory
	for i, line := range lines {
		path, content, _ := strings.Cut(line, " ")
		m := Memory{ID: fmt.Sprint(i), Content: content, Type: "context", UpdatedAt: int64(i)}
		if path != "-" {
			m.Path = &path
		}
		if strings.ToUpper(content) == content {
			m.Type = "user"
		}
		out = append(out, m)
	}
	return out
}

var tree = listOf("a one", "a/b two", "a/b/c three", "a/d four", "- five of a/b", "x/b SIX", "y seven", "- EIGHT")

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		q    Search
		want string
	}{
		"all, last first":   {Search{}, "7 6 5 4 3 2 1 0"},
		"limit":             {Search{Limit: 2}, "7 6"},
		"negative limit":    {Search{Limit: -5}, "7"},
		"type":              {Search{Type: "user"}, "7 5"},
		"id":                {Search{ID: "3"}, "3"},
		"words":             {Search{Query: " FI "}, "4"},
		"words of the path": {Search{Query: "a/"}, "4 3 2 1"},
		"path":              {Search{Path: "/a//b/"}, "1 2 0 3 5 4"},
		"root":              {Search{Path: "a"}, "0 3 1 2 4"},
		"path and words":    {Search{Path: "a/b", Query: "t"}, "1 2"},
		"unknown path":      {Search{Path: "zzz"}, ""},
	} {
		got, err := Find(tree, c.q)
		var ids []string
		for _, m := range got {
			ids = append(ids, m.ID)
		}
		if err != nil || got == nil || strings.Join(ids, " ") != c.want {
			t.Errorf("%s: %v %v", name, ids, err)
		}
	}
	for _, bad := range []string{"../x", "a/./b", "a\x01b"} {
		if _, err := Find(tree, Search{Path: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestPaths(t *testing.T) {
	got := string(jsondoc.Of(Paths(tree, Search{})))
	want := `{"paths":[{"path":null,"type":"user","count":1,"updated_at":7,"children":[]},{"path":"y","type":"context","count":1,"updated_at":6,"children":[]},` +
		`{"path":"x/b","type":"user","count":1,"updated_at":5,"children":[]},{"path":null,"type":"context","count":1,"updated_at":4,"children":[]},` +
		`{"path":"a/d","type":"context","count":1,"updated_at":3,"children":[]},{"path":"a/b/c","type":"context","count":1,"updated_at":2,"children":[]},` +
		`{"path":"a/b","type":"context","count":1,"updated_at":1,"children":["a/b/c"]},{"path":"a","type":"context","count":1,"updated_at":0,"children":["a/b","a/d"]}],"count":8}`
	if got != want {
		t.Error(got)
	}
	if got := Paths(tree, Search{Query: "a/b", Limit: 1}); len(got.Paths) != 1 || got.Count != 3 {
		t.Errorf("%s", jsondoc.Of(got))
	}
	if got := string(jsondoc.Of(Paths(nil, Search{}))); got != `{"paths":[],"count":0}` {
		t.Error(got)
	}
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		q        Search
		children bool
		want     string
	}{
		"with those below": {Search{Path: "a/b"}, true, "a/b parents [a] children [a/b/c]: two three one"},
		"without":          {Search{Path: "a/b"}, false, "a/b parents [a] children [a/b/c]: two one"},
		"deep":             {Search{Path: "a/b/c"}, true, "a/b/c parents [a a/b] children []: three two one"},
		"top":              {Search{Path: "a"}, true, "a parents [] children [a/b a/d]: one four two three"},
		"limit":            {Search{Path: "a", Limit: 1}, true, "a parents [] children [a/b a/d]: one"},
		"type":             {Search{Path: "x/b", Type: "context"}, true, "x/b parents [] children []:"},
		"nothing there":    {Search{Path: "q/r"}, true, "q/r parents [] children []:"},
	} {
		p, err := Read(tree, c.q, c.children)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(p.Path, " parents ", p.Parents, " children ", p.Children, ":")
		for _, m := range p.Memories {
			got += " " + m.Content
		}
		if got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, bad := range []string{"", " / ", ".."} {
		if _, err := Read(tree, Search{Path: bad}, true); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestHints(t *testing.T) {
	for question, want := range map[string]string{
		"": "", "hello": "", "tell me of A": "a", "the b in a": "a a/b x/b", "Y?": "y",
	} {
		if got := strings.Join(hints(tree, question), " "); got != want {
			t.Errorf("%q: %s", question, got)
		}
	}
	long := listOf("garden/roses one", "garden/beans two", "work/db three")
	for question, want := range map[string]string{"my GARDEN": "garden/beans garden/roses", "the db": "work/db", "roses": "garden/roses", "do": ""} {
		if got := strings.Join(hints(long, question), " "); got != want {
			t.Errorf("%q: %s", question, got)
		}
	}
}
