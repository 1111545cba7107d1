package app

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
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

// providerRefused publishes that a provider has answered a request with an error.
func (a *App) providerRefused(ctx context.Context, r llm.Refusal) {
	ctx = context.WithoutCancel(ctx)
	e := events.Event{Name: "model.provider_request.failed", SubjectType: "model", SubjectID: r.Model, Data: refusalData(r)}
	if r.Caller != nil && r.Caller.ID != "" {
		e.Actor, _ = a.Users.ByID(ctx, r.Caller.ID) // without an actor where the account has gone
	}
	a.Events.Publish(ctx, e)
}

// refusalData is what is told of a refusal.
func refusalData(r llm.Refusal) events.Pairs {
	body, bad := jsondoc.Check(r.Body)
	if bad != nil || !llm.IsJSONType(r.Type) && !strings.Contains(r.Type, "text/event-stream") {
		body = jsondoc.Text(string(r.Body))
	}
	what, code := body, jsondoc.Doc(nil)
	if body.Kind() == '{' {
		what = body.Get("error")
	}
	if what.Kind() == '{' {
		code = firstTruthy(what, "code", "type", "error_code")
		if said := firstTruthy(what, "message", "detail"); said != nil {
			what = said
		}
	}
	kind := "upstream_error"
	marker := strings.ToLower(textOf(code) + " " + textOf(what))
	switch {
	case r.Status == http.StatusNotFound && slices.ContainsFunc([]string{"model_not_found", "model not found", "does not exist", "no such model"},
		func(s string) bool { return strings.Contains(marker, s) }):
		kind = "model_not_found"
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusForbidden:
		kind = "authentication_failed"
	case r.Status == http.StatusTooManyRequests:
		kind = "rate_limited"
	case r.Status >= http.StatusInternalServerError:
		kind = "server_failed"
	}
	provider, key := "openai-compatible", r.Connection.Key
	if r.Connection.Kind == llm.KindOllama {
		provider, key = "ollama", ""
	}
	data := events.Pairs{"error_type", kind, "status", r.Status, "provider", provider, "base_url", r.Address}
	if r.Model != "" {
		data = append(data, "requested_model", r.Model)
	}
	if key != "" {
		data = append(data, "api_key_suffix", "..."+key[max(len(key)-4, 0):])
	}
	if code != nil {
		data = append(data, "upstream_error_code", code)
	}
	if what.Truthy() {
		data = append(data, "upstream_message", what)
	}
	return data
}

// firstTruthy is the first of some members that says anything, nil for none.
func firstTruthy(d jsondoc.Doc, names ...string) jsondoc.Doc {
	for _, name := range names {
		if v := d.Get(name); v.Truthy() {
			return v
		}
	}
	return nil
}

// textOf is a text, or the JSON of something else.
func textOf(d jsondoc.Doc) string {
	if s, ok := d.AsText(); ok || d == nil {
		return s
	}
	return d.String()
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
