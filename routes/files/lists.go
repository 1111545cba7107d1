package files

import (
	"net/http"

	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/web"
)

const pageSize = 50

type listIn struct {
	Page    int  `query:"page" default:"1" ge:"1"`
	Content bool `query:"content" default:"true"`
}

type listOut struct {
	Items []response `json:"items"`
	Total int        `json:"total"`
}

// scope is whose files the caller lists: "" for all.
func (m *Module) scope(c *web.Call) string {
	if c.IsAdmin() && m.AdminsSeeAll {
		return ""
	}
	return c.UserID()
}

func (m *Module) list(c *web.Call, in listIn) (*listOut, error) {
	q := files.Query{UserID: m.scope(c), Offset: (in.Page - 1) * pageSize, Limit: pageSize}
	total, err := m.Files.Count(c.Context(), q)
	if err != nil {
		return nil, err
	}
	list, err := m.Files.List(c.Context(), q)
	if err != nil {
		return nil, err
	}
	return &listOut{respondAll(list, in.Content), total}, nil
}

type searchIn struct {
	Filename string `query:"filename"`
	Content  bool   `query:"content" default:"true"`
	Skip     int    `query:"skip" default:"0" ge:"0"`
	Limit    int    `query:"limit" default:"100" ge:"1" le:"1000"`
}

func (m *Module) search(c *web.Call, in searchIn) ([]response, error) {
	list, err := m.Files.List(c.Context(), files.Query{UserID: m.scope(c), Glob: in.Filename, Offset: in.Skip, Limit: in.Limit, Newest: true})
	if err == nil && len(list) == 0 {
		err = web.Fail(http.StatusNotFound, textNone)
	}
	return respondAll(list, in.Content), err
}

type searchOwnIn struct {
	Filename string `query:"filename" default:"*"`
	Content  bool   `query:"content" default:"false"`
	Skip     int    `query:"skip" default:"0" ge:"0"`
	Limit    int    `query:"limit" default:"50" ge:"1" le:"1000"`
}

func (m *Module) searchOwn(c *web.Call, in searchOwnIn) ([]response, error) {
	list, err := m.Files.List(c.Context(), files.Query{UserID: c.UserID(), Glob: in.Filename, Offset: in.Skip, Limit: in.Limit, Newest: true})
	return respondAll(list, in.Content), err
}

func (m *Module) count(c *web.Call, _ web.None) (int, error) {
	return m.Files.Count(c.Context(), files.Query{UserID: m.scope(c)})
}

func (m *Module) countOwn(c *web.Call, _ web.None) (int, error) {
	return m.Files.Count(c.Context(), files.Query{UserID: c.UserID()})
}
