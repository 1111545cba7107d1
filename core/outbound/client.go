package outbound

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// connectTimeout is for how long a connection, and again its TLS handshake, may take.
const connectTimeout = 10 * time.Second

// Client calls only what the guard lets pass. It looks at each address again when it connects to it, since a name may
// lead elsewhere by then. config may be nil. Redirects are followed where redirects is set; else they are the answer.
func (g Guard) Client(config *tls.Config, redirects bool) *http.Client {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second, Control: g.control}
	c := &http.Client{Transport: &guarded{g, &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2: true, MaxIdleConns: 64, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
	}}}
	if !redirects {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return c
}

// control is asked before each connection, with the address that was found.
func (g Guard) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return g.checkAddress(at.Addr().WithZone(""))
}

// guarded checks the host of each request, also of those that follow a redirect.
type guarded struct {
	g Guard
	*http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := checkHost(strings.ToLower(strings.TrimSuffix(r.URL.Hostname(), ".")), t.g.Filter); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return t.Transport.RoundTrip(r)
}
