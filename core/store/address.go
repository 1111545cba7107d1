package store

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// address is a DATABASE_URL taken apart as SQLAlchemy does it, which is not as URLs are: a password may hold "/", "#", "?"
// and "%" as they are, and only "@" and ":" have to be percent-encoded; the path of an SQLite file is not encoded at all.
type address struct {
	dialect  Dialect
	file     string // of SQLite
	user     string
	password *string // nil for none
	host     string
	port     string
	database string
	query    []parameter
}

// parameter is one of a URL's query, in its order.
type parameter struct{ name, value string }

var addressForm = regexp.MustCompile(`^([\w+]+)://(?:([^:/]*)(?::([^@]*))?@)?(?:(?:\[([^/?]+)\]|([^/:?]+))?(?::([^/?]*))?)?(?:/([^?]*))?(?:\?(.*))?$`)

// passwordForm finds the password of any URL, also of one that cannot be used.
var passwordForm = regexp.MustCompile(`^([^:/]*://[^:/@]*:)[^@]*@`)

// redact hides the password of an address.
func redact(address string) string { return passwordForm.ReplaceAllString(address, "${1}xxxxx@") }

func parseAddress(text string) (*address, error) {
	scheme, _, ok := strings.Cut(text, "://")
	if !ok {
		return nil, fmt.Errorf("DATABASE_URL: %q is not a URL like sqlite:///path or postgresql://user@host/name", redact(text))
	}
	kind, driver, _ := strings.Cut(scheme, "+")
	switch {
	case kind == "sqlite" && driver == "sqlcipher":
		return nil, errors.New("DATABASE_URL: an SQLite file that is encrypted with SQLCipher cannot be opened; export it to a plain file or to PostgreSQL first")
	case kind == "sqlite":
		path, _, _ := strings.Cut(strings.TrimPrefix(text[len(scheme)+3:], "/"), "?")
		if path == "" || path == ":memory:" {
			return nil, errors.New("DATABASE_URL: SQLite needs a file, as in sqlite:////path/webui.db")
		}
		return &address{dialect: SQLite, file: path}, nil
	case kind != "postgresql" && kind != "postgres":
		return nil, fmt.Errorf("DATABASE_URL: %q is neither sqlite nor postgresql", scheme)
	}
	m := addressForm.FindStringSubmatchIndex(text)
	if m == nil {
		return nil, fmt.Errorf("DATABASE_URL: %q is not a URL like postgresql://user:password@host:5432/name; \"@\" in the password is written %%40", redact(text))
	}
	part := func(i int) string {
		if m[2*i] < 0 {
			return ""
		}
		return text[m[2*i]:m[2*i+1]]
	}
	a := &address{dialect: Postgres, user: unquote(part(2)), host: part(5), port: part(6), database: part(7)}
	if m[2*3] >= 0 {
		p := unquote(part(3))
		a.password = &p
	}
	if h := part(4); h != "" {
		a.host = h
	}
	if strings.Trim(a.port, "0123456789") != "" {
		return nil, fmt.Errorf("DATABASE_URL: the port %q is not a number", a.port)
	}
	for pair := range strings.SplitSeq(part(8), "&") {
		name, value, ok := strings.Cut(pair, "=")
		if ok && value != "" {
			a.query = append(a.query, parameter{unquote(strings.ReplaceAll(name, "+", " ")), unquote(strings.ReplaceAll(value, "+", " "))})
		}
	}
	return a, nil
}

// unquote is Python's unquote: what is no escape stays as it is.
func unquote(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 || i+3 > len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		if c, err := url.PathUnescape(s[i : i+3]); err == nil {
			b.WriteString(c)
		} else {
			b.WriteString(s[i : i+3])
		}
		s = s[i+3:]
	}
}

// foreignParameters are libpq's that the driver does not know and would hand to the server as settings.
var foreignParameters = []string{
	"channel_binding", "gssencmode", "gsslib", "gssdelegation", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
	"tcp_user_timeout", "sslcompression", "sslcrl", "sslcrldir", "sslcertmode", "sslpassword", "requirepeer", "require_auth",
	"prepare_threshold", "async_fallback", "replication",
}

// dsn is the address for the driver. Like libpq it prefers TLS where the address says nothing of it; "ssl" is what some
// write for sslmode.
func (a *address) dsn(o Options) (string, error) {
	params := []parameter{{"user", a.user}, {"dbname", a.database}}
	if a.password != nil {
		params = append(params, parameter{"password", *a.password})
	}
	var hosts, ports []string
	mode := ""
	for _, p := range a.query {
		switch {
		case slices.Contains(foreignParameters, p.name):
		case p.name == "sslmode":
			mode = p.value
		case p.name == "ssl":
			if mode == "" {
				mode = sslMode(p.value)
			}
		case p.name == "host":
			host, port := p.value, ""
			if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasPrefix(host, "/") {
				host, port = host[:i], host[i+1:]
			}
			hosts, ports = append(hosts, host), append(ports, port)
		default:
			params = append(params, p)
		}
	}
	host, port := a.host, a.port
	if len(hosts) > 0 {
		host = strings.Join(hosts, ",")
		if strings.Join(ports, "") != "" {
			port = strings.Join(ports, ",")
		}
	}
	params = append(params, parameter{"host", host}, parameter{"port", port})
	if mode == "" && os.Getenv("PGSSLMODE") == "" {
		mode = "prefer"
	}
	params = append(params, parameter{"sslmode", mode})
	if o.PostgresSchema != "" {
		params = append(params, parameter{"search_path", Quote(o.PostgresSchema)})
	}
	var b strings.Builder
	for _, p := range params {
		if p.value == "" && p.name != "password" {
			continue
		}
		if strings.ContainsAny(p.name, " '=\\") || strings.ContainsRune(p.value, 0) {
			return "", fmt.Errorf("DATABASE_URL: the parameter %q cannot be used", p.name)
		}
		fmt.Fprintf(&b, "%s='%s' ", p.name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p.value))
	}
	return strings.TrimSpace(b.String()), nil
}

// sslMode is the mode that a value of "ssl" means.
func sslMode(v string) string {
	switch strings.ToLower(v) {
	case "true", "1", "on":
		return "require"
	case "false", "0", "off":
		return "disable"
	}
	return v
}
