package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/galleychat/galley/core/store"
)

const (
	// format is the version of the file's form; readers refuse a higher one.
	format = 1

	headName     = "galley-backup/head.json"
	manifestName = "galley-backup/manifest.json"
	databaseName = "webui.db"

	// maxHead and maxManifest bound what is read into memory. An entry of the manifest has some 200 bytes.
	maxHead     = 64 << 10
	maxManifest = 512 << 20
)

// Head is how a backup begins: what it is, and of what.
type Head struct {
	Format       int       `json:"format"`
	Made         time.Time `json:"made"`          // of the database
	Galley       string    `json:"galley"`        // version of the program
	Alembic      string    `json:"alembic"`       // head of the reference's tables
	Schema       int       `json:"galley_schema"` // of Galley's own tables; 0 for none
	Dialect      string    `json:"dialect"`       // of the database that was copied
	DataDir      string    `json:"data_dir"`      // that was copied
	DatabaseOnly bool      `json:"database_only,omitempty"`
	SecretKey    bool      `json:"secret_key"` // whether its file is in
}

// Entry is a file or a folder of a backup.
type Entry struct {
	Name     string      `json:"name"` // with slashes, below the data folder
	Mode     fs.FileMode `json:"mode"` // fs.ModeDir and permissions
	Size     int64       `json:"size,omitempty"`
	SHA256   string      `json:"sha256,omitempty"`
	Modified int64       `json:"modified,omitempty"` // Unix seconds
}

// Manifest is how a backup ends.
type Manifest struct {
	Entries []Entry  `json:"entries"`
	Missing []Lost   `json:"missing,omitempty"` // rows without their content
	Changed []string `json:"changed,omitempty"` // files that were written to meanwhile
	Notes   []string `json:"notes,omitempty"`   // on rows that had to become SQLite's
}

// Lost is a row of the table file whose content is not in the backup.
type Lost struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Path string `json:"path"`
}

// Bytes is the size of all entries together.
func (m *Manifest) Bytes() (n int64) {
	for _, e := range m.Entries {
		n += e.Size
	}
	return n
}

// Files is the number of files beside the database.
func (m *Manifest) Files() (n int) {
	for _, e := range m.Entries {
		if !e.Mode.IsDir() && e.Name != databaseName {
			n++
		}
	}
	return n
}

// writer makes the archive.
type writer struct {
	ctx      context.Context
	tar      *tar.Writer
	closers  []io.Closer
	manifest Manifest
	tell     func(done int64) // how many bytes have gone in
	done     int64
	buf      []byte
}

func newWriter(ctx context.Context, out io.Writer, compress string, head Head) (*writer, error) {
	w := &writer{ctx: ctx, buf: make([]byte, 256<<10), tell: func(int64) {}}
	switch compress {
	case "", "gzip":
		// Level 1: the database is half as large already, and higher ones take the server's processors for little more.
		z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		w.closers, out = append(w.closers, z), z
	case "none":
	default:
		return nil, fmt.Errorf("compression %q: gzip or none", compress)
	}
	w.tar = tar.NewWriter(out)
	w.closers = append([]io.Closer{w.tar}, w.closers...)
	return w, w.document(headName, head)
}

// document writes an entry of the package's own.
func (w *writer) document(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(text)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = w.tar.Write(text)
	return err
}

// add writes an entry with what r has, of which e.Size bytes are taken. Short says that there were fewer: zeros are in
// their place.
func (w *writer) add(e Entry, r io.Reader) (short bool, err error) {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: e.Name, Mode: int64(e.Mode.Perm()), Size: e.Size, ModTime: time.Unix(e.Modified, 0), Format: tar.FormatPAX,
	}
	if e.Mode.IsDir() {
		h.Typeflag, h.Name = tar.TypeDir, e.Name+"/"
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return false, err
	}
	if !e.Mode.IsDir() {
		sum := sha256.New()
		out := io.MultiWriter(w.tar, sum)
		n, err := copyBytes(w.ctx, out, io.LimitReader(r, e.Size), w.buf, w.count)
		if err != nil {
			return false, err
		}
		if short = n < e.Size; short {
			if _, err := copyBytes(w.ctx, out, io.LimitReader(zeros{}, e.Size-n), w.buf, w.count); err != nil {
				return false, err
			}
		}
		e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	w.manifest.Entries = append(w.manifest.Entries, e)
	return short, nil
}

func (w *writer) count(n int) {
	w.done += int64(n)
	w.tell(w.done)
}

// close writes the manifest and ends the archive.
func (w *writer) close() error {
	if err := w.document(manifestName, w.manifest); err != nil {
		return err
	}
	for _, c := range w.closers {
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// copyBytes is io.CopyBuffer that ends with ctx and tells of each piece. Errors of the reader are a *readError.
func copyBytes(ctx context.Context, w io.Writer, r io.Reader, buf []byte, tell func(n int)) (done int64, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return done, err
			}
			done += int64(n)
			tell(n)
		}
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, &readError{err}
		}
	}
}

// readError is a failure of what is read, and not of where it goes.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// DamagedError says that a file is no whole backup. Nothing of it was used.
type DamagedError struct{ Reason string }

func (e *DamagedError) Error() string { return "the backup is damaged: " + e.Reason }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Sprintf(format, args...)} }

// ErrNoBackup says that a file is something else.
var ErrNoBackup = errors.New("this is not a backup that galley db backup has made")

// cut words errors of an archive that ends too early.
func cut(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("it is cut short")
	case errors.As(err, new(*fs.PathError)): // the disk and not the archive
		return err
	}
	return damaged("%v", err)
}

