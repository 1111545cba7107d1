package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestUpgradeUnderStreams upgrades a plugin that answers a hundred streams: all come to their ends, from the old version.
func TestUpgradeUnderStreams(t *testing.T) {
	b := newBench(t, quick())
	m := Manifest{ID: "faulty"}
	b.faulty(t, m, "FAULTY_MODEL", "talker", "TEST_VERSION", "1")
	b.start(t)
	b.models()
	old := b.pid(t, "faulty")
	const each = 50
	var ends sync.WaitGroup
	failed := make(chan error, 4*each)
	for range each {
		_, in := b.first(t, "/api/v1/plugins/faulty/sse")
		ends.Go(func() {
			text, err := io.ReadAll(in)
			if err != nil || !strings.HasSuffix(string(text), "data: end\n\n") || strings.Contains(string(text), "data: 2 ") {
				failed <- fmt.Errorf("stream: %v", err)
			}
		})
		chat, err := b.chat(t, "talker", "talk")
		if err != nil {
			t.Fatal(err)
		}
		ends.Go(func() {
			if text, err := readAll(chat); err != nil || text == "" {
				failed <- fmt.Errorf("chat: %q %v", text, err)
			}
		})
	}
	b.faulty(t, m, "FAULTY_MODEL", "talker", "TEST_VERSION", "2")
	await(t, "upgraded", func() (bool, string) {
		_, text := b.get(t, "/api/v1/plugins/faulty/x")
		return text == "GET /x 2", text
	})
	if chat, err := b.chat(t, "talker", "short"); err != nil {
		t.Error(err)
	} else if text, err := readAll(chat); text != "2" || err != nil {
		t.Errorf("a new chat is answered %q %v", text, err)
	}
	if !alive(old) {
		t.Error("the old version has ended before its streams")
	}
	if err := os.WriteFile(b.overFile(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ends.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	await(t, "gone", func() (bool, string) { return !alive(old), "the old version lives" })
	if s := b.becomes(t, "faulty", StateReady, ""); s.Restarts != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDrainLimit(t *testing.T) {
	b := newBench(t, quick())
	m := Manifest{ID: "faulty", Limits: Limits{DrainSeconds: 1}}
	b.faulty(t, m)
	b.start(t)
	old := b.pid(t, "faulty")
	_, in := b.first(t, "/api/v1/plugins/faulty/sse")
	m.Name = "Another"
	b.faulty(t, m)
	if _, err := io.ReadAll(in); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	await(t, "gone", func() (bool, string) { return !alive(old), "the old version lives" })
	if now := b.pid(t, "faulty"); now == old {
		t.Error("it was not replaced")
	}
}

func TestBadUpgrade(t *testing.T) {
	b := newBench(t, quick())
	m := Manifest{ID: "faulty"}
	b.faulty(t, m, "FAULTY_MODEL", "talker")
	b.start(t)
	old := b.pid(t, "faulty")
	m.Version = "2"
	b.faulty(t, m, "FAULTY_MODEL", "talker", "FAULTY", "exit")
	b.becomes(t, "faulty", StateReady, "the new version was not started: the process ended: exited with code 3")
	if now := b.pid(t, "faulty"); now != old {
		t.Error("the old version does not go on")
	}
	// and again, with routes that are no routes
	b.faulty(t, Manifest{ID: "faulty"}, "FAULTY_ROUTES", "/api/{x", "FAULTY_MODEL", "talker")
	b.becomes(t, "faulty", StateReady, "the new version was not started: the process ended: exited with code 1")
	// the old one dies: now the new one is tried until it is given up, and its repair is taken up
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "faulty", StateFailed, "given up")
	b.faulty(t, Manifest{ID: "faulty"}, "TEST_VERSION", "3")
	b.becomes(t, "faulty", StateReady, "")
	if got := b.models(); got != "" {
		t.Errorf("models %q of the version before are left", got)
	}
}

// TestQuickReplacements has the last of several versions run, however quickly they come.
func TestQuickReplacements(t *testing.T) {
	b := newBench(t, quick())
	b.o.Poll = time.Millisecond
	b.start(t)
	for i := range 12 {
		b.faulty(t, Manifest{ID: "faulty"}, "TEST_VERSION", fmt.Sprint(i+1))
		if i%3 == 2 {
			b.becomes(t, "faulty", StateReady, "")
		}
	}
	await(t, "the last", func() (bool, string) {
		_, text := b.get(t, "/api/v1/plugins/faulty/x")
		return text == "GET /x 12", text
	})
	await(t, "alone", func() (bool, string) { n := children(t); return n == 1, fmt.Sprint(n, " processes") })
}

// children counts the processes of plugins that this one has.
func children(t testing.TB) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range found {
		env, _ := os.ReadFile(f)
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "stat"))
		if strings.Contains(string(env), "TEST_PLUGIN=") && strings.Contains(string(stat), fmt.Sprintf(") S %d ", os.Getpid())) {
			n++
		}
	}
	return n
}

