package frontend

import (
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// big is a text that is worth a gzip twin.
var big = strings.Repeat("const answer = 42; // the same again\n", 400)

const testVersion = "9.8.7"

// goodWheel is the content of a small but complete wheel.
func goodWheel() map[string]string {
	return map[string]string{
		"open_webui/main.py":                                    "print('not taken')",
		"open_webui/frontend/index.html":                        "<!doctype html><title>App</title>",
		"open_webui/frontend/_app/immutable/entry/start.abc.js": big,
		"open_webui/frontend/_app/immutable/start.abc.js.map":   big,
		"open_webui/frontend/static/favicon.png":                "\x89PNG frontend",
		"open_webui/frontend/static/custom.css":                 "",
		"open_webui/frontend/pyodide/pyodide.asm.wasm":          "\x00asm" + big,
		"open_webui/static/favicon.png":                         "\x89PNG server",
		"open_webui/static/swagger-ui/swagger-ui.css":           "body {}",
		"open_webui-9.8.7.dist-info/METADATA":                   "Name: open-webui\nVersion: 9.8.7\n",
		"open_webui-9.8.7.dist-info/licenses/LICENSE":           "the licence",
	}
}

// writeWheel makes a wheel of the files, with a RECORD that edit may alter.
func writeWheel(t *testing.T, files map[string]string, edit func(record string) string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "open_webui-9.8.7-py3-none-any.whl")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	z := zip.NewWriter(out)
	add := func(name, text string) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	var record strings.Builder
	for name, text := range files {
		add(name, text)
		sum := sha256.Sum256([]byte(text))
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(text))
	}
	record.WriteString("open_webui-9.8.7.dist-info/RECORD,,\n")
	text := record.String()
	if edit != nil {
		text = edit(text)
	}
	if text != "" {
		add("open_webui-9.8.7.dist-info/RECORD", text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// installed puts the good wheel into a new data directory.
func installed(t *testing.T) (dataDir string, in Installed) {
	t.Helper()
	dataDir = t.TempDir()
	in, err := Install(t.Context(), InstallOptions{Dir: Dir(dataDir), Wheel: writeWheel(t, goodWheel(), nil)})
	if err != nil {
		t.Fatal(err)
	}
	return dataDir, in
}

// names lists what is in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	found := []string{}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestInstallWheel(t *testing.T) {
	wheel := writeWheel(t, goodWheel(), nil)
	data := t.TempDir()
	var seen []Progress
	opts := InstallOptions{Dir: Dir(data), Wheel: wheel, Progress: func(p Progress) { seen = append(seen, p) }}
	in, err := Install(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if !in.Fresh || in.Version != testVersion || in.Path != filepath.Join(Dir(data), testVersion) {
		t.Errorf("got %+v", in)
	}
	if got := read(t, in.Path, "build/_app/immutable/entry/start.abc.js"); got != big {
		t.Errorf("script has %d bytes, want %d", len(got), len(big))
	}
	if got := read(t, in.Path, "licenses/LICENSE"); got != "the licence" {
		t.Errorf("licence is %q", got)
	}
	if _, err := os.Stat(filepath.Join(in.Path, "build", "main.py")); err == nil {
		t.Error("a server file was installed")
	}
	if got, want := names(t, Dir(data)), []string{testVersion, "current"}; !slices.Equal(got, want) {
		t.Errorf("folder holds %v, want %v", got, want)
	}
	last := seen[len(seen)-1]
	if last.Stage != StageDone || last.Done != last.Total || last.Total == 0 {
		t.Errorf("last progress is %+v", last)
	}
	if got := Find(data, ""); got != in.Path {
		t.Errorf("Find gives %q, want %q", got, in.Path)
	}

	again, err := Install(t.Context(), opts)
	if err != nil || again.Fresh || again.InstalledAt != in.InstalledAt {
		t.Errorf("second installation: %+v, %v", again, err)
	}
}

func TestInstallKeepsGzipTwins(t *testing.T) {
	_, in := installed(t)
	f, err := os.Open(filepath.Join(in.Path, "gzip/build/_app/immutable/entry/start.abc.js"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || string(got) != big {
		t.Errorf("twin unpacks to %d bytes, %v", len(got), err)
	}
	for _, none := range []string{"gzip/build/_app/immutable/start.abc.js.map", "gzip/build/index.html"} {
		if isFile(filepath.Join(in.Path, none)) {
			t.Errorf("%s is there: source maps and small files need no twin", none)
		}
	}
}

func TestInstallRefuses(t *testing.T) {
	with := func(change func(map[string]string)) map[string]string {
		files := goodWheel()
		change(files)
		return files
	}
	tests := []struct {
		name  string
		files map[string]string
		edit  func(string) string
		want  string
	}{
		{name: "altered file", files: goodWheel(), want: "does not have the sha256", edit: func(r string) string {
			return swapDigest(r, "open_webui/frontend/index.html")
		}},
		{name: "altered file with a twin", files: goodWheel(), want: "does not have the sha256", edit: func(r string) string {
			return swapDigest(r, "open_webui/frontend/pyodide/pyodide.asm.wasm")
		}},
		{name: "file RECORD does not know", files: goodWheel(), want: "no sha256", edit: func(r string) string {
			return strings.ReplaceAll(r, "open_webui/frontend/index.html", "open_webui/frontend/other.html")
		}},
		{name: "no RECORD", files: goodWheel(), want: "RECORD", edit: func(string) string { return "" }},
		{name: "no index", files: with(func(m map[string]string) { delete(m, "open_webui/frontend/index.html") }), want: "no built frontend"},
		{name: "traversal", files: with(func(m map[string]string) { m["open_webui/frontend/../../../evil.js"] = "x" }), want: "improper file name"},
		{name: "traversal elsewhere", files: with(func(m map[string]string) { m["../evil.js"] = "x" }), want: "improper file name"},
		{name: "absolute", files: with(func(m map[string]string) { m["/etc/evil"] = "x" }), want: "improper file name"},
		{name: "backslash", files: with(func(m map[string]string) { m[`open_webui/frontend/..\evil.js`] = "x" }), want: "improper file name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Install(t.Context(), InstallOptions{Dir: dir, Wheel: writeWheel(t, tt.files, tt.edit)})
			if !errors.Is(err, ErrBadWheel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// swapDigest gives one line of RECORD the digest of something else.
func swapDigest(record, name string) string {
	lines := strings.Split(record, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, name+",") {
			sum := sha256.Sum256([]byte("something else"))
			lines[i] = name + ",sha256=" + base64.RawURLEncoding.EncodeToString(sum[:]) + ",1"
		}
	}
	return strings.Join(lines, "\n")
}

func TestInstallRefusesOtherFiles(t *testing.T) {
	text := filepath.Join(t.TempDir(), "page.whl")
	if err := os.WriteFile(text, []byte("<html>not found</html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	good := writeWheel(t, goodWheel(), nil)
	tests := []struct {
		name string
		opts InstallOptions
		want error
	}{
		{"no zip", InstallOptions{Wheel: text}, ErrBadWheel},
		{"absent", InstallOptions{Wheel: text + "x"}, os.ErrNotExist},
		{"folder", InstallOptions{Wheel: filepath.Dir(text)}, ErrBadWheel},
		{"another release", InstallOptions{Wheel: good, Version: "1.2.3"}, ErrBadWheel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Dir = t.TempDir()
			if _, err := Install(t.Context(), tt.opts); !errors.Is(err, tt.want) {
				t.Errorf("error is %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := Install(t.Context(), InstallOptions{Dir: t.TempDir(), Version: "../1"}); err == nil {
		t.Error("a version that is a path was taken")
	}
}

func TestInstallInterrupted(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	files := 0
	_, err := Install(ctx, InstallOptions{Dir: dir, Wheel: writeWheel(t, goodWheel(), nil), Progress: func(p Progress) {
		if p.Stage == StageUnpack {
			files++
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || files != 1 {
		t.Errorf("error is %v after %d files", err, files)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInstallRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"killed": 7 * time.Hour, "at-work": time.Minute} {
		name = filepath.Join(dir, tempPrefix+name)
		if err := os.MkdirAll(filepath.Join(name, "tree"), 0o755); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(name, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Install(t.Context(), InstallOptions{Dir: dir, Wheel: writeWheel(t, goodWheel(), nil)}); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, dir), []string{tempPrefix + "at-work", testVersion, currentFile}; !slices.Equal(got, want) {
		t.Errorf("folder holds %v, want %v", got, want)
	}
}

func TestVerifyAndRepair(t *testing.T) {
	data, in := installed(t)
	if m, err := Verify(t.Context(), in.Path); err != nil || m.Version != testVersion {
		t.Fatalf("intact: %+v, %v", m, err)
	}
	damage := map[string]func(name string) error{
		"build/index.html":                             func(n string) error { return os.WriteFile(n, []byte("<script>"), 0o644) },
		"build/static/favicon.png":                     os.Remove,
		"gzip/build/_app/immutable/entry/start.abc.js": func(n string) error { return os.Truncate(n, 20) },
		digestsFile: func(n string) error { return os.Truncate(n, 0) },
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			if err := do(filepath.Join(in.Path, name)); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(t.Context(), in.Path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
				t.Errorf("error is %v", err)
			}
			got, err := Install(t.Context(), InstallOptions{Dir: Dir(data), Wheel: writeWheel(t, goodWheel(), nil)})
			if err != nil || !got.Fresh {
				t.Fatalf("repair: %+v, %v", got, err)
			}
			if _, err := Verify(t.Context(), in.Path); err != nil {
				t.Errorf("after repair: %v", err)
			}
		})
	}
	if _, err := Verify(t.Context(), t.TempDir()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("empty folder: %v", err)
	}
}

func TestFind(t *testing.T) {
	data, in := installed(t)
	build := t.TempDir()
	if got := Find(data, build); got != in.Path {
		t.Errorf("build folder without index: %q", got)
	}
	if err := os.WriteFile(filepath.Join(build, "index.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := Find(data, build); got != build {
		t.Errorf("build folder with index: %q", got)
	}
	if err := os.WriteFile(filepath.Join(Dir(data), currentFile), []byte("../.."), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := Find(data, ""); got != "" {
		t.Errorf("current names no version: %q", got)
	}
	if got := Find("", ""); got != "" {
		t.Errorf("nothing given: %q", got)
	}
}

// TestMain lets this program stand in for pip: it checks its arguments and delivers $FAKE_WHEEL.
func TestMain(m *testing.M) {
	if wheel := os.Getenv("FAKE_WHEEL"); wheel != "" {
		os.Exit(fakePip(os.Args[1:], wheel))
	}
	os.Exit(m.Run())
}

func fakePip(args []string, wheel string) int {
	if slices.Equal(args, []string{"--version"}) {
		return 0
	}
	dest := slices.Index(args, "--dest")
	if args[0] != "download" || dest < 0 || !slices.Contains(args, "--no-deps") || !slices.Contains(args, "--only-binary=:all:") {
		fmt.Println("bad arguments", args)
		return 2
	}
	if want := args[len(args)-1]; want != "open-webui=="+testVersion {
		fmt.Fprintln(os.Stderr, "ERROR: no matching distribution for", want)
		return 1
	}
	data, err := os.ReadFile(wheel)
	if err == nil {
		err = os.WriteFile(filepath.Join(args[dest+1], filepath.Base(wheel)), data, 0o644)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestInstallByPip(t *testing.T) {
	t.Setenv("FAKE_WHEEL", writeWheel(t, goodWheel(), nil))
	opts := InstallOptions{Dir: t.TempDir(), Version: testVersion, Pip: []string{os.Args[0]}}
	in, err := Install(t.Context(), opts)
	if err != nil || !in.Fresh {
		t.Fatalf("got %+v, %v", in, err)
	}
	opts.Pip = []string{filepath.Join(t.TempDir(), "pip")}
	if in, err = Install(t.Context(), opts); err != nil || in.Fresh {
		t.Errorf("an intact installation needs no pip: %+v, %v", in, err)
	}
	opts.Version = "5.5.5"
	_, err = Install(t.Context(), opts)
	if !errors.Is(err, ErrNoPip) || !strings.Contains(err.Error(), "--wheel") || !strings.Contains(err.Error(), "open-webui==5.5.5") {
		t.Errorf("without pip: %v", err)
	}
	opts.Pip = []string{os.Args[0]}
	_, err = Install(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "no matching distribution") || !strings.Contains(err.Error(), "--wheel") {
		t.Errorf("pip fails: %v", err)
	}
	if got := names(t, opts.Dir); !slices.Equal(got, []string{testVersion, currentFile}) {
		t.Errorf("folder holds %v", got)
	}
}

func TestInstallRefusesForgedDownload(t *testing.T) {
	knownWheels[testVersion] = strings.Repeat("ab", 32)
	defer delete(knownWheels, testVersion)
	wheel := writeWheel(t, goodWheel(), nil)
	t.Setenv("FAKE_WHEEL", wheel)
	opts := InstallOptions{Dir: t.TempDir(), Version: testVersion, Pip: []string{os.Args[0]}}
	if _, err := Install(t.Context(), opts); !errors.Is(err, ErrBadWheel) || !strings.Contains(err.Error(), "was published with") {
		t.Errorf("forged download: %v", err)
	}
	opts.Wheel = wheel
	if _, err := Install(t.Context(), opts); err != nil {
		t.Errorf("a wheel given by hand may be another build: %v", err)
	}
}
