// Package ldaptest runs OpenLDAP for tests.
package ldaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// What every Server has.
const (
	Base          = "dc=galley,dc=test"
	People        = "ou=people," + Base
	Groups        = "ou=groups," + Base
	AdminDN       = "cn=admin," + Base
	AdminPassword = "directory-admin"
	AppDN         = "cn=app," + Base
	AppPassword   = "directory-app"
)

// Server is an OpenLDAP server on this machine. Members of groups have memberOf.
type Server struct {
	Port    int    // of ldap://
	TLSPort int    // of ldaps://
	CAFile  string // of the certificate, which is for 127.0.0.1 and localhost

	t     testing.TB
	admin *ldap.Conn
}

// New starts a server that ends with the test. Without the program slapd the test is skipped, or fails where GALLEY_CI is
// set.
func New(t testing.TB) *Server {
	t.Helper()
	program, err := find()
	if err != nil {
		if os.Getenv("GALLEY_CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := &Server{t: t}
	dir := t.TempDir()
	conf := s.configure(dir)
	// a port that was free may be taken by the time that slapd asks for it
	for try := 0; ; try++ {
		if err = s.start(program, conf); err == nil {
			break
		}
		if try == 4 {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = s.admin.Close() })
	s.Add(Base, "objectClass", "dcObject", "objectClass", "organization", "o", "Galley", "dc", "galley")
	s.Add(People, "objectClass", "organizationalUnit", "ou", "people")
	s.Add(Groups, "objectClass", "organizationalUnit", "ou", "groups")
	s.Add(AppDN, "objectClass", "organizationalRole", "objectClass", "simpleSecurityObject", "cn", "app", "userPassword", AppPassword)
	return s
}

func find() (string, error) {
	if p, err := exec.LookPath("slapd"); err == nil {
		return p, nil
	}
	const usual = "/usr/sbin/slapd" // not in everybody's PATH
	if _, err := os.Stat(usual); err != nil {
		return "", fmt.Errorf("OpenLDAP is not installed: %w", err)
	}
	return usual, nil
}

func (s *Server) configure(dir string) string {
	s.t.Helper()
	s.CAFile = filepath.Join(dir, "ca.pem")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s.certificates(cert, key)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	conf := filepath.Join(dir, "slapd.conf")
	text := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCACertificateFile %s
TLSCertificateFile %s
TLSCertificateKeyFile %s
database mdb
suffix "%s"
rootdn "%s"
rootpw %s
directory %s
access to attrs=userPassword by anonymous auth by * none
access to * by * read
overlay memberof
`, s.CAFile, cert, key, Base, AdminDN, AdminPassword, data)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return conf
}

func (s *Server) start(program, conf string) error {
	s.Port, s.TLSPort = freePort(s.t), freePort(s.t)
	urls := fmt.Sprintf("ldap://127.0.0.1:%d/ ldaps://127.0.0.1:%d/", s.Port, s.TLSPort)
	var log strings.Builder
	cmd := exec.Command(program, "-d", "0", "-h", urls, "-f", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(20 * time.Second)
	for {
		if s.admin = s.connect(); s.admin != nil {
			s.t.Cleanup(func() {
				_ = cmd.Process.Kill()
				<-ended
			})
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("slapd ended: %w: %s", err, log.String())
		case <-deadline:
			_ = cmd.Process.Kill()
			<-ended
			return fmt.Errorf("slapd does not answer: %s", log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) connect() *ldap.Conn {
	c, err := ldap.DialURL(fmt.Sprintf("ldap://127.0.0.1:%d", s.Port))
	if err != nil {
		return nil
	}
	if c.Bind(AdminDN, AdminPassword) != nil {
		_ = c.Close()
		return nil
	}
	return c
}

// Add adds an entry; attributes are name, value, name, value…, a name for each of its values.
func (s *Server) Add(dn string, attributes ...string) {
	s.t.Helper()
	var names []string
	values := map[string][]string{}
	for i := 0; i+1 < len(attributes); i += 2 {
		if name := attributes[i]; values[name] == nil {
			names = append(names, name)
		}
		values[attributes[i]] = append(values[attributes[i]], attributes[i+1])
	}
	r := ldap.NewAddRequest(dn, nil)
	for _, name := range names {
		r.Attribute(name, values[name])
	}
	if err := s.admin.Add(r); err != nil {
		s.t.Fatalf("add %s: %v", dn, err)
	}
}

// Person adds a person and gives the DN; more are further attributes.
func (s *Server) Person(uid, name, mail, password string, more ...string) string {
	s.t.Helper()
	dn := "uid=" + ldap.EscapeDN(uid) + "," + People
	a := []string{"objectClass", "inetOrgPerson", "uid", uid, "cn", name, "sn", name, "userPassword", password}
	if mail != "" {
		a = append(a, "mail", mail)
	}
	s.Add(dn, append(a, more...)...)
	return dn
}

// Group adds a group and gives the DN; members are DNs, at least one.
func (s *Server) Group(name string, members ...string) string {
	s.t.Helper()
	dn := "cn=" + ldap.EscapeDN(name) + "," + Groups
	a := []string{"objectClass", "groupOfNames", "cn", name}
	for _, m := range members {
		a = append(a, "member", m)
	}
	s.Add(dn, a...)
	return dn
}

// Remove removes an entry.
func (s *Server) Remove(dn string) {
	s.t.Helper()
	if err := s.admin.Del(ldap.NewDelRequest(dn, nil)); err != nil {
		s.t.Fatalf("remove %s: %v", dn, err)
	}
}

// Settings are those by which accounts are found here, for config.Settings: all but the TLS ones and groups.
func (s *Server) Settings() []any {
	return []any{
		"ldap.enable", true, "ldap.server.host", "127.0.0.1", "ldap.server.port", s.Port, "ldap.server.use_tls", false,
		"ldap.server.app_dn", AppDN, "ldap.server.app_password", AppPassword, "ldap.server.users_dn", Base,
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// certificates writes a CA, and a certificate of its for this machine.
func (s *Server) certificates(certFile, keyFile string) {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Galley test CA"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	for name, block := range map[string]*pem.Block{
		s.CAFile: {Type: "CERTIFICATE", Bytes: caDER}, certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		must(os.WriteFile(name, pem.EncodeToMemory(block), 0o600))
	}
}