// writeScript writes an executable that plays a faulty plugin; text makes versions differ.
func writeScript(t testing.TB, path, id, text string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf("#!/bin/sh\nTEST_PLUGIN=faulty FAULTY_ID=%s TEST_VERSION=%s exec %s\n", id, text, exe)
	if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
		t.Fatal(err)
	}
}

func digest(t testing.TB, path string) string {
	t.Helper()
	sum, err := Digest(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestChecksums(t *testing.T) {
	b := newBench(t, Options{Backoff: 10 * time.Millisecond, RequireChecksum: true})
	dir := filepath.Join(b.dir, "faulty")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	writeScript(t, run, "faulty", "1")
	m := Manifest{ID: "faulty", Command: "run", SHA256: strings.Repeat("00", sha256.Size)}
	b.put(t, m, "faulty")
	writeScript(t, filepath.Join(b.dir, "bare"), "bare", "1")
	b.put(t, Manifest{ID: "unpinned"}, "basic")
	b.start(t)
	b.becomes(t, "faulty", StateRefused, "checksum of run")
	b.becomes(t, "bare", StateRefused, "PLUGINS_REQUIRE_CHECKSUM")
	b.becomes(t, "unpinned", StateRefused, "PLUGINS_REQUIRE_CHECKSUM")
	m.SHA256 = strings.ToUpper(digest(t, run))
	b.put(t, m, "faulty")
	b.becomes(t, "faulty", StateReady, "")
	if v, err := b.Verify("faulty"); err != nil || !v.OK || v.Pinned != 1 {
		t.Errorf("%+v %v", v, err)
	}
	// changed in place while it runs: refused, and the one that was verified goes on
	writeScript(t, run, "faulty", "2")
	b.becomes(t, "faulty", StateReady, "the new version was not started: checksum of run")
	if _, text := b.get(t, "/api/v1/plugins/faulty/x"); text != "GET /x 1" {
		t.Error(text)
	}
	if v, err := b.Verify("faulty"); err != nil || v.OK {
		t.Errorf("%+v %v", v, err)
	}
	m.SHA256 = digest(t, run)
	b.put(t, m, "faulty")
	b.becomes(t, "faulty", StateReady, "")
	await(t, "upgraded", func() (bool, string) {
		_, text := b.get(t, "/api/v1/plugins/faulty/x")
		return text == "GET /x 2", text
	})
}

// TestSwappedWhileStaged changes a file all the time: what runs is what was verified, or nothing.
func TestSwappedWhileStaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "run")
	good := make([]byte, 1<<20)
	bad := []byte(strings.Repeat("x", 1<<20))
	sum := sha256.Sum256(good)
	if err := os.WriteFile(file, good, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for ctx.Err() == nil {
			_, _ = f.WriteAt(bad, 0)
			_, _ = f.WriteAt(good, 0)
		}
	})
	defer writer.Wait()
	defer cancel()
	s := &source{path: dir, manifest: &Manifest{ID: "x", Command: "run", SHA256: hex.EncodeToString(sum[:])}}
	refused, ran := 0, 0
	for i := 0; i < 300 && (refused == 0 || ran == 0 || i < 50); i++ {
		c, err := s.prepare(filepath.Join(t.TempDir(), "p"))
		var wrong *ChecksumError
		if errors.As(err, &wrong) {
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ran++
		if digest(t, c.path) != hex.EncodeToString(sum[:]) {
			t.Fatal("what would run is not what was verified")
		}
	}
	t.Log(refused, "refused,", ran, "verified")
	if refused == 0 {
		t.Error("no change was seen")
	}
}

