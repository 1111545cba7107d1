package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/obs"
	"github.com/galleychat/galley/core/plugin"
)

// Config is all that a process is told before it starts.
type Config struct {
	Env *config.Env
	Obs obs.Config

	// Demo offers the built-in demo model (GALLEY_DEMO, default false).
	Demo bool
	// Grace is how long the end of the process may take: running chat turns and requests have until then
	// (GALLEY_SHUTDOWN_TIMEOUT in seconds, default 8 s, which is within what Docker allows).
	Grace time.Duration

	// Builtin are plugins that come with the program.
	Builtin []plugin.Manifest
	// RequireChecksum refuses plugins whose manifest pins no digest (PLUGINS_REQUIRE_CHECKSUM, default false).
	RequireChecksum bool

	// Filters take part in what models are asked; nil for none.
	Filters filter.Set

	PasswordCost int // of bcrypt, for new passwords; 0 means Python's 12. Tests take the least.

	EnvFile  string    // file that variables of the environment came from; "" for none
	Version  string    // of the program, for metrics and traces
	Revision string    // commit it was built from
	Log      io.Writer // where log lines go; nil means standard error
	// Ready is called once requests are being answered, with the address as a URL; nil for none.
	Ready func(a *App, url string)
}

// defaultGrace stays below the ten seconds after which Docker kills a container.
const defaultGrace = 8 * time.Second

// SettingError says that what the process was told cannot be used; nothing was started.
type SettingError struct{ Err error }

// Error is one line, however many settings are wrong.
func (e *SettingError) Error() string {
	return strings.Join(strings.FieldsFunc(e.Err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// Unwrap gives the cause.
func (e *SettingError) Unwrap() error { return e.Err }

// ReadConfig reads a Config through lookup (os.LookupEnv, with flags laid over it). The error is a [*SettingError] that
// names every variable that cannot be used.
func ReadConfig(lookup config.LookupFunc) (Config, error) {
	env, err := config.ReadEnv(lookup)
	observe, obsErr := obs.ConfigFromEnv(lookup)
	c := Config{Env: env, Obs: observe, Grace: defaultGrace}
	errs := []error{err, obsErr}
	for name, on := range map[string]*bool{"GALLEY_DEMO": &c.Demo, "PLUGINS_REQUIRE_CHECKSUM": &c.RequireChecksum} {
		if v, ok := lookup(name); ok && v != "" {
			var err error
			if *on, err = strconv.ParseBool(v); err != nil {
				errs = append(errs, &config.VarError{Name: name, Value: v, Want: "true or false"})
			}
		}
	}
	if v, ok := lookup("GALLEY_SHUTDOWN_TIMEOUT"); ok && v != "" {
		s, err := strconv.ParseFloat(v, 64)
		if err != nil || s < 0 || s > 86400 {
			errs = append(errs, &config.VarError{Name: "GALLEY_SHUTDOWN_TIMEOUT", Value: v, Want: "a number of seconds from 0 to 86400"})
		}
		c.Grace = time.Duration(s * float64(time.Second))
	}
	if err := errors.Join(errs...); err != nil {
		return c, &SettingError{Err: err}
	}
	if err := env.Finish(); err != nil {
		return c, &SettingError{Err: err}
	}
	return c, nil
}

// checkFolders looks at the folders that the environment names, so that an unusable one is told as such rather than as a
// database's failure. Nothing is made.
func checkFolders(env *config.Env) error {
	switch info, err := os.Stat(env.DataDir); {
	case err == nil && !info.IsDir():
		return fmt.Errorf("DATA_DIR: %s is not a folder", env.DataDir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	if env.FrontendDir != "" {
		if _, err := os.Stat(env.FrontendDir); err != nil {
			return fmt.Errorf("FRONTEND_BUILD_DIR: %w", err)
		}
	}
	return nil
}
