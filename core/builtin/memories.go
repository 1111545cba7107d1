package builtin

import (
	"context"
	"errors"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/memory"
	"github.com/galleychat/galley/core/store/memories"
	"github.com/galleychat/galley/core/turn"
)

// Memories is the tools that read and write what is remembered of the user.
func Memories(s *memory.Service) Group {
	t := memoryTools{s}
	const enduring = " Keep what will still matter in later chats: who the user is, what the user likes, plans and works on, and how to be answered. " +
		"Leave out what is true for today only, unless the user asks you to remember it."
	return Group{Name: "memory", Feature: "memory", Capability: "memory", Permission: memory.Permission, On: config.MemoriesEnable.Get, Tools: []turn.Tool{
		New("search_memories", "Looks for memories of the user by words, path, type or id. Without any it lists those changed last.", t.search),
		New("list_memory_paths", "Lists the paths under which memories are kept. Look here for one that fits before you write or move a memory.", t.paths),
		New("read_memory_path", "Reads the memories at a path, those at the paths above it and, unless told otherwise, those below it.", t.read),
		New("list_memories", "Lists all memories of the user with their ids and times.", t.list),
		New("update_memory", "Makes several changes to the memories of the user at once, or none if one of them cannot be made."+enduring+
			` Each operation is an object: {"action": "add", "content": …, "type": …, "path": …}, {"action": "replace", "id": …, "content": …, "type": …, "path": …}, `+
			`{"action": "move", "id": …, "path": …} or {"action": "remove", "id": …}. The type is "user" for what is about the user and "context" for anything else; `+
			`a path such as work/project groups memories and may be left out.`, t.update),
		New("add_memory", "Remembers something about the user."+enduring, t.add),
		New("replace_memory_content", "Corrects a memory, which is named by its id.", t.replace),
		New("delete_memory", "Forgets a memory, which is named by its id.", t.delete),
	}}
}

type memoryTools struct{ memories *memory.Service }

const (
	day    = "2006-01-02"
	minute = "2006-01-02 15:04"
)

// typeOf reads which type of memories is asked for.
func typeOf(name string) string {
	if name == memories.User || name == memories.Context {
		return name
	}
	return "all"
}

// listOf gives the caller's memories, if they may have any.
func (t memoryTools) listOf(ctx context.Context, c turn.ToolCall) ([]memory.Memory, error) {
	if err := t.memories.Check(ctx, c.Principal); err != nil {
		return nil, err
	}
	return t.memories.List(ctx, c.Principal.ID)
}

// shownMemory is a memory as models see it.
type shownMemory struct {
	ID        string  `json:"id"`
	Type      string  `json:"type"`
	Path      *string `json:"path"`
	Content   string  `json:"content"`
	CreatedAt string  `json:"created_at"`
	UpdatedAt string  `json:"updated_at"`
}

func shown(list []memory.Memory, layout string) []shownMemory {
	out := make([]shownMemory, len(list))
	for i, m := range list {
		out[i] = shownMemory{m.ID, m.Type, m.Path, m.Content, time.Unix(m.CreatedAt, 0).Format(layout), time.Unix(m.UpdatedAt, 0).Format(layout)}
	}
	return out
}

type searchMemoriesIn struct {
	Query string  `json:"query" default:"" about:"words that the content or the path has in it"`
	Count int     `json:"count" default:"5" about:"how many memories to give at most"`
	Type  string  `json:"type" default:"all" about:"\"user\", \"context\" or \"all\""`
	Path  *string `json:"path" about:"a path to look at and around"`
	ID    *string `json:"memory_id" about:"the id of the one memory to read"`
}

func (t memoryTools) search(ctx context.Context, c turn.ToolCall, in searchMemoriesIn) (any, error) {
	list, err := t.listOf(ctx, c)
	if err != nil {
		return nil, err
	}
	q := memory.Search{Query: in.Query, Type: typeOf(in.Type), Limit: in.Count}
	if in.Path != nil {
		q.Path = *in.Path
	}
	if in.ID != nil {
		q.ID = *in.ID
	}
	if q.Limit == 0 {
		q.Limit = 20
	}
	found, err := memory.Find(list, q)
	return shown(found, day), err
}

type listMemoryPathsIn struct {
	Query string `json:"query" default:"" about:"words that the path or a memory has in it"`
	Count int    `json:"count" default:"100" about:"how many paths to give at most"`
	Type  string `json:"type" default:"all" about:"\"user\", \"context\" or \"all\""`
}

