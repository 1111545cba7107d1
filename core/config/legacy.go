package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/store"
)

// importFile stores the settings of DATA_DIR/config.json, if it is there, and renames it to old_config.json: the reference
// does so at each start, with a file of settings by their keys that somebody put there. What cannot be read stays and
// ends the start, there as here.
func importFile(ctx context.Context, db DB, env *Env, log *slog.Logger) error {
	file := filepath.Join(env.DataDir, "config.json")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	values := map[string]jsontext.Value{}
	if err := json.Unmarshal(text, &values); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for key := range values {
		if strings.HasPrefix(key, "oauth.") && !env.OAuthPersistentConfig {
			delete(values, key)
		}
	}
	err = db.Tx(ctx, func(tx *store.Tx) error { return upsert(ctx, tx, values, time.Now().Unix(), true) })
	if err == nil {
		err = os.Rename(file, filepath.Join(env.DataDir, "old_config.json"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	log.Info("settings imported", "file", file, "settings", len(values))
	return nil
}
