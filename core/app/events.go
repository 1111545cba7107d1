package app

import (
	"context"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/notifications"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/webhook"
)

// telling are the parts that tell others of what happens.
type telling struct {
	Webhooks      *events.Webhooks
	Sender        *webhook.Sender
	Notifications *notifications.Notifications
}

// openEvents has webhooks, notifications and live connections told of events.
func (a *App) openEvents(ctx context.Context) error {
	t, guard := &a.telling, outbound.FromEnv(a.Env)
	t.Webhooks = events.NewWebhooks(a.Settings)
	if err := t.Webhooks.Migrate(ctx); err != nil {
		return err
	}
	t.Sender = webhook.New(webhook.Options{
		Guard: guard, HTTP: guard.Client(a.clientTLS, a.Env.Client.Redirects), Name: a.Env.Name, Icon: a.icon, Timeout: a.Env.Client.Timeout, Log: a.Log,
		Observed: func(o webhook.Outcome) { a.Obs.Metrics.WebhookMessage(string(o)) },
	})
	a.parts = append(a.parts, sending{t.Sender})
	t.Notifications = notifications.New(notifications.Options{
		Users: a.Users, Settings: a.Settings, Guard: guard, Sender: t.Sender, Name: a.Env.Name, Log: a.Log,
	})
	hooks := &webhook.Events{Sender: t.Sender, Hooks: t.Webhooks, Groups: a.groupIDs}
	a.Events.Subscribe(hooks.Handle)
	a.Events.Subscribe(t.Notifications.Handle)
	a.Events.Subscribe(a.refreshConnections)
	a.Events.Publish(ctx, events.Event{Name: "system.startup.started", Source: "system"})
	return nil
}

// refreshConnections is the sink that has live connections follow what changes who may do what: whoever may no longer read a
// chat leaves its room, and the sessions of an account with another role, or of one that is gone, end. It runs before the
// answer to the change, as far as anybody is there whom it concerns.
func (a *App) refreshConnections(ctx context.Context, e events.Event) {
	ctx = context.WithoutCancel(ctx)
	switch e.Name {
	case "folder.access_updated", "folder.updated", "folder.parent_updated", "folder.deleted", "chat.deleted_all":
		a.chatAccessChanged(ctx, "")
	case "chat.shared", "chat.unshared", "chat.folder_updated", "chat.deleted", "chat.archived":
		if e.SubjectType == "user" { // all of theirs
			e.SubjectID = ""
		}
		a.chatAccessChanged(ctx, e.SubjectID)
	case "user.deleted", "user.role_updated":
		a.Sessions.Disconnect(e.SubjectID)
	}
}

// chatAccessChanged has those leave a chat's room who may no longer read it; with "" the rooms of all chats.
func (a *App) chatAccessChanged(ctx context.Context, chatID string) {
	if err := a.Presence.ChatAccessChanged(ctx, chatID); err != nil {
		a.Log.WarnContext(ctx, "readers of a chat were not checked", "chat", chatID, "error", err)
	}
}

// icon is the address of the server's picture, "" where it is not known.
func (a *App) icon() string {
	if url := config.WebUIURL.Get(a.Settings.Snapshot()); url != "" {
		return strings.TrimRight(url, "/") + "/favicon.png"
	}
	return ""
}

// groupIDs are the ids of a user's groups, with inherited ones.
func (a *App) groupIDs(ctx context.Context, userID string) ([]string, error) {
	groups, err := a.Access.GroupsOf(ctx, userID)
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.ID
	}
	return ids, err
}

// sending ends the sender with the process. It is not among those that drain in order: it has to be last.
type sending struct{ sender *webhook.Sender }

// Stop implements Stopper.
func (s sending) Stop(context.Context) error {
	s.sender.Close()
	return nil
}
