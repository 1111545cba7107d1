package chats

import (
	"net/http"
	"slices"

	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/tags"
	"github.com/galleychat/galley/core/web"
)

type tagIn struct {
	ID   string `path:"id"`
	Body struct {
		Name string `json:"name"`
	}
}

func (m *Module) tags(c *web.Call, in idIn) ([]tags.Tag, error) {
	chat, err := m.Store.Head(c.Context(), in.ID)
	if err != nil {
		return nil, orElse(err, errUnfound)
	}
	if ok, err := m.Access.Can(c.Context(), c.UserID(), role(c), chat, chats.Read); err != nil || !ok {
		return nil, either(err, errUnfound)
	}
	return m.Store.TagsByIDs(c.Context(), chat.UserID, chat.Tags())
}

func (m *Module) tagsNow(c *web.Call, id string) ([]tags.Tag, error) {
	chat, err := m.Store.Head(c.Context(), id)
	if err != nil {
		return nil, orElse(err, errUnfound)
	}
	return m.Store.TagsByIDs(c.Context(), c.UserID(), chat.Tags())
}

func (m *Module) addTag(c *web.Call, in tagIn) ([]tags.Tag, error) {
	chat, err := m.Store.HeadOwned(c.Context(), in.ID, c.UserID())
	if err != nil {
		return nil, orElse(err, errDefault)
	}
	id := tags.ID(in.Body.Name)
	if id == "none" {
		return nil, web.Fail(http.StatusBadRequest, web.TextDetail("Tag name cannot be 'None'"))
	}
	if !slices.Contains(chat.Tags(), id) {
		if err := m.Store.AddTag(c.Context(), in.ID, c.UserID(), in.Body.Name); err != nil {
			return nil, orElse(err, errDefault)
		}
		m.publish(c, "chat.tag_added", in.ID, "tag", in.Body.Name)
	}
	return m.tagsNow(c, in.ID)
}

func (m *Module) removeTag(c *web.Call, in tagIn) ([]tags.Tag, error) {
	if err := m.owned(c, in.ID, errUnfound); err != nil {
		return nil, err
	}
	if err := m.Store.RemoveTag(c.Context(), in.ID, c.UserID(), in.Body.Name); err != nil {
		return nil, orElse(err, errUnfound)
	}
	m.publish(c, "chat.tag_removed", in.ID, "tag", in.Body.Name)
	return m.tagsNow(c, in.ID)
}