// TestInPlace overwrites the executable of a running plugin.
func TestInPlace(t *testing.T) {
	b := newBench(t, quick())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{ID: "faulty", Command: "run"}
	run := filepath.Join(b.dir, "faulty", "run")
	if err := os.Mkdir(filepath.Dir(run), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(run, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	b.faulty(t, m)
	writeScript(t, filepath.Join(b.dir, "file-1.0"), "bare", "1")
	b.start(t)
	b.becomes(t, "bare", StateReady, "")
	old := b.pid(t, "faulty")
	if err := os.WriteFile(run, append(raw, 0), 0o755); err != nil {
		t.Fatal(err) // ETXTBSY, if it ran from there
	}
	writeScript(t, filepath.Join(b.dir, "file-1.0"), "bare", "2")
	await(t, "upgraded", func() (bool, string) {
		_, text := b.get(t, "/api/v1/plugins/bare/x")
		return text == "GET /x 2" && b.pid(t, "faulty") != old, text
	})
	// a link to a program elsewhere
	linked := filepath.Join(t.TempDir(), "linked")
	writeScript(t, linked, "linked", "7")
	if err := os.Symlink(linked, filepath.Join(b.dir, "linked")); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, "linked", StateReady, "")
	if err := os.Remove(filepath.Join(b.dir, "file-1.0")); err != nil {
		t.Fatal(err)
	}
	await(t, "gone", func() (bool, string) {
		code, _ := b.get(t, "/api/v1/plugins/bare/x")
		_, err := b.Get(t.Context(), "bare")
		return code != 200 && code != 503 && err != nil, fmt.Sprint(code, err)
	})
}

// TestRenamed has a new version with another id: nothing of the old id is left.
func TestRenamed(t *testing.T) {
	b := newBench(t, quick())
	file := filepath.Join(b.dir, "tool")
	writeScript(t, file, "first", "1")
	b.start(t)
	b.becomes(t, "first", StateReady, "")
	if err := b.SetEnabled(t.Context(), "first", true); err != nil {
		t.Fatal(err)
	}
	writeScript(t, file, "second", "2")
	b.becomes(t, "second", StateReady, "")
	if code, _ := b.get(t, "/api/v1/plugins/first/x"); code == 200 || code == 503 {
		t.Errorf("the old address answers %d", code)
	}
	if _, text := b.get(t, "/api/v1/plugins/second/x"); text != "GET /x 2" {
		t.Error(text)
	}
	if _, err := b.Get(t.Context(), "first"); err == nil {
		t.Error("the old id is there")
	}
	// one of that name comes: it is free
	writeScript(t, filepath.Join(b.dir, "z"), "first", "3")
	b.becomes(t, "first", StateReady, "")
	// and one that takes a name that is taken goes on as it was
	writeScript(t, file, "first", "4")
	b.becomes(t, "second", StateReady, `the new version was not started: the id "first" is taken by z`)
	if _, text := b.get(t, "/api/v1/plugins/second/x"); text != "GET /x 2" {
		t.Error(text)
	}
	// it is taken up when the name is free
	if err := os.Remove(filepath.Join(b.dir, "z")); err != nil {
		t.Fatal(err)
	}
	await(t, "renamed", func() (bool, string) {
		_, text := b.get(t, "/api/v1/plugins/first/x")
		_, err := b.Get(t.Context(), "second")
		return text == "GET /x 4" && err != nil, text
	})
}

// TestDisabledExecutable disables an executable whose id is not its name, and looks whether that is remembered.
func TestDisabledExecutable(t *testing.T) {
	db := sqlite(t)
	for i := range 2 {
		b := newBench(t, Options{Backoff: 10 * time.Millisecond, DB: db})
		writeScript(t, filepath.Join(b.dir, "file"), "inner", "1")
		b.start(t)
		if i == 0 {
			b.becomes(t, "inner", StateReady, "")
			if err := b.SetEnabled(t.Context(), "inner", false); err != nil {
				t.Fatal(err)
			}
		}
		if s := b.becomes(t, "inner", StateDisabled, ""); s.Restarts != 0 {
			t.Errorf("%+v", s)
		}
		if i == 1 {
			if err := b.SetEnabled(t.Context(), "inner", true); err != nil {
				t.Fatal(err)
			}
			b.becomes(t, "inner", StateReady, "")
		}
		_ = b.Stop(context.Background())
	}
}
