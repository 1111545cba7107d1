package plugin

import (
	"os"
	"path/filepath"
)

// runDir makes the private folder of this process.
func runDir() (string, error) { return os.MkdirTemp("", "galley-") }

// dataDir is where a plugin may keep files.
func (m *Manager) dataDir(id string) string { return filepath.Join(m.o.DataDir, id) }
