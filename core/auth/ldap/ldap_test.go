package ldap_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth/ldap"
	"github.com/galleychat/galley/core/auth/ldap/ldaptest"
)

func options(s *ldaptest.Server) ldap.Options {
	return ldap.Options{Host: "127.0.0.1", Port: s.Port, AppDN: ldaptest.AppDN, AppPassword: ldaptest.AppPassword, Base: ldaptest.Base,
		NameAttr: "uid", MailAttr: "mail", Validate: true, Ciphers: "ALL"}
}

func signIn(ctx context.Context, o ldap.Options, user, password string) (*ldap.Person, error) {
	d, err := ldap.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	p, err := d.Find(user)
	if err != nil {
		return nil, err
	}
	return p, d.Prove(p, password)
}

func TestSignIn(t *testing.T) {
	s := ldaptest.New(t)
	s.Person("ann", "Ann Lee", "Ann@Galley.test", "secret")
	s.Person("nomail", "No Mail", "", "secret")
	s.Person("two", "Two", "two@galley.test", "secret", "uid", "deux", "mail", "second@galley.test")
	s.Person(`o(d)d*\`, "Odd", "odd@galley.test", "secret")
	s.Person("Jörg", "Jörg Ä", "joerg@galley.test", "secret")
	s.Add("ou=away,"+ldaptest.Base, "objectClass", "referral", "objectClass", "extensibleObject", "ou", "away", "ref", "ldap://127.0.0.1:1/ou=away,"+ldaptest.Base)
	s.Add("cn=laptop,"+ldaptest.Base, "objectClass", "device", "cn", "laptop")

	secure := func(o *ldap.Options) { o.TLS, o.Port, o.CAFile = true, s.TLSPort, s.CAFile }
	tests := map[string]struct {
		change         func(o *ldap.Options)
		user, password string
		email          string
		err            error
	}{
		"password":                     {user: "ann", password: "secret", email: "ann@galley.test"},
		"name in capitals":             {user: "ANN", password: "secret", email: "ann@galley.test"},
		"wrong password":               {user: "ann", password: "other", err: ldap.ErrPassword},
		"no password":                  {user: "ann", err: ldap.ErrPassword},
		"nobody":                       {user: "nobody", password: "secret", err: ldap.ErrNotFound},
		"no name":                      {password: "secret", err: ldap.ErrNotFound},
		"any name":                     {user: "*", password: "secret", err: ldap.ErrNotFound},
		"part of a filter":             {user: "ann)(uid=*", password: "secret", err: ldap.ErrNotFound},
		"all of a filter":              {user: "x)(|(uid=ann", password: "secret", err: ldap.ErrNotFound},
		"name to be escaped":           {user: `O(d)d*\`, password: "secret", email: "odd@galley.test"},
		"name beyond ASCII":            {user: "jörg", password: "secret", email: "joerg@galley.test"},
		"second name":                  {user: "deux", password: "secret", email: "two@galley.test"},
		"no address":                   {user: "nomail", password: "secret", err: ldap.ErrNoEmail},
		"address by domain":            {func(o *ldap.Options) { o.EmailDomain = "Galley.test" }, "nomail", "secret", "nomail@galley.test", nil},
		"domain of no address":         {func(o *ldap.Options) { o.EmailDomain = "nowhere" }, "nomail", "secret", "", ldap.ErrNoEmail},
		"other attributes":             {func(o *ldap.Options) { o.NameAttr, o.MailAttr = "cn", "UID" }, "ann lee", "secret", "ann", nil},
		"attribute that no entry has":  {func(o *ldap.Options) { o.NameAttr = "nothing" }, "ann", "secret", "", ldap.ErrNotFound},
		"filter":                       {func(o *ldap.Options) { o.Filter = "(objectClass=inetOrgPerson)" }, "ann", "secret", "ann@galley.test", nil},
		"filter that leaves out":       {func(o *ldap.Options) { o.Filter = "(!(mail=*))" }, "ann", "secret", "", ldap.ErrNotFound},
		"filter that is none":          {func(o *ldap.Options) { o.Filter = "objectClass=person" }, "ann", "secret", "", ldap.ErrFailed},
		"filter that ends too soon":    {func(o *ldap.Options) { o.Filter = ")(|(uid=*)" }, "ann", "secret", "", ldap.ErrFailed},
		"base elsewhere":               {func(o *ldap.Options) { o.Base = "dc=other" }, "ann", "secret", "", ldap.ErrNotFound},
		"base that refers":             {func(o *ldap.Options) { o.Base = "ou=away," + ldaptest.Base }, "ann", "secret", "", ldap.ErrFailed},
		"base that is no DN":           {func(o *ldap.Options) { o.Base = "people" }, "ann", "secret", "", ldap.ErrFailed},
		"anonymous":                    {func(o *ldap.Options) { o.AppDN, o.AppPassword = "", "" }, "ann", "secret", "ann@galley.test", nil},
		"app password wrong":           {func(o *ldap.Options) { o.AppPassword = "other" }, "ann", "secret", "", ldap.ErrAppAccount},
		"app password missing":         {func(o *ldap.Options) { o.AppPassword = "" }, "ann", "secret", "", ldap.ErrFailed},
		"entry without password":       {func(o *ldap.Options) { o.NameAttr, o.EmailDomain = "cn", "galley.test" }, "laptop", "secret", "", ldap.ErrPassword},
		"nobody listens":               {func(o *ldap.Options) { o.Port = 1 }, "ann", "secret", "", ldap.ErrFailed},
		"host unknown":                 {func(o *ldap.Options) { o.Host = "directory.invalid" }, "ann", "secret", "", ldap.ErrFailed},
		"host of another protocol":     {func(o *ldap.Options) { o.Host = "http://127.0.0.1" }, "ann", "secret", "", ldap.ErrFailed},
		"URL":                          {func(o *ldap.Options) { o.Host, o.Port, o.TLS = "ldap://127.0.0.1:"+strconv.Itoa(s.Port), 1, true }, "ann", "secret", "ann@galley.test", nil},
		"URL with TLS":                 {func(o *ldap.Options) { secure(o); o.Host, o.TLS = "LDAPS://localhost/", false }, "ann", "secret", "ann@galley.test", nil},
		"host with a port":             {func(o *ldap.Options) { o.Host, o.Port = "127.0.0.1:"+strconv.Itoa(s.Port), 1 }, "ann", "secret", "ann@galley.test", nil},
		"TLS":                          {secure, "ann", "secret", "ann@galley.test", nil},
		"TLS of a CA unknown":          {func(o *ldap.Options) { secure(o); o.CAFile = "" }, "ann", "secret", "", ldap.ErrFailed},
		"TLS of a CA nobody asks for":  {func(o *ldap.Options) { secure(o); o.CAFile, o.Validate = "", false }, "ann", "secret", "ann@galley.test", nil},
		"TLS where there is none":      {func(o *ldap.Options) { secure(o); o.Port = s.Port }, "ann", "secret", "", ldap.ErrFailed},
		"TLS with ciphers":             {func(o *ldap.Options) { secure(o); o.Ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:!aNULL" }, "ann", "secret", "ann@galley.test", nil},
		"CA file missing":              {func(o *ldap.Options) { secure(o); o.CAFile = filepath.Join(t.TempDir(), "none") }, "ann", "secret", "", ldap.ErrTLS},
		"CA file missing, but not TLS": {func(o *ldap.Options) { o.CAFile = filepath.Join(t.TempDir(), "none") }, "ann", "secret", "", ldap.ErrTLS},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := options(s)
			if test.change != nil {
				test.change(&o)
			}
			p, err := signIn(t.Context(), o, test.user, test.password)
			if !errors.Is(err, test.err) || (test.err == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err == nil && p.Email != test.email {
				t.Errorf("address %q, want %q", p.Email, test.email)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	s := ldaptest.New(t)
	ann := s.Person("ann", "Ann", "ann@galley.test", "secret")
	ben := s.Person("ben", "Ben", "ben@galley.test", "secret", "description", "cn=No Comma", "description", "staff", "description", `CN=Sales\2C EMEA,dc=x`)
	s.Group("staff", ann, ben)
	s.Group("Sales, EMEA", ann)
	s.Group("Ärzte", ann)

	names := func(user, attribute string) []string {
		o := options(s)
		o.GroupsAttr = attribute
		p, err := signIn(t.Context(), o, user, "secret")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(p.Groups)
		return p.Groups
	}
	for _, test := range []struct {
		user, attribute string
		want            []string
	}{
		{"ann", "memberOf", []string{"Sales, EMEA", "staff", "Ärzte"}},
		{"ann", "MEMBEROF", []string{"Sales, EMEA", "staff", "Ärzte"}},
		{"ann", "seeAlso", nil},
		{"ann", "", nil},
		{"ben", "description", []string{"No Comma", "Sales, EMEA"}},
	} {
		if got := names(test.user, test.attribute); !slices.Equal(got, test.want) {
			t.Errorf("%s of %s: %q, want %q", test.attribute, test.user, got, test.want)
		}
	}
}

// TestClosed counts connections through a proxy: after a sign-in, whatever came of it, none is left.
func TestClosed(t *testing.T) {
	s := ldaptest.New(t)
	s.Person("ann", "Ann", "ann@galley.test", "secret")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var made atomic.Int32
	ended := make(chan struct{}, 5)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			made.Add(1)
			go func() {
				defer func() { _ = c.Close(); ended <- struct{}{} }()
				up, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(s.Port))
				if err != nil {
					return
				}
				defer func() { _ = up.Close() }()
				go func() { _, _ = io.Copy(c, up) }()
				_, _ = io.Copy(up, c) // until Galley closes
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	for _, try := range []struct{ user, password, app string }{
		{"ann", "secret", ldaptest.AppPassword}, {"ann", "wrong", ldaptest.AppPassword}, {"nobody", "secret", ldaptest.AppPassword},
		{"ann", "secret", "wrong"}, {"ann", "secret", ""},
	} {
		o := options(s)
		o.Port, o.AppPassword = l.Addr().(*net.TCPAddr).Port, try.app
		_, _ = signIn(t.Context(), o, try.user, try.password)
	}
	for range 5 { // or the test's time-out
		<-ended
	}
	if n := made.Load(); n != 5 {
		t.Errorf("%d connections", n)
	}
}

// TestSilent asks a directory that says nothing: the caller's context ends the wait.
func TestSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, secure := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		o := ldap.Options{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, TLS: secure, NameAttr: "uid", MailAttr: "mail"}
		began := time.Now()
		if _, err := ldap.Open(ctx, o); !errors.Is(err, ldap.ErrFailed) {
			t.Errorf("TLS %v: %v", secure, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("TLS %v: took %v", secure, took)
		}
		cancel()
	}
}
