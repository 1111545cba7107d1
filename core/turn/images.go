package turn

import (
	"context"
	"regexp"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// inlineImages puts images into the request in place of their addresses, which providers cannot reach. What cannot be had
// is left for the provider to find fault with.
func (e *Engine) inlineImages(ctx context.Context, t *Turn) error {
	e.inlineAll(ctx, t, t.messages)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (e *Engine) inlineAll(ctx context.Context, t *Turn, ms []message) {
	if e.Images == nil {
		return
	}
	for i, m := range ms {
		parts := m.Get("content")
		if parts.Kind() != '[' {
			continue
		}
		changed := false
		list := parts.List()
		for k, part := range list {
			if inlined := e.inlinePart(ctx, t, part); inlined != nil {
				list[k], changed = inlined, true
			}
		}
		if changed {
			ms[i] = m.Clone()
			ms[i].Set("content", jsondoc.Array(list...))
		}
	}
}

// inlinePart is a part of a message with its image in it, nil where there is nothing to do.
func (e *Engine) inlinePart(ctx context.Context, t *Turn, part jsondoc.Doc) jsondoc.Doc {
	kind := part.Text("type")
	if kind != "image_url" && kind != "input_image" {
		return nil
	}
	v := part.Get("image_url")
	address, plain := v.AsText()
	if !plain {
		address = v.Text("url")
	}
	if address == "" || strings.HasPrefix(address, "data:image/") {
		return nil
	}
	data, ok := e.Images.Inline(ctx, t.p, address)
	switch {
	case !ok:
		return nil
	case plain:
		return part.Set(jsondoc.Text(data), "image_url")
	}
	image := jsondoc.Object("url", jsondoc.Text(data))
	if detail := v.Get("detail"); detail.Truthy() {
		image = image.Set(detail, "detail")
	}
	return jsondoc.Object("type", part.Get("type")).Set(image, "image_url")
}

// madeImage matches the beginning of an image that comes with the answer and not by its address.
var madeImage = regexp.MustCompile(`^data:image/\w+;base64`)

// showImages shows the images that a model has made, and keeps them with the answer. One that cannot be kept is left out.
func (e *Engine) showImages(ctx context.Context, t *Turn, images jsondoc.Doc) {
	var files []jsondoc.Doc
	images.Items(func(_ int, image jsondoc.Doc) bool {
		address := image.Text("image_url", "url")
		if image.Text("type") != "image_url" || address == "" {
			return true
		}
		if madeImage.MatchString(address) {
			if address = e.keepImage(ctx, t, address); address == "" {
				return true
			}
		}
		files = append(files, jsondoc.Object("type", jsondoc.Doc(`"image"`)).Set(jsondoc.Text(address), "url"))
		return true
	})
	if len(files) == 0 {
		return
	}
	all := jsondoc.Array(files...)
	if savedChat(t.chatID) {
		err := e.Store.SaveEvent(ctx, t.chatID, t.messageID, "files", jsondoc.Object("files", all))
		var m jsondoc.Doc
		if err == nil {
			m, err = e.Store.Message(ctx, t.chatID, t.messageID)
		}
		if err != nil {
			e.Log.WarnContext(ctx, "images of an answer were not stored", "chat", t.chatID, "error", err)
		}
		if stored := m.Get("files"); stored.Truthy() {
			all = stored
		}
	}
	t.em.emit("chat:message:files", jsondoc.Object("files", all))
}

// keepImage stores an image as a file and gives its address, "" where that fails.
func (e *Engine) keepImage(ctx context.Context, t *Turn, data string) string {
	if e.Images == nil {
		return ""
	}
	address, id, err := e.Images.Keep(ctx, t.p, data)
	if err == nil && savedChat(t.chatID) {
		err = e.Store.AddFiles(ctx, t.chatID, t.messageID, t.p.User, []string{id})
	}
	if err != nil {
		e.Log.WarnContext(ctx, "an image of an answer was not kept", "chat", t.chatID, "error", err)
	}
	return address
}

// namesFiles says whether questions say which files they came with: the model can look at them by the server's own tools,
// in the person's own chat.
func (e *Engine) namesFiles(t *Turn) bool {
	return t.chat != nil && t.chat.UserID == t.p.ID && t.wantsBuiltins()
}

// nameFiles puts what files a question came with before it.
func nameFiles(m message) {
	var tags []string
	m.Get("files").Items(func(_ int, f jsondoc.Doc) bool {
		url, id := f.Text("url"), f.Text("id")
		if url != "" && !strings.HasPrefix(url, "data:") || f.Text("type") == "chat" && id != "" {
			tags = append(tags, fileTag(f, id, url))
		}
		return true
	})
	if len(tags) == 0 {
		return
	}
	text := "<attached_files>\n" + strings.Join(tags, "\n") + "\n</attached_files>\n\n"
	if c := m.Get("content"); c.Kind() == '[' {
		m.Set("content", jsondoc.Array(append([]jsondoc.Doc{textPart(text)}, c.List()...)...))
	} else {
		s, _ := c.AsText()
		m.Set("content", jsondoc.Text(text+s))
	}
}

func fileTag(f jsondoc.Doc, id, url string) string {
	kind := "file"
	if v := f.Get("type"); v != nil {
		kind, _ = v.AsText()
	}
	if id == "" {
		id = url
	}
	tag := `<file type="` + kind + `" id="` + id + `"`
	if url != "" {
		tag += ` url="` + url + `"`
	}
	for _, name := range []string{"content_type", "name"} {
		if s := f.Text(name); s != "" {
			tag += " " + name + `="` + s + `"`
		}
	}
	return tag + "/>"
}
