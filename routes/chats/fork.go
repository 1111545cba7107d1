package chats

import (
	"net/http"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

type forkIn struct {
	ID   string `path:"id"`
	Body *struct {
		MessageID web.Opt[string] `json:"message_id"`
	}
}

const textForkBusy = "Wait for the current response to finish before forking."

// fork makes a chat of the branch that ends in a message.
func (m *Module) fork(c *web.Call, in forkIn) (web.Done, error) {
	if err := m.mayImport(c); err != nil {
		return web.Done{}, err
	}
	ctx := c.Context()
	snapshot := false
	chat, err := m.Access.Get(ctx, c.UserID(), role(c), in.ID, chats.Read)
	if isMissing(err) {
		var live bool
		chat, _, live, err = m.behind(c, in.ID)
		snapshot = !live
	}
	if err != nil {
		return web.Done{}, err
	}
	owner := chat.UserID == c.UserID()
	if !snapshot && m.active([]string{chat.ID})[chat.ID] {
		return web.Done{}, web.Fail(http.StatusConflict, textForkBusy)
	}
	if !snapshot {
		chat.Doc = chats.Repaired(chat.Doc)
	}
	source := ""
	if in.Body != nil {
		source = in.Body.MessageID.Or("")
	}
	if source == "" && chat.CurrentMessageID != nil {
		source = *chat.CurrentMessageID
	}
	if source == "" {
		source = chat.Doc.Text("history", "currentId")
	}
	if source == "" {
		return web.Done{}, web.Fail(http.StatusBadRequest, "chat has no messages to fork")
	}
	messages := chats.HistoryMap(chat.Doc)
	if !snapshot {
		rows, err := m.Store.Messages(ctx, chat.ID)
		if err != nil {
			return web.Done{}, err
		}
		if rows.Len() > 0 {
			messages = rows
		}
	}
	doc, err := chats.Fork(chat, messages, source)
	if err != nil {
		status := http.StatusBadRequest
		if err == chats.ErrNoMessage {
			status = http.StatusNotFound
		}
		return web.Done{}, web.Fail(status, err.Error())
	}
	n := chats.NewChat{UserID: c.UserID(), Doc: doc, Meta: jsondoc.Doc("{}")}
	if owner {
		n.Meta, n.Variables, n.Pinned = chat.Meta, chat.Variables, chat.Pinned != nil && *chat.Pinned
		if n.FolderID = chat.FolderID; n.FolderID != nil {
			if ok, err := m.FolderRules.CanWrite(ctx, c.UserID(), *n.FolderID); err != nil {
				return web.Done{}, err
			} else if !ok {
				n.FolderID = nil
			}
		}
	} else if n.Doc, err = m.takeOver(c, chat, doc); err != nil {
		return web.Done{}, err
	}
	n.Meta = n.Meta.Set(jsondoc.Text(chat.ID), "forked_from").Set(jsondoc.Text(source), "forked_from_message_id")
	if err := m.mayCreate(c); err != nil {
		return web.Done{}, err
	}
	made, err := m.Store.Insert(ctx, n)
	if err != nil {
		return web.Done{}, err
	}
	m.publish(c, "chat.cloned", made.ID, "original_chat_id", in.ID, "forked_from_message_id", source)
	return answer(c, made)
}

// takeOver makes a document of somebody else's chat the caller's: private members go, and what the owner said is the
// caller's now.
func (m *Module) takeOver(c *web.Call, chat *chats.Chat, doc jsondoc.Doc) (jsondoc.Doc, error) {
	copied := *chat
	copied.Doc = doc
	v, err := copied.View(c.Context(), chats.Viewer{ID: c.UserID(), Mode: "-", Names: m.Users.Names})
	if err != nil {
		return nil, err
	}
	return chats.Reassign(v.Doc(), chat.UserID, *author(c)), nil
}

type cloneIn struct {
	ID   string `path:"id"`
	Body struct {
		Title web.Opt[string] `json:"title"`
	}
}

// branded are the members that say where a copied document comes from.
func branded(chat *chats.Chat, doc jsondoc.Doc, title string) jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("originalChatId", chat.ID)
	b.Raw("branchPointMessageId", doc.Get("history", "currentId"))
	b.Add("title", title)
	return doc.Merge(b.Done())
}

func (m *Module) clone(c *web.Call, in cloneIn) (web.Done, error) {
	if err := m.mayImport(c); err != nil {
		return web.Done{}, err
	}
	chat, err := m.Store.GetOwned(c.Context(), in.ID, c.UserID())
	if err != nil {
		return web.Done{}, orElse(err, errDefault)
	}
	title := in.Body.Title.Or("")
	if title == "" {
		title = "Clone of " + chat.Title
	}
	made, err := m.bringIn(c, []chats.NewChat{{UserID: c.UserID(), Doc: chats.Owned(branded(chat, chats.Repaired(chat.Doc), title), c.UserID()), Meta: chat.Meta, Variables: chat.Variables,
		Pinned: chat.Pinned != nil && *chat.Pinned, FolderID: chat.FolderID}})
	if err != nil {
		return web.Done{}, err
	}
	m.publish(c, "chat.cloned", made[0].ID, "original_chat_id", in.ID)
	return answer(c, made[0])
}

func (m *Module) cloneShared(c *web.Call, in idIn) (web.Done, error) {
	if err := m.mayImport(c); err != nil {
		return web.Done{}, err
	}
	ctx := c.Context()
	chat, err := m.sharedSource(c, in.ID)
	if err != nil {
		return web.Done{}, err
	}
	v, err := chat.View(ctx, chats.Viewer{ID: c.UserID(), Mode: "-", Names: m.Users.Names})
	if err != nil {
		return web.Done{}, err
	}
	doc := chats.Reassign(branded(chat, v.Doc(), "Clone of "+chat.Title), chat.UserID, *author(c))
	made, err := m.bringIn(c, []chats.NewChat{{UserID: c.UserID(), Doc: chats.Owned(doc, c.UserID()), Meta: chat.Meta, Pinned: chat.Pinned != nil && *chat.Pinned}})
	if err != nil {
		return web.Done{}, err
	}
	return answer(c, made[0])
}

// sharedSource finds what a link's clone is made of.
func (m *Module) sharedSource(c *web.Call, id string) (*chats.Chat, error) {
	ctx := c.Context()
	shared, err := m.Store.Shared(ctx, id)
	switch {
	case isMissing(err):
		if !m.readsAll(c) {
			return nil, errUnfound
		}
		chat, err := m.Store.Get(ctx, id)
		if err != nil {
			return nil, orElse(err, errUnfound)
		}
		chat.Doc = chats.Repaired(chat.Doc)
		return chat, nil
	case err != nil:
		return nil, err
	}
	given, err := m.readsShared(c, shared)
	if err != nil {
		return nil, err
	}
	if !given {
		if open, err := m.Grants.Anyone(ctx, chats.ResourceType, shared.ChatID); err != nil || !open {
			return nil, either(err, errProhibited)
		}
	}
	if !shared.Continues() || !given {
		return shared.Chat(), nil
	}
	chat, err := m.Store.Get(ctx, shared.ChatID)
	if err != nil {
		return nil, orElse(err, errUnfound)
	}
	chat.Doc = chats.Repaired(chat.Doc)
	return chat, nil
}
