package files

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/web"
)

// Retrieval is the part of the tag "retrieval" that works without an index: reading files that were stored unread. It is
// mounted at /api/v1/retrieval.
func (m *Module) Retrieval() web.Module { return retrieval{m} }

type retrieval struct{ m *Module }

// Name implements web.Module.
func (retrieval) Name() string { return "retrieval" }

// Routes implements web.Module.
func (r retrieval) Routes(g *web.Group) {
	g.Add("POST /process/file", web.JSON(auth.Verified, r.m.processFile))
}

type processIn struct {
	Body struct {
		FileID         string          `json:"file_id"`
		Content        web.Opt[string] `json:"content"`
		CollectionName web.Opt[string] `json:"collection_name"`
	}
}

type processOut struct {
	Status         bool        `json:"status"`
	CollectionName *string     `json:"collection_name"`
	Filename       string      `json:"filename"`
	Content        jsondoc.Doc `json:"content"`
}

// processFile reads a file's text, or takes the content sent for it. Collections other than the file's own belong to
// knowledge bases, of which there are none.
func (m *Module) processFile(c *web.Call, in processIn) (*processOut, error) {
	f, err := m.find(c, in.Body.FileID, files.Write)
	if err != nil {
		return nil, err
	}
	collection := "file-" + f.ID
	if in.Body.CollectionName.Or(collection) != collection {
		return nil, errNotFound
	}
	var done *files.File
	if content := in.Body.Content.Or(""); content != "" {
		done, err = m.keep(c.Context(), f.ID, content)
	} else {
		done, err = m.index(c.Context(), f)
	}
	if err == nil && done == nil {
		err = reason{errEmptyText}
	}
	var r reason
	switch {
	case errors.As(err, &r), errors.Is(err, errEmptyText):
		m.processed(c.Context(), c.Principal.User, f, err)
		return nil, web.Because(http.StatusBadRequest, err.Error(), err)
	case err != nil:
		return nil, missing(err)
	}
	m.processed(c.Context(), c.Principal.User, f, nil)
	out := &processOut{Status: true, Filename: done.Filename, Content: textOf(done).Content}
	if !config.RAGBypassEmbeddingAndRetrieval.Get(m.Settings.Snapshot()) {
		out.CollectionName = &collection
	}
	return out, nil
}
