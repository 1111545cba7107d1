package files

import (
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

func (m *Module) get(c *web.Call, in idIn) (*files.File, error) { return m.find(c, in.ID, files.Read) }

type statusIn struct {
	ID     string `path:"id"`
	Stream bool   `query:"stream" default:"false"`
}

// statusPause is the time between two looks at a file whose state is awaited, statusLimit how long that goes on.
const (
	statusPause = time.Second
	statusLimit = 2 * time.Hour
)

type statusOut struct {
	Status jsondoc.Doc `json:"status"`
}

func (m *Module) status(c *web.Call, in statusIn) (any, error) {
	f, err := m.find(c, in.ID, files.Read)
	if err != nil {
		return nil, err
	}
	if in.Stream {
		return web.Done{}, m.streamStatus(c, f.ID)
	}
	out := statusOut{f.Data.Get("status")}
	if out.Status == nil {
		out.Status = jsondoc.Text(files.Pending)
	}
	return out, nil
}

// streamStatus sends the state every second until it is final.
func (m *Module) streamStatus(c *web.Call, id string) error {
	s := c.SSE()
	tick := time.NewTicker(statusPause)
	defer tick.Stop()
	for end := time.Now().Add(statusLimit); time.Now().Before(end); {
		status, reason, err := m.Files.State(c.Context(), id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return s.Event([]byte(`{"status": "not_found"}`))
		case err != nil:
			return err
		case status == "":
			return nil
		}
		event := jsondoc.Object("status", jsondoc.Text(status))
		if status == files.Failed {
			event = event.Set(jsondoc.Text(reason), "error")
		}
		if err := s.Event(event); err != nil || status == files.Completed || status == files.Failed {
			return err
		}
		select {
		case <-tick.C:
		case <-c.Context().Done():
			return c.Context().Err()
		}
	}
	return nil
}

type textOut struct {
	Content jsondoc.Doc `json:"content"`
}

func textOf(f *files.File) *textOut {
	if d := f.Data.Get("content"); d != nil {
		return &textOut{d}
	}
	return &textOut{jsondoc.Text("")}
}

func (m *Module) text(c *web.Call, in idIn) (*textOut, error) {
	f, err := m.find(c, in.ID, files.Read)
	if err != nil {
		return nil, err
	}
	return textOf(f), nil
}

type contentIn struct {
	ID         string `path:"id"`
	Attachment bool   `query:"attachment" default:"false"`
}

// content gives what was uploaded. Only plain text and PDF are shown by browsers: anything else could run scripts in the
// page's name, and is saved.
func (m *Module) content(c *web.Call, in contentIn) (web.Done, error) {
	f, err := m.find(c, in.ID, files.Read)
	if err != nil {
		return web.Done{}, err
	}
	if f.Path == nil || *f.Path == "" {
		return web.Done{}, web.Fail(http.StatusNotFound, textAbsent)
	}
	kind, disposition := f.ContentType(), ""
	switch name := f.Name(); {
	case in.Attachment:
		disposition = "attachment; filename*=UTF-8''" + quote(name)
	case kind == "application/pdf", strings.HasSuffix(strings.ToLower(name), ".pdf"):
		kind, disposition = "application/pdf", "inline; filename*=UTF-8''"+quote(name)
	case kind != "text/plain":
		disposition = "attachment; filename*=UTF-8''" + quote(name)
	}
	return web.Done{}, missingContent(m.send(c, f, kind, disposition))
}

// page shows an administrator's upload as what it is, HTML too.
func (m *Module) page(c *web.Call, in idIn) (web.Done, error) {
	f, err := m.find(c, in.ID, files.Read)
	if err != nil {
		return web.Done{}, err
	}
	owner, err := m.Users.ByID(c.Context(), f.UserID)
	switch {
	case err != nil:
		return web.Done{}, missing(err)
	case owner.Role != users.RoleAdmin || f.Path == nil:
		return web.Done{}, errNotFound
	}
	return web.Done{}, missingContent(m.send(c, f, "", ""))
}

type downloadIn struct {
	ID   string `path:"id"`
	Name string `path:"file_name"`
}

// download saves what was uploaded, or the text where that has gone.
func (m *Module) download(c *web.Call, in downloadIn) (any, error) {
	f, err := m.find(c, in.ID, files.Read)
	if err != nil {
		return nil, err
	}
	disposition := "attachment; filename*=UTF-8''" + quote(f.Name())
	if f.Path != nil && *f.Path != "" {
		if err := m.send(c, f, "", disposition); !errors.Is(err, fs.ErrNotExist) {
			return web.Done{}, err
		}
	}
	return web.Raw{Type: "text/plain; charset=utf-8", Body: []byte(f.Content()), Header: http.Header{"Content-Disposition": {disposition}}}, nil
}

func missingContent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errNotFound
	}
	return err
}

// send answers with the content, or with the part of it that was asked for; fs.ErrNotExist where it has gone.
func (m *Module) send(c *web.Call, f *files.File, kind, disposition string) error {
	file, info, err := m.Folder.Open(*f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	h := c.Header()
	if kind == "" {
		kind = guessType(*f.Path)
	}
	if strings.HasPrefix(kind, "text/") && !strings.Contains(kind, "charset=") {
		kind += "; charset=utf-8"
	}
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	if disposition != "" {
		h.Set("Content-Disposition", disposition)
	}
	http.ServeContent(c.W, c.R, "", info.ModTime(), file)
	return nil
}

// guessType is the type that a file's name speaks for.
func guessType(path string) string {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".md":
		return "text/markdown"
	case ".csv":
		return "text/csv"
	case ".txt":
		return "text/plain"
	case ".js", ".mjs":
		return "text/javascript"
	default:
		kind, _, _ := strings.Cut(mime.TypeByExtension(ext), ";")
		if kind == "" {
			return "application/octet-stream"
		}
		return kind
	}
}

// quote writes a name for a header as RFC 5987 wants it.
func quote(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_.-~/", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
