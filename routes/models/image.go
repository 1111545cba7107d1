package models

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// defaultImage is where clients find the picture of models that have none.
const defaultImage = "/static/favicon.png"

func (m *Module) profileImage(c *web.Call, in idIn) (web.Raw, error) {
	text, updated, err := m.imageOf(c, in.ID)
	if err != nil {
		return web.Raw{}, err
	}
	switch {
	case text == "":
	case strings.HasPrefix(text, "http"):
		if m.Env.Images.ForwardURLs {
			return redirect(text), nil
		}
	case strings.HasPrefix(text, "data:image"):
		if raw, ok := m.embedded(text, updated); ok {
			return raw, nil
		}
	default:
		if p := staticPath(text); p != "" {
			return redirect(p), nil
		}
	}
	return redirect(defaultImage), nil
}

func redirect(to string) web.Raw {
	return web.Raw{Status: http.StatusFound, Header: http.Header{"Location": {to}}}
}

// imageOf is the profile image of a model or an arena and when it changed. Who may not see the model gets none, so that
// ids cannot be probed.
func (m *Module) imageOf(c *web.Call, id string) (string, int64, error) {
	free := m.Env.BypassModelAccess || m.free(c)
	r, err := m.rows.Get(c.Context(), id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", 0, err
	}
	if err == nil {
		ok := free || r.UserID == c.UserID()
		if !ok {
			if ok, err = m.can(c, id, access.Read); err != nil {
				return "", 0, err
			}
		}
		if text := r.Meta.Text("profile_image_url"); ok && text != "" {
			return text, r.UpdatedAt, nil
		}
	}
	for _, a := range jsondoc.Doc(config.EvaluationArenaModels.Raw(m.Settings.Snapshot())).List() {
		if a.Text("id") != id {
			continue
		}
		grants := a.Get("meta", "access_grants")
		ok := free || !grants.Truthy() && c.IsAdmin()
		if !ok {
			if ok, err = m.Access.InList(c.Context(), c.UserID(), access.Read, grants); err != nil {
				return "", 0, err
			}
		}
		if ok {
			return a.Text("meta", "profile_image_url"), 0, nil
		}
		break
	}
	return "", 0, nil
}

// embedded serves the image in a data URI, if it is of a type that runs nothing.
func (m *Module) embedded(uri string, updated int64) (web.Raw, bool) {
	head, data, ok := strings.Cut(uri, ",")
	if !ok {
		return web.Raw{}, false
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(head, "data:"), ";")
	kind = strings.ToLower(kind)
	if !slices.Contains(m.Env.Images.MIMETypes, kind) {
		return web.Raw{}, false
	}
	body, err := base64.StdEncoding.DecodeString(strings.TrimRight(data, "\r\n"))
	if err != nil {
		return web.Raw{}, false
	}
	h := http.Header{"Content-Disposition": {"inline"}, "X-Content-Type-Options": {"nosniff"}}
	if updated != 0 {
		h.Set("ETag", fmt.Sprintf(`"%d"`, updated))
	}
	return web.Raw{Type: kind, Body: body, Header: h}, true
}

// staticPath is the path below /static that a text names, "" where it names none or tries to leave it.
func staticPath(text string) string {
	p, _, _ := strings.Cut(text, "?")
	p, _, _ = strings.Cut(p, "#")
	p = strings.TrimSpace(p)
	for range 3 {
		decoded, err := url.PathUnescape(p)
		if err != nil {
			return ""
		}
		if decoded == p {
			break
		}
		p = decoded
	}
	if decoded, err := url.PathUnescape(p); err != nil || decoded != p || strings.ContainsAny(p, "\x00\\") || !strings.HasPrefix(p, "/") {
		return ""
	}
	switch p = path.Clean(p); {
	case p == "/static":
		return "/static/"
	case strings.HasPrefix(p, "/static/"):
		return p
	}
	return ""
}
