package plugin

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	// MaxInstall bounds an archive, and what it holds, in bytes.
	MaxInstall = 1 << 30
	// maxEntries bounds the files, folders and links of a plugin.
	maxEntries = 100_000
)

// tree writes what is to be installed below one folder and nowhere else, whatever the names say.
type tree struct {
	ctx     context.Context
	root    *os.Root
	left    int64 // bytes
	entries int
	links   []string
}

func newTree(ctx context.Context, dir string, limit int64) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{ctx: ctx, root: root, left: limit}, nil
}

// place checks a name, makes the folders above it and counts the entry.
func (t *tree) place(name string) (string, error) {
	if err := t.ctx.Err(); err != nil {
		return "", err
	}
	if t.entries++; t.entries > maxEntries {
		return "", fmt.Errorf("it has more than %d files", maxEntries)
	}
	clean := filepath.Clean(filepath.FromSlash(name))
	if !filepath.IsLocal(clean) || strings.ContainsAny(name, "\\\x00") {
		return "", fmt.Errorf("%q is outside the folder", name)
	}
	if dir := filepath.Dir(clean); dir != "." {
		if err := t.root.MkdirAll(dir, 0o755); err != nil {
			return "", entryError(name, err)
		}
	}
	return clean, nil
}

// entryError says of an entry what went wrong, without the path where it is unpacked.
func entryError(name string, err error) error {
	var pe *fs.PathError
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%q is there twice", name)
	case errors.As(err, &pe):
		err = pe.Err
	}
	return fmt.Errorf("%q: %w", name, err)
}

func (t *tree) folder(name string) error {
	clean, err := t.place(name)
	if err != nil || clean == "." {
		return err
	}
	if err := t.root.MkdirAll(clean, 0o755); err != nil {
		return entryError(name, err)
	}
	return nil
}

// file writes a file. Of its mode stays who may read and execute it; only the owner may write.
func (t *tree) file(name string, mode fs.FileMode, r io.Reader) error {
	clean, err := t.place(name)
	if err != nil {
		return err
	}
	f, err := t.root.OpenFile(clean, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return entryError(name, err)
	}
	n, err := io.Copy(f, io.LimitReader(reader{t.ctx, r}, t.left+1))
	if t.left -= n; err == nil && t.left < 0 {
		err = errTooLarge
	}
	if err == nil {
		err = f.Chmod(mode&0o755 | 0o600)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return entryError(name, err)
	}
	return nil
}

var errTooLarge = fmt.Errorf("it is larger than %d MiB", MaxInstall>>20)

// link writes a symbolic link; where it leads is looked at by finish, once all is there.
func (t *tree) link(name, target string) error {
	clean, err := t.place(name)
	if err != nil {
		return err
	}
	if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(clean), target)) {
		return fmt.Errorf("%q is a link out of the folder", name)
	}
	if err := t.root.Symlink(target, clean); err != nil {
		return entryError(name, err)
	}
	t.links = append(t.links, clean)
	return nil
}

// same gives a file a second name.
func (t *tree) same(name, of string) error {
	clean, err := t.place(name)
	if err != nil {
		return err
	}
	old := filepath.Clean(filepath.FromSlash(of))
	if info, err := t.root.Lstat(old); !filepath.IsLocal(old) || err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%q is a link to what is no file of the folder", name)
	}
	if err := t.root.Link(old, clean); err != nil {
		return entryError(name, err)
	}
	return nil
}

// finish checks where the links lead and has the folders reach the disk.
func (t *tree) finish() error {
	for _, name := range t.links {
		if _, err := t.root.Stat(name); err != nil { // does not leave the root
			return fmt.Errorf("%q is a link out of the folder or to nothing", name)
		}
	}
	return filepath.WalkDir(t.root.Name(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(p)
	})
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// untar unpacks a .tar.gz.
func (t *tree) untar(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	// headers and padding count too, so that an archive of nothing but headers ends as well
	in := tar.NewReader(io.LimitReader(z, MaxInstall+maxEntries*2048))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not a whole .tar.gz archive: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			err = t.file(h.Name, fs.FileMode(h.Mode&0o777), in)
		case tar.TypeDir:
			err = t.folder(h.Name)
		case tar.TypeSymlink:
			err = t.link(h.Name, h.Linkname)
		case tar.TypeLink:
			err = t.same(h.Name, h.Linkname)
		case tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("%q is neither a file nor a folder nor a link", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

// unzip unpacks a .zip.
func (t *tree) unzip(r io.ReaderAt, size int64) error {
	z, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are checked one by one
		return fmt.Errorf("not a whole .zip archive: %w", err)
	}
	for _, f := range z.File {
		if err := t.unzipOne(f); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) unzipOne(f *zip.File) error {
	mode := f.Mode()
	if strings.HasSuffix(f.Name, "/") || mode.IsDir() {
		return t.folder(f.Name)
	}
	if !mode.IsRegular() && mode.Type() != fs.ModeSymlink {
		return fmt.Errorf("%q is neither a file nor a folder nor a link", f.Name)
	}
	r, err := f.Open()
	if err != nil {
		return entryError(f.Name, err)
	}
	defer r.Close()
	if mode.IsRegular() {
		return t.file(f.Name, mode, r)
	}
	target, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return entryError(f.Name, err)
	}
	return t.link(f.Name, string(target))
}

// copyDir takes over a folder of this machine. A folder in it that holds the plugins folder is left out: it is the data of a
// server that was started there.
func (t *tree) copyDir(dir string) error {
	into, err := filepath.Abs(t.root.Name())
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (d.Name() == ".git" || strings.HasPrefix(into, p+string(filepath.Separator))):
			return fs.SkipDir
		case d.IsDir():
			return t.folder(name)
		case d.Type() == fs.ModeSymlink:
			return t.copyLink(name, p)
		case !d.Type().IsRegular():
			return fmt.Errorf("%q is neither a file nor a folder nor a link", name)
		}
		return t.copyFile(name, p)
	})
}

// copyLink takes over a link. One that leads out of the folder, as to the interpreter in a Python environment, still leads
// to the same place afterwards.
func (t *tree) copyLink(name, from string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		if filepath.IsLocal(filepath.Join(filepath.Dir(name), target)) {
			return t.link(name, target)
		}
		target = filepath.Join(filepath.Dir(from), target)
	}
	clean, err := t.place(name)
	if err == nil {
		err = t.root.Symlink(target, clean)
	}
	return err
}

func (t *tree) copyFile(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not a regular file", name)
	}
	return t.file(name, info.Mode(), f)
}

// Pack writes a folder as a .tar.gz that Install takes.
func Pack(ctx context.Context, dir string, w io.Writer) error {
	z := gzip.NewWriter(w)
	out := tar.NewWriter(z)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || p == dir {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		return packOne(out, dir, p, d)
	})
	return errors.Join(err, out.Close(), z.Close())
}

func packOne(out *tar.Writer, dir, p string, d fs.DirEntry) error {
	name, err := filepath.Rel(dir, p)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return fmt.Errorf("%q is neither a file nor a folder nor a link", name)
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = filepath.ToSlash(name)
	if info.IsDir() {
		h.Name = path.Clean(h.Name) + "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	if err := out.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}
