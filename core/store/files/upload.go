package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Upload is a new file.
type Upload struct {
	UserID      string
	Name        string // without folders
	ContentType string // as the client said, "" for none
	Size        int64
	Hash        jsondoc.Doc // of the content: Digest, or what the client said
	Data        jsondoc.Doc // what the client said of it beside; nil for nothing
}

// File is the row of the upload, with a new id and without a path. Its text is not to be read.
func (u Upload) File() *File {
	var b jsondoc.Builder
	b.Add("name", u.Name)
	if u.ContentType == "" {
		b.Raw("content_type", nil)
	} else {
		b.Add("content_type", u.ContentType)
	}
	b.Add("size", u.Size)
	b.Raw("file_hash", u.Hash)
	b.Raw("data", u.Data.Or(jsondoc.Doc("{}")))
	return &File{ID: store.NewID(), UserID: u.UserID, Filename: u.Name, Data: jsondoc.Doc("{}"), Meta: b.Done()}
}

// Digest is the hash of a content.
func Digest(r io.Reader) (jsondoc.Doc, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return nil, err
	}
	return jsondoc.Text(hex.EncodeToString(sum.Sum(nil))), nil
}

// Extension is that of a name, without its dot and in lower case, as Python's os.path.splitext finds it: leading dots are
// part of the name.
func Extension(name string) string {
	return strings.ToLower(strings.TrimPrefix(filepath.Ext(strings.TrimLeft(name, ".")), "."))
}

// Keep has save put the content of a file at a path, which becomes the file's: a readable one where the file system takes
// it.
func (d *Folder) Keep(f *File, save func(path string) error) error {
	path := d.Place(f.ID, f.Filename)
	err := save(path)
	if IsTooLong(err) {
		path = d.Short(f.ID, Extension(f.Filename))
		err = save(path)
	}
	if err == nil {
		f.Path = &path
	}
	return err
}

// Temp makes a file in the folder for a content that is still coming in; it is renamed or removed afterwards.
func (d *Folder) Temp() (*os.File, error) { return os.CreateTemp(d.dir, "upload-*") }

// Discard closes and removes a file that Temp has made; one that was renamed is but closed.
func Discard(f *os.File) error {
	err := f.Close()
	if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}
