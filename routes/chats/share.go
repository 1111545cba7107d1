package chats

import (
	"net/http"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

// textInvalidToken is what strangers are told of a link that is not open to them.
const textInvalidToken = "Your session has expired or the token is invalid. Please sign in again."

// get answers with a chat that the caller may read.
func (m *Module) get(c *web.Call, in idIn) (web.Done, error) {
	ctx := c.Context()
	known, err := m.Access.Recall(ctx, c.UserID(), role(c), in.ID, chats.Read)
	if err != nil {
		return web.Done{}, orElse(err, errUnfound)
	}
	chat := known.Chat()
	var streams []chats.Stream
	if m.Tasks != nil {
		streams = m.Tasks.Streams(ctx, in.ID)
	}
	mode, err := m.modeFor(c, chat)
	if err != nil {
		return web.Done{}, err
	}
	v, err := known.View(ctx, chats.Viewer{ID: c.UserID(), Mode: mode, Repair: true, Streams: streams, Names: m.Users.Names})
	if err != nil {
		return web.Done{}, err
	}
	usage, err := m.contextUsage(ctx, chat)
	if err != nil {
		return web.Done{}, err
	}
	if chat.UserID != c.UserID() {
		chat.Variables = jsondoc.Doc("{}")
	}
	return answerView(c, chat, v, usage)
}

// modeFor is "continue" where the caller may write in a chat.
func (m *Module) modeFor(c *web.Call, chat *chats.Chat) (string, error) {
	if c.Principal == nil {
		return "", nil
	}
	ok, err := m.Access.Can(c.Context(), c.UserID(), role(c), chat, chats.Write)
	if ok {
		return "continue", err
	}
	return "", err
}

type shareIDIn struct {
	ShareID string `path:"share_id"`
}

// getShared answers with what is behind a link: the copy, or the chat itself where the caller may continue it.
func (m *Module) getShared(c *web.Call, in shareIDIn) (web.Done, error) {
	if c.Principal != nil && !c.Principal.IsVerified() {
		c.Principal = nil
	}
	chat, mode, live, err := m.behind(c, in.ShareID)
	if err != nil {
		return web.Done{}, err
	}
	v, err := chat.View(c.Context(), chats.Viewer{ID: c.UserID(), Mode: mode, Repair: live, Names: m.Users.Names})
	if err != nil {
		return web.Done{}, err
	}
	if chat.UserID != c.UserID() {
		chat.Variables = jsondoc.Doc("{}")
	}
	return answerView(c, chat, v, nil)
}

// behind finds what a link shows the caller: the chat or its copy (live false), and the share_mode of the answer.
func (m *Module) behind(c *web.Call, shareID string) (chat *chats.Chat, mode string, live bool, err error) {
	ctx := c.Context()
	shared, err := m.Store.Shared(ctx, shareID)
	if isMissing(err) {
		// administrators may put a chat's own id there
		if !m.readsAll(c) {
			return nil, "", false, errUnfound
		}
		if chat, err = m.Store.Get(ctx, shareID); err != nil {
			return nil, "", false, orElse(err, errUnfound)
		}
		mode, err = m.modeFor(c, chat)
		return chat, mode, true, err
	}
	if err != nil {
		return nil, "", false, err
	}
	ok, err := m.Grants.Anyone(ctx, chats.ResourceType, shared.ChatID)
	if err == nil && !ok && c.Principal != nil {
		ok, err = m.readsShared(c, shared)
	}
	if err != nil {
		return nil, "", false, err
	}
	if !ok {
		if c.Principal == nil {
			return nil, "", false, web.Fail(http.StatusUnauthorized, textInvalidToken)
		}
		return nil, "", false, errProhibited
	}
	if shared.Continues() && c.Principal != nil {
		chat, err := m.Access.Get(ctx, c.UserID(), role(c), shared.ChatID, chats.Write)
		if err == nil {
			return chat, "continue", true, nil
		}
		if !isMissing(err) {
			return nil, "", false, err
		}
	}
	return shared.Chat(), "", false, nil
}

// readsShared says whether the caller was given a copy to read.
func (m *Module) readsShared(c *web.Call, s *chats.Shared) (bool, error) {
	if m.readsAll(c) || s.UserID == c.UserID() {
		return true, nil
	}
	return m.Grants.Can(c.Context(), c.UserID(), chats.ResourceType, s.ChatID, access.Read)
}

type shareForm struct {
	Mode web.Opt[string] `json:"share_mode" enum:"continue"`
}

// mode is the raw share_mode that was sent, nil where none was.
func (f *shareForm) mode() jsondoc.Doc {
	switch {
	case f == nil || !f.Mode.Set:
		return nil
	case f.Mode.Null:
		return jsondoc.Doc("null")
	}
	return jsondoc.Text(f.Mode.V)
}

type shareIn struct {
	ID   string `path:"id"`
	Body *shareForm
}

func (m *Module) share(c *web.Call, in shareIn) (web.Done, error) {
	if !c.IsAdmin() {
		if err := m.need(c, "chat.share", errProhibited); err != nil {
			return web.Done{}, err
		}
	}
	if err := m.owned(c, in.ID, errProhibited); err != nil {
		return web.Done{}, err
	}
	chat, renewed, err := m.Store.Share(c.Context(), in.ID, in.Body.mode())
	if err != nil {
		return web.Done{}, orElse(err, errProhibited)
	}
	if renewed {
		chat.Doc = chats.Repaired(chat.Doc)
		m.publish(c, "chat.shared", in.ID, "share_id", chat.ShareID, "updated", true)
	} else {
		m.publish(c, "chat.shared", in.ID, "share_id", chat.ShareID)
	}
	return answer(c, chat)
}

func (m *Module) unshare(c *web.Call, in idIn) (bool, error) {
	chat, err := m.Store.HeadOwned(c.Context(), in.ID, c.UserID())
	if err != nil {
		return false, orElse(err, errProhibited)
	}
	err = m.Store.Unshare(c.Context(), in.ID, func(tx *store.Tx) error {
		return m.Grants.DeleteGrants(c.Context(), tx, chats.ResourceType, in.ID)
	})
	if err != nil {
		return false, err
	}
	m.publish(c, "chat.unshared", in.ID, "share_id", chat.ShareID)
	return true, nil
}

func (m *Module) unshareAll(c *web.Call, _ web.None) (bool, error) {
	ids, err := m.Store.UnshareAll(c.Context(), c.UserID(), func(tx *store.Tx, chatIDs []string) error {
		if len(chatIDs) == 0 {
			return nil
		}
		return m.Grants.DeleteGrants(c.Context(), tx, chats.ResourceType, chatIDs...)
	})
	if err != nil {
		return false, err
	}
	m.publish(c, "chat.unshared", c.UserID(), "count", len(ids), "chat_ids", append([]string{}, ids...))
	return true, nil
}

type sharedItem struct {
	ID        string `json:"id"`
	ChatID    string `json:"chat_id"`
	Title     string `json:"title"`
	ShareID   string `json:"share_id"`
	UpdatedAt int64  `json:"updated_at"`
	CreatedAt int64  `json:"created_at"`
}

func (m *Module) sharedList(c *web.Call, in filterIn) ([]sharedItem, error) {
	f, p := in.filter()
	list, err := m.Store.SharedList(c.Context(), c.UserID(), f, p)
	out := make([]sharedItem, len(list))
	for i, s := range list {
		out[i] = sharedItem{s.ChatID, s.ChatID, s.Title, s.ID, s.UpdatedAt, s.CreatedAt}
	}
	return out, err
}

// grantable finds a chat whose sharing the caller may see and change.
func (m *Module) grantable(c *web.Call, id string) error {
	chat, err := m.Store.Head(c.Context(), id)
	if err == nil && chat.UserID != c.UserID() && !m.readsAll(c) {
		err = store.ErrNotFound
	}
	return orElse(err, errNotFound)
}

type shareAccessIn struct {
	ID   string `path:"id"`
	Body struct {
		Grants []web.Dict      `json:"access_grants"`
		Mode   web.Opt[string] `json:"share_mode" enum:"continue"`
	}
}

func (m *Module) setShareAccess(c *web.Call, in shareAccessIn) (web.Done, error) {
	ctx := c.Context()
	if err := m.grantable(c, in.ID); err != nil {
		return web.Done{}, err
	}
	grants := access.GrantsOf(in.Body.Grants)
	if ok, err := m.Grants.MayGive(ctx, c.Principal.User, chats.ResourceType, grants); err != nil || !ok {
		return web.Done{}, either(err, web.Fail(http.StatusForbidden, access.TextAudience))
	}
	var chat *chats.Chat
	err := m.Store.InTx(ctx, func(tx *store.Tx) (err error) {
		if _, err := m.Grants.SetGrants(ctx, tx, chats.ResourceType, in.ID, grants); err != nil {
			return err
		}
		if chat, err = m.Store.GetTx(ctx, tx, in.ID); err != nil || !in.Body.Mode.Set || chat.ShareID == nil {
			return err
		}
		f := shareForm{Mode: in.Body.Mode}
		return m.Store.SetShareMode(ctx, tx, *chat.ShareID, f.mode())
	})
	if err != nil {
		return web.Done{}, orElse(err, errNotFound)
	}
	if m.AccessChanged != nil {
		m.AccessChanged(ctx, in.ID)
	}
	chat.Doc = chats.Repaired(chat.Doc)
	return answer(c, chat)
}

func (m *Module) shareAccess(c *web.Call, in idIn) ([]access.Slim, error) {
	if err := m.grantable(c, in.ID); err != nil {
		return nil, err
	}
	grants, err := m.Grants.Grants(c.Context(), chats.ResourceType, in.ID)
	return access.Slims(grants[in.ID]), err
}
