package chats

import (
	"strings"

	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/store/tags"
	"github.com/galleychat/galley/core/web"
)

type searchIn struct {
	Text string       `query:"text"`
	Page web.Opt[int] `query:"page"`
}

func (m *Module) search(c *web.Call, in searchIn) (web.Done, error) {
	ctx := c.Context()
	number := in.Page.Or(1)
	q := chats.ParseQuery(in.Text)
	q.UserID, q.Page = c.UserID(), page(number, pageSize)
	if len(q.FolderNames) > 0 {
		ids, err := m.Folders.SearchNames(ctx, c.UserID(), q.FolderNames)
		if err != nil {
			return web.Done{}, err
		}
		q.FolderIDs = ids
	}
	found, err := m.Store.Search(ctx, q)
	if err != nil {
		return web.Done{}, err
	}
	if err := m.dropUnusedTag(c, in.Text, number, len(found)); err != nil {
		return web.Done{}, err
	}
	list := make([]item, len(found))
	for i, f := range found {
		list[i] = item{Head: f.Head, snippet: f.Snippet, archived: f.Archived}
	}
	if err := m.markActive(c, list); err != nil {
		return web.Done{}, err
	}
	return answerItems(c, list)
}

// dropUnusedTag deletes a tag that was looked for alone and that no chat has.
func (m *Module) dropUnusedTag(c *web.Call, text string, number, found int) error {
	words := strings.Split(strings.TrimSpace(text), " ")
	if number != 1 || found > 0 || len(words) != 1 || !strings.HasPrefix(words[0], "tag:") {
		return nil
	}
	id := tags.ID(strings.ReplaceAll(words[0], "tag:", ""))
	return m.Store.DeleteOrphanTags(c.Context(), c.UserID(), []string{id}, 0)
}
