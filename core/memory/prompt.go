package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store/memories"
)

// The tags around what a system message says of memories.
const (
	promptOpen  = "<memory_context>"
	promptClose = "</memory_context>"
)

const (
	recentQuestions = 7    // how many of the last questions of a chat memories are looked for by
	questionChars   = 4000 // and how many characters of them
	nearestCount    = 8
)

// Prompt is what a model is told of the caller's memories, for the questions of a chat from the first to the last: all
// about the user, what lies at paths that the questions name, and what is near to them in meaning. It is "" where there is
// nothing to tell, or nothing may be told.
func (s *Service) Prompt(ctx context.Context, p *auth.Principal, questions []string) (string, error) {
	snap := s.Settings.Snapshot()
	if !config.MemoriesEnable.Get(snap) || !config.MemoriesSystemContextEnable.Get(snap) {
		return "", nil
	}
	var asked []string
	for _, q := range questions {
		if q = strings.TrimSpace(q); q != "" {
			asked = append(asked, q)
		}
	}
	question := tail(strings.Join(asked[max(0, len(asked)-recentQuestions):], "\n\n"), questionChars)
	if question == "" {
		return "", nil
	}
	if ok, err := s.Access.HasOrAdmin(ctx, p.User, Permission); err != nil || !ok {
		return "", err
	}
	list, err := s.Store.OfUser(ctx, p.ID)
	if err != nil || len(list) == 0 {
		return "", err
	}
	about := section(list, func(m *Memory) bool { return m.Type == memories.User })
	seen := map[string]bool{}
	around := s.around(list, question, seen)
	var near []*Memory
	if len(about) < len(list) { // what is about the user is all told already
		for _, h := range s.nearest(ctx, models.CallerOf(p), list, question, nearestCount) {
			if h.Type != memories.User && !seen[h.ID] {
				near = append(near, h.Memory)
			}
		}
	}
	user := head(titled("User Memory", about), max(250, config.MemoriesUserCharLimit.Get(snap)))
	var parts []string
	for _, part := range []string{titled("Memory Neighborhood", around), titled("Relevant Context", near)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	other := head(strings.Join(parts, "\n\n"), max(250, config.MemoriesContextCharLimit.Get(snap)))
	told := strings.TrimSpace(user + "\n\n" + other)
	if told == "" {
		return "", ctx.Err()
	}
	return promptOpen + "\n" + told + "\n" + promptClose, ctx.Err()
}

// WithoutPrompt is a system message without what an earlier Prompt put into it.
func WithoutPrompt(system string) string {
	before, rest, found := strings.Cut(system, promptOpen)
	_, after, closed := strings.Cut(rest, promptClose)
	if !found || !closed {
		return system
	}
	return strings.TrimSpace(before + after)
}

func section(list []Memory, has func(*Memory) bool) []*Memory {
	var out []*Memory
	for i := range list {
		if has(&list[i]) {
			out = append(out, &list[i])
		}
	}
	return out
}

// titled is a section of the prompt, "" without memories.
func titled(title string, list []*Memory) string {
	if len(list) == 0 {
		return ""
	}
	lines := make([]string, len(list))
	for i, m := range list {
		lines[i] = m.Content
		if m.Path != nil {
			lines[i] = *m.Path + ": " + m.Content
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a), strings.ToLower(b)), cmp.Compare(a, b))
	})
	return "[" + title + "]\n- " + strings.Join(lines, "\n- ")
}

// maxHints bounds the paths of a question that are looked at, and hintMemories the memories of each.
const (
	maxHints     = 6
	hintMemories = 4
)

// around are the memories of context at and near the paths that a question names; seen notes them.
func (s *Service) around(list []Memory, question string, seen map[string]bool) []*Memory {
	byID := make(map[string]*Memory, len(list))
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	var out []*Memory
	for _, path := range hints(list, question) {
		found, _ := Find(list, Search{Path: path, Type: memories.Context, Limit: hintMemories}) // a stored path is in order
		for _, m := range found {
			if !seen[m.ID] {
				seen[m.ID] = true
				out = append(out, byID[m.ID])
			}
		}
	}
	return out
}

// hints are paths of memories that a question names, whole or in part.
func hints(list []Memory, question string) []string {
	lower := strings.ToLower(question)
	var paths []string
	for i := range list {
		if list[i].Path != nil {
			paths = append(paths, *list[i].Path)
		}
	}
	slices.Sort(paths)
	var out []string
	for _, path := range slices.Compact(paths) {
		parts := strings.Split(strings.ToLower(path), "/")
		named := strings.Contains(lower, parts[len(parts)-1]) ||
			slices.ContainsFunc(parts, func(part string) bool { return len([]rune(part)) >= 3 && strings.Contains(lower, part) })
		if named {
			out = append(out, path)
		}
		if len(out) == maxHints {
			break
		}
	}
	return out
}
