package app

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// The settings of webhooks. The webhook with the id defaultWebhook stands for the single one of older versions.
const (
	webhooksKey    = "events.webhooks"
	webhookURLKey  = "webhook_url"
	defaultWebhook = "default"
)

// webhook is an address that is told of events. Times are Unix seconds.
type webhook struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	URL       string    `json:"url"`
	Enabled   bool      `json:"enabled"`
	Events    []string  `json:"events"`  // names, "chat.*", or "*"
	Targets   *[]target `json:"targets"` // whose events; nil is everybody's
	CreatedAt int64     `json:"created_at"`
	UpdatedAt int64     `json:"updated_at"`
}

type target struct {
	Type string `json:"type"` // user or group
	ID   string `json:"id"`
}

// storedWebhooks reads the setting; what is malformed in it is left out.
func (m *Module) storedWebhooks() []webhook {
	out := []webhook{}
	jsondoc.Doc(m.Settings.Snapshot().Raw(webhooksKey)).Items(func(_ int, d jsondoc.Doc) bool {
		w := webhook{ID: d.Text("id"), Name: d.Text("name"), URL: d.Text("url"), Events: d.Get("events").Texts(), Targets: targetsOf(d.Get("targets"))}
		enabled := d.Get("enabled")
		w.Enabled = enabled == nil || enabled.Truthy()
		w.CreatedAt, _ = d.Int("created_at")
		w.UpdatedAt, _ = d.Int("updated_at")
		if d.Kind() == '{' && w.normalize() == nil {
			out = append(out, w)
		}
		return true
	})
	return out
}

func targetsOf(d jsondoc.Doc) *[]target {
	if d.IsNull() {
		return nil
	}
	list := []target{}
	d.Items(func(_ int, t jsondoc.Doc) bool {
		list = append(list, target{t.Text("type"), t.Text("id")})
		return true
	})
	return &list
}

