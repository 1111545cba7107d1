package frontend

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Bounds on what a wheel may hold. Release 0.12.4 has 5,700 files, 240 MB in all,
// 53 MB in the largest; the bounds leave room and stop a decompression bomb.
const (
	maxWheelBytes = 1 << 30
	maxTotalBytes = 2 << 30
	maxFileBytes  = 256 << 20
	maxFiles      = 50_000
)

// ErrBadWheel reports a file that is no open-webui wheel with a built frontend, or one that fails its own checks.
var ErrBadWheel = errors.New("unusable wheel")

func badWheel(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadWheel, fmt.Errorf(format, args...))
}

// member is a file to take from the wheel.
type member struct {
	file   *zip.File
	target string // slash-separated path inside the installation
	digest string // hex SHA-256 by the wheel's RECORD
}

// wheel is an opened and inspected open-webui wheel.
type wheel struct {
	zip     *zip.ReadCloser
	version string // by the name of its .dist-info folder
	sha256  string // hex digest of the wheel file
	members []member
	bytes   int64 // uncompressed size of members
}

// openWheel reads the directory of the wheel and decides what to take. Nothing is
// unpacked yet. The caller closes w.zip.
func openWheel(name string) (w *wheel, err error) {
	sum, err := hashWheel(name)
	if err != nil {
		return nil, err
	}
	z, err := zip.OpenReader(name)
	if err != nil {
		return nil, badWheel("%s is no wheel: %w", path.Base(name), err)
	}
	defer func() {
		if err != nil {
			z.Close()
		}
	}()
	w = &wheel{zip: z, sha256: sum}
	files, err := w.index()
	if err != nil {
		return nil, err
	}
	info, err := w.distInfo(files)
	if err != nil {
		return nil, err
	}
	digests, err := readRecord(files[info+"/RECORD"])
	if err != nil {
		return nil, err
	}
	if err := w.choose(info, digests); err != nil {
		return nil, err
	}
	if files["open_webui/frontend/index.html"] == nil {
		return nil, badWheel("it has no built frontend (open_webui/frontend/index.html)")
	}
	return w, nil
}

func hashWheel(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("open wheel: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("open wheel: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxWheelBytes {
		return "", badWheel("%s is not a file of at most %d bytes", path.Base(name), maxWheelBytes)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read wheel: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// index maps names to entries and refuses the whole wheel for one improper name:
// a build tool writes none, so such a wheel is not to be trusted in its other parts.
func (w *wheel) index() (map[string]*zip.File, error) {
	if len(w.zip.File) > maxFiles {
		return nil, badWheel("%d files are too many", len(w.zip.File))
	}
	files := make(map[string]*zip.File, len(w.zip.File))
	for _, f := range w.zip.File {
		name := strings.TrimSuffix(f.Name, "/")
		switch {
		case !fs.ValidPath(name) || strings.ContainsAny(name, "\\:\x00\r\n"):
			return nil, badWheel("improper file name %q", f.Name)
		case !f.Mode().IsRegular() && !f.Mode().IsDir():
			return nil, badWheel("%q is neither a file nor a folder", f.Name)
		case files[name] != nil:
			return nil, badWheel("%q is there twice", f.Name)
		}
		files[name] = f
	}
	return files, nil
}

// distInfo finds the metadata folder and takes the version from its name.
func (w *wheel) distInfo(files map[string]*zip.File) (string, error) {
	for name := range files {
		dir, base := path.Split(name)
		stem, ok := strings.CutSuffix(strings.TrimSuffix(dir, "/"), ".dist-info")
		if base != "RECORD" || !ok {
			continue
		}
		project, version, ok := strings.Cut(stem, "-")
		if !ok || project != "open_webui" || !validVersion(version) {
			return "", badWheel("it is the wheel of %q, not of open_webui", stem)
		}
		w.version = version
		return stem + ".dist-info", nil
	}
	return "", badWheel("it has no .dist-info/RECORD")
}

// readRecord reads the wheel's list of digests: lines of path,sha256=<urlsafe base64>,size.
func readRecord(f *zip.File) (map[string]string, error) {
	r, err := f.Open()
	if err != nil {
		return nil, badWheel("RECORD: %w", err)
	}
	defer r.Close()
	rows := csv.NewReader(io.LimitReader(r, maxFileBytes))
	rows.FieldsPerRecord = -1
	digests := map[string]string{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return digests, nil
		}
		if err != nil {
			return nil, badWheel("RECORD: %w", err)
		}
		if len(row) < 2 {
			continue
		}
		coded, ok := strings.CutPrefix(row[1], "sha256=")
		sum, err := base64.RawURLEncoding.DecodeString(coded)
		if ok && err == nil && len(sum) == sha256.Size {
			digests[row[0]] = hex.EncodeToString(sum)
		}
	}
}

// choose lists what to unpack: the built frontend, the server's static folder and the licence texts.
func (w *wheel) choose(info string, digests map[string]string) error {
	from := []struct{ prefix, target string }{
		{"open_webui/frontend/", buildDir},
		{"open_webui/static/", staticDir},
		{info + "/licenses/", licensesDir},
	}
	for _, f := range w.zip.File {
		if f.Mode().IsDir() {
			continue
		}
		for _, src := range from {
			rest, ok := strings.CutPrefix(f.Name, src.prefix)
			if !ok {
				continue
			}
			digest := digests[f.Name]
			size := f.UncompressedSize64
			switch {
			case digest == "":
				return badWheel("RECORD has no sha256 of %s", f.Name)
			case size > maxFileBytes || w.bytes+int64(size) > maxTotalBytes:
				return badWheel("%s is too large", f.Name)
			}
			w.bytes += int64(size)
			w.members = append(w.members, member{f, path.Join(src.target, rest), digest})
		}
	}
	return nil
}
