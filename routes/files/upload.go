package files

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"syscall"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
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
	if in.Process {
		if err := allowed(config.RAGFileAllowedExtensions.Get(snap), files.Extension(in.File.Filename)); err != nil {
			return nil, err
		}
	}
	if err := CheckSize(snap, in.File.Size); err != nil {
		return nil, err
	}
	hash := meta.Get("file_hash")
	if !hash.Truthy() {
		if hash, err = files.Digest(in.File.Open()); err != nil {
			return nil, fmt.Errorf("read upload: %w", err)
		}
	}
	f := files.Upload{UserID: c.UserID(), Name: in.File.Filename, ContentType: in.File.ContentType, Size: in.File.Size, Hash: hash, Data: meta}.File()
	if in.Process {
		f.Data = jsondoc.Object("status", jsondoc.Text(files.Pending))
	}
	if err := m.Folder.Keep(f, in.File.SaveTo); err != nil {
		return nil, saveError(err)
	}
	if err := m.Files.Insert(c.Context(), f); err != nil {
		return nil, errors.Join(err, m.Folder.Remove(*f.Path))
	}
	out := respond(f, true)
	if in.Process && !in.Background {
		m.process(m.life, c.Principal.User, f) // goes on if the client leaves, so that the state does not stay
	}
	m.publish(c, "file.uploaded", f.ID, "filename", f.Filename, "content_type", f.Meta.Get("content_type"))
	if !in.Process {
		return &out, nil
	}
	out.Status, out.Path = true, f.Path
	if in.Background {
		m.work.Go(func() { m.process(m.life, c.Principal.User, f) })
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

// CheckSize says whether a file of a size may be stored. The error is a *web.Error.
func CheckSize(s *config.Snapshot, size int64) error {
	if size == 0 {
		return errEmpty
	}
	if limit, ok := config.RAGFileMaxSize.Int(s); ok && limit != 0 && size > int64(limit)<<20 {
		return web.Fail(http.StatusRequestEntityTooLarge,
			fmt.Sprintf("Oops! The file you're trying to upload is too large. Please upload a file that is less than %d MB.", limit))
	}
	return nil
}

// saveError is the answer where the content could not be put into the folder.
func saveError(err error) error {
	var reason syscall.Errno
	if errors.As(err, &reason) {
		return web.Because(http.StatusBadRequest, web.TextDetail(reason.Error()), err)
	}
	return web.Because(errUpload.Status, errUpload.Detail, err)
}
