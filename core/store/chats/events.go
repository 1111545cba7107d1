package chats

import (
	"context"
	"errors"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// SaveEvent keeps what an event of a message says: "status", "message" (more content), "replace", "embeds", "files" and
// "source" or "citation". Events of other types, and those of unknown chats, are not kept.
func (s *Store) SaveEvent(ctx context.Context, chatID, messageID, kind string, data jsondoc.Doc) error {
	err := s.saveEvent(ctx, chatID, messageID, kind, data)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (s *Store) saveEvent(ctx context.Context, chatID, messageID, kind string, data jsondoc.Doc) error {
	put := func(name string, v jsondoc.Doc, touch bool) error {
		_, err := s.UpsertMessage(ctx, chatID, messageID, jsondoc.Object(name, v), touch)
		return err
	}
	list := func(name string, add []jsondoc.Doc, first bool) error {
		have, err := s.MessageList(ctx, chatID, messageID, name)
		if err != nil {
			return err
		}
		if first {
			add = append(add, have.List()...)
		} else {
			add = append(have.List(), add...)
		}
		return put(name, jsondoc.Array(add...), false)
	}
	switch kind {
	case "status":
		return s.AddStatus(ctx, chatID, messageID, data)
	case "message":
		m, err := s.Message(ctx, chatID, messageID)
		if err != nil || !m.Truthy() {
			return err
		}
		return put("content", jsondoc.Text(m.Text("content")+data.Text("content")), true)
	case "replace":
		return put("content", data.Get("content").Or(jsondoc.Doc(`""`)), true)
	case "embeds":
		if data.Get("replace").Truthy() {
			return put("embeds", jsondoc.Array(data.Get("embeds").List()...), false)
		}
		return list("embeds", data.Get("embeds").List(), true)
	case "files":
		return list("files", data.Get("files").List(), true)
	case "source", "citation":
		if data.Get("type").IsNull() {
			return list("sources", []jsondoc.Doc{data}, false)
		}
	}
	return nil
}
