package plugintest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"

	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// HTTP is a client whose requests reach the plugin as Galley passes them on: for the harness's caller, refused where the
// plugin's routes say so. Addresses are relative to the plugin ("/items/1") or made by [Harness.URL].
func (h *Harness) HTTP() *http.Client {
	return &http.Client{Transport: &transport{h}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// URL is the whole address of a path of the plugin's, for clients that need one, such as those of WebSockets:
//
//	websocket.Dial(ctx, h.URL("/ws"), &websocket.DialOptions{HTTPClient: h.HTTP()})
func (h *Harness) URL(path string) string { return h.front.URL + path }

// Do sends a request, whose address may be relative to the plugin.
func (h *Harness) Do(r *http.Request) (*http.Response, error) { return h.HTTP().Do(r) }

// transport sends requests as somebody.
type transport struct{ h *Harness }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	front, err := url.Parse(t.h.front.URL)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = front.Scheme, front.Host
	r.Header.Del(sdk.CallerHeader)
	if c := t.h.meta.Caller; !c.Anonymous() {
		r.Header.Set(sdk.CallerHeader, ascii(t.h.encode(c)))
	}
	r.Header.Set("X-Request-Id", t.h.meta.RequestID)
	return t.h.front.Client().Transport.RoundTrip(r)
}

// ascii writes a JSON text with nothing but ASCII.
func ascii(raw []byte) string {
	var b strings.Builder
	for _, c := range string(raw) {
		switch {
		case c < 0x80:
			b.WriteRune(c)
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			c -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		}
	}
	return b.String()
}

// serve puts what Galley does with requests before the plugin's handler.
func (b *base) serve(plugin http.Handler) (*httptest.Server, error) {
	routes := b.description.GetRoutes()
	if len(routes) == 0 {
		routes = []*pb.Route{{Path: "/"}}
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(strings.TrimSpace(r.GetMethod()+" "+r.GetPath()), b.guard(r, plugin))
	}
	return httptest.NewServer(mux), nil
}

func (b *base) guard(route *pb.Route, plugin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c sdk.Caller
		_ = json.Unmarshal([]byte(r.Header.Get(sdk.CallerHeader)), &c) // absent: a stranger
		status := 0
		switch {
		case route.GetAccess() == pb.Access_ACCESS_PUBLIC:
		case c.Anonymous() || c.Role == "pending":
			status = http.StatusUnauthorized
		case route.GetAccess() == pb.Access_ACCESS_ADMIN && !c.IsAdmin(),
			route.GetPermission() != "" && !c.IsAdmin() && !slices.Contains(b.permissions, route.GetPermission()):
			status = http.StatusForbidden
		}
		if status != 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]string{"detail": http.StatusText(status)}) // the client may be gone
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization")
		r.Header.Set("X-Forwarded-Prefix", "/api/v1/plugins/"+b.description.GetId())
		r.Header.Set("X-Forwarded-Host", r.Host)
		r.Header.Set("X-Forwarded-Proto", "http")
		plugin.ServeHTTP(w, r)
	})
}
