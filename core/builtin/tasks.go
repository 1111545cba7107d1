package builtin

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/turn"
)

// Tasks is the tools by which models keep a list of what they are at, which the page shows above the chat.
func Tasks(s ChatStore) Group {
	t := taskTools{s}
	return Group{Name: "tasks", When: func(o turn.Offer) bool { return o.Saved }, Tools: []turn.Tool{
		New("create_tasks", "Makes a list of tasks that the user sees in the chat, in place of an earlier one. Use it for work of several steps, so that the user can follow it.", t.create),
		New("update_task", "Says how one task of the list stands.", t.update),
	}}
}

type taskTools struct{ chats ChatStore }

type createTasksIn struct {
	Tasks []taskIn `json:"tasks" about:"the tasks in order"`
}

type taskIn struct {
	ID      *string `json:"id" about:"names the task; without it tasks are counted"`
	Content string  `json:"content" about:"what is to be done"`
	Status  string  `json:"status" default:"pending" enum:"pending,in_progress,completed,cancelled" about:"how the task stands"`
}

// task is an entry of the list.
type task struct {
	ID      string `json:"id"`
	Content string `json:"content"`
	Status  string `json:"status"`
}

// statuses that tasks can have, sorted.
var statuses = []string{"cancelled", "completed", "in_progress", "pending"}

type taskList struct {
	Tasks   []task  `json:"tasks"`
	Summary summary `json:"summary"`
}

type summary struct {
	Total      int `json:"total"`
	Pending    int `json:"pending"`
	InProgress int `json:"in_progress"`
	Completed  int `json:"completed"`
	Cancelled  int `json:"cancelled"`
}

func (t taskTools) create(ctx context.Context, c turn.ToolCall, in createTasksIn) (any, error) {
	list := []task{}
	for i, asked := range in.Tasks {
		v := task{Content: strings.TrimSpace(asked.Content), Status: strings.ToLower(strings.TrimSpace(asked.Status))}
		if v.Content == "" {
			continue
		}
		if asked.ID != nil {
			v.ID = strings.TrimSpace(*asked.ID)
		}
		if v.ID == "" {
			v.ID = strconv.Itoa(i + 1)
		}
		if !slices.Contains(statuses, v.Status) {
			v.Status = "pending"
		}
		list = append(list, v)
	}
	return t.keep(ctx, c, list)
}

type updateTaskIn struct {
	ID     string `json:"id" about:"the id of the task"`
	Status string `json:"status" default:"completed" about:"how it stands now: completed, in_progress, pending or cancelled"`
}

func (t taskTools) update(ctx context.Context, c turn.ToolCall, in updateTaskIn) (any, error) {
	status := strings.ToLower(strings.TrimSpace(in.Status))
	if !slices.Contains(statuses, status) {
		return nil, fmt.Errorf("Invalid status: %s. Must be one of: %s", status, strings.Join(statuses, ", ")) //nolint:staticcheck // shown to models
	}
	stored, err := t.chats.Tasks(ctx, c.ChatID)
	if err != nil {
		return nil, err
	}
	list := []task{}
	found := false
	stored.Items(func(_ int, d jsondoc.Doc) bool {
		v := task{d.Text("id"), d.Text("content"), d.Text("status")}
		if v.ID == in.ID && !found {
			v.Status, found = status, true
		}
		list = append(list, v)
		return true
	})
	if !found {
		return nil, fmt.Errorf("Task with id %q not found", in.ID) //nolint:staticcheck // shown to models
	}
	return t.keep(ctx, c, list)
}

// keep stores the list, shows it, and gives what models are told.
func (t taskTools) keep(ctx context.Context, c turn.ToolCall, list []task) (any, error) {
	out := taskList{Tasks: list, Summary: summary{Total: len(list)}}
	for _, v := range list {
		switch v.Status {
		case "pending":
			out.Summary.Pending++
		case "in_progress":
			out.Summary.InProgress++
		case "completed":
			out.Summary.Completed++
		case "cancelled":
			out.Summary.Cancelled++
		}
	}
	doc := jsondoc.Of(list)
	if err := t.chats.SetTasks(ctx, c.ChatID, doc); err != nil {
		return nil, err
	}
	c.Emit("chat:message:tasks", jsondoc.Object("tasks", doc))
	return out, nil
}
