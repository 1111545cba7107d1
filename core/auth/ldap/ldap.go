// Package ldap proves who somebody is by a directory: a service account looks the entry of a user name up, then a bind as
// that entry proves the password. What it finds is what an account is made of.
package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/galleychat/galley/core/config"
)

// Errors of a sign-in; their texts are the details that clients are shown, with 400.
var (
	ErrTLS        = errors.New("Failed to configure TLS for LDAP connection.")
	ErrFailed     = errors.New("LDAP authentication failed.") // the directory cannot be asked
	ErrAppAccount = errors.New("Application account bind failed")
	ErrNotFound   = errors.New("User not found in the LDAP server")
	ErrNoEmail    = errors.New("User does not have a valid email address.")
	ErrMismatch   = errors.New("User record mismatch.")
	ErrPassword   = errors.New("Authentication failed.")
)

// timeout is how long the directory may take to answer one request, and to be reached.
const timeout = 10 * time.Second

// Options say where a directory is, and what its entries are like.
type Options struct {
	Host         string // name or address, or a URL: ldap:// or ldaps://, which may have the port
	Port         int    // 0 for the usual one
	TLS          bool
	CAFile       string // PEM; "" for the system's
	Validate     bool   // of the certificate
	Ciphers      string // "ALL", or names between colons or commas
	AppDN        string // "" asks anonymously
	AppPassword  string
	Base         string // entries are looked for below
	Filter       string // of the administrator's, in parentheses; "" for none
	NameAttr     string
	MailAttr     string
	EmailDomain  string // for entries without an address; "" refuses them
	GroupsAttr   string // DNs of groups; "" where nobody asks
	CreateGroups bool
}

// OptionsOf are those of the settings.
func OptionsOf(s *config.Snapshot) Options {
	o := Options{
		Host: config.LDAPServerHost.Get(s), Port: config.LDAPServerPort.Get(s), TLS: config.LDAPServerUseTLS.Get(s),
		CAFile: config.LDAPServerCACertFile.Get(s), Validate: config.LDAPServerValidateCert.Get(s), Ciphers: config.LDAPServerCiphers.Get(s),
		AppDN: config.LDAPServerAppDN.Get(s), AppPassword: config.LDAPServerAppPassword.Get(s), Base: config.LDAPServerUsersDN.Get(s),
		Filter: config.LDAPServerSearchFilter.Get(s), NameAttr: config.LDAPServerAttributeForUsername.Get(s),
		MailAttr: config.LDAPServerAttributeForMail.Get(s), EmailDomain: config.LDAPServerDefaultEmailDomain.Get(s),
		CreateGroups: config.LDAPGroupEnableCreation.Get(s),
	}
	if config.LDAPGroupEnableManagement.Get(s) {
		o.GroupsAttr = config.LDAPServerAttributeForGroups.Get(s)
	}
	return o
}

// Person is an entry of the directory.
type Person struct {
	DN     string
	Email  string // in lower case
	Name   string
	Groups []string // names: the first CN of each group's DN
}

// Directory is a connection, bound as the service account. It is for one sign-in and one goroutine.
type Directory struct {
	o      Options
	conn   *ldap.Conn
	forget func() bool
}

// Open connects and binds as the service account. The connection ends with ctx, or by Close.
func Open(ctx context.Context, o Options) (*Directory, error) {
	if o.CAFile != "" {
		// said whether or not it is needed, as the reference does
		if _, err := os.Stat(o.CAFile); err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrTLS, err)
		}
	}
	secure, host, address, err := o.address()
	if err != nil {
		return nil, failed(err)
	}
	raw, err := o.dial(ctx, secure, host, address)
	if err != nil {
		return nil, failed(err)
	}
	d := &Directory{o: o, conn: ldap.NewConn(raw, secure)}
	d.conn.SetTimeout(timeout)
	d.conn.Start()
	d.forget = context.AfterFunc(ctx, func() { _ = d.conn.Close() })
	if o.AppDN == "" {
		err = d.conn.UnauthenticatedBind("")
	} else {
		err = d.conn.Bind(o.AppDN, o.AppPassword)
	}
	if err != nil {
		d.Close()
		return nil, refused(err, ErrAppAccount)
	}
	return d, nil
}

