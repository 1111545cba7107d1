// Package files serves uploaded files: the tag "files", mounted at /api/v1/files.
//
// Files whose format is text are read (see plaintext) and their text is kept with them, for chats to attach. There is no
// index of embeddings yet, and no extractor: documents of other formats, images and sound are stored, their state is
// "failed" with the reason, as in the reference without an extractor.
package files

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Users finds the owners of files; *users.Store has it.
type Users interface {
	ByID(ctx context.Context, id string) (*users.User, error)
}

// Deps are what the module works with.
type Deps struct {
	Files        *files.Store
	Access       *files.Access
	Folder       *files.Folder
	Users        Users
	Settings     *config.Settings
	AdminsSeeAll bool // administrators list everybody's files (BYPASS_ADMIN_ACCESS_CONTROL)
	Log          *slog.Logger
	Events       *events.Bus
}

// Module is the tag "files". Drain waits for files that are being read.
type Module struct {
	Deps
	slots chan struct{} // bounds the files that are read at a time
	work  sync.WaitGroup
	life  context.Context
	stop  context.CancelFunc
}

// atOnce is how many files are read at a time: each is in memory as a whole.
const atOnce = 2

// New makes the module.
func New(d Deps) *Module {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	m := &Module{Deps: d, slots: make(chan struct{}, atOnce)}
	m.life, m.stop = context.WithCancel(context.Background())
	return m
}

// Name implements web.Module.
func (m *Module) Name() string { return "files" }

// Drain waits until the files that were uploaded are read, or until the context ends.
func (m *Module) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		m.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		m.stop()
		<-done
		return ctx.Err()
	}
}

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("POST /", web.JSON(auth.Verified, m.upload))
	g.Add("GET /", web.JSON(auth.Verified, m.list))
	g.Add("GET /search", web.JSON(auth.Verified, m.search))
	g.Add("GET /user/search", web.JSON(auth.Verified, m.searchOwn))
	g.Add("GET /count", web.JSON(auth.Verified, m.count))
	g.Add("GET /user/count", web.JSON(auth.Verified, m.countOwn))
	g.Add("DELETE /all", web.JSON(auth.Admin, m.deleteAll))
	g.Add("GET /{id}", web.JSON(auth.Verified, m.get))
	g.Add("DELETE /{id}", web.JSON(auth.Verified, m.delete))
	g.Add("POST /{id}/rename", web.JSON(auth.Verified, m.rename))
	g.Add("GET /{id}/process/status", web.JSON(auth.Verified, m.status))
	g.Add("GET /{id}/data/content", web.JSON(auth.Verified, m.text))
	g.Add("POST /{id}/data/content/update", web.JSON(auth.Verified, m.setText))
	g.Add("GET /{id}/content", web.JSON(auth.Verified, m.content))
	g.Add("GET /{id}/content/html", web.JSON(auth.Verified, m.page))
	g.Add("GET /{id}/content/{file_name}", web.JSON(auth.Verified, m.download))
}

// Texts of the reference.
const (
	textEmpty  = "The content provided is empty. Please ensure that there is text or data present before proceeding."
	textAbsent = "Original file is unavailable."
	textNone   = "No files found matching the pattern."
)

var errNotFound = web.Fail(http.StatusNotFound, web.TextNotFound)

type idIn struct {
	ID string `path:"id"`
}

// find gives a file that the caller may read or write; others find nothing.
func (m *Module) find(c *web.Call, id, permission string) (*files.File, error) {
	f, err := m.Files.Get(c.Context(), id)
	if err != nil {
		return nil, missing(err)
	}
	if c.IsAdmin() {
		return f, nil
	}
	ok, err := m.Access.Can(c.Context(), c.Principal.User, f, permission)
	if err == nil && !ok {
		err = errNotFound
	}
	return f, err
}

func missing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errNotFound
	}
	return err
}

// publish tells of what the caller did to a file, "" for all, with pairs of a name and a value.
func (m *Module) publish(c *web.Call, name, id string, pairs ...any) {
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectType: "file", SubjectID: id, Data: events.Pairs(pairs)})
}

// response is a file as lists and uploads answer with it.
type response struct {
	ID        string      `json:"id"`
	UserID    string      `json:"user_id"`
	Hash      *string     `json:"hash"`
	Filename  string      `json:"filename"`
	Data      jsondoc.Doc `json:"data"`
	Meta      jsondoc.Doc `json:"meta"`
	CreatedAt *int64      `json:"created_at"`
	UpdatedAt *int64      `json:"updated_at"`
	Status    bool        `json:"status,omitzero"` // of an upload that will be read
	Path      *string     `json:"path,omitzero"`   // of an upload that will be read
}

func respond(f *files.File, content bool) response {
	r := response{ID: f.ID, UserID: f.UserID, Hash: f.Hash, Filename: f.Filename, Data: f.Data, Meta: metaForm(f.Meta), CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt}
	if !content {
		r.Data = r.Data.Delete("content")
	}
	return r
}

func respondAll(list []*files.File, content bool) []response {
	out := make([]response, len(list))
	for i, f := range list {
		out[i] = respond(f, content)
	}
	return out
}

// metaForm puts the three members first that every file's meta has; a content type that is no text is null, and a size
// that is no number.
func metaForm(meta jsondoc.Doc) jsondoc.Doc {
	if meta.Kind() != '{' {
		return nil
	}
	o := jsondoc.Open(meta)
	var b jsondoc.Builder
	b.Raw("name", o.Pop("name"))
	kind := o.Pop("content_type")
	switch kind.Kind() {
	case '"':
	case '[':
		texts := kind.Texts()
		kind = nil
		if len(texts) > 0 {
			kind = jsondoc.Text(texts[0])
		}
	default:
		kind = nil
	}
	b.Raw("content_type", kind)
	b.Raw("size", whole(o.Pop("size")))
	o.Each(func(name string, v jsondoc.Doc) bool {
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

// whole is a number as old files have it, as a text or with a fraction that is none.
func whole(d jsondoc.Doc) jsondoc.Doc {
	text, ok := d.AsText()
	if !ok && d.Kind() == '0' {
		text = strings.TrimSuffix(d.String(), ".0")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return nil
	}
	return jsondoc.Of(n)
}
