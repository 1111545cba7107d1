// Package notifications tells people who are away of what concerns them: by webhooks of their own, which they keep in
// their settings as targets.
package notifications

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/webhook"
)

// Errors that clients see. Others of the same kind are an InvalidError.
var (
	ErrNoTarget = InvalidError("Notification target not found")
	errNoURL    = InvalidError("Webhook URL is required")
	errTaken    = InvalidError("notification target id already exists")
	errFailed   = InvalidError("Webhook delivery failed")
)

// InvalidError is why something cannot be done, in words for clients.
type InvalidError string

// Error implements error.
func (e InvalidError) Error() string { return string(e) }

// Options are what Notifications work with.
type Options struct {
	Users    *users.Store
	Settings *config.Settings
	Guard    outbound.Guard
	Sender   *webhook.Sender
	Name     string       // the server's
	Log      *slog.Logger // nil: slog.Default
}

// Notifications keeps people's targets and tells them of events.
type Notifications struct{ o Options }

// New makes it.
func New(o Options) *Notifications {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Notifications{o}
}

// The members of a user's settings and of a target. They are the reference's, so that either server reads what the other
// has stored; members it does not know stay.
const (
	section       = "notifications"
	targetsMember = "targets"
	defaultMember = "default_target_id"
	legacyMember  = "legacy_notification_events_migrated"
	legacyID      = "webhook"
)

// book is the part of a user's settings that is about notifications.
type book struct {
	doc     *jsondoc.Obj
	targets []jsondoc.Doc
	changed bool // what an older version has stored was brought into today's form
}

// open reads settings. An address that an older version has stored becomes a target.
func open(settings jsondoc.Doc, check func(string) error) *book {
	b := &book{doc: jsondoc.Open(settings.Get(section))}
	legacy := strings.TrimSpace(settings.Text(section, "webhook_url"))
	if legacy == "" {
		legacy = strings.TrimSpace(settings.Text("ui", "notifications", "webhook_url"))
	}
	for _, t := range b.doc.Get(targetsMember).List() {
		if t.Kind() == '{' {
			b.targets = append(b.targets, t)
		}
	}
	every := slices.Sorted(slices.Values(events.Notifiable))
	switch {
	case b.doc.Get(targetsMember).Len() == 0:
		if legacy == "" {
			return b
		}
		form := jsondoc.Object("id", jsondoc.Text(legacyID)).Set(jsondoc.Of(every), "events").Set(jsondoc.Text(legacy), "config", "url")
		t, err := normalize(form, nil, check)
		if err != nil {
			return b
		}
		b.targets, b.changed = []jsondoc.Doc{t}, true
		b.doc.Set(defaultMember, jsondoc.Text(legacyID))
		b.doc.Set(legacyMember, jsondoc.Doc("true"))
	default:
		if !b.doc.Has(defaultMember) {
			b.setDefault(0)
		}
		if legacy == "" || b.doc.Get(legacyMember).Truthy() {
			return b
		}
		b.doc.Set(legacyMember, jsondoc.Doc("true"))
		for i, t := range b.targets {
			had := slices.Sorted(slices.Values(t.Get("events").Texts()))
			if t.Text("id") == legacyID && strings.TrimSpace(t.Text("config", "url")) == legacy && slices.Equal(slices.Compact(had), []string{"chat.failed", "chat.finished"}) {
				b.targets[i], b.changed = t.Set(jsondoc.Of(every), "events"), true
			}
		}
	}
	return b
}

// setDefault makes the target at an index the default one, null where there is none.
func (b *book) setDefault(i int) {
	id := jsondoc.Doc("null")
	if i < len(b.targets) {
		id = b.targets[i].Get("id")
	}
	b.doc.Set(defaultMember, id)
}

// find gives the index of the target with an id, in whatever case, or -1.
func (b *book) find(id string) int {
	return slices.IndexFunc(b.targets, func(t jsondoc.Doc) bool { return strings.EqualFold(t.Text("id"), id) })
}

// into puts the book back into settings.
func (b *book) into(settings jsondoc.Doc) jsondoc.Doc {
	b.doc.Set(targetsMember, jsondoc.Array(b.targets...))
	return users.MergeSettings(settings, jsondoc.Object(section, b.doc.Doc()))
}

// public is a target without its address.
func (b *book) public(t jsondoc.Doc) jsondoc.Doc {
	settings := jsondoc.Open(t.Get("config"))
	address, _ := settings.Pop("url").AsText()
	masked := ""
	if address != "" {
		masked = "****"
		if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
			path := u.EscapedPath()
			masked = u.Scheme + "://" + strings.ToLower(u.Hostname()) + "/..." + path[max(len(path)-4, 0):]
		}
	}
	settings.Set("url_masked", jsondoc.Text(masked))
	isDefault := t.Text("id") == b.doc.Text(defaultMember)
	return t.Set(settings.Doc(), "config").Set(jsondoc.Of(isDefault), "is_default")
}

