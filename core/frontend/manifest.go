package frontend

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DefaultVersion is the Open WebUI release whose API Galley serves, and so the
// frontend release that fits it.
const DefaultVersion = "0.12.4"

// Names inside an installation; see the package comment.
const (
	currentFile  = "current"
	manifestFile = "manifest.json"
	digestsFile  = "digests.txt"
	buildDir     = "build"
	staticDir    = "static"
	licensesDir  = "licenses"
	gzipDir      = "gzip"
)

// ErrNotInstalled reports a folder that holds no installation made by [Install].
var ErrNotInstalled = errors.New("no installed frontend")

// ErrDamaged reports an installation whose files differ from what was installed.
var ErrDamaged = errors.New("frontend is damaged")

// Manifest describes one installation. It is stored as manifest.json beside the files.
type Manifest struct {
	Version       string    `json:"version"`        // release of open-webui, e.g. "0.12.4"
	WheelSHA256   string    `json:"wheel_sha256"`   // hex digest of the wheel the files came from
	DigestsSHA256 string    `json:"digests_sha256"` // hex digest of digests.txt
	Files         int       `json:"files"`          // lines in digests.txt
	Bytes         int64     `json:"bytes"`          // size of these files together
	InstalledAt   time.Time `json:"installed_at"`
}

// Dir is the folder below dataDir that holds installations: the Dir to give to
// [Install] so that [Find] sees the result.
func Dir(dataDir string) string { return filepath.Join(dataDir, "frontend") }

// Find returns the folder to serve: buildDir (the value of FRONTEND_BUILD_DIR) if
// it holds an index.html, else the current installation below dataDir, else "".
// The check is cheap; [Verify] does the thorough one.
func Find(dataDir, buildDir string) string {
	if buildDir != "" && isFile(filepath.Join(buildDir, "index.html")) {
		return buildDir
	}
	if dataDir == "" {
		return ""
	}
	versions := []string{DefaultVersion}
	if name, err := os.ReadFile(filepath.Join(Dir(dataDir), currentFile)); err == nil {
		versions = append([]string{strings.TrimSpace(string(name))}, versions...)
	}
	for _, version := range versions {
		dir := filepath.Join(Dir(dataDir), version)
		if validVersion(version) && isInstallation(dir) {
			return dir
		}
	}
	return ""
}

// Verify recomputes the digest of every file of the installation in dir (a folder
// as [Find] returns it). The error is [ErrNotInstalled] when dir has no manifest,
// [ErrDamaged] when a file is missing or altered, or the context's.
func Verify(ctx context.Context, dir string) (Manifest, error) {
	m, err := readManifest(dir)
	if err != nil {
		return m, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, fmt.Errorf("verify frontend: %w", err)
	}
	defer root.Close()

	sum, err := hashFile(root, digestsFile)
	if err != nil || sum != m.DigestsSHA256 {
		return m, fmt.Errorf("%w: %s is not the list that was installed", ErrDamaged, digestsFile)
	}
	bad, first, err := checkDigests(ctx, root)
	switch {
	case err != nil:
		return m, fmt.Errorf("verify frontend: %w", err)
	case bad > 0:
		return m, fmt.Errorf("%w: %d of %d files are missing or altered, the first is %s", ErrDamaged, bad, m.Files, first)
	}
	return m, nil
}

// checkDigests compares every file named in digests.txt; it returns how many differ and the first of them.
func checkDigests(ctx context.Context, root *os.Root) (bad int, first string, err error) {
	list, err := root.Open(digestsFile)
	if err != nil {
		return 0, "", err
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		if err := ctx.Err(); err != nil {
			return bad, first, err
		}
		want, name, _ := strings.Cut(lines.Text(), "  ")
		if sum, err := hashFile(root, name); err == nil && sum == want {
			continue
		}
		if bad++; bad == 1 {
			first = name
		}
	}
	return bad, first, lines.Err()
}

func hashFile(root *os.Root, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func readManifest(dir string) (Manifest, error) {
	var m Manifest
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%w in %s", ErrNotInstalled, dir)
	}
	if err != nil {
		return m, fmt.Errorf("read frontend manifest: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%w: %s cannot be read: %w", ErrDamaged, manifestFile, err)
	}
	return m, nil
}

func writeManifest(dir string, m Manifest) error {
	text, err := json.Marshal(m, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestFile), append(text, '\n'), 0o644)
}

// isInstallation reports whether dir looks like a finished installation. The
// manifest is written last, so its presence means that all else is there.
func isInstallation(dir string) bool {
	return isFile(filepath.Join(dir, manifestFile)) && isFile(filepath.Join(dir, buildDir, "index.html"))
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

var versionPattern = regexp.MustCompile(`^[0-9][0-9A-Za-z.+!_-]{0,63}$`)

// validVersion accepts what PEP 440 allows and nothing that a path or a command line would read otherwise.
func validVersion(v string) bool { return versionPattern.MatchString(v) }