// normalize fills in what is left out; the error's text is for the client.
func (w *webhook) normalize() error {
	if w.ID == "" {
		w.ID = store.NewID()
	}
	if w.Name == "" {
		w.Name = "Webhook"
		if w.ID == defaultWebhook {
			w.Name = "Default webhook"
		}
	}
	w.URL = strings.TrimSpace(w.URL)
	now := time.Now().Unix()
	if w.CreatedAt == 0 {
		w.CreatedAt = now
	}
	if w.UpdatedAt == 0 {
		w.UpdatedAt = now
	}
	if err := w.normalizeEvents(); err != nil {
		return err
	}
	if w.Targets == nil {
		return nil
	}
	list := []target{}
	for _, t := range *w.Targets {
		t = target{strings.TrimSpace(t.Type), strings.TrimSpace(t.ID)}
		if t.Type != "user" && t.Type != "group" || t.ID == "" {
			return fmt.Errorf("Invalid target") //nolint:staticcheck // the text is what clients see
		}
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	w.Targets = &list
	return nil
}

func (w *webhook) normalizeEvents() error {
	var events []string
	for _, e := range w.Events {
		if e = strings.TrimSpace(e); e != "" {
			events = append(events, e)
		}
	}
	if events == nil {
		events = []string{"*"}
	}
	for _, e := range events {
		prefix, pattern := strings.CutSuffix(e, ".*")
		switch {
		case e == "*":
		case pattern && (prefix == "" || !slices.ContainsFunc(eventNames, func(name string) bool { return strings.HasPrefix(name, prefix+".") })):
			return fmt.Errorf("Invalid event pattern: %s", e) //nolint:staticcheck // the text is what clients see
		case !pattern && !slices.Contains(eventNames, e):
			return fmt.Errorf("Invalid event: %s", e) //nolint:staticcheck // the text is what clients see
		}
	}
	w.Events = events
	return nil
}

func (m *Module) listWebhooks(*web.Call, web.None) ([]webhook, error) { return m.storedWebhooks(), nil }

// webhookFields are the members that creating and changing a webhook share.
type webhookFields struct {
	Name    web.Opt[string]              `json:"name"`
	Events  web.Opt[[]string]            `json:"events"`
	Targets web.Opt[[]map[string]string] `json:"targets"`
}

func (f *webhookFields) fill(w *webhook) {
	if f.Name.Set {
		w.Name = f.Name.V
	}
	if f.Events.Set {
		w.Events = f.Events.V
	}
	if !f.Targets.Set {
		return
	}
	w.Targets = nil
	if !f.Targets.Null {
		list := make([]target, len(f.Targets.V))
		for i, t := range f.Targets.V {
			list[i] = target{t["type"], t["id"]}
		}
		w.Targets = &list
	}
}

type createWebhookIn struct {
	Body struct {
		webhookFields
		URL     string `json:"url"`
		Enabled bool   `json:"enabled" default:"true"`
	}
}

func (m *Module) createWebhook(c *web.Call, in createWebhookIn) (webhook, error) {
	w := webhook{URL: in.Body.URL, Enabled: in.Body.Enabled}
	in.Body.fill(&w)
	m.webhooks.Lock()
	defer m.webhooks.Unlock()
	return m.storeWebhook(c, m.storedWebhooks(), w)
}

type updateWebhookIn struct {
	ID   string `path:"webhook_id"`
	Body struct {
		webhookFields
		URL     web.Opt[string] `json:"url"`
		Enabled web.Opt[bool]   `json:"enabled"`
	}
}

// updateWebhook changes what was sent; null sets back.
func (m *Module) updateWebhook(c *web.Call, in updateWebhookIn) (webhook, error) {
	m.webhooks.Lock()
	defer m.webhooks.Unlock()
	list := m.storedWebhooks()
	i := slices.IndexFunc(list, func(w webhook) bool { return w.ID == in.ID })
	if i < 0 {
		return webhook{}, web.Fail(http.StatusNotFound, "Webhook not found")
	}
	w := list[i]
	in.Body.fill(&w)
	if in.Body.URL.Set {
		w.URL = in.Body.URL.V
	}
	if in.Body.Enabled.Set {
		w.Enabled = in.Body.Enabled.V
	}
	return m.storeWebhook(c, list, w)
}

// storeWebhook checks a webhook and puts it into the list, in the place of the one with its id.
func (m *Module) storeWebhook(c *web.Call, list []webhook, w webhook) (webhook, error) {
	if url := strings.TrimSpace(w.URL); url != "" {
		if err := checkURL(c.Context(), url, m.Env); err != nil {
			return w, web.Because(http.StatusBadRequest, textInvalidURL, err)
		}
	}
	w.UpdatedAt = 0
	if err := w.normalize(); err != nil {
		return w, web.Fail(http.StatusBadRequest, err.Error())
	}
	if i := slices.IndexFunc(list, func(o webhook) bool { return o.ID == w.ID }); i >= 0 {
		list[i] = w
	} else {
		list = append(list, w)
	}
	return w, m.Settings.Set(c.Context(), config.Changes{webhooksKey: list})
}

type webhookIn struct {
	ID string `path:"webhook_id"`
}

func (m *Module) deleteWebhook(c *web.Call, in webhookIn) (jsondoc.Doc, error) {
	m.webhooks.Lock()
	defer m.webhooks.Unlock()
	list := m.storedWebhooks()
	rest := slices.DeleteFunc(slices.Clone(list), func(w webhook) bool { return w.ID == in.ID })
	if len(rest) == len(list) {
		return nil, web.Fail(http.StatusNotFound, "Webhook not found")
	}
	changes := config.Changes{webhooksKey: rest}
	if in.ID == defaultWebhook {
		changes[webhookURLKey] = ""
	}
	return jsondoc.Doc(`{"status":true}`), m.Settings.Set(c.Context(), changes)
}
