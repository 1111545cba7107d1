package memory

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/memories"
	"github.com/galleychat/galley/core/web"
)

// Operation is one of several changes as a client or a model asks for it. Action is add, replace, move or remove; nil
// members were not given.
type Operation struct {
	Action                  string
	ID, Content, Type, Path *string
}

func cleanContent(s string) (string, error) {
	if s = strings.TrimSpace(s); s == "" {
		return "", web.Fail(http.StatusBadRequest, "Memory content cannot be empty")
	}
	return s, nil
}

var slashes = regexp.MustCompile(`/+`)

// cleanPath reads a path: without slashes around it and none doubled. nil is the empty path, that of no group.
func cleanPath(s string) (*string, error) {
	s = slashes.ReplaceAllString(strings.Trim(strings.TrimSpace(s), "/"), "/")
	if s == "" {
		return nil, nil
	}
	odd := func(part string) bool { return part == "" || part == "." || part == ".." }
	control := func(r rune) bool { return r < ' ' }
	if slices.ContainsFunc(strings.Split(s, "/"), odd) || strings.ContainsFunc(s, control) {
		return nil, web.Fail(http.StatusBadRequest, "Invalid memory path")
	}
	return &s, nil
}

// KindOf is the type that a name stands for: whatever is not the user's is context.
func KindOf(name string) string {
	if name == memories.User {
		return memories.User
	}
	return memories.Context
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// cleanOperations checks operations before any of them is made. meta is for what they write.
func cleanOperations(ops []Operation, meta jsondoc.Doc) ([]memories.Operation, error) {
	if len(ops) == 0 {
		return nil, web.Fail(http.StatusBadRequest, "No memory operations provided")
	}
	out := make([]memories.Operation, len(ops))
	for i, op := range ops {
		o := memories.Operation{Action: op.Action, ID: text(op.ID), Meta: meta}
		if op.Action != memories.Add && o.ID == "" {
			return nil, web.Fail(http.StatusBadRequest, "Memory id is required for "+op.Action)
		}
		var err error
		if op.Action == memories.Add || op.Action == memories.Replace {
			if o.Content, err = cleanContent(text(op.Content)); err != nil {
				return nil, err
			}
			if op.Type != nil || op.Action == memories.Add {
				o.Type = KindOf(text(op.Type))
			}
		}
		if op.Action != memories.Remove {
			if o.Path, err = cleanPath(text(op.Path)); err != nil {
				return nil, err
			}
		}
		out[i] = o
	}
	return out, nil
}
