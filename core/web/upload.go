package web

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/galleychat/galley/core/jsondoc"
)

// maxInMemory is how much of an uploaded file stays in memory; larger ones go to the disk as they arrive.
const maxInMemory = 64 << 10

// Upload is a file of a multipart body. Its content is there until the request is answered.
type Upload struct {
	Filename    string // as the client named it, without folders; "" is possible
	ContentType string // as the client said, "" for none
	Size        int64
	data        []byte
	file        *os.File
}

// Open gives the content from its start; several readers may be open at once. There is nothing to close.
func (u *Upload) Open() *io.SectionReader {
	if u.file != nil {
		return io.NewSectionReader(u.file, 0, u.Size)
	}
	return io.NewSectionReader(bytes.NewReader(u.data), 0, int64(len(u.data)))
}

// Bytes reads the whole content, for files that are known to be small.
func (u *Upload) Bytes() ([]byte, error) {
	if u.file == nil {
		return u.data, nil
	}
	b := make([]byte, u.Size)
	_, err := io.ReadFull(u.Open(), b)
	return b, err
}

// SaveTo puts the content at a path, replacing what is there. Where the router's upload folder lies on the same file
// system the file is moved and not copied. The content can still be read afterwards.
func (u *Upload) SaveTo(path string) error {
	if u.file != nil && os.Rename(u.file.Name(), path) == nil {
		return os.Chmod(path, 0o644)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, u.Open())
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// fill takes the content from r: memory first, a file in dir beyond.
func (u *Upload) fill(r io.Reader, dir string) error {
	var head bytes.Buffer
	n, err := io.CopyN(&head, r, maxInMemory+1)
	if errors.Is(err, io.EOF) {
		u.data, u.Size = head.Bytes(), n
		return nil
	}
	if err != nil {
		return err
	}
	if u.file, err = os.CreateTemp(dir, "upload-*"); err != nil {
		return &storageError{err}
	}
	if _, err = u.file.Write(head.Bytes()); err != nil {
		return &storageError{err}
	}
	more, err := io.Copy(u.file, r)
	u.Size = n + more
	var pe *os.PathError
	if errors.As(err, &pe) {
		return &storageError{err}
	}
	return err
}

// storageError is a failure of this machine and not of the request.
type storageError struct{ error }

func (e *storageError) Unwrap() error { return e.error }

func (u *Upload) remove() {
	if u.file != nil {
		_ = u.file.Close()
		_ = os.Remove(u.file.Name()) // gone already where SaveTo has moved it
	}
}

// input is how a problem shows the file.
func (u *Upload) input() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("filename", u.Filename)
	b.Add("size", u.Size)
	return b.Done()
}

// baseName is the last part of a file's name as Python's os.path.basename gives it.
func baseName(name string) string {
	if name == "" || name[len(name)-1] == '/' {
		return ""
	}
	return filepath.Base(name)
}

func notUpload(loc Loc, text string) Problems {
	return Problems{ValueError(loc, jsondoc.Text(text), "Expected UploadFile, received: <class 'str'>")}
}
