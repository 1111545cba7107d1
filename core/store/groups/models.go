package groups

import (
	"slices"

	"github.com/galleychat/galley/core/jsondoc"
)

// DefaultModels gives the models that the deepest of some groups begins chats with, and its id; of equally deep ones that
// which was made first. The groups above each are among them.
func DefaultModels(list []*Group) (jsondoc.Doc, *string) {
	byID := make(map[string]*Group, len(list))
	for _, g := range list {
		byID[g.ID] = g
	}
	depth := func(g *Group) (n int) {
		// no chain is longer than the list; a loop that came from elsewhere ends there
		for g.ParentID != nil && n < len(list) {
			up := byID[*g.ParentID]
			if up == nil {
				break
			}
			g = up
			n++
		}
		return n
	}
	var best *Group
	for _, g := range slices.Backward(list) {
		if g.DefaultModels() == nil {
			continue
		}
		if best == nil || depth(g) > depth(best) ||
			depth(g) == depth(best) && (g.CreatedAt < best.CreatedAt || g.CreatedAt == best.CreatedAt && g.ID < best.ID) {
			best = g
		}
	}
	if best == nil {
		return nil, nil
	}
	return best.DefaultModels(), &best.ID
}
