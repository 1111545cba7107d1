package plugin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
)

// webChannel is the way to a plugin's HTTP server.
type webChannel struct {
	inst      *instance
	transport *http.Transport
	proxy     *httputil.ReverseProxy
}

// maxAnswerHeader bounds the header of a plugin's answer, in bytes.
const maxAnswerHeader = 256 << 10

func newWebChannel(inst *instance, path string, conf *tls.Config) *webChannel {
	conf.NextProtos = []string{"http/1.1"}
	dialer := tls.Dialer{Config: conf, NetDialer: &net.Dialer{Timeout: 5 * time.Second}}
	c := &webChannel{inst: inst, transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: 128, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: inst.limits().response(), DisableCompression: true,
		MaxResponseHeaderBytes: maxAnswerHeader, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10, ExpectContinueTimeout: time.Second,
	}}
	c.proxy = &httputil.ReverseProxy{
		Transport: c.transport, FlushInterval: -1, BufferPool: copyBuffers{}, Rewrite: rewrite, ModifyResponse: tidy, ErrorHandler: c.failed,
		ErrorLog: log.New(logWriter{inst.unit}, "", 0),
	}
	return c
}

type copyBuffers struct{}

var copyPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (copyBuffers) Get() []byte  { return copyPool.Get().(*[32 << 10]byte)[:] }
func (copyBuffers) Put(b []byte) { copyPool.Put((*[32 << 10]byte)(b)) }

// logWriter takes what the proxy complains about.
type logWriter struct{ u *unit }

func (l logWriter) Write(p []byte) (int, error) {
	l.u.log.Debug(strings.TrimSpace(string(p)))
	return len(p), nil
}

// passing is what a request is sent on with.
type passing struct {
	prefix string
	caller string
	known  bool // the caller's credentials were ours
	keyed  string
}

type passingKey struct{}

// serveHTTP answers a request with the plugin.
func (u *unit) serveHTTP(w http.ResponseWriter, r *http.Request, p *auth.Principal, prefix string) {
	inst, err := u.call()
	if err != nil {
		u.unavailable(w)
		return
	}
	defer inst.release()
	if inst.web == nil {
		web.WriteError(w, web.Fail(http.StatusNotFound, web.TextNotFound))
		return
	}
	if inst.running() > inst.limits().connections() {
		busy := web.Fail(http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is busy", inst.id()))
		busy.Header = http.Header{"Retry-After": {"1"}}
		web.WriteError(w, busy)
		return
	}
	pass := &passing{prefix: prefix, known: p != nil, keyed: u.m.o.Host.APIKeyHeader}
	if p != nil {
		if pass.caller, err = u.m.callerJSON(r.Context(), p); err != nil {
			web.WriteError(w, web.Because(http.StatusInternalServerError, "Internal Server Error", err))
			return
		}
	}
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 and tests have it by themselves
	inst.web.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passingKey{}, pass)))
}

// unavailable is the answer while a plugin is down.
func (u *unit) unavailable(w http.ResponseWriter) {
	e := web.Fail(http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is not running", u.ID()))
	e.Header = http.Header{"Retry-After": {"1"}}
	web.WriteError(w, e)
}

// ServeHTTP passes a request on; its context has the passing.
func (c *webChannel) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.proxy.ServeHTTP(w, r) }

// rewrite makes the request that the plugin gets: below its own root, with the caller and without what only Galley is to
// know.
func rewrite(pr *httputil.ProxyRequest) {
	pass, _ := pr.In.Context().Value(passingKey{}).(*passing)
	u := pr.Out.URL
	u.Scheme, u.Host = "https", "plugin"
	u.Path = strip(u.Path, pass.prefix)
	if u.RawPath != "" {
		u.RawPath = strip(u.RawPath, pass.prefix)
	}
	pr.Out.Host = pr.In.Host
	pr.Out.Trailer = pr.In.Trailer // one map: it is filled while the body is read
	h := pr.Out.Header
	h["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	pr.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := pr.In.Header[name]; len(v) > 0 { // of a proxy in front
			h[name] = v
		}
	}
	h["X-Forwarded-Prefix"] = []string{pass.prefix}
	if id := web.RequestID(pr.In.Context()); id != "" {
		h["X-Request-Id"] = []string{id}
	}
	delete(h, sdk.CallerHeader)
	if pass.caller != "" {
		h[sdk.CallerHeader] = []string{pass.caller}
	}
	hideCredentials(pr.Out, pass)
	injectTrace(pr.In.Context(), h)
}

// tidy takes out of an answer what Galley says itself: who may read it from elsewhere, and the request's id.
func tidy(r *http.Response) error {
	for name := range r.Header {
		if name == "X-Request-Id" || strings.HasPrefix(name, "Access-Control-") {
			delete(r.Header, name)
		}
	}
	return nil
}

func strip(path, prefix string) string {
	rest := strings.TrimPrefix(path, prefix)
	if rest == "" {
		return "/"
	}
	return rest
}

// ourCookies are those by which Galley knows people.
var ourCookies = map[string]bool{"token": true, "oauth_id_token": true, "oauth_session_id": true, "owui-session": true, "oui-session": true}

// hideCredentials takes away by what the plugin could act as the caller. On public routes an Authorization that is none of
// ours is the plugin's own affair.
func hideCredentials(r *http.Request, pass *passing) {
	if pass.known {
		r.Header.Del("Authorization")
		if pass.keyed != "" {
			r.Header.Del(pass.keyed)
		}
	}
	if len(r.Header["Cookie"]) == 0 {
		return
	}
	cookies := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range cookies {
		if !ourCookies[c.Name] {
			r.AddCookie(c)
		}
	}
}

// failed answers when the plugin gave no answer.
func (c *webChannel) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	id := c.inst.id()
	status, text := http.StatusBadGateway, fmt.Sprintf("The plugin %s gave no valid answer", id)
	var dial *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, os.ErrNotExist):
		status, text = http.StatusServiceUnavailable, fmt.Sprintf("The plugin %s is not running", id)
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		status, text = http.StatusGatewayTimeout, fmt.Sprintf("The plugin %s did not answer in time", id)
	}
	c.inst.unit.log.Warn("request failed", "path", r.URL.Path, "status", status, "error", err)
	web.WriteError(w, web.Because(status, text, err))
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
