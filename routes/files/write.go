package files

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/web"
)

type setTextIn struct {
	ID   string `path:"id"`
	Body struct {
		Content string `json:"content"`
	}
}

// setText replaces a file's text; what was uploaded stays.
func (m *Module) setText(c *web.Call, in setTextIn) (*textOut, error) {
	f, err := m.find(c, in.ID, files.Write)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(in.Body.Content) == "" {
		return nil, errEmpty
	}
	if err := CheckSize(m.Settings.Snapshot(), int64(len(in.Body.Content))); err != nil {
		return nil, err
	}
	if f, err = m.keep(c.Context(), f.ID, in.Body.Content); err != nil {
		return nil, missing(err)
	}
	m.processed(c.Context(), c.Principal.User, f, nil)
	m.publish(c, "file.content_updated", f.ID, "content_preview", preview(in.Body.Content))
	return textOf(f), nil
}

// preview is the beginning of a text, at most 300 characters.
func preview(text string) string {
	n := 0
	for i := range text {
		if n++; n > 300 {
			return text[:i]
		}
	}
	return text
}

type renameIn struct {
	ID   string `path:"id"`
	Body struct {
		Filename string `json:"filename"`
	}
}

func (m *Module) rename(c *web.Call, in renameIn) (*files.File, error) {
	f, err := m.find(c, in.ID, files.Write)
	if err != nil {
		return nil, err
	}
	if f, err = m.Files.Update(c.Context(), f.ID, files.Change{Name: &in.Body.Filename}); err != nil {
		return nil, missing(err)
	}
	m.publish(c, "file.renamed", f.ID, "filename", f.Filename)
	return f, nil
}

type messageOut struct {
	Message string `json:"message"`
}

func (m *Module) delete(c *web.Call, in idIn) (*messageOut, error) {
	f, err := m.find(c, in.ID, files.Write)
	if err != nil {
		return nil, err
	}
	if err := m.Files.Delete(c.Context(), f.ID); err != nil {
		return nil, missing(err)
	}
	if f.Path != nil {
		if err := m.Folder.Remove(*f.Path); err != nil {
			return nil, errDelete(err)
		}
	}
	m.publish(c, "file.deleted", f.ID, "filename", f.Filename)
	return &messageOut{"File deleted successfully"}, nil
}

func (m *Module) deleteAll(c *web.Call, _ web.None) (*messageOut, error) {
	if err := m.Files.DeleteAll(c.Context()); err != nil {
		return nil, err
	}
	if err := m.Folder.Clear(); err != nil {
		return nil, errDelete(err)
	}
	m.publish(c, "file.deleted_all", "")
	return &messageOut{"All files deleted successfully"}, nil
}

func errDelete(err error) error {
	return web.Because(http.StatusBadRequest, web.TextDetail("Error deleting files"), fmt.Errorf("delete content: %w", err))
}
