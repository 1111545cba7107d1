package plugin

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/sdk"
)

// ManifestName is the file that makes a folder a plugin.
const ManifestName = "plugin.json"

// Manifest is plugin.json: what the operator says of a plugin. Members that are not named here are refused, so that a
// slip of the pen is not a grant that silently is none.
type Manifest struct {
	ID          string            `json:"id"`
	Version     string            `json:"version,omitempty"` // "": whatever the plugin says
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Command     string            `json:"command"` // file in the folder, absolute path, or a program on the PATH
	Args        []string          `json:"args,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	SHA256      string            `json:"sha256,omitempty"` // of the command's file, in hex
	Files       map[string]string `json:"files,omitempty"`  // further files in the folder and their SHA-256
	Grants      []string          `json:"grants,omitempty"`
	Prefixes    []string          `json:"prefixes,omitempty"` // addresses beside /api/v1/plugins/ID
	Limits      Limits            `json:"limits,omitzero"`
	Config      json.RawMessage   `json:"config,omitempty"` // an object
}

// Limits bound what a plugin may take; 0 takes the default.
type Limits struct {
	MemoryMB        int     `json:"memory_mb,omitempty"`        // resident; no limit by default
	CPUs            float64 `json:"cpus,omitempty"`             // no limit by default
	Processes       int     `json:"processes,omitempty"`        // no limit by default
	OpenFiles       int     `json:"open_files,omitempty"`       // no limit by default
	KVMB            int     `json:"kv_mb,omitempty"`            // key-value store; 16 by default
	Connections     int     `json:"connections,omitempty"`      // calls at once; 4096 by default
	StartSeconds    int     `json:"start_seconds,omitempty"`    // from the start of the process to ready; 30 by default
	ResponseSeconds int     `json:"response_seconds,omitempty"` // until an answer begins; 60 by default
	DrainSeconds    int     `json:"drain_seconds,omitempty"`    // for calls of an old version to end; 600 by default
}

// Grants are what an operator can allow a plugin.
var Grants = []string{"kv", "users", "models", "files", "events", "log", "metrics"}

func (l Limits) start() time.Duration    { return seconds(l.StartSeconds, 30) }
func (l Limits) response() time.Duration { return seconds(l.ResponseSeconds, 60) }
func (l Limits) drain() time.Duration    { return seconds(l.DrainSeconds, 600) }
func (l Limits) connections() int64      { return int64(orDefault(l.Connections, 4096)) }

// kvBytes is the quota of the key-value store.
func (l Limits) kvBytes() int64 { return int64(orDefault(l.KVMB, 16)) << 20 }

func seconds(n, fallback int) time.Duration {
	return time.Duration(orDefault(n, fallback)) * time.Second
}

func orDefault(n, fallback int) int {
	if n == 0 {
		return fallback
	}
	return n
}

// ReadManifest reads and checks the manifest of a folder.
func ReadManifest(dir string) (*Manifest, error) {
	raw, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, err
	}
	return ParseManifest(raw)
}

// ParseManifest reads and checks the text of a manifest.
func ParseManifest(raw []byte) (*Manifest, error) {
	m := new(Manifest)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%s: %s", ManifestName, strings.TrimPrefix(err.Error(), "json: "))
	}
	if d.More() {
		return nil, fmt.Errorf("%s: more than one value", ManifestName)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := validID(m.ID); err != nil {
		bad("%w", err)
	}
	if m.Command == "" {
		bad("command is missing")
	}
	if m.SHA256 != "" && !isDigest(m.SHA256) {
		bad("sha256 is not 64 hexadecimal digits")
	}
	for name, sum := range m.Files {
		if !filepath.IsLocal(name) {
			bad("files: %q is outside the folder", name)
		}
		if !isDigest(sum) {
			bad("files: the digest of %q is not 64 hexadecimal digits", name)
		}
	}
	for _, g := range m.Grants {
		if !slices.Contains(Grants, g) {
			bad("grants: %q is not one of %s", g, strings.Join(Grants, ", "))
		}
	}
	for _, p := range m.Prefixes {
		if len(p) < 2 || p[0] != '/' || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "{} ?#") || filepath.Clean(p) != p {
			bad("prefixes: %q is not a path such as /hello", p)
		}
	}
	for _, text := range append([]string{m.Command}, m.Args...) {
		if strings.ContainsRune(text, 0) {
			bad("command: a zero byte cannot be passed on")
		}
	}
	for name, value := range m.Environment {
		if strings.ContainsRune(value, 0) || name == "" || strings.ContainsAny(name, "=\x00") || reserved(name) {
			bad("environment: %q cannot be set", name)
		}
	}
	l := m.Limits
	for name, n := range map[string]float64{
		"memory_mb": float64(l.MemoryMB), "cpus": l.CPUs, "processes": float64(l.Processes), "open_files": float64(l.OpenFiles), "kv_mb": float64(l.KVMB),
		"connections": float64(l.Connections), "start_seconds": float64(l.StartSeconds), "response_seconds": float64(l.ResponseSeconds), "drain_seconds": float64(l.DrainSeconds),
	} {
		if n < 0 {
			bad("limits: %s is negative", name)
		}
	}
	if len(m.Config) > 0 && jsondoc.Doc(bytes.TrimSpace(m.Config)).Kind() != '{' {
		bad("config is not an object")
	}
	return errors.Join(errs...)
}

// validID says what is wrong with an id.
func validID(id string) error {
	switch {
	case !sdk.ValidID(id):
		return fmt.Errorf("id %q is not of lower case letters, digits, - and _, at most 64", id)
	case id == "install":
		return fmt.Errorf("id %q is reserved", id) // for the address that installs
	}
	return nil
}

// reserved are the variables by which a plugin and Galley find each other.
func reserved(name string) bool {
	return strings.HasPrefix(name, "PLUGIN_") || strings.HasPrefix(name, "GALLEY_PLUGIN")
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}