var notInID = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

// normalize makes a target of what a client sent, over the one that is there. check looks at the address.
func normalize(form, old jsondoc.Doc, check func(string) error) (jsondoc.Doc, error) {
	first := func(name, otherwise string) string {
		for _, d := range []jsondoc.Doc{form, old} {
			if s := d.Text(name); s != "" {
				return strings.TrimSpace(s)
			}
		}
		return otherwise
	}
	kind := first("type", "webhook")
	if kind != "webhook" {
		return nil, InvalidError("Unsupported notification target type")
	}
	settings := old.Get("config").Or(jsondoc.Doc("{}")).Merge(form.Get("config"))
	address := strings.TrimSpace(settings.Text("url"))
	if address == "" {
		return nil, errNoURL
	}
	if strings.Contains(address, "...") { // masked, as clients were shown it
		address = strings.TrimSpace(old.Text("config", "url"))
	}
	if check(address) != nil {
		return nil, InvalidError(outbound.TextInvalid)
	}
	id := first("id", "")
	if id == "" {
		if u, err := url.Parse(address); err == nil {
			id = strings.ToLower(u.Hostname())
		}
		if id == "" {
			id = "webhook"
		}
	}
	id = strings.ToLower(strings.Trim(notInID.ReplaceAllString(id, "-"), "-"))
	if id == "" {
		id = "target"
	}
	names, err := eventsOf(form, old)
	if err != nil {
		return nil, err
	}
	delivery := first("delivery", "away")
	if delivery != "away" && delivery != "always" {
		return nil, InvalidError("Invalid notification delivery mode")
	}
	enabled := form.Get("enabled")
	if enabled == nil {
		enabled = old.Get("enabled")
	}
	now := time.Now().Unix()
	created, _ := old.Int("created_at")
	if created == 0 {
		created = now
	}
	var b jsondoc.Builder
	b.Add("id", id)
	b.Add("type", kind)
	b.Add("enabled", enabled == nil || enabled.Truthy())
	b.Add("events", names)
	b.Add("delivery", delivery)
	b.Raw("config", settings.Set(jsondoc.Text(address), "url"))
	b.Add("created_at", created)
	b.Add("updated_at", now)
	return b.Done(), nil
}

