package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/web"
)

var (
	errMetadata = web.Fail(http.StatusBadRequest, web.TextDetail("Invalid metadata format"))
	errUpload   = web.Fail(http.StatusBadRequest, web.TextDetail("Error uploading file"))
	errEmpty    = web.Fail(http.StatusBadRequest, textEmpty)
)

type uploadIn struct {
	File       web.Upload      `form:"file"`
	Metadata   web.Opt[string] `form:"metadata"`
	Process    bool            `query:"process" default:"true"`
	Background bool            `query:"process_in_background" default:"true"`
}

// upload stores a file and, where it is to be processed, reads its text: in the background unless said otherwise. The
// answer shows the file as it was before.
func (m *Module) upload(c *web.Call, in uploadIn) (*response, error) {
	meta, err := metadata(in.Metadata)
	if err != nil {
		return nil, err
	}
	snap := m.Settings.Snapshot()
	extension := strings.ToLower(strings.TrimPrefix(splitExt(in.File.Filename), "."))
	if in.Process {
		if err := allowed(config.RAGFileAllowedExtensions.Get(snap), extension); err != nil {
			return nil, err
		}
	}
	switch {
	case in.File.Size == 0:
		return nil, errEmpty
	case tooLarge(snap, in.File.Size):
		return nil, errTooLarge(snap)
	}
	hash := meta.Get("file_hash")
	if !hash.Truthy() {
		sum := sha256.New()
		if _, err := io.Copy(sum, in.File.Open()); err != nil {
			return nil, fmt.Errorf("read upload: %w", err)
		}
		hash = jsondoc.Text(hex.EncodeToString(sum.Sum(nil)))
	}
	f := &files.File{ID: store.NewID(), UserID: c.UserID(), Filename: in.File.Filename, Data: jsondoc.Doc("{}")}
	if in.Process {
		f.Data = jsondoc.Object("status", jsondoc.Text(files.Pending))
	}
	var b jsondoc.Builder
	b.Add("name", in.File.Filename)
	if in.File.ContentType == "" {
		b.Raw("content_type", nil)
	} else {
		b.Add("content_type", in.File.ContentType)
	}
	b.Add("size", in.File.Size)
	b.Raw("file_hash", hash)
	b.Raw("data", meta)
	f.Meta = b.Done()
	path, err := m.save(&in.File, f.ID, extension)
	if err != nil {
		return nil, err
	}
	f.Path = &path
	if err := m.Files.Insert(c.Context(), f); err != nil {
		return nil, errors.Join(err, m.Folder.Remove(path))
	}
	m.publish(c, "file.uploaded", f.ID, "filename", f.Filename, "content_type", f.Meta.Get("content_type"))
	out := respond(f, true)
	if !in.Process {
		return &out, nil
	}
	out.Status, out.Path = true, f.Path
	if in.Background {
		m.work.Go(func() { m.process(m.life, f) })
	} else {
		m.process(m.life, f) // goes on if the client leaves, so that the state does not stay
	}
	return &out, nil
}

// metadata reads the form's field: an object, or nothing.
func metadata(field web.Opt[string]) (jsondoc.Doc, error) {
	if !field.Has() {
		return jsondoc.Doc("{}"), nil
	}
	doc, bad := jsondoc.Check([]byte(field.V))
	switch {
	case bad != nil:
		return nil, errMetadata
	case !doc.Truthy():
		return jsondoc.Doc("{}"), nil
	case doc.Kind() != '{':
		return nil, errUpload
	}
	return doc, nil
}

func allowed(list []string, extension string) error {
	list = slices.DeleteFunc(slices.Clone(list), func(e string) bool { return e == "" })
	if len(list) > 0 && !slices.Contains(list, extension) {
		return web.Fail(http.StatusBadRequest, web.TextDetail("File type "+extension+" is not allowed"))
	}
	return nil
}

// splitExt is the extension with its dot as Python's os.path.splitext finds it: leading dots are part of the name.
func splitExt(name string) string { return filepath.Ext(strings.TrimLeft(name, ".")) }

func tooLarge(s *config.Snapshot, size int64) bool {
	limit, ok := config.RAGFileMaxSize.Int(s)
	return ok && limit != 0 && size > int64(limit)<<20
}

func errTooLarge(s *config.Snapshot) *web.Error {
	limit, _ := config.RAGFileMaxSize.Int(s)
	return web.Fail(http.StatusRequestEntityTooLarge,
		fmt.Sprintf("Oops! The file you're trying to upload is too large. Please upload a file that is less than %d MB.", limit))
}

// save puts the content into the folder, under a readable name where the file system takes it.
func (m *Module) save(u *web.Upload, id, extension string) (string, error) {
	path := m.Folder.Place(id, u.Filename)
	err := u.SaveTo(path)
	if files.IsTooLong(err) {
		path = m.Folder.Short(id, extension)
		err = u.SaveTo(path)
	}
	var reason syscall.Errno
	switch {
	case err == nil:
		return path, nil
	case errors.As(err, &reason):
		return "", web.Because(http.StatusBadRequest, web.TextDetail(reason.Error()), err)
	}
	return "", web.Because(errUpload.Status, errUpload.Detail, err)
}
