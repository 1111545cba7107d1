// Package outbound guards requests to addresses that people enter: webhooks of administrators and of users. Such an
// address must not lead into the server's own network.
package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
)

// TextInvalid is what people are told of an address that this server is not to call.
const TextInvalid = "The URL you provided is invalid. Please double-check and try again."

// Guard says which addresses may be called.
type Guard struct {
	Local  bool     // private addresses too: ENABLE_LOCAL_WEB_FETCH
	Filter []string // WEB_FETCH_FILTER_LIST
}

// FromEnv is the guard that the process settings ask for.
func FromEnv(env *config.Env) Guard {
	return Guard{Local: env.LocalWebFetch, Filter: env.WebFetchFilter}
}

// refusedNetworks are those that are not on the public internet (IANA's special-purpose registries), and addresses by
// which cloud machines reach their provider.
var refusedNetworks = parseNetworks(`
	0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.168.0.0/16 198.18.0.0/15
	198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
	::/128 ::1/128 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 fc00::/7 fe80::/10`)

// alwaysRefused are those that are refused even where private addresses may be called.
var alwaysRefused = parseNetworks(`
	169.254.169.254/32 100.100.100.200/32 168.63.129.16/32 192.88.99.0/24 224.0.0.0/4 fd00:ec2::254/128
	64:ff9b:1::/48 ::ffff:0:0:0/96 100:0:0:1::/64 2001:1::1/128 2001:1::2/128 2001:20::/28 2001:30::/28 5f00::/16 fec0::/10 ff00::/8`)

var refusedHosts = []string{"metadata.google.internal", "metadata.azure.com"}

func parseNetworks(text string) (out []netip.Prefix) {
	for _, s := range strings.Fields(text) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Check says why an address is not one to call: it must be an http address of a host on the public internet (private
// ones where the guard lets them pass) that the operator's filter lets pass.
func (g Guard) Check(ctx context.Context, raw string) error {
	if strings.ContainsAny(raw, "\\\t\n\r ") {
		return fmt.Errorf("%q has characters that programs read differently", raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if u.Scheme != "http" && u.Scheme != "https" || host == "" {
		return fmt.Errorf("%q is no http address", raw)
	}
	if err := checkHost(host, g.Filter); err != nil {
		return err
	}
	var addresses []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addresses = []netip.Addr{a}
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		if g.Local {
			return nil // perhaps a name that only the proxy knows
		}
		return err
	}
	for _, a := range addresses {
		if err := g.checkAddress(a); err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
	}
	return nil
}

func (g Guard) checkAddress(a netip.Addr) error {
	for _, a := range embedded(a.Unmap()) {
		if contains(alwaysRefused, a) || !g.Local && contains(refusedNetworks, a) {
			return fmt.Errorf("%s is not called", a)
		}
		if refuses(g.Filter, a.String()) {
			return fmt.Errorf("WEB_FETCH_FILTER_LIST refuses %s", a)
		}
	}
	return nil
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// embedded is an address and the IPv4 address in it, if any: NAT64, 6to4, IPv4-compatible.
func embedded(a netip.Addr) []netip.Addr {
	if a.Is4() {
		return []netip.Addr{a}
	}
	b := a.As16()
	out := []netip.Addr{a}
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a), netip.MustParsePrefix("::/96").Contains(a):
		out = append(out, netip.AddrFrom4([4]byte(b[12:])))
	case netip.MustParsePrefix("2002::/16").Contains(a):
		out = append(out, netip.AddrFrom4([4]byte(b[2:6])))
	}
	return out
}

// checkHost asks the filter: entries with "!" refuse, and where there are others one of them must match.
func checkHost(host string, filter []string) error {
	if slices.Contains(refusedHosts, host) || refuses(filter, host) {
		return fmt.Errorf("%s is refused", host)
	}
	listed, allowed := false, false
	for _, entry := range filter {
		if !strings.HasPrefix(entry, "!") {
			listed = true
			allowed = allowed || matches(host, entry)
		}
	}
	if listed && !allowed {
		return fmt.Errorf("%s is not among the hosts of WEB_FETCH_FILTER_LIST", host)
	}
	return nil
}

func refuses(filter []string, host string) bool {
	return slices.ContainsFunc(filter, func(entry string) bool {
		pattern, refusing := strings.CutPrefix(entry, "!")
		return refusing && matches(host, pattern)
	})
}

// matches says whether a host is one that an entry names: itself, a name below it, or an address in its network.
func matches(host, pattern string) bool {
	pattern = strings.ToLower(strings.TrimSpace(pattern))
	if n, err := netip.ParsePrefix(pattern); err == nil {
		a, err := netip.ParseAddr(host)
		return err == nil && n.Contains(a.Unmap())
	}
	pattern = strings.TrimPrefix(pattern, "*.")
	return pattern != "" && (host == pattern || strings.HasSuffix(host, "."+pattern))
}
