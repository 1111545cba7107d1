// Package builtin has the tools that the server itself offers to models: the time, earlier chats, memories, a list of
// tasks, …
//
// A part of the server adds its tools as one [Group], declared with what must be on for them; each tool is declared once
// by [New], from whose struct of arguments the description for models is made. Tools run as the person who chats and make
// the same checks as the API:
//
//	registry.Add(builtin.Group{Name: "notes", Permission: "features.notes", On: config.NotesEnable.Get, Tools: []turn.Tool{
//		builtin.New("view_note", "Reads a note.", m.view),
//	}})
//
//	type viewIn struct {
//		ID string `json:"note_id" about:"the note's id"`
//	}
//	func (m *tools) view(ctx context.Context, c turn.ToolCall, in viewIn) (any, error)
package builtin

import (
	"context"
	"slices"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/turn"
)

// Group is tools that are offered together.
type Group struct {
	// Name is how a model's settings switch the group off (meta.builtinTools), and its place among the groups.
	Name string
	// Feature is the switch in the features of a request that must be on; "" for none.
	Feature string
	// Capability is what the model must not be said to lack (meta.capabilities); "" for nothing.
	Capability string
	// Permission is what a user must have who is no administrator; "" for nothing.
	Permission string
	// On says whether the administrator has the group switched on; nil: it is.
	On func(*config.Snapshot) bool
	// When says whether the tools are of use in a turn; nil: they are.
	When  func(turn.Offer) bool
	Tools []turn.Tool
}

// places are the groups in the order in which models see them; others follow. The order is the reference's: providers
// remember requests by how they begin.
var places = []string{
	"time", "user_input", "files", "knowledge", "chats", "subagents", "memory", "web_search", "image_generation", "code_interpreter", "notes",
	"channels", "skills", "tasks", "automations", "calendar", "notifications",
}

// Registry knows the groups. It implements turn.Builtins.
type Registry struct {
	access   *access.Access
	settings *config.Settings
	groups   []Group
}

var _ turn.Builtins = (*Registry)(nil)

// NewRegistry makes a Registry without groups.
func NewRegistry(a *access.Access, s *config.Settings) *Registry {
	return &Registry{access: a, settings: s}
}

// Add adds groups. It is not for a server that answers requests already.
func (r *Registry) Add(groups ...Group) {
	r.groups = append(r.groups, groups...)
	place := func(g Group) int {
		if i := slices.Index(places, g.Name); i >= 0 {
			return i
		}
		return len(places)
	}
	slices.SortStableFunc(r.groups, func(a, b Group) int { return place(a) - place(b) })
}

// Tools implements turn.Builtins.
func (r *Registry) Tools(ctx context.Context, o turn.Offer) ([]turn.Tool, error) {
	snap := r.settings.Snapshot()
	meta := o.Model.Meta()
	chosen, capabilities := meta.Get("builtinTools"), meta.Get("capabilities")
	var out []turn.Tool
	for i := range r.groups {
		g := &r.groups[i]
		if !turn.Unless(chosen, g.Name) || g.Feature != "" && !o.Features.Get(g.Feature).Truthy() || g.On != nil && !g.On(snap) ||
			g.Capability != "" && !turn.Unless(capabilities, g.Capability) || g.When != nil && !g.When(o) {
			continue
		}
		if g.Permission != "" {
			if ok, err := r.access.HasOrAdmin(ctx, o.Principal.User, g.Permission); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		out = append(out, g.Tools...)
	}
	return out, nil
}
