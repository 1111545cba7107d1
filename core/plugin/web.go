package plugin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// webChannel is the way to a plugin's HTTP server.
type webChannel struct {
	inst    *instance
	backend *backend
}

func newWebChannel(inst *instance, socket string, conf *tls.Config) *webChannel {
	return &webChannel{inst, newBackend(socket, conf, inst.limits().response())}
}

var copyPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// serveHTTP answers a request with the plugin.
func (u *unit) serveHTTP(w http.ResponseWriter, r *http.Request, p *auth.Principal, prefix string, route *pb.Route) {
	inst, err := u.call()
	if err != nil {
		u.unavailable(w)
		return
	}
	defer inst.release()
	if inst.web == nil || r.URL.RawPath != "" && inst.disguised(r, p, prefix, route) {
		web.WriteError(w, web.Fail(http.StatusNotFound, web.TextNotFound))
		return
	}
	if inst.running() > inst.limits().connections() {
		busy := web.Fail(http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is busy", inst.id()))
		busy.Header = http.Header{"Retry-After": {"1"}}
		web.WriteError(w, busy)
		return
	}
	caller := ""
	if p != nil {
		if caller, err = u.m.callerJSON(r.Context(), p); err != nil {
			web.WriteError(w, web.Because(http.StatusInternalServerError, "Internal Server Error", err))
			return
		}
	}
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 and tests have it by themselves
	if err := inst.web.backend.serve(w, r, address(r, prefix), u.header(r, prefix, caller)); err != nil {
		inst.web.failed(w, r, err)
	}
}

// disguised says whether a path with escapes would be for another route, which p may not call, if the plugin undoes the
// escapes before it looks at the path, as servers of other languages do: "/admin%2Fusers" must not pass as "/{name}".
func (inst *instance) disguised(r *http.Request, p *auth.Principal, prefix string, route *pb.Route) bool {
	inst.tableOnce.Do(func() {
		inst.table, inst.byPattern = http.NewServeMux(), map[string]*pb.Route{}
		for _, x := range inst.what.GetRoutes() { // they have been checked by the router
			pattern := strings.TrimSpace(x.GetMethod() + " " + x.GetPath())
			inst.table.Handle(pattern, http.NotFoundHandler())
			inst.byPattern[pattern] = x
		}
	})
	plain := strip(r.URL.Path, strings.Count(prefix, "/"))
	clean := path.Clean(plain)
	if strings.HasSuffix(plain, "/") && clean != "/" {
		clean += "/"
	}
	_, pattern := inst.table.Handler(&http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: clean}})
	other := inst.byPattern[pattern]
	switch {
	case other == nil, other.GetAccess() == route.GetAccess() && other.GetPermission() == route.GetPermission():
		return false
	case other.GetPermission() != "" || other.GetAccess() == pb.Access_ACCESS_ADMIN:
		return p == nil || !p.IsAdmin()
	case other.GetAccess() == pb.Access_ACCESS_PUBLIC:
		return false
	}
	return p == nil || p.User == nil || p.Role == "pending"
}

// unavailable is the answer while a plugin is down.
func (u *unit) unavailable(w http.ResponseWriter) {
	e := web.Fail(http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is not running", u.ID()))
	e.Header = http.Header{"Retry-After": {"1"}}
	web.WriteError(w, e)
}

// address is what a plugin gets of a request's: the path below its own root, and the query.
func address(r *http.Request, prefix string) string {
	uri := strip(r.URL.EscapedPath(), strings.Count(prefix, "/"))
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		uri += "?" + r.URL.RawQuery
	}
	return uri
}

