// Package memories serves what the server remembers of its users: the tag "memories", mounted at /api/v1/memories.
package memories

import (
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/memory"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Memories *memory.Service
}

// Module is the tag "memories".
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "memories" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /", web.JSON(auth.Verified, enabled(m, m.list)))
	g.Add("POST /add", web.JSON(auth.Verified, enabled(m, m.add)))
	g.Add("POST /update", web.JSON(auth.Verified, enabled(m, m.apply)))
	g.Add("POST /query", web.JSON(auth.Verified, enabled(m, m.query)))
	g.Add("POST /search", web.JSON(auth.Verified, enabled(m, m.search)))
	g.Add("POST /paths", web.JSON(auth.Verified, enabled(m, m.paths)))
	g.Add("POST /path", web.JSON(auth.Verified, enabled(m, m.path)))
	g.Add("POST /reindex", web.JSON(auth.Admin, m.reindex))
	g.Add("POST /reset", web.JSON(auth.Verified, enabled(m, m.reset)))
	g.Add("DELETE /delete/user", web.JSON(auth.Verified, enabled(m, m.deleteAll)))
	g.Add("POST /{id}/update", web.JSON(auth.Verified, enabled(m, m.update)))
	g.Add("DELETE /{id}", web.JSON(auth.Verified, enabled(m, m.delete)))
}

// enabled puts the check before a handler that memories are switched on, for all and for the caller.
func enabled[In, Out any](m *Module, h func(*web.Call, In) (Out, error)) func(*web.Call, In) (Out, error) {
	return func(c *web.Call, in In) (out Out, err error) {
		if err := m.Memories.Check(c.Context(), c.Principal); err != nil {
			return out, err
		}
		return h(c, in)
	}
}

func (m *Module) list(c *web.Call, _ web.None) ([]memory.Memory, error) {
	return m.Memories.List(c.Context(), c.UserID())
}

type addIn struct {
	Body struct {
		Content string          `json:"content"`
		Type    string          `json:"type" default:"context" enum:"user,context"`
		Path    web.Opt[string] `json:"path"`
	}
}

func (m *Module) add(c *web.Call, in addIn) (*memory.Memory, error) {
	return m.Memories.Add(c.Context(), c.Principal, in.Body.Content, in.Body.Type, in.Body.Path.Or(""))
}

type applyIn struct {
	Body struct {
		Operations []struct {
			Action  string          `json:"action" enum:"add,replace,remove,move"`
			ID      web.Opt[string] `json:"id"`
			Content web.Opt[string] `json:"content"`
			Type    web.Opt[string] `json:"type" enum:"user,context"`
			Path    web.Opt[string] `json:"path"`
		} `json:"operations"`
		Source web.Opt[string] `json:"source" enum:"tool,background_review"`
	}
}

// apply makes several changes, or none of them.
func (m *Module) apply(c *web.Call, in applyIn) ([]memory.Outcome, error) {
	ops := make([]memory.Operation, len(in.Body.Operations))
	for i, o := range in.Body.Operations {
		ops[i] = memory.Operation{Action: o.Action, ID: o.ID.Ptr(), Content: o.Content.Ptr(), Type: o.Type.Ptr(), Path: o.Path.Ptr()}
	}
	return m.Memories.Apply(c.Context(), c.Principal, ops, memory.Source{CreatedBy: in.Body.Source.Or("tool")})
}

type queryIn struct {
	Body struct {
		Content string       `json:"content"`
		K       web.Opt[int] `json:"k"`
	}
}

// query finds memories by their meaning.
func (m *Module) query(c *web.Call, in queryIn) (*memory.Answer, error) {
	k := 1
	if in.Body.K.Set {
		k = in.Body.K.Or(0)
	}
	return m.Memories.Query(c.Context(), c.Principal, in.Body.Content, k)
}

type searchIn struct {
	Body struct {
		Query    web.Opt[string] `json:"query"`
		Type     string          `json:"type" default:"all" enum:"user,context,all"`
		Path     web.Opt[string] `json:"path"`
		MemoryID web.Opt[string] `json:"memory_id"`
		Limit    int             `json:"limit" default:"20"`
	}
}

// search finds memories by words, type and path.
func (m *Module) search(c *web.Call, in searchIn) ([]memory.Memory, error) {
	list, err := m.Memories.List(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	return memory.Find(list, memory.Search{Query: in.Body.Query.Or(""), Type: in.Body.Type, Path: in.Body.Path.Or(""), ID: in.Body.MemoryID.Or(""), Limit: in.Body.Limit})
}

type pathsIn struct {
	Body struct {
		Query web.Opt[string] `json:"query"`
		Type  string          `json:"type" default:"all" enum:"user,context,all"`
		Limit int             `json:"limit" default:"100"`
	}
}

func (m *Module) paths(c *web.Call, in pathsIn) (memory.Tree, error) {
	list, err := m.Memories.List(c.Context(), c.UserID())
	return memory.Paths(list, memory.Search{Query: in.Body.Query.Or(""), Type: in.Body.Type, Limit: in.Body.Limit}), err
}

type pathIn struct {
	Body struct {
		Path     string `json:"path"`
		Type     string `json:"type" default:"all" enum:"user,context,all"`
		Children bool   `json:"include_children" default:"true"`
		Limit    int    `json:"limit" default:"50"`
	}
}

func (m *Module) path(c *web.Call, in pathIn) (*memory.Place, error) {
	list, err := m.Memories.List(c.Context(), c.UserID())
	if err != nil {
		return nil, err
	}
	return memory.Read(list, memory.Search{Path: in.Body.Path, Type: in.Body.Type, Limit: in.Body.Limit}, in.Body.Children)
}

type reindexed struct {
	Status   bool `json:"status"`
	Users    int  `json:"total_users"`
	Memories int  `json:"total_memories"`
}

func (m *Module) reindex(c *web.Call, _ web.None) (reindexed, error) {
	accounts, count, err := m.Memories.Reindex(c.Context(), c.Principal)
	return reindexed{true, accounts, count}, err
}

func (m *Module) reset(c *web.Call, _ web.None) (bool, error) {
	return true, m.Memories.Reset(c.Context(), c.Principal)
}

func (m *Module) deleteAll(c *web.Call, _ web.None) (bool, error) {
	return true, m.Memories.DeleteAll(c.Context(), c.Principal)
}

type updateIn struct {
	ID   string `path:"id"`
	Body struct {
		Content web.Opt[string] `json:"content"`
		Type    web.Opt[string] `json:"type" enum:"user,context"`
		Path    web.Opt[string] `json:"path"`
	}
}

func (m *Module) update(c *web.Call, in updateIn) (*memory.Memory, error) {
	return m.Memories.Update(c.Context(), c.Principal, in.ID, in.Body.Content.Ptr(), in.Body.Type.Ptr(), in.Body.Path.Ptr())
}

type idIn struct {
	ID string `path:"id"`
}

func (m *Module) delete(c *web.Call, in idIn) (bool, error) {
	return m.Memories.Delete(c.Context(), c.Principal, in.ID)
}
