package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// defaultWebhook is the id of the webhook that stands for the single one of older versions.
const defaultWebhook = "default"

// Webhook is an address that an administrator has told of events. Times are Unix seconds.
type Webhook struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	URL       string    `json:"url"`
	Enabled   bool      `json:"enabled"`
	Events    []string  `json:"events"`  // names, "chat.*", or "*"
	Targets   *[]Target `json:"targets"` // whose events; nil is everybody's and nobody's, none nobody's alone
	CreatedAt int64     `json:"created_at"`
	UpdatedAt int64     `json:"updated_at"`
}

// Target is whose events a webhook is told of.
type Target struct {
	Type string `json:"type"` // user or group
	ID   string `json:"id"`
}

// Webhooks are the webhooks of the setting events.webhooks.
type Webhooks struct {
	settings *config.Settings
	changing sync.Mutex // held while the list is read, changed and stored
	read     atomic.Pointer[readWebhooks]
}

// readWebhooks are the webhooks as read of a value of the setting.
type readWebhooks struct {
	raw  jsondoc.Doc
	list []Webhook
}

// NewWebhooks gives the webhooks of some settings.
func NewWebhooks(s *config.Settings) *Webhooks { return &Webhooks{settings: s} }

// ErrNoWebhook says that there is no webhook with an id.
var ErrNoWebhook = errors.New("Webhook not found") //nolint:staticcheck // the text is what clients see

// InvalidError is what is wrong with a webhook, in words for clients.
type InvalidError string

// Error implements error.
func (e InvalidError) Error() string { return string(e) }

// List gives all webhooks. The list is shared; what is malformed in the setting is left out of it.
func (w *Webhooks) List() []Webhook {
	raw := jsondoc.Doc(config.EventsWebhooks.Raw(w.settings.Snapshot()))
	if have := w.read.Load(); have != nil && string(have.raw) == string(raw) {
		return have.list
	}
	list := []Webhook{}
	raw.Items(func(_ int, d jsondoc.Doc) bool {
		h := Webhook{ID: d.Text("id"), Name: d.Text("name"), URL: d.Text("url"), Events: d.Get("events").Texts(), Targets: targetsOf(d.Get("targets"))}
		enabled := d.Get("enabled")
		h.Enabled = enabled == nil || enabled.Truthy()
		h.CreatedAt, _ = d.Int("created_at")
		h.UpdatedAt, _ = d.Int("updated_at")
		if d.Kind() == '{' && h.normalize() == nil {
			list = append(list, h)
		}
		return true
	})
	w.read.Store(&readWebhooks{raw, list})
	return list
}

func targetsOf(d jsondoc.Doc) *[]Target {
	if d.IsNull() {
		return nil
	}
	list := []Target{}
	d.Items(func(_ int, t jsondoc.Doc) bool {
		list = append(list, Target{t.Text("type"), t.Text("id")})
		return true
	})
	return &list
}

