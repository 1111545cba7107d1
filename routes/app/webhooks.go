package app

import (
	"errors"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/web"
)

func (m *Module) events(*web.Call, web.None) (jsondoc.Doc, error) { return events.Catalog, nil }

func (m *Module) listWebhooks(*web.Call, web.None) ([]events.Webhook, error) {
	return m.Webhooks.List(), nil
}

// webhookFields are the members that creating and changing a webhook share.
type webhookFields struct {
	Name    web.Opt[string]              `json:"name"`
	Events  web.Opt[[]string]            `json:"events"`
	Targets web.Opt[[]map[string]string] `json:"targets"`
}

func (f *webhookFields) fill(h *events.Webhook) {
	if f.Name.Set {
		h.Name = f.Name.V
	}
	if f.Events.Set {
		h.Events = f.Events.V
	}
	if !f.Targets.Set {
		return
	}
	h.Targets = nil
	if !f.Targets.Null {
		list := make([]events.Target, len(f.Targets.V))
		for i, t := range f.Targets.V {
			list[i] = events.Target{Type: t["type"], ID: t["id"]}
		}
		h.Targets = &list
	}
}

// checkWebhook refuses addresses that this server is not to call.
func (m *Module) checkWebhook(c *web.Call, h *events.Webhook) error {
	url := strings.TrimSpace(h.URL)
	if url == "" {
		return nil
	}
	if err := outbound.FromEnv(m.Env).Check(c.Context(), url); err != nil {
		return web.Because(http.StatusBadRequest, outbound.TextInvalid, err)
	}
	return nil
}

// webhookError gives what is wrong with a webhook its status.
func webhookError(err error) error {
	var invalid events.InvalidError
	switch {
	case errors.As(err, &invalid):
		return web.Fail(http.StatusBadRequest, invalid.Error())
	case errors.Is(err, events.ErrNoWebhook):
		return web.Fail(http.StatusNotFound, err.Error())
	}
	return err
}

func (m *Module) webhookChanged(c *web.Call, id, action string, more ...any) {
	m.Events.Publish(c.Context(), events.Event{Name: "config.webhook.updated", Actor: c.Principal.User, SubjectType: "config", SubjectID: id,
		Data: append(events.Pairs{"action", action}, more...)})
}

type createWebhookIn struct {
	Body struct {
		webhookFields
		URL     string `json:"url"`
		Enabled bool   `json:"enabled" default:"true"`
	}
}

func (m *Module) createWebhook(c *web.Call, in createWebhookIn) (events.Webhook, error) {
	h := events.Webhook{URL: in.Body.URL, Enabled: in.Body.Enabled}
	in.Body.fill(&h)
	if err := m.checkWebhook(c, &h); err != nil {
		return h, err
	}
	h, err := m.Webhooks.Put(c.Context(), h)
	if err == nil {
		m.webhookChanged(c, h.ID, "created", "enabled", h.Enabled, "events", h.Events, "targets", h.Targets)
	}
	return h, webhookError(err)
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
func (m *Module) updateWebhook(c *web.Call, in updateWebhookIn) (events.Webhook, error) {
	h, err := m.Webhooks.Edit(c.Context(), in.ID, func(h *events.Webhook) error {
		in.Body.fill(h)
		if in.Body.URL.Set {
			h.URL = in.Body.URL.V
		}
		if in.Body.Enabled.Set {
			h.Enabled = in.Body.Enabled.V
		}
		return m.checkWebhook(c, h)
	})
	if err == nil {
		m.webhookChanged(c, h.ID, "updated", "enabled", h.Enabled, "events", h.Events, "targets", h.Targets)
	}
	return h, webhookError(err)
}

type webhookIn struct {
	ID string `path:"webhook_id"`
}

func (m *Module) deleteWebhook(c *web.Call, in webhookIn) (jsondoc.Doc, error) {
	if err := m.Webhooks.Delete(c.Context(), in.ID); err != nil {
		return nil, webhookError(err)
	}
	m.webhookChanged(c, in.ID, "deleted")
	return jsondoc.Doc(`{"status":true}`), nil
}
