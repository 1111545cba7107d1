package app

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/realtime/presence"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

type taskList struct {
	Tasks []string `json:"tasks"`
}

func (m *Module) tasks(*web.Call, web.None) (taskList, error) {
	return taskList{m.Turns.TaskIDs()}, nil
}

type taskIn struct {
	ID string `path:"task_id"`
}

func (m *Module) stopTask(c *web.Call, in taskIn) (turn.StopResult, error) {
	return m.Turns.Stop(c.Context(), in.ID), nil
}

type chatIn struct {
	ID string `path:"chat_id"`
}

type taskIDs struct {
	IDs []string `json:"task_ids"`
}

// temporarySession is the socket that a temporary chat lives in.
func temporarySession(chatID string) (sid string, temporary bool) {
	for _, prefix := range [...]string{"temporary:", "local:"} {
		if sid, ok := strings.CutPrefix(chatID, prefix); ok && sid != "" {
			return sid, true
		}
	}
	return "", false
}

// ownsSession says whether a socket is the caller's, or the caller may look at everybody's chats.
func (m *Module) ownsSession(p *auth.Principal, sid string) bool {
	if u, ok := m.Presence.SessionUser(sid); ok && u.ID == p.ID {
		return true
	}
	return p.IsAdmin() && m.Env.AdminChatAccess
}

func (m *Module) chatTasks(c *web.Call, in chatIn) (taskIDs, error) {
	none := taskIDs{IDs: []string{}}
	ids := m.Turns.ChatTaskIDs(in.ID)
	if len(ids) == 0 { // then it does not matter whose chat it is
		return none, nil
	}
	if sid, ok := temporarySession(in.ID); ok {
		if !m.ownsSession(c.Principal, sid) {
			return none, nil
		}
		return taskIDs{ids}, nil
	}
	if _, err := m.TurnStore.Chat(c.Context(), c.Principal, in.ID); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return none, nil
		}
		return none, err
	}
	ids, err := m.ownTasks(c, in.ID, ids)
	return taskIDs{ids}, err
}

// ownTasks are those of a chat's tasks that answer the caller.
func (m *Module) ownTasks(c *web.Call, chatID string, ids []string) ([]string, error) {
	own := []string{}
	if len(ids) == 0 {
		return own, nil
	}
	owners, owner, err := m.TurnStore.TaskOwners(c.Context(), chatID)
	if err != nil {
		return own, err
	}
	for _, id := range ids {
		asked, known := owners[id]
		if !known {
			asked = owner
		}
		if asked == c.UserID() {
			own = append(own, id)
		}
	}
	return own, nil
}

func (m *Module) stopChat(c *web.Call, in chatIn) (turn.StopResult, error) {
	var res turn.StopResult
	ctx := c.Context()
	if sid, ok := temporarySession(in.ID); ok {
		if !m.ownsSession(c.Principal, sid) {
			return res, web.Fail(http.StatusNotFound, web.TextNotFound)
		}
		ids := m.Turns.ChatTaskIDs(in.ID)
		for _, id := range ids {
			m.Turns.Stop(ctx, id)
		}
		if len(ids) == 0 {
			return turn.StopResult{Status: true, Message: "No tasks found for item " + in.ID + "."}, nil
		}
		return turn.StopResult{Status: true, Message: "All tasks for item " + in.ID + " stopped."}, nil
	}
	if _, err := m.TurnStore.Chat(ctx, c.Principal, in.ID); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = web.Fail(http.StatusNotFound, web.TextNotFound)
		}
		return res, err
	}
	ids, err := m.ownTasks(c, in.ID, m.Turns.ChatTaskIDs(in.ID))
	if err != nil {
		return res, err
	}
	for _, id := range ids {
		res = m.Turns.Stop(ctx, id)
	}
	if len(ids) > 0 {
		return res, nil
	}
	return m.finishWaiting(c, in.ID)
}

// finishWaiting ends the caller's answers that nothing works on any more: those that wait for an approval, or that were
// left by a server that died.
func (m *Module) finishWaiting(c *web.Call, chatID string) (turn.StopResult, error) {
	res := turn.StopResult{Status: true, Message: "No tasks found."}
	waiting, err := m.TurnStore.Unfinished(c.Context(), chatID, c.UserID())
	if err != nil {
		return res, err
	}
	for _, id := range slices.Sorted(maps.Keys(waiting)) {
		output := rejected(waiting[id].Get("output"))
		fields := jsondoc.Object("done", jsondoc.Doc("true"))
		if output.Kind() == '[' {
			fields = fields.Set(output, "output")
		}
		if err := m.TurnStore.Update(c.Context(), chatID, id, fields, false); err != nil {
			return res, err
		}
		res.Message = "Finalized pending approval message."
		done := jsondoc.Object("done", jsondoc.Doc("true")).Set(output.Or(jsondoc.Doc("null")), "output")
		m.emit(c, chatID, id, "chat:completion", done)
		m.emit(c, chatID, id, "chat:tasks:cancel", nil)
	}
	return res, nil
}

// rejected is an output in which no tool call waits any more; what is no list stays.
func rejected(output jsondoc.Doc) jsondoc.Doc {
	if output.Kind() != '[' {
		return output
	}
	items := output.List()
	for i, item := range items {
		if item.Text("type") == "function_call" && turn.AwaitsDecision(item.Text("status")) {
			items[i] = item.Set(jsondoc.Doc(`"rejected"`), "status").Delete("approved")
		}
	}
	return jsondoc.Array(items...)
}

// emit sends an event about a message to the caller's sockets and to those that have the chat open.
func (m *Module) emit(c *web.Call, chatID, messageID, kind string, data jsondoc.Doc) {
	event := jsondoc.Object("type", jsondoc.Text(kind))
	if data != nil {
		event = event.Set(data, "data")
	}
	var own, shared jsondoc.Builder
	for _, b := range [...]*jsondoc.Builder{&own, &shared} {
		b.Raw("chat_id", jsondoc.Text(chatID))
		b.Raw("message_id", jsondoc.Text(messageID))
	}
	own.Raw("data", event)
	m.Realtime.EmitRaw("user:"+c.UserID(), realtime.EncodeEvent("events", own.Done()))
	room := presence.ChatRoom(chatID)
	if !presence.SavedChat(chatID) || m.Realtime.RoomSize(room) == 0 {
		return
	}
	shared.Raw("user_id", jsondoc.Text(c.UserID()))
	shared.Raw("shared", jsondoc.Doc("true"))
	shared.Raw("data", event)
	m.Realtime.EmitRaw(room, realtime.EncodeEvent("events", shared.Done()))
}
