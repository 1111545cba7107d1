package app

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/check"
)

// behind are the tables of the reference by the tag of the API that serves them, "" for what belongs to several. What is in
// those of a tag that is not among [built] is kept and not served, which the start and "galley db check" tell: rows has
// the word for it, or nothing where rows only belong to others.
var behind = []struct{ tag, table, where, rows string }{
	{"", "access_grant", "", ""},
	{"", "alembic_version", "", ""},
	{"", "config_old", "", ""}, // what migrations leave behind
	{"", "chatidtag", "", ""},
	{"", "document", "", ""},
	{"auths", "auth", "", ""},
	{"auths", "api_key", "", ""},
	{"auths", "oauth_session", "", ""},
	{"users", "user", "", ""},
	{"groups", "group", "", ""},
	{"groups", "group_member", "", ""},
	{"configs", "config", "", ""},
	{"chats", "chat", "", ""},
	{"chats", "chat_message", "", ""},
	{"chats", "chat_file", "", ""},
	{"chats", "shared_chat", "", ""},
	{"chats", "tag", "", ""},
	{"timers", "chat", "timer_at IS NOT NULL", "chats with a timer"},
	{"folders", "folder", "", ""},
	{"files", "file", "", ""},
	{"memories", "memory", "", ""},
	{"models", "model", "", ""},
	{"models", "model_history", "", ""},
	{"prompts", "prompt", "", ""},
	{"prompts", "prompt_history", "", ""},
	{"tools", "tool", "", ""},
	{"tools", "tool_history", "", ""},
	{"functions", "function", "", "functions"},
	{"functions", "function_history", "", ""},
	{"skills", "skill", "", "skills"},
	{"skills", "skill_history", "", ""},
	{"knowledge", "knowledge", "", "knowledge bases"},
	{"knowledge", "knowledge_file", "", "files of knowledge bases"},
	{"knowledge", "knowledge_directory", "", ""},
	{"notes", "note", "", "notes"},
	{"notes", "pinned_note", "", ""},
	{"channels", "channel", "", "channels"},
	{"channels", "message", "", "messages in channels"},
	{"channels", "message_reaction", "", ""},
	{"channels", "channel_member", "", ""},
	{"channels", "channel_file", "", ""},
	{"channels", "channel_webhook", "", "webhooks of channels"},
	{"apps", "app", "", "apps"},
	{"calendars", "calendar", "", "calendars"},
	{"calendars", "calendar_event", "", "calendar events"},
	{"calendars", "calendar_event_attendee", "", ""},
	{"automations", "automation", "", "automations"},
	{"automations", "automation_run", "", ""},
	{"evaluations", "feedback", "", "ratings of answers"},
}

// waiting is what this version does not serve.
func waiting() []check.Waiting {
	var out []check.Waiting
	for _, b := range behind {
		if b.rows != "" && !slices.Contains(built, b.tag) {
			out = append(out, check.Waiting{Table: b.table, Where: b.where, Name: b.rows})
		}
	}
	return out
}

// tellWaiting says at the start what of the data nobody will see, and what is not where this version looks for it.
func (a *App) tellWaiting(ctx context.Context) error {
	all := waiting()
	ask := make([]string, len(all), len(all)+1)
	found := make([]bool, len(all)+1)
	dest := make([]any, len(found))
	for i, w := range all {
		where := ""
		if w.Where != "" {
			where = " WHERE " + w.Where
		}
		ask[i] = `EXISTS (SELECT 1 FROM "` + w.Table + `"` + where + ")"
	}
	// Of files only some are looked at: their paths stand behind their texts, so that reading all would take its time.
	ask = append(ask, "EXISTS (SELECT 1 FROM (SELECT path FROM file"+a.DB.Dialect().Pick(" ORDER BY rowid DESC", "")+" LIMIT 20) f WHERE path LIKE '%://%')")
	for i := range found {
		dest[i] = &found[i]
	}
	if err := a.DB.QueryRow(ctx, "SELECT "+strings.Join(ask, ", ")).Scan(dest...); err != nil {
		return fmt.Errorf("look for what is not served: %w", err)
	}
	var names []string
	for i, w := range all {
		if found[i] {
			names = append(names, w.Name)
		}
	}
	if names != nil {
		a.Log.Warn("the database holds what this version keeps but does not serve; galley db check counts it", "kept", strings.Join(names, ", "))
	}
	switch provider := a.Env.Storage.Provider; {
	case provider != "local":
		a.Log.Warn("STORAGE_PROVIDER is not built: uploads are kept in the data folder, and files in the storage are found only where the folder has a copy",
			"provider", provider, "folder", a.Env.UploadDir())
	case found[len(all)]:
		a.Log.Warn("some files are in S3, Google Cloud Storage or Azure: they are found only where the data folder has a copy", "folder", a.Env.UploadDir())
	}
	return nil
}

// CheckData looks the data of a server over, which may be running. Nothing is written. See [check.Run].
func CheckData(ctx context.Context, c Config, quick bool) (*check.Report, error) {
	o := storeOptions(c.Env)
	o.CacheKiB = max(o.CacheKiB, 32768)
	db, err := store.OpenReading(ctx, c.Env.Database.URL, o)
	if err != nil {
		return nil, databaseError(err)
	}
	defer db.Close()
	return check.Run(ctx, db, check.Options{
		Uploads: filepath.Clean(c.Env.UploadDir()), Waiting: waiting(), Schema: c.Env.Database.Schema, Quick: quick,
	})
}