// reader reads an archive. Entries that a backup never has are refused.
type reader struct {
	ctx  context.Context
	raw  *bufio.Reader
	zip  *gzip.Reader // nil for none
	tar  *tar.Reader
	head Head
	buf  []byte
}

// newReader reads the head.
func newReader(ctx context.Context, in io.Reader) (*reader, error) {
	r := &reader{ctx: ctx, raw: bufio.NewReaderSize(in, 256<<10), buf: make([]byte, 256<<10)}
	magic, err := r.raw.Peek(2)
	if errors.As(err, new(*fs.PathError)) {
		return nil, err
	}
	var plain io.Reader = r.raw
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if r.zip, err = gzip.NewReader(r.raw); err != nil {
			return nil, cut(err)
		}
		r.zip.Multistream(false)
		plain = r.zip
	}
	r.tar = tar.NewReader(plain)
	h, err := r.tar.Next()
	if err != nil || h.Name != headName || h.Typeflag != tar.TypeReg {
		return nil, ErrNoBackup
	}
	if err := r.document(h, maxHead, &r.head); err != nil {
		return nil, err
	}
	return r, r.head.check()
}

// check says whether this program can read and serve a backup.
func (h *Head) check() error {
	switch {
	case h.Format < 1:
		return ErrNoBackup
	case h.Format > format:
		return fmt.Errorf("the backup has form %d, made by Galley %s; this program reads up to %d: use a newer Galley", h.Format, h.Galley, format)
	case h.Alembic != store.Head:
		return fmt.Errorf("the backup's database has the Alembic revision %q, this Galley serves %s (Open WebUI 0.12.4): use a Galley of the version that made it, %s", h.Alembic, store.Head, h.Galley)
	case h.Schema > store.OwnVersion():
		return fmt.Errorf("the backup has tables of a newer Galley, %s (step %d, this program knows %d): use that", h.Galley, h.Schema, store.OwnVersion())
	}
	return nil
}

// document reads an entry of the package's own.
func (r *reader) document(h *tar.Header, limit int64, v any) error {
	if h.Size > limit {
		return damaged("%s has %d bytes", h.Name, h.Size)
	}
	text, err := io.ReadAll(io.LimitReader(r.tar, limit))
	if err != nil {
		return cut(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return damaged("%s: %v", h.Name, err)
	}
	return nil
}

// next gives the next entry, with what its header says; the manifest where the archive ends.
func (r *reader) next() (*Entry, *Manifest, error) {
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil, damaged("it is cut short: the manifest is missing")
	}
	if err != nil {
		return nil, nil, cut(err)
	}
	if h.Name == manifestName && h.Typeflag == tar.TypeReg {
		m := &Manifest{}
		if err := r.document(h, maxManifest, m); err != nil {
			return nil, nil, err
		}
		return nil, m, r.end()
	}
	e := &Entry{Name: h.Name, Mode: fs.FileMode(h.Mode).Perm(), Size: h.Size, Modified: h.ModTime.Unix()}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		e.Name, e.Mode = strings.TrimSuffix(h.Name, "/"), e.Mode|fs.ModeDir
	default:
		return nil, nil, damaged("%q is neither a file nor a folder", h.Name)
	}
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return nil, nil, damaged("%q has holes", h.Name)
		}
	}
	if !mayHold(e.Name, e.Mode.IsDir()) {
		return nil, nil, damaged("%q is not a name that backups have", h.Name)
	}
	return e, nil, nil
}

// end makes sure that nothing follows.
func (r *reader) end() error {
	if _, err := r.tar.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			return damaged("something follows the manifest")
		}
		return cut(err)
	}
	if r.zip != nil { // its checksum is at its end
		if _, err := copyBytes(r.ctx, io.Discard, r.zip, r.buf, func(int) {}); err != nil {
			return cut(err)
		}
	}
	return nil
}

// content copies the content of the entry that next gave, and fills in its digest.
func (r *reader) content(e *Entry, w io.Writer, tell func(n int)) error {
	if e.Mode.IsDir() {
		return nil
	}
	sum := sha256.New()
	_, err := copyBytes(r.ctx, io.MultiWriter(w, sum), r.tar, r.buf, tell)
	var bad *readError
	if errors.As(err, &bad) {
		return cut(bad.error)
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return err
}

// verify reads an archive to its end and compares it with its manifest.
func verify(ctx context.Context, in io.Reader, tell func(n int)) (*Head, *Manifest, error) {
	r, err := newReader(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	var found []Entry
	names := map[string]bool{}
	for {
		e, m, err := r.next()
		if err != nil {
			return nil, nil, err
		}
		if m != nil {
			return &r.head, m, compare(found, m.Entries)
		}
		if names[e.Name] {
			return nil, nil, damaged("%q is there twice", e.Name)
		}
		names[e.Name] = true
		if err := r.content(e, io.Discard, tell); err != nil {
			return nil, nil, err
		}
		found = append(found, *e)
	}
}

func compare(found, want []Entry) error {
	for i := range max(len(found), len(want)) {
		switch {
		case i >= len(found):
			return damaged("%q is missing", want[i].Name)
		case i >= len(want):
			return damaged("%q is not in the manifest", found[i].Name)
		case found[i] != want[i]:
			return damaged("%q differs from the manifest", want[i].Name)
		}
	}
	for _, e := range found {
		if e.Name == databaseName && !e.Mode.IsDir() {
			return nil
		}
	}
	return damaged("there is no database in it")
}
