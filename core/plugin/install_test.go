package plugin

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script is a program, as far as its first bytes tell.
const script = "#!/bin/sh\nexit 0\n"

// entry is a file, folder or link of an archive.
type entry struct {
	name, text string
	mode       fs.FileMode
	link       string
	kind       byte // of a tar's entry; 0: a file, a folder by the slash at its end, a symbolic link if link is set
	size       int64
}

func plainly(text string) []entry {
	return []entry{{name: "x/", mode: 0o755}, {name: "x/plugin.json", text: text, mode: 0o644}, {name: "x/run", text: script, mode: 0o755}}
}

const simple = `{"id":"ant","version":"1.2.3","command":"run"}`

// zeros are as many bytes.
type zeros int64

func (z *zeros) Read(p []byte) (int, error) {
	n := min(int64(len(p)), int64(*z))
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	*z -= zeros(n)
	return int(n), nil
}

func tarOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.text)) + e.size, Linkname: e.link, Typeflag: e.kind}
		switch {
		case e.kind != 0:
		case e.link != "":
			h.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		default:
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		more := zeros(e.size)
		if _, err := io.Copy(w, io.MultiReader(strings.NewReader(e.text), &more)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		text := e.text
		h.SetMode(e.mode)
		if e.link != "" {
			h.SetMode(fs.ModeSymlink | 0o777)
			text = e.link
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		more := zeros(e.size)
		if _, err := io.Copy(w, io.MultiReader(strings.NewReader(text), &more)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func installBytes(t testing.TB, name string, raw []byte, o Installation) (Installed, error) {
	t.Helper()
	return InstallContent(context.Background(), Content{name, bytes.NewReader(raw), int64(len(raw))}, o)
}

// nothingElse fails if a folder has more than the names.
func nothingElse(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

// onDisk writes entries to a new folder.
func onDisk(t testing.TB, entries []entry) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		path := filepath.Join(dir, e.name)
		var err error
		switch {
		case e.link != "":
			err = os.Symlink(e.link, path)
		case strings.HasSuffix(e.name, "/"):
			err = os.MkdirAll(path, e.mode)
		default:
			err = os.WriteFile(path, []byte(e.text), e.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestInstallKinds(t *testing.T) {
	entries := append(plainly(simple), entry{name: "x/deep/", mode: 0o700}, entry{name: "x/deep/data", text: "d", mode: 0o640}, entry{name: "x/same", link: "deep/data"},
		entry{name: "x/open", text: "o", mode: 0o777})
	folder := filepath.Join(onDisk(t, entries), "x")
	var packed bytes.Buffer
	if err := Pack(t.Context(), folder, &packed); err != nil {
		t.Fatal(err)
	}
	for name, install := range map[string]func(Installation) (Installed, error){
		"folder":     func(o Installation) (Installed, error) { return Install(t.Context(), folder, o) },
		"tar.gz":     func(o Installation) (Installed, error) { return installBytes(t, "a.tgz", tarOf(t, entries), o) },
		"zip":        func(o Installation) (Installed, error) { return installBytes(t, "a", zipOf(t, entries), o) },
		"own tar.gz": func(o Installation) (Installed, error) { return installBytes(t, "a.tar.gz", packed.Bytes(), o) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "plugins")
			done, err := install(Installation{Dir: dir})
			if err != nil || done != (Installed{ID: "ant", Version: "1.2.3", Path: filepath.Join(dir, "ant")}) {
				t.Fatalf("%+v, %v", done, err)
			}
			nothingElse(t, dir, "ant")
			nothingElse(t, done.Path, "deep", "open", "plugin.json", "run", "same")
			for file, mode := range map[string]fs.FileMode{".": 0o755, "run": 0o755, "deep/data": 0o640, "open": 0o755, "plugin.json": 0o644} {
				if info, err := os.Stat(filepath.Join(done.Path, file)); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v", file, info.Mode(), err)
				}
			}
			if raw, err := os.ReadFile(filepath.Join(done.Path, "same")); string(raw) != "d" || err != nil {
				t.Errorf("by the link: %q, %v", raw, err)
			}
			if _, err := install(Installation{Dir: dir}); !errors.Is(err, ErrInstalled) {
				t.Errorf("again: %v", err)
			}
			if err := os.WriteFile(filepath.Join(done.Path, "old"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if done, err := install(Installation{Dir: dir, Replace: true}); err != nil || !done.Replaced {
				t.Fatalf("replace: %+v, %v", done, err)
			}
			nothingElse(t, dir, "ant")
			nothingElse(t, done.Path, "deep", "open", "plugin.json", "run", "same")
		})
	}
}

func TestInstallExecutable(t *testing.T) {
	dir := t.TempDir()
	sum := sumOf(script)
	done, err := installBytes(t, "My Tool.sh", []byte(script), Installation{Dir: dir, Grants: []string{"kv", "log"}, SHA256: strings.ToUpper(sum), RequireChecksum: true})
	if err != nil || done.ID != "my-tool" {
		t.Fatalf("%+v, %v", done, err)
	}
	m, err := ReadManifest(done.Path)
	if err != nil || m.SHA256 != sum || m.Command != "My Tool.sh" || strings.Join(m.Grants, " ") != "kv log" {
		t.Fatalf("%+v, %v", m, err)
	}
	if info, err := os.Stat(filepath.Join(done.Path, m.Command)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if done, err := installBytes(t, "plugin.json", []byte(script), Installation{Dir: dir, ID: "named"}); err != nil || done.ID != "named" {
		t.Errorf("%+v, %v", done, err)
	}
	nothingElse(t, dir, "my-tool", "named")
}

func sumOf(text string) string {
	c := Content{"", strings.NewReader(text), int64(len(text))}
	sum, _ := c.digest(context.Background())
	return sum
}

// TestInstallRefuses has archives that are not what they should be; nothing of them stays, and what is installed stays.
func TestInstallRefuses(t *testing.T) {
	with := func(more ...entry) []entry { return append(plainly(simple), more...) }
	outside := filepath.Join(t.TempDir(), "outside")
	for name, c := range map[string]struct {
		entries []entry
		o       Installation
		want    string
		tarOnly bool
	}{
		"above the folder":          {entries: with(entry{name: "../evil", text: "x"}), want: "outside"},
		"above by a detour":         {entries: with(entry{name: "x/../../evil", text: "x"}), want: "outside"},
		"absolute":                  {entries: with(entry{name: outside, text: "x"}), want: "outside"},
		"backslashes":               {entries: with(entry{name: `..\evil`, text: "x"}), want: "outside"},
		"absolute link":             {entries: with(entry{name: "x/l", link: "/etc/passwd"}), want: "link out"},
		"link above":                {entries: with(entry{name: "x/l", link: "../../evil"}), want: "link out"},
		"link above by other links": {entries: with(entry{name: "x/a/b/c/", mode: 0o755}, entry{name: "x/a/b/c/up", link: "../../.."}, entry{name: "x/l", link: "a/b/c/up/../.."}), want: "link out"},
		"link to nothing":           {entries: with(entry{name: "x/l", link: "nothing"}), want: "to nothing"},
		"file through a link":       {entries: with(entry{name: "x/l", link: "."}, entry{name: "x/l/../../../evil", text: "x"}), want: "outside"},
		"twice":                     {entries: with(entry{name: "x/run", text: "other"}), want: "twice"},
		"hard link out":             {entries: with(entry{name: "x/h", link: "../../etc/passwd", kind: tar.TypeLink}), want: "no file of the folder", tarOnly: true},
		"device":                    {entries: with(entry{name: "x/d", kind: tar.TypeChar}), want: "neither a file", tarOnly: true},
		"fifo":                      {entries: with(entry{name: "x/d", kind: tar.TypeFifo}), want: "neither a file", tarOnly: true},
		"bomb":                      {entries: with(entry{name: "x/big", size: 1 << 20}), o: Installation{limit: 1 << 20}, want: "larger than"},
		"no manifest":               {entries: []entry{{name: "x/run", text: script}}, want: "no plugin.json"},
		"two manifests":             {entries: append(plainly(simple), entry{name: "y/plugin.json", text: simple}), want: "no plugin.json"},
		"bad manifest":              {entries: plainly(`{"id":"ant","comand":"run"}`), want: "comand"},
		"reserved id":               {entries: plainly(`{"id":"install","command":"run"}`), want: "reserved"},
		"no such command":           {entries: plainly(`{"id":"ant","command":"no-such-program-anywhere"}`), want: "neither in the folder"},
		"another file than pinned":  {entries: plainly(`{"id":"ant","command":"run","sha256":"` + strings.Repeat("0", 64) + `"}`), want: "checksum"},
		"no checksum":               {entries: plainly(simple), o: Installation{RequireChecksum: true}, want: "checksum"},
		"another id":                {entries: plainly(simple), o: Installation{ID: "bee"}, want: `calls it "ant"`},
		"another digest":            {entries: plainly(simple), o: Installation{SHA256: strings.Repeat("a", 64)}, want: "SHA-256"},
		"no digest":                 {entries: plainly(simple), o: Installation{SHA256: "abc"}, want: "64 hexadecimal"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			c.o.Dir, c.o.Replace = filepath.Join(root, "plugins"), true
			if _, err := installBytes(t, "old.zip", zipOf(t, plainly(strings.Replace(simple, "1.2.3", "1.0.0", 1))), Installation{Dir: c.o.Dir}); err != nil {
				t.Fatal(err)
			}
			archives := map[string][]byte{"tar": tarOf(t, c.entries)}
			if !c.tarOnly {
				archives["zip"] = zipOf(t, c.entries)
			}
			for kind, raw := range archives {
				var bad *InstallError
				if _, err := installBytes(t, "a", raw, c.o); !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), root) {
					t.Errorf("%s: %v, want %q", kind, err, c.want)
				}
			}
			nothingElse(t, root, "plugins")
			nothingElse(t, c.o.Dir, "ant")
			if m, err := ReadManifest(filepath.Join(c.o.Dir, "ant")); err != nil || m.Version != "1.0.0" {
				t.Errorf("the installed one: %+v, %v", m, err)
			}
			if _, err := os.Lstat(outside); err == nil {
				t.Error("a file outside was written")
			}
		})
	}
}

func TestInstallNeither(t *testing.T) {
	for name, raw := range map[string]string{"text": "hello", "empty": "", "gzip of no tar": "\x1f\x8b\x08\x00junk", "half a zip": "PK\x03\x04junk"} {
		dir := t.TempDir()
		var bad *InstallError
		if _, err := installBytes(t, "a", []byte(raw), Installation{Dir: dir}); !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
		nothingElse(t, dir)
	}
	whole := tarOf(t, plainly(simple))
	dir := t.TempDir()
	if _, err := installBytes(t, "a", whole[:len(whole)/2], Installation{Dir: dir}); err == nil {
		t.Error("half an archive was installed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Install(ctx, filepath.Join(onDisk(t, plainly(simple)), "x"), Installation{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	nothingElse(t, dir)
}

// TestInstallEnvironment takes over a folder with a Python environment, whose interpreter is a link to elsewhere.
func TestInstallEnvironment(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(elsewhere, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	folder := onDisk(t, []entry{{name: ".venv/bin/", mode: 0o755}, {name: ".venv/bin/python", link: elsewhere}, {name: "plugin.json", text: `{"id":"py","command":".venv/bin/python"}`, mode: 0o644}})
	done, err := Install(t.Context(), folder, Installation{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := inspect(done.Path).prepare(t.TempDir())
	if want := filepath.Join(done.Path, ".venv/bin/python"); err != nil || cmd.path != want {
		t.Errorf("it runs %s, %v; want %s", cmd.path, err, want)
	}
}

// TestReplaceElsewhere replaces a plugin whose folder is not called as it is, and a bare executable.
func TestReplaceElsewhere(t *testing.T) {
	dir := t.TempDir()
	if err := os.Rename(filepath.Join(onDisk(t, plainly(simple)), "x"), filepath.Join(dir, "folder")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bee.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	raw := zipOf(t, plainly(strings.Replace(simple, "1.2.3", "2.0.0", 1)))
	if done, err := installBytes(t, "a", raw, Installation{Dir: dir, Replace: true}); err != nil || done.Path != filepath.Join(dir, "folder") {
		t.Fatalf("%+v, %v", done, err)
	}
	if done, err := installBytes(t, "bee", []byte(script), Installation{Dir: dir, Replace: true}); err != nil || done.Path != filepath.Join(dir, "bee.sh") {
		t.Fatalf("%+v, %v", done, err)
	}
	nothingElse(t, dir, "bee.sh", "folder")
	in := Folder{Dir: dir}
	if i, err := in.Get("ant"); err != nil || i.Version != "2.0.0" || i.State != StateStopped {
		t.Errorf("%+v, %v", i, err)
	}
	if v, err := in.Verify("bee"); err != nil || !v.OK || v.Pinned != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if err := errors.Join(in.Uninstall("bee"), in.Uninstall("ant")); err != nil {
		t.Fatal(err)
	}
	nothingElse(t, dir)
}

func TestSwapByRename(t *testing.T) {
	dir := onDisk(t, []entry{{name: "a/", mode: 0o755}, {name: "a/1", text: "1", mode: 0o644}, {name: "b", text: "2", mode: 0o644}})
	if err := swapByRename(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	nothingElse(t, dir, "a", "b")
	nothingElse(t, filepath.Join(dir, "b"), "1")
	if err := swapByRename(filepath.Join(dir, "missing"), filepath.Join(dir, "b")); err == nil {
		t.Error("nothing took a folder's place")
	}
	nothingElse(t, dir, "a", "b")
}

func TestWriteDigests(t *testing.T) {
	for name, c := range map[string]struct {
		entries []entry
		pinned  string
	}{
		"a program":  {[]entry{{name: "plugin.json", text: `{"id":"a","command":"run","config":{"z":1}}`, mode: 0o644}, {name: "run", text: script, mode: 0o755}, {name: "data", text: "d", mode: 0o644}}, "run"},
		"with files": {[]entry{{name: "plugin.json", text: `{"id":"a","command":"run","files":{"data":"` + strings.Repeat("0", 64) + `"},"config":{"z":1}}`, mode: 0o644}, {name: "run", text: script, mode: 0o755}, {name: "data", text: "d", mode: 0o644}}, "run data"},
		"interpreted": {[]entry{{name: "plugin.json", text: `{"id":"a","command":"sh","args":["main.sh"],"config":{"z":1}}`, mode: 0o644}, {name: "main.sh", text: script, mode: 0o644}, {name: "lib/", mode: 0o755},
			{name: "lib/a.sh", text: "a", mode: 0o644}, {name: ".git", text: "g", mode: 0o644}}, "lib/a.sh main.sh"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := onDisk(t, c.entries)
			pins, err := WriteDigests(dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range pins {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != c.pinned {
				t.Errorf("pinned %s, want %s", got, c.pinned)
			}
			s := inspectFolder(dir)
			if n, err := s.verify(); err != nil || n != len(pins) || string(s.manifest.Config) == "" {
				t.Errorf("%d, %v, config %s", n, err, s.manifest.Config)
			}
			if err := os.WriteFile(filepath.Join(dir, pins[len(pins)-1].Name), []byte("changed"), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := s.verify(); err == nil {
				t.Error("a change is not seen")
			}
		})
	}
}