func (o Options) dial(ctx context.Context, secure bool, host, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !secure {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	config, err := o.tls(host)
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
}

// Close ends the connection.
func (d *Directory) Close() {
	d.forget()
	_ = d.conn.Close()
}

// Find looks the entry of a user name up. References to other directories are not followed.
func (d *Directory) Find(user string) (*Person, error) {
	o := d.o
	name := strings.ToLower(user)
	attributes := []string{o.NameAttr, o.MailAttr, "cn"}
	if o.GroupsAttr != "" {
		attributes = append(attributes, o.GroupsAttr)
	}
	filter := "(&(" + o.NameAttr + "=" + ldap.EscapeFilter(name) + ")" + o.Filter + ")"
	found, err := d.conn.Search(ldap.NewSearchRequest(o.Base, ldap.ScopeWholeSubtree, ldap.DerefAlways, 0, int(timeout/time.Second), false,
		filter, attributes, nil))
	switch {
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultReferral, ldap.LDAPResultInvalidDNSyntax):
		// no referral is followed: passwords would go where the administrator has not said
		return nil, failed(err)
	case err != nil:
		return nil, refused(err, ErrNotFound)
	case len(found.Entries) == 0:
		return nil, ErrNotFound
	}
	entry := found.Entries[0]
	p := &Person{DN: entry.DN, Email: entry.GetEqualFoldAttributeValue(o.MailAttr), Name: entry.GetEqualFoldAttributeValue("cn")}
	if p.Email == "" && o.EmailDomain != "" {
		if email := user + "@" + o.EmailDomain; emailForm.MatchString(email) {
			p.Email = email
		}
	}
	if p.Email == "" {
		return nil, ErrNoEmail
	}
	p.Email = strings.ToLower(p.Email)
	// the directory may compare more loosely than accounts may be told apart
	same := func(v string) bool { return strings.ToLower(v) == name }
	if !slices.ContainsFunc(entry.GetEqualFoldAttributeValues(o.NameAttr), same) {
		return nil, ErrMismatch
	}
	if p.Name == "" {
		p.Name = user
	}
	if o.GroupsAttr != "" {
		p.Groups = groupNames(entry.GetEqualFoldAttributeValues(o.GroupsAttr))
	}
	return p, nil
}

var emailForm = regexp.MustCompile(`^[^@]+@([^@]+\.[^@]+|localhost$)`)

// Prove binds as a person. The Directory is of no more use afterwards.
func (d *Directory) Prove(p *Person, password string) error {
	// a bind without a name or a password succeeds on many servers and proves nothing (RFC 4513 5.1)
	if p.DN == "" || password == "" {
		return ErrPassword
	}
	if err := d.conn.Bind(p.DN, password); err != nil {
		return refused(err, ErrPassword)
	}
	return nil
}

// groupNames are the first CN of each DN; what is no DN, or has none, is left out.
func groupNames(dns []string) []string {
	var names []string
	for _, text := range dns {
		dn, err := ldap.ParseDN(text)
		if err != nil {
			continue
		}
		if cn := firstCN(dn); cn != "" && !slices.Contains(names, cn) {
			names = append(names, cn)
		}
	}
	return names
}

func firstCN(dn *ldap.DN) string {
	for _, rdn := range dn.RDNs {
		for _, a := range rdn.Attributes {
			if strings.EqualFold(a.Type, "cn") {
				return a.Value
			}
		}
	}
	return ""
}

func failed(err error) error { return fmt.Errorf("%w (%w)", ErrFailed, err) }

// refused is as for what the directory itself answered, and ErrFailed for what kept it from answering.
func refused(err, as error) error {
	var e *ldap.Error
	if errors.As(err, &e) && e.ResultCode < ldap.ErrorNetwork {
		return fmt.Errorf("%w (%w)", as, err)
	}
	return failed(err)
}

// address says whether TLS comes first, the host's name, and where to connect.
func (o Options) address() (secure bool, host, address string, err error) {
	host, secure = strings.TrimSpace(o.Host), o.TLS
	scheme, rest, isURL := strings.Cut(host, "://")
	if isURL {
		switch strings.ToLower(scheme) {
		case "ldap":
			secure = false
		case "ldaps":
			secure = true
		default:
			return false, "", "", fmt.Errorf("no scheme of directories: %q", scheme)
		}
		host = strings.TrimRight(rest, "/")
	}
	port := o.Port
	if strings.HasPrefix(host, "[") || strings.Count(host, ":") == 1 {
		if strings.HasSuffix(host, "]") {
			host = strings.Trim(host, "[]")
		} else {
			h, p, err := net.SplitHostPort(host)
			if err != nil {
				return false, "", "", err
			}
			if port, err = strconv.Atoi(p); err != nil {
				return false, "", "", err
			}
			host = h
		}
	}
	if port == 0 {
		port = 389
		if secure {
			port = 636
		}
	}
	return secure, host, net.JoinHostPort(host, strconv.Itoa(port)), nil
}
