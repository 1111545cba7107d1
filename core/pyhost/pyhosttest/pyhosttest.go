// Package pyhosttest gives tests a host for Python.
package pyhosttest

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/python"
)

// Interpreter is a Python with pydantic: GALLEY_PYTHON, or python3 of PATH. Without one the test is skipped, but not in CI.
func Interpreter(t testing.TB) string {
	t.Helper()
	path, err := python.Find(os.Getenv("GALLEY_PYTHON"))
	if err == nil {
		_, _, err = (python.Command{Args: []string{path, "-c", "import pydantic"}}).Run(context.Background(), nil)
	}
	if err == nil {
		return path
	}
	if os.Getenv("GALLEY_CI") != "" {
		t.Fatal("no Python with pydantic: ", err)
	}
	t.Skip("no Python with pydantic: ", err)
	return ""
}

// New makes a host that ends with the test. change may be nil.
func New(t testing.TB, change func(*pyhost.Options)) *pyhost.Host {
	t.Helper()
	o := pyhost.Options{Python: Interpreter(t), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	h := pyhost.New(o)
	t.Cleanup(func() { _ = h.Stop(context.Background()) })
	return h
}