// header is what a plugin gets of a request's: without what is about the connection and what only Galley is to know, and
// with the caller.
func (u *unit) header(r *http.Request, prefix, caller string) http.Header {
	h := maps.Clone(r.Header)
	dropHop(h)
	delete(h, "Expect")
	delete(h, "Content-Length")
	delete(h, sdk.CallerHeader)
	delete(h, callerAlias)
	if host, _, err := net.SplitHostPort(web.Peer(r.Context())); err == nil {
		h["X-Forwarded-For"] = []string{strings.Join(append(slices.Clone(h["X-Forwarded-For"]), host), ", ")}
	}
	set := func(name, value string) {
		if len(h[name]) == 0 { // or else of a proxy in front
			h[name] = []string{value}
		}
	}
	set("X-Forwarded-Host", r.Host)
	set("X-Forwarded-Proto", web.Scheme(r))
	h["X-Forwarded-Prefix"] = []string{prefix}
	if id := web.RequestID(r.Context()); id != "" {
		h["X-Request-Id"] = []string{id}
	}
	if caller != "" {
		h[sdk.CallerHeader] = []string{caller}
	}
	hideCredentials(h, caller != "", u.m.o.Host.APIKeyHeader)
	injectTrace(r.Context(), h)
	return h
}

// strip takes the first n segments off a path, however they are escaped.
func strip(p string, n int) string {
	for range n {
		i := strings.IndexByte(p[min(1, len(p)):], '/')
		if i < 0 {
			return "/"
		}
		p = p[i+1:]
	}
	return p
}

// callerAlias is what servers of the CGI kind take for the caller's header.
var callerAlias = http.CanonicalHeaderKey(strings.ReplaceAll(sdk.CallerHeader, "-", "_"))

// ourCookies are those by which Galley knows people.
var ourCookies = map[string]bool{"token": true, "oauth_id_token": true, "oauth_session_id": true, "owui-session": true, "oui-session": true}

// hideCredentials takes away by what the plugin could act as the caller. On public routes an Authorization that is none of
// ours is the plugin's own affair.
func hideCredentials(h http.Header, known bool, keyHeader string) {
	if known {
		delete(h, "Authorization")
		if keyHeader != "" {
			h.Del(keyHeader)
		}
	}
	if len(h["Cookie"]) == 0 {
		return
	}
	var kept []string
	for _, line := range h["Cookie"] {
		for part := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(part, "=")
			if part = strings.TrimSpace(part); part != "" && !ourCookies[strings.TrimSpace(name)] {
				kept = append(kept, part)
			}
		}
	}
	delete(h, "Cookie")
	if len(kept) > 0 {
		h["Cookie"] = []string{strings.Join(kept, "; ")}
	}
}

// failed answers when the plugin gave no answer.
func (c *webChannel) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has gone, or its connection is none any more
	}
	id := c.inst.id()
	status, text := http.StatusBadGateway, fmt.Sprintf("The plugin %s gave no valid answer", id)
	var dial *dialError
	switch {
	case errors.As(err, &dial):
		status, text = http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is not running", id)
	case isTimeout(err):
		status, text = http.StatusGatewayTimeout, fmt.Sprintf("The plugin %s did not answer in time", id)
	}
	c.inst.unit.logger().Warn("request failed", "path", r.URL.Path, "status", status, "error", err)
	answer := web.Because(status, text, err)
	if status == http.StatusServiceUnavailable {
		answer.Header = http.Header{"Retry-After": {"1"}}
	}
	web.WriteError(w, answer)
}

// callerJSON is the value of the caller's header: JSON in ASCII.
func (m *Manager) callerJSON(ctx context.Context, p *auth.Principal) (string, error) {
	c := sdk.Caller{ID: p.ID, Name: p.Name, Email: p.Email, Role: p.Role}
	groups, err := m.groups(ctx, p.ID)
	if err != nil {
		return "", err
	}
	c.Groups = groups
	raw, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return ascii(raw), nil
}

// ascii writes the characters of a JSON text beyond ASCII as escapes.
func ascii(raw []byte) string {
	plain := true
	for _, b := range raw {
		plain = plain && b < 0x80
	}
	if plain {
		return string(raw)
	}
	var out strings.Builder
	for _, r := range string(raw) {
		switch {
		case r < 0x80:
			out.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		}
	}
	return out.String()
}
