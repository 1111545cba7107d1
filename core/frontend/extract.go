package frontend

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"time"
)

// minGzip is the size from which a file gets a gzip twin. Below it the twin would
// not save a disk block nor a round trip.
const minGzip = 4096

// extractor unpacks the members of one wheel into a new folder.
type extractor struct {
	root    *os.Root
	digests *bufio.Writer // digests.txt
	listSum hash.Hash     // of what went into digests
	buf     []byte
	unzip   gzip.Reader
	files   int
	bytes   int64
}

// extract unpacks w into the empty folder dir and completes it with the list of
// digests and the manifest. progress gets the uncompressed bytes done so far.
func extract(ctx context.Context, w *wheel, dir string, progress func(done int64)) (m Manifest, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, err
	}
	defer root.Close()
	list, err := root.Create(digestsFile)
	if err != nil {
		return m, err
	}
	defer list.Close()
	x := &extractor{root: root, listSum: sha256.New(), buf: make([]byte, 64<<10)}
	x.digests = bufio.NewWriter(io.MultiWriter(list, x.listSum))

	var done int64
	for _, mem := range w.members {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		n, err := x.member(mem)
		if err != nil {
			return m, err
		}
		done += n
		progress(done)
	}
	if err := x.digests.Flush(); err != nil {
		return m, err
	}
	if err := list.Close(); err != nil {
		return m, err
	}
	m = Manifest{
		Version:       w.version,
		WheelSHA256:   w.sha256,
		DigestsSHA256: hex.EncodeToString(x.listSum.Sum(nil)),
		Files:         x.files,
		Bytes:         x.bytes,
		InstalledAt:   time.Now().UTC().Truncate(time.Second),
	}
	return m, writeManifest(dir, m)
}

// member unpacks one file, checks its digest and keeps its compressed form if that is worth it.
func (x *extractor) member(m member) (int64, error) {
	if err := x.root.MkdirAll(path.Dir(m.target), 0o755); err != nil {
		return 0, err
	}
	var src io.ReadCloser
	var err error
	if worthGzip(m.file) {
		src, err = x.gzipTwin(m)
	} else {
		src, err = m.file.Open()
	}
	if err != nil {
		return 0, badWheel("%s: %w", m.file.Name, err)
	}
	defer src.Close()
	return x.plain(m, src)
}

// plain writes the uncompressed file; src may be untrusted in length and content.
func (x *extractor) plain(m member, src io.Reader) (int64, error) {
	out, err := x.root.Create(m.target)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	h := sha256.New()
	size := int64(m.file.UncompressedSize64)
	n, err := io.CopyBuffer(io.MultiWriter(out, h), io.LimitReader(src, size+1), x.buf)
	if err != nil {
		return n, badWheel("%s: %w", m.file.Name, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if n != size || sum != m.digest {
		return n, badWheel("%s does not have the sha256 that RECORD gives", m.file.Name)
	}
	if err := out.Close(); err != nil {
		return n, err
	}
	return n, x.note(sum, m.target, n)
}

func (x *extractor) note(sum, name string, size int64) error {
	x.files++
	x.bytes += size
	_, err := fmt.Fprintf(x.digests, "%s  %s\n", sum, name)
	return err
}

// worthGzip tells whether f is a text that browsers load and that deflate shrinks.
// Source maps are left out: only a developer's tools ask for them.
func worthGzip(f *zip.File) bool {
	return f.Method == zip.Deflate && f.UncompressedSize64 >= minGzip &&
		f.CompressedSize64 < f.UncompressedSize64/10*9 &&
		path.Ext(f.Name) != ".map" && compressible(f.Name)
}

// gzipTwin writes the member's deflate stream, as the wheel has it, in a gzip frame
// and returns a reader that unpacks what was written. Reading it to the end checks
// the twin's CRC and length.
func (x *extractor) gzipTwin(m member) (io.ReadCloser, error) {
	raw, err := m.file.OpenRaw()
	if err != nil {
		return nil, err
	}
	name := path.Join(gzipDir, m.target)
	if err := x.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return nil, err
	}
	out, err := x.root.Create(name)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	frame := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff} // deflate, no name, no time, unknown system
	tail := binary.LittleEndian.AppendUint32(nil, m.file.CRC32)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(m.file.UncompressedSize64))
	n, err := io.CopyBuffer(io.MultiWriter(out, h), io.MultiReader(
		bytes.NewReader(frame), raw, bytes.NewReader(tail)), x.buf)
	if err == nil {
		err = x.note(hex.EncodeToString(h.Sum(nil)), name, n)
	}
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = x.unzip.Reset(bufio.NewReader(out))
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&x.unzip, out}, nil
}
