package main

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// session signs the administrator in and gives a function that asks the server.
func session(t *testing.T, url string) (ask func(method, path, contentType string, body []byte) []byte) {
	t.Helper()
	token := ""
	ask = func(method, path, contentType string, body []byte) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, text, err)
		}
		return text
	}
	var in struct{ Token string }
	if err := json.Unmarshal(ask("POST", "/api/v1/auths/signin", "application/json", []byte(`{"email":"root@example.test","password":"root-password-1"}`)), &in); err != nil {
		t.Fatal(err)
	}
	token = in.Token
	return ask
}

// uploadForm is a form with a file.
func uploadForm(t *testing.T, name string, content []byte) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	return form.FormDataContentType(), b.Bytes()
}

// at is a machine with another data folder.
func (m *machine) at(dir string) *machine {
	other := newMachine(m.t)
	other.vars["DATA_DIR"] = dir
	delete(other.vars, "WEBUI_ADMIN_EMAIL")
	return other
}

// TestBackup backs up under a server that works, restores elsewhere, and serves that.
func TestBackup(t *testing.T) {
	m := newMachine(t)
	url, stop := m.serve()
	ask := session(t, url)
	kind, body := uploadForm(t, "note.txt", []byte("what was written"))
	var f struct{ ID string }
	if err := json.Unmarshal(ask("POST", "/api/v1/files/?process=false", kind, body), &f); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	file, plain := filepath.Join(out, "b.tar.gz"), filepath.Join(out, "b.tar")
	m.want(0, "Backup of", "db", "backup", "--to", file)
	m.want(1, "not overwritten", "db", "backup", "--to", file)
	m.want(2, "gzip or none", "db", "backup", "--compress", "lzw")
	m.want(0, "The secret key is not in it", "db", "backup", "--to", plain, "--compress", "none", "--without-secret-key")
	if code, text, errs := m.galley("db", "backup", "--to", "-", "--database-only"); code != 0 || !strings.HasPrefix(text, "\x1f\x8b") || !strings.Contains(errs, "0 files") {
		t.Errorf("to the standard output: %d %q %s", code, text[:min(len(text), 20)], errs)
	}
	m.want(0, "is whole", "db", "verify", file)
	m.want(1, "not a backup", "db", "verify", filepath.Join(m.dir, "webui.db"))
	m.want(1, "a server is using it", "db", "restore", file)

	other := m.at(filepath.Join(t.TempDir(), "new"))
	other.want(0, "Restored the backup", "db", "restore", file)
	other.want(1, "--force", "db", "restore", file)
	url, stopOther := other.serve()
	if got := session(t, url)("GET", "/api/v1/files/"+f.ID+"/content", "", nil); string(got) != "what was written" {
		t.Errorf("%q", got)
	}
	stopOther()
	stop()
	m.want(0, "before-restore-", "db", "restore", "--force", plain)
	m.serve()
	if _, help, _ := m.galley("help"); !strings.Contains(help, "\n  db backup ") {
		t.Errorf("help:\n%s", help)
	}
}

// start runs the program as a process of its own.
func (m *machine) start(args ...string) (*exec.Cmd, *output) {
	m.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(m.t.Context(), exe, args...)
	cmd.Env = []string{"TEST_PROGRAM=1", "PATH=" + os.Getenv("PATH")}
	for name, v := range m.vars {
		cmd.Env = append(cmd.Env, name+"="+v)
	}
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	return cmd, &out
}

// endWhen runs the program and sends it a signal once something is there. It may have ended by itself before.
func (m *machine) endWhen(signal syscall.Signal, pattern string, args ...string) (text string, late bool) {
	m.t.Helper()
	cmd, out := m.start(args...)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	until(m.t, pattern, func() bool {
		there, _ := filepath.Glob(pattern)
		return len(there) > 0 || len(ended) > 0
	})
	_ = cmd.Process.Signal(signal)
	err := <-ended
	return out.String(), err == nil
}

// TestBackupEnds ends backups and restores by signals, with the program itself.
func TestBackupEnds(t *testing.T) {
	m := newMachine(t)
	url, stop := m.serve()
	ask := session(t, url)
	kind, body := uploadForm(t, "large.bin", bytes.Repeat([]byte("0123456789abcde\n"), 4<<20))
	ask("POST", "/api/v1/files/?process=false", kind, body)
	out := t.TempDir()
	file := filepath.Join(out, "b.tar.gz")
	empty := func(pattern string) {
		t.Helper()
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left over: %q", left)
		}
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		text, late := m.endWhen(signal, filepath.Join(m.dir, ".galley-backup-*", "uploads"), "db", "backup", "--to", file)
		if late {
			t.Fatalf("the backup ended before the signal\n%s", text)
		}
		empty(file)
		if signal == syscall.SIGINT {
			if !strings.Contains(text, "interrupted; nothing was changed") {
				t.Error(text)
			}
			empty(filepath.Join(out, ".galley*"))
			empty(filepath.Join(m.dir, ".galley-*"))
		}
	}
	m.want(0, "Backup of", "db", "backup", "--to", file) // which clears what the one that was killed has left
	empty(filepath.Join(out, ".galley*"))
	empty(filepath.Join(m.dir, ".galley-*"))

	other := m.at(filepath.Join(t.TempDir(), "new"))
	dir := other.vars["DATA_DIR"]
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		text, late := other.endWhen(signal, filepath.Join(dir, ".galley-restore", "new", "uploads"), "db", "restore", file)
		if late {
			t.Fatalf("the restore ended before the signal\n%s", text)
		}
		empty(filepath.Join(dir, "webui.db"))
		if signal == syscall.SIGINT {
			if !strings.Contains(text, "interrupted; nothing was changed") {
				t.Error(text)
			}
			empty(filepath.Join(dir, ".galley-*"))
		}
	}
	other.want(0, "Restored", "db", "restore", file)
	empty(filepath.Join(dir, ".galley-*"))
	stop()

	// killed when it has begun to put things in place
	plan := filepath.Join(m.dir, ".galley-restore", "plan.json")
	m.endWhen(syscall.SIGKILL, plan, "db", "restore", "--force", file)
	if _, err := os.Stat(plan); err != nil {
		t.Log("the restore was quicker than the signal")
	} else {
		m.want(2, "a restore was interrupted", "serve")
		m.want(0, "Completed the restore", "db", "restore", file)
	}
	url, _ = m.serve()
	session(t, url)
	if kept, _ := filepath.Glob(filepath.Join(m.dir, "before-restore-*", "webui.db")); len(kept) != 1 {
		t.Errorf("kept: %q", kept)
	}
}