func (t memoryTools) paths(ctx context.Context, c turn.ToolCall, in listMemoryPathsIn) (any, error) {
	list, err := t.listOf(ctx, c)
	if err != nil {
		return nil, err
	}
	return memory.Paths(list, memory.Search{Query: in.Query, Type: typeOf(in.Type), Limit: in.Count}), nil
}

type readMemoryPathIn struct {
	Path     string `json:"path" about:"the path"`
	Count    int    `json:"count" default:"50" about:"how many memories to give at most"`
	Type     string `json:"type" default:"all" about:"\"user\", \"context\" or \"all\""`
	Children bool   `json:"include_children" default:"true" about:"whether to read the paths below too"`
}

func (t memoryTools) read(ctx context.Context, c turn.ToolCall, in readMemoryPathIn) (any, error) {
	list, err := t.listOf(ctx, c)
	if err != nil {
		return nil, err
	}
	place, err := memory.Read(list, memory.Search{Path: in.Path, Type: typeOf(in.Type), Limit: in.Count}, in.Children)
	if err != nil {
		return nil, err
	}
	return place, nil
}

func (t memoryTools) list(ctx context.Context, c turn.ToolCall, _ struct{}) (any, error) {
	list, err := t.listOf(ctx, c)
	return shown(list, minute), err
}

type updateMemoryIn struct {
	Operations []jsondoc.Doc `json:"operations" about:"the changes, in order"`
}

func (t memoryTools) update(ctx context.Context, c turn.ToolCall, in updateMemoryIn) (any, error) {
	ops, err := memory.OperationsOf(in.Operations)
	if err != nil {
		return nil, err
	}
	if err := t.memories.Check(ctx, c.Principal); err != nil {
		return nil, err
	}
	return t.memories.Apply(ctx, c.Principal, ops, memory.Source{CreatedBy: "tool", ChatID: c.ChatID, ModelID: c.ModelID})
}

type addMemoryIn struct {
	Content string  `json:"content" about:"what to remember"`
	Type    string  `json:"type" default:"user" about:"\"user\" for what is about the user, \"context\" for anything else"`
	Path    *string `json:"path" about:"groups the memory with others, such as work/project"`
}

// written is what a tool has written.
type written struct {
	Status  string  `json:"status"`
	ID      string  `json:"id"`
	Type    string  `json:"type"`
	Path    *string `json:"path"`
	Content string  `json:"content,omitzero"`
}

func (t memoryTools) add(ctx context.Context, c turn.ToolCall, in addMemoryIn) (any, error) {
	if err := t.memories.Check(ctx, c.Principal); err != nil {
		return nil, err
	}
	path := ""
	if in.Path != nil {
		path = *in.Path
	}
	m, err := t.memories.Add(ctx, c.Principal, in.Content, memory.KindOf(in.Type), path)
	if err != nil {
		return nil, err
	}
	return written{Status: "success", ID: m.ID, Type: m.Type, Path: m.Path}, nil
}

type replaceMemoryIn struct {
	ID      string  `json:"memory_id" about:"the id of the memory"`
	Content string  `json:"content" about:"what it is to say"`
	Type    *string `json:"type" about:"\"user\" or \"context\", to change it"`
	Path    *string `json:"path" about:"another path, to move it"`
}

func (t memoryTools) replace(ctx context.Context, c turn.ToolCall, in replaceMemoryIn) (any, error) {
	if err := t.memories.Check(ctx, c.Principal); err != nil {
		return nil, err
	}
	var kind *string
	if in.Type != nil && *in.Type != "" {
		k := memory.KindOf(*in.Type)
		kind = &k
	}
	m, err := t.memories.Update(ctx, c.Principal, in.ID, &in.Content, kind, in.Path)
	if err != nil {
		return nil, err
	}
	return written{"success", m.ID, m.Type, m.Path, m.Content}, nil
}

type deleteMemoryIn struct {
	ID string `json:"memory_id" about:"the id of the memory"`
}

func (t memoryTools) delete(ctx context.Context, c turn.ToolCall, in deleteMemoryIn) (any, error) {
	if err := t.memories.Check(ctx, c.Principal); err != nil {
		return nil, err
	}
	ok, err := t.memories.Delete(ctx, c.Principal, in.ID)
	if err == nil && !ok {
		err = errors.New("Memory not found or access denied") //nolint:staticcheck // the text is what models are told
	}
	if err != nil {
		return nil, err
	}
	return struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}{"success", "Memory " + in.ID + " deleted"}, nil
}
