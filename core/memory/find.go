package memory

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/web"
)

// Search is what to look for among memories. Empty members let all through.
type Search struct {
	Query string // in content or path, whatever the case
	Type  string // user or context; "all" and "" mean both
	Path  string // at, around, or mentioned
	ID    string
	Limit int // 0 means 20; at most 100
}

// between keeps a limit that a client has asked for in bounds; 0 means the standard one.
func between(limit, standard, most int) int {
	if limit == 0 {
		limit = standard
	}
	return max(1, min(limit, most))
}

func ofType(kind string) func(m *Memory) bool {
	return func(m *Memory) bool { return kind == "" || kind == "all" || m.Type == kind }
}

// contains says whether a memory has a text in lower case in it.
func contains(m *Memory, lower string) bool {
	return strings.Contains(strings.ToLower(m.Content), lower) || strings.Contains(strings.ToLower(m.PathText()), lower)
}

// Find gives the memories that a search is for: those nearest to its path first, then the last changed.
func Find(list []Memory, q Search) ([]Memory, error) {
	at, err := cleanPath(q.Path)
	if err != nil {
		return nil, err
	}
	query := strings.ToLower(strings.TrimSpace(q.Query))
	kind := ofType(q.Type)
	type ranked struct {
		*Memory
		rank rank
	}
	var found []ranked
	for i := range list {
		m := &list[i]
		if q.ID != "" && m.ID != q.ID || !kind(m) || query != "" && !contains(m, query) {
			continue
		}
		r := far
		if at != nil {
			var near bool
			if r, near = nearness(m.PathText(), *at); !near && !mentions(m, *at) {
				continue
			}
		}
		found = append(found, ranked{m, r})
	}
	slices.SortFunc(found, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank.group, b.rank.group), cmp.Compare(a.rank.distance, b.rank.distance),
			cmp.Compare(b.UpdatedAt, a.UpdatedAt), cmp.Compare(a.ID, b.ID))
	})
	out := make([]Memory, 0, len(found))
	for _, f := range found[:min(len(found), between(q.Limit, 20, 100))] {
		out = append(out, *f.Memory)
	}
	return out, nil
}

// rank is how near two paths are: the group first, then the distance in it.
type rank struct{ group, distance int }

var far = rank{group: 9}

// nearness compares a memory's path with another: the same, below it, above it, beside it, or with a name in common.
func nearness(path, at string) (rank, bool) {
	if path == "" {
		return far, false
	}
	own, other := strings.Split(path, "/"), strings.Split(at, "/")
	switch {
	case path == at:
		return rank{0, 0}, true
	case strings.HasPrefix(path, at+"/"):
		return rank{1, len(own) - len(other)}, true
	case strings.HasPrefix(at, path+"/"):
		return rank{2, len(other) - len(own)}, true
	case len(own) > 1 && len(own) == len(other) && slices.Equal(own[:len(own)-1], other[:len(other)-1]):
		return rank{3, 0}, true
	}
	shared := map[string]bool{}
	for _, part := range own {
		if slices.Contains(other, part) {
			shared[part] = true
		}
	}
	if len(shared) > 0 {
		return rank{4, -len(shared)}, true
	}
	return far, false
}

// mentions says whether a memory's path or content names a path or its last part.
func mentions(m *Memory, path string) bool {
	haystack := strings.ToLower(m.PathText() + "\n" + m.Content)
	lower := strings.ToLower(path)
	return strings.Contains(haystack, lower) || strings.Contains(haystack, lower[strings.LastIndexByte(lower, '/')+1:])
}

// Group are the memories of one path and type, counted.
type Group struct {
	Path      *string  `json:"path"`
	Type      string   `json:"type"`
	Count     int      `json:"count"`
	UpdatedAt int64    `json:"updated_at"`
	Children  []string `json:"children"` // paths one step below that lead to others
}

// Tree are the paths of memories.
type Tree struct {
	Paths []*Group `json:"paths"`
	Count int      `json:"count"` // of all, also of those beyond the limit
}

// Paths lists the paths of the memories that a search is for (by query and type), the last changed first.
func Paths(list []Memory, q Search) Tree {
	type key struct{ path, kind string }
	groups := map[key]*Group{}
	all := []*Group{}
	kind, query := ofType(q.Type), strings.ToLower(strings.TrimSpace(q.Query))
	for i := range list {
		m := &list[i]
		if !kind(m) || query != "" && !contains(m, query) {
			continue
		}
		k := key{m.PathText(), m.Type}
		g := groups[k]
		if g == nil {
			g = &Group{Path: m.Path, Type: m.Type, Children: []string{}}
			groups[k], all = g, append(all, g)
		}
		g.Count++
		g.UpdatedAt = max(g.UpdatedAt, m.UpdatedAt)
	}
	for _, g := range all {
		if g.Path == nil {
			continue
		}
		for _, other := range all {
			if other.Path == nil || len(g.Children) == 20 {
				continue
			}
			if c, ok := below(*g.Path, *other.Path); ok && !slices.Contains(g.Children, c) {
				g.Children = append(g.Children, c)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *Group) int { return cmp.Compare(b.UpdatedAt, a.UpdatedAt) })
	return Tree{all[:min(len(all), between(q.Limit, 100, 500))], len(all)}
}

// below is the path one step below another on the way to a third.
func below(path, to string) (string, bool) {
	rest, ok := strings.CutPrefix(to, path+"/")
	if !ok {
		return "", false
	}
	step, _, _ := strings.Cut(rest, "/")
	return path + "/" + step, true
}

// Place is a path with what lies at it and around it.
type Place struct {
	Path     string   `json:"path"`
	Parents  []string `json:"parents"`
	Children []string `json:"children"`
	Memories []*Plain `json:"memories"`
}

// Read gives the memories at a path (of a search: with its type and limit) and at those above it, and with children those
// below it.
func Read(list []Memory, q Search, children bool) (*Place, error) {
	at, err := cleanPath(q.Path)
	if err != nil {
		return nil, err
	}
	if at == nil {
		return nil, web.Fail(http.StatusBadRequest, "Memory path is required")
	}
	path := *at
	kind := ofType(q.Type)
	type placed struct {
		*Memory
		group, depth int
	}
	var found []placed
	parents, under := map[string]bool{}, map[string]bool{}
	for i := range list {
		m := &list[i]
		if !kind(m) || m.Path == nil {
			continue
		}
		own := *m.Path
		depth := strings.Count(own, "/")
		switch step, isBelow := below(path, own); {
		case own == path:
			found = append(found, placed{m, 0, 0})
		case isBelow:
			under[step] = true
			if children {
				found = append(found, placed{m, 1, depth})
			}
		case strings.HasPrefix(path, own+"/"):
			parents[own] = true
			found = append(found, placed{m, 2, -depth})
		}
	}
	slices.SortFunc(found, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.depth, b.depth), cmp.Compare(b.UpdatedAt, a.UpdatedAt), cmp.Compare(a.ID, b.ID))
	})
	p := &Place{Path: path, Parents: sorted(parents), Children: sorted(under), Memories: []*Plain{}}
	p.Children = p.Children[:min(len(p.Children), 50)]
	for _, f := range found[:min(len(found), between(q.Limit, 50, 100))] {
		p.Memories = append(p.Memories, plain(f.Memory))
	}
	return p, nil
}

// sorted are the names of a set; those of parents are from the shortest to the longest then too.
func sorted(set map[string]bool) []string {
	out := slices.AppendSeq([]string{}, maps.Keys(set))
	slices.Sort(out)
	return out
}
