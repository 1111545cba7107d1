package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/store"
)

// TestDamage cuts and changes backups at every place of interest: none passes for whole.
func TestDamage(t *testing.T) {
	s := newSite(t, "")
	for _, compress := range []string{"gzip", "none"} {
		o := s.options()
		o.Compress, o.File = compress, filepath.Join(t.TempDir(), "b")
		if _, err := Make(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(o.File)
		if err != nil {
			t.Fatal(err)
		}
		read := func(b []byte) (*Manifest, error) {
			_, m, err := verify(t.Context(), bytes.NewReader(b), func(int) {})
			return m, err
		}
		want, err := read(whole)
		if err != nil {
			t.Fatal(err)
		}
		// The end of an archive is 1024 zeros, behind the manifest and its padding.
		end := len(whole)
		if compress == "none" {
			end -= 1024
			for whole[end-1] == 0 {
				end--
			}
		}
		step := max(1, end/120)
		for at := 0; at < end; at += step {
			if _, err := read(whole[:at]); err == nil {
				t.Errorf("%s: cut at %d of %d, and whole", compress, at, end)
			}
		}
		for at := end - 150; at < end; at++ {
			if _, err := read(whole[:at]); err == nil {
				t.Errorf("%s: cut at %d of %d, and whole", compress, at, end)
			}
		}
		for at := 0; at < len(whole); at += max(1, len(whole)/400) {
			b := bytes.Clone(whole)
			b[at] ^= 0x41
			if m, err := read(b); err == nil && !reflect.DeepEqual(m, want) {
				t.Errorf("%s: byte %d changed, and taken", compress, at)
			}
		}
	}
}

// part is an entry of an archive made by hand.
type part struct {
	name string
	text string
	kind byte // tar.TypeReg for 0
	link string
	pax  map[string]string
	size int64 // that the manifest says; 0 means the text's
	lie  bool  // the manifest's digest is another
}

// archive makes one with a manifest that fits.
func archive(t *testing.T, head any, parts []part, behind ...part) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(p part) Entry {
		if p.kind == 0 {
			p.kind = tar.TypeReg
		}
		h := &tar.Header{Typeflag: p.kind, Name: p.name, Mode: 0o644, Linkname: p.link, PAXRecords: p.pax, Format: tar.FormatPAX}
		if p.kind == tar.TypeReg {
			h.Size = int64(len(p.text))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if _, err := w.Write([]byte(p.text)); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(p.text))
		e := Entry{Name: strings.TrimSuffix(p.name, "/"), Mode: 0o644, Size: h.Size, SHA256: hex.EncodeToString(sum[:])}
		if p.kind == tar.TypeDir {
			e.Mode, e.SHA256 = e.Mode|fs.ModeDir, ""
		}
		if p.lie {
			e.SHA256 = strings.Repeat("0", 64)
		}
		if p.size != 0 {
			e.Size = p.size
		}
		return e
	}
	document := func(name string, v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		put(part{name: name, text: string(text)})
	}
	document(headName, head)
	var m Manifest
	for _, p := range parts {
		m.Entries = append(m.Entries, put(p))
	}
	document(manifestName, m)
	for _, p := range behind {
		put(p)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestHostile restores archives that nobody's program has made. Nothing is written anywhere.
func TestHostile(t *testing.T) {
	head := Head{Format: format, Alembic: store.Head, Galley: "9.9.9"}
	database := part{name: databaseName, text: "SQLite format 3\x00 and no more"}
	with := func(more ...part) []part { return append(more, database) }
	changed := func(f func(*Head)) Head {
		h := head
		f(&h)
		return h
	}
	for _, c := range []struct {
		name, want string
		head       any
		parts      []part
		behind     []part
	}{
		{"newer form", "use a newer Galley", changed(func(h *Head) { h.Format = 2 }), with(), nil},
		{"no form", "not a backup", map[string]int{}, with(), nil},
		{"no head", "damaged", "text", with(), nil},
		{"large head", "damaged", map[string]string{"x": strings.Repeat("x", maxHead)}, with(), nil},
		{"another version", "Alembic", changed(func(h *Head) { h.Alembic = "abc" }), with(), nil},
		{"newer tables", "newer Galley, 9.9.9", changed(func(h *Head) { h.Schema = 999 }), with(), nil},
		{"no database", "no database", head, nil, nil},
		{"a folder for a database", "not a name", head, []part{{name: databaseName + "/", kind: tar.TypeDir}}, nil},
		{"a broken database", "its database", head, with(), nil},
		{"upwards", "not a name", head, with(part{name: "../evil", text: "x"}), nil},
		{"upwards inside", "not a name", head, with(part{name: "uploads/../../evil", text: "x"}), nil},
		{"from the root", "not a name", head, with(part{name: "/tmp/backup-evil", text: "x"}), nil},
		{"no name", "not a name", head, with(part{name: "./", kind: tar.TypeDir}), nil},
		{"link", "neither a file nor", head, with(part{name: "uploads/l", kind: tar.TypeSymlink, link: "/etc"}, part{name: "uploads/l/x", text: "x"}), nil},
		{"hard link", "neither a file nor", head, with(part{name: "uploads/l", kind: tar.TypeLink, link: "/etc/passwd"}), nil},
		{"device", "neither a file nor", head, with(part{name: "uploads/d", kind: tar.TypeChar}), nil},
		{"fifo", "neither a file nor", head, with(part{name: "uploads/f", kind: tar.TypeFifo}), nil},
		{"holes", "damaged", head, with(part{name: "uploads/s", text: "x", pax: map[string]string{"GNU.sparse.major": "1"}}), nil},
		{"a log of the database", "not a name", head, with(part{name: "webui.db-wal", text: "x"}), nil},
		{"below the database", "not a name", head, with(part{name: "webui.db/x", text: "x"}), nil},
		{"socket", "not a name", head, with(part{name: "galley.sock", text: "x"}), nil},
		{"interface", "not a name", head, with(part{name: "frontend/index.html", text: "x"}), nil},
		{"a plan", "not a name", head, with(part{name: ".galley-restore/plan.json", text: "{}"}), nil},
		{"its own", "not a name", head, with(part{name: "galley-backup/x", text: "x"}), nil},
		{"twice", "there twice", head, with(part{name: "uploads/a", text: "x"}, part{name: "uploads/a", text: "x"}), nil},
		{"a file for a folder", "", head, with(part{name: "uploads/a", text: "x"}, part{name: "uploads/a/b", text: "x"}), nil},
		{"another digest", "differs", head, with(part{name: "uploads/a", text: "x", lie: true}), nil},
		{"another size", "differs", head, with(part{name: "uploads/a", text: "x", size: 5}), nil},
		{"something behind", "follows", head, with(), []part{{name: "uploads/a", text: "x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := archive(t, c.head, c.parts, c.behind...)
			outer := t.TempDir()
			dir := filepath.Join(outer, "data")
			_, err := Restore(t.Context(), RestoreOptions{File: file, DataDir: dir, DatabaseURL: "sqlite:///" + filepath.Join(dir, databaseName)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			_ = os.Remove(dir) // it may have been made, and is empty
			if left, _ := filepath.Glob(filepath.Join(outer, "*")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
	for name, text := range map[string]string{"empty": "", "text": "hello", "gzip of nothing": "\x1f\x8b\x08\x00\x00\x00\x00\x00", "zeros": strings.Repeat("\x00", 4096)} {
		file := filepath.Join(t.TempDir(), "b")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad *DamagedError
		if _, _, err := Verify(t.Context(), file, nil); !errors.Is(err, ErrNoBackup) && !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Verify(t.Context(), t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a folder: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Verify(cancelled, archive(t, head, with()), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestPrefix makes sure that a backup unpacked with tar is a data folder.
func TestPrefix(t *testing.T) {
	s := newSite(t, "")
	o := s.options()
	o.Compress = "none"
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(o.File)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	r := tar.NewReader(f)
	var names []string
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
		if h.Name == databaseName {
			var b bytes.Buffer
			if _, err := b.ReadFrom(r); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, databaseName), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if names[0] != headName || names[len(names)-1] != manifestName || len(names) != 8 {
		t.Errorf("%q", names)
	}
	sameRows(t, rows(t, open(t, "sqlite:///"+filepath.Join(dir, databaseName)), dir), rows(t, s.db, dir))
}