// normalize fills in what is left out.
func (h *Webhook) normalize() error {
	if h.ID == "" {
		h.ID = store.NewID()
	}
	if h.Name == "" {
		h.Name = "Webhook"
		if h.ID == defaultWebhook {
			h.Name = "Default webhook"
		}
	}
	h.URL = strings.TrimSpace(h.URL)
	now := time.Now().Unix()
	if h.CreatedAt == 0 {
		h.CreatedAt = now
	}
	if h.UpdatedAt == 0 {
		h.UpdatedAt = now
	}
	if err := h.normalizeEvents(); err != nil {
		return err
	}
	if h.Targets == nil {
		return nil
	}
	list := []Target{}
	for _, t := range *h.Targets {
		t = Target{strings.TrimSpace(t.Type), strings.TrimSpace(t.ID)}
		if t.Type != "user" && t.Type != "group" || t.ID == "" {
			return InvalidError("Invalid target")
		}
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	h.Targets = &list
	return nil
}

func (h *Webhook) normalizeEvents() error {
	var names []string
	for _, e := range h.Events {
		if e = strings.TrimSpace(e); e != "" {
			names = append(names, e)
		}
	}
	if names == nil {
		names = []string{"*"}
	}
	for _, e := range names {
		prefix, pattern := strings.CutSuffix(e, ".*")
		switch {
		case e == "*":
		case pattern && (prefix == "" || !slices.ContainsFunc(Names, func(name string) bool { return strings.HasPrefix(name, prefix+".") })):
			return InvalidError("Invalid event pattern: " + e)
		case !pattern && !slices.Contains(Names, e):
			return InvalidError("Invalid event: " + e)
		}
	}
	h.Events = names
	return nil
}

// Put stores a webhook: a new one, or in place of the one with its id. The error may be an InvalidError.
func (w *Webhooks) Put(ctx context.Context, h Webhook) (Webhook, error) {
	w.changing.Lock()
	defer w.changing.Unlock()
	return w.put(ctx, h)
}

// Edit changes the webhook with an id by f. The error may be an InvalidError, ErrNoWebhook or f's own.
func (w *Webhooks) Edit(ctx context.Context, id string, f func(*Webhook) error) (Webhook, error) {
	w.changing.Lock()
	defer w.changing.Unlock()
	list := w.List()
	i := slices.IndexFunc(list, func(h Webhook) bool { return h.ID == id })
	if i < 0 {
		return Webhook{}, ErrNoWebhook
	}
	h := list[i]
	if err := f(&h); err != nil {
		return h, err
	}
	return w.put(ctx, h)
}

func (w *Webhooks) put(ctx context.Context, h Webhook) (Webhook, error) {
	h.UpdatedAt = 0
	if err := h.normalize(); err != nil {
		return h, err
	}
	list := slices.Clone(w.List())
	if i := slices.IndexFunc(list, func(o Webhook) bool { return o.ID == h.ID }); i >= 0 {
		list[i] = h
	} else {
		list = append(list, h)
	}
	return h, w.settings.Set(ctx, config.Changes{config.EventsWebhooks.Key(): list})
}

// Delete removes a webhook; ErrNoWebhook where there is none.
func (w *Webhooks) Delete(ctx context.Context, id string) error {
	w.changing.Lock()
	defer w.changing.Unlock()
	list := w.List()
	rest := slices.DeleteFunc(slices.Clone(list), func(h Webhook) bool { return h.ID == id })
	if len(rest) == len(list) {
		return ErrNoWebhook
	}
	changes := config.Changes{config.EventsWebhooks.Key(): rest}
	if id == defaultWebhook {
		changes[config.WebhookURL.Key()] = ""
	}
	return w.settings.Set(ctx, changes)
}

// Migrate makes a webhook of the single address that older versions had (the setting webhook_url), unless there is one.
func (w *Webhooks) Migrate(ctx context.Context) error {
	w.changing.Lock()
	defer w.changing.Unlock()
	url := config.WebhookURL.Get(w.settings.Snapshot())
	list := w.List()
	if url == "" || slices.ContainsFunc(list, func(h Webhook) bool { return h.ID == defaultWebhook }) {
		return nil
	}
	h := Webhook{ID: defaultWebhook, URL: url, Enabled: true}
	if err := h.normalize(); err != nil {
		return err
	}
	err := w.settings.Set(ctx, config.Changes{config.EventsWebhooks.Key(): append([]Webhook{h}, list...)})
	if err != nil {
		return fmt.Errorf("webhook of an older version: %w", err)
	}
	return nil
}

// Wanting gives the webhooks that are told of the events of a name, whosoever they are.
func (w *Webhooks) Wanting(name string) []Webhook {
	var out []Webhook
	for _, h := range w.List() {
		if h.URL != "" && h.wants(name) {
			out = append(out, h)
		}
	}
	return out
}

func (h *Webhook) wants(name string) bool {
	return h.Enabled && slices.ContainsFunc(h.Events, func(e string) bool {
		prefix, pattern := strings.CutSuffix(e, "*")
		return e == name || pattern && strings.HasPrefix(name, prefix)
	})
}

// Concerned are the ids of the users whom an event concerns: who did it, to whom it happened, and whom its data names.
func Concerned(payload jsondoc.Doc) []string {
	var ids []string
	add := func(d jsondoc.Doc) {
		id, ok := d.AsText()
		if !ok && d.Truthy() {
			id = d.String()
		}
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	add(payload.Get("actor", "id"))
	if payload.Text("subject", "type") == "user" {
		add(payload.Get("subject", "id"))
	}
	add(payload.Get("data", "user_id"))
	payload.Get("data", "user_ids").Items(func(_ int, d jsondoc.Doc) bool {
		add(d)
		return true
	})
	return ids
}

// Groups gives the ids of a user's groups, with those above them.
type Groups func(ctx context.Context, userID string) ([]string, error)

// Matches says whether a webhook is told of the events that concern some users.
func (h *Webhook) Matches(ctx context.Context, users []string, groups Groups) (bool, error) {
	switch {
	case h.Targets == nil:
		return true, nil
	case len(*h.Targets) == 0:
		return len(users) == 0, nil
	}
	wanted := false // there are groups among the targets
	for _, t := range *h.Targets {
		if t.Type == "user" && slices.Contains(users, t.ID) {
			return true, nil
		}
		wanted = wanted || t.Type == "group"
	}
	if !wanted {
		return false, nil
	}
	for _, u := range users {
		ids, err := groups(ctx, u)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(*h.Targets, Target{"group", id}) }) {
			return true, nil
		}
	}
	return false, nil
}