func eventsOf(form, old jsondoc.Doc) ([]string, error) {
	sent := form.Get("events")
	if sent == nil {
		sent = old.Get("events")
	}
	names := []string{}
	for _, name := range sent.Texts() {
		if !slices.Contains(events.Notifiable, name) {
			return nil, InvalidError("unsupported notification event: " + name)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// unchecked is for addresses that were looked at before.
func unchecked(string) error { return nil }

// check looks at an address.
func (n *Notifications) check(ctx context.Context) func(string) error {
	return func(address string) error { return n.o.Guard.Check(ctx, address) }
}

// load reads a user's book, and stores it where it is of an older version.
func (n *Notifications) load(ctx context.Context, userID string) (*book, error) {
	u, err := n.o.Users.ByID(ctx, userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, InvalidError("User not found")
	}
	if err != nil {
		return nil, err
	}
	b := open(u.Settings, n.check(ctx))
	if !b.changed {
		return b, nil
	}
	return n.edit(ctx, userID, func(*book) error { return nil })
}

// edit changes a user's book.
func (n *Notifications) edit(ctx context.Context, userID string, f func(*book) error) (*book, error) {
	var b *book
	var refused error
	_, err := n.o.Users.Edit(ctx, userID, func(u *users.User) []users.Field {
		b = open(u.Settings, unchecked)
		if refused = f(b); refused != nil {
			return nil
		}
		return []users.Field{users.SetSettings(b.into(u.Settings))}
	})
	if refused == nil && errors.Is(err, store.ErrNotFound) {
		err = InvalidError("User not found")
	}
	return b, errors.Join(refused, err)
}

// List gives a user's targets, without their addresses.
func (n *Notifications) List(ctx context.Context, userID string) ([]jsondoc.Doc, error) {
	b, err := n.load(ctx, userID)
	if err != nil {
		return nil, err
	}
	out := make([]jsondoc.Doc, len(b.targets))
	for i, t := range b.targets {
		out[i] = b.public(t)
	}
	return out, nil
}

// Create adds a target. form has what the client sent of id, type, enabled, events, delivery and config.
func (n *Notifications) Create(ctx context.Context, userID string, form jsondoc.Doc) (jsondoc.Doc, error) {
	if _, err := normalize(form, nil, n.check(ctx)); err != nil {
		return nil, err
	}
	if _, err := n.load(ctx, userID); err != nil {
		return nil, err
	}
	named := strings.TrimSpace(form.Text("id")) != ""
	var t jsondoc.Doc
	b, err := n.edit(ctx, userID, func(b *book) (err error) {
		if t, err = normalize(form, nil, unchecked); err != nil {
			return err
		}
		base := t.Text("id")
		for i := 2; b.find(t.Text("id")) >= 0; i++ {
			if named {
				return errTaken
			}
			t = t.Set(jsondoc.Text(base+"-"+strconv.Itoa(i)), "id")
		}
		b.targets = append(b.targets, t)
		if !b.doc.Has(defaultMember) {
			b.setDefault(len(b.targets) - 1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.public(t), nil
}

// Update changes a target.
func (n *Notifications) Update(ctx context.Context, userID, id string, form jsondoc.Doc) (jsondoc.Doc, error) {
	if form.Get("id") == nil {
		form = form.Set(jsondoc.Text(id), "id")
	}
	b, err := n.load(ctx, userID)
	if err != nil {
		return nil, err
	}
	i := b.find(id)
	if i < 0 {
		return nil, ErrNoTarget
	}
	if _, err := normalize(form, b.targets[i], n.check(ctx)); err != nil {
		return nil, err
	}
	var t jsondoc.Doc
	b, err = n.edit(ctx, userID, func(b *book) (err error) {
		i := b.find(id)
		if i < 0 {
			return ErrNoTarget
		}
		if t, err = normalize(form, b.targets[i], unchecked); err != nil {
			return err
		}
		for j, o := range b.targets {
			if j != i && strings.EqualFold(o.Text("id"), t.Text("id")) {
				return errTaken
			}
		}
		b.targets[i] = t
		if strings.EqualFold(b.doc.Text(defaultMember), id) {
			b.setDefault(i)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.public(t), nil
}

// Delete removes a target; ErrNoTarget where there is none.
func (n *Notifications) Delete(ctx context.Context, userID, id string) error {
	if _, err := n.load(ctx, userID); err != nil {
		return err
	}
	_, err := n.edit(ctx, userID, func(b *book) error {
		before := len(b.targets)
		b.targets = slices.DeleteFunc(b.targets, func(t jsondoc.Doc) bool { return strings.EqualFold(t.Text("id"), id) })
		if len(b.targets) == before {
			return ErrNoTarget
		}
		if strings.EqualFold(b.doc.Text(defaultMember), id) {
			b.setDefault(0)
		}
		return nil
	})
	return err
}

// SetDefault makes a target the one that is meant where none is named.
func (n *Notifications) SetDefault(ctx context.Context, userID, id string) (jsondoc.Doc, error) {
	if _, err := n.load(ctx, userID); err != nil {
		return nil, err
	}
	at := 0
	b, err := n.edit(ctx, userID, func(b *book) error {
		if at = b.find(id); at < 0 {
			return ErrNoTarget
		}
		b.setDefault(at)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.public(b.targets[at]), nil
}

// Test sends a message to a target, be it enabled or not, and waits for the answer.
func (n *Notifications) Test(ctx context.Context, userID, id string) error {
	b, err := n.load(ctx, userID)
	if err != nil {
		return err
	}
	if id = strings.TrimSpace(id); id == "" {
		id = b.doc.Text(defaultMember)
	}
	i := b.find(id)
	if i < 0 {
		return ErrNoTarget
	}
	address := strings.TrimSpace(b.targets[i].Text("config", "url"))
	if address == "" {
		return errNoURL
	}
	err = n.o.Sender.Send(ctx, webhook.Message{
		URL: address, Text: "Test notification", Description: fmt.Sprintf("This is a test notification from %s.", n.o.Name),
		Payload: jsondoc.Of(events.Pairs{"action", "test", "user_id", userID}),
	})
	if err != nil {
		n.o.Log.InfoContext(ctx, "a test notification was not delivered", "user", userID, "error", err)
		return errFailed
	}
	return nil
}

// Events lists the events that people can be notified of.
func Events() jsondoc.Doc {
	var list []jsondoc.Doc
	for _, name := range events.Notifiable {
		d, _ := events.Define(name)
		list = append(list, jsondoc.Of(events.Pairs{"event", name, "label", d.Message, "description", d.Description}))
	}
	return jsondoc.Object("events", jsondoc.Array(list...))
}
