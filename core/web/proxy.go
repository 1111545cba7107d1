package web

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// Proxies are those whose X-Forwarded-For and X-Forwarded-Proto are believed, as uvicorn reads FORWARDED_ALLOW_IPS: nobody
// else may choose the address that a request seems to come from. X-Forwarded-Host is not looked at, as there: proxies pass
// Host on, or webui.url says what it is. Nil trusts nobody.
type Proxies struct {
	any      bool
	addrs    map[netip.Addr]bool
	nets     []netip.Prefix
	literals map[string]bool // what is no address, such as the name of a Unix socket
}

// ParseProxies reads a list of addresses and networks with commas between them; "*" alone trusts everybody.
func ParseProxies(list string) *Proxies {
	p := &Proxies{any: list == "*", addrs: map[netip.Addr]bool{}, literals: map[string]bool{}}
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if n, err := netip.ParsePrefix(item); err == nil && n == n.Masked() {
			p.nets = append(p.nets, n)
		} else if a, err := netip.ParseAddr(item); err == nil {
			p.addrs[a] = true
		} else {
			p.literals[item] = true
		}
	}
	return p
}

func (p *Proxies) trusts(host string) bool {
	if p == nil || host == "" && !p.any {
		return false
	}
	if p.any {
		return true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return p.literals[host]
	}
	if p.addrs[a] {
		return true
	}
	for _, n := range p.nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// apply writes into a request where it comes from and by which scheme: from here on its RemoteAddr is the client's and its
// URL.Scheme is "http" or "https".
func (p *Proxies) apply(req *http.Request) {
	scheme := "http"
	if req.TLS != nil {
		scheme = "https"
	}
	proto, chain := req.Header["X-Forwarded-Proto"], req.Header["X-Forwarded-For"]
	if (proto != nil || chain != nil) && p.trusts(hostOf(req.RemoteAddr)) {
		if proto != nil {
			switch strings.TrimSpace(proto[len(proto)-1]) {
			case "http", "ws":
				scheme = "http"
			case "https", "wss":
				scheme = "https"
			}
		}
		if chain != nil {
			if host, port := p.client(strings.Join(chain, ", ")); host != "" {
				req.RemoteAddr = net.JoinHostPort(host, strconv.Itoa(port))
			}
		}
	}
	req.URL.Scheme = scheme
}

// client finds in the values of X-Forwarded-For, to which each proxy appends whom it was asked by, the last who is no
// trusted proxy. Where all are trusted it is the first.
func (p *Proxies) client(chain string) (host string, port int) {
	hops := strings.Split(chain, ",")
	for i := len(hops) - 1; i > 0 && !p.any; i-- {
		if host, port = splitHop(strings.TrimSpace(hops[i])); !p.trusts(host) {
			return host, port
		}
	}
	return splitHop(strings.TrimSpace(hops[0]))
}

// splitHop takes an address with or without a port apart. What is neither stays as it is, so that it is not trusted by
// mistake.
func splitHop(hop string) (string, int) {
	if rest, ok := strings.CutPrefix(hop, "["); ok {
		host, after, ok := strings.Cut(rest, "]")
		if !ok || after != "" && after[0] != ':' {
			return hop, 0
		}
		port, _ := strconv.ParseUint(strings.TrimPrefix(after, ":"), 10, 16)
		return host, int(port)
	}
	if strings.Count(hop, ":") == 1 {
		host, text, _ := strings.Cut(hop, ":")
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			return host, int(port)
		}
	}
	return hop, 0
}

// hostOf is an address without its port.
func hostOf(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		addr = addr[:i]
	}
	return strings.Trim(addr, "[]")
}

// Scheme is that by which the client asked, "http" or "https", also where a proxy in front ends TLS. It is for requests
// that a Router serves.
func Scheme(r *http.Request) string { return r.URL.Scheme }

// ClientIP is the address of who asked, without its port; behind a trusted proxy that of its client.
func ClientIP(r *http.Request) string { return hostOf(r.RemoteAddr) }

// Peer is the address at the other end of the connection, which may be a proxy's; "" outside of a request.
func Peer(ctx context.Context) string {
	addr, _ := ctx.Value(keyPeer).(string)
	return addr
}
