// Package oidctest is an OpenID provider for tests: discovery, keys, a sign-in page that a person can follow in a browser,
// tokens with PKCE, user info, refreshing, introspection, registration of clients, sign-out and back-channel logout. What
// it says of people and what it does wrong can be chosen. It also answers as GitHub does, and as a server of tools (MCP)
// that it guards. It is no provider to be used for anything else.
package oidctest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Fault is something that a provider does wrong.
type Fault string

// The faults. Those of the ID token leave everything else as it is.
const (
	WrongIssuer    Fault = "wrong_issuer"    // the ID token is of another issuer
	WrongAudience  Fault = "wrong_audience"  // … for another client
	WrongNonce     Fault = "wrong_nonce"     // … for another sign-in
	NoNonce        Fault = "no_nonce"        // … for no sign-in in particular
	Expired        Fault = "expired"         // … over for an hour
	FromTheFuture  Fault = "from_the_future" // … made in an hour
	ManyAudiences  Fault = "many_audiences"  // … for several clients, without saying which of them asked for it
	WrongHash      Fault = "wrong_hash"      // … of another access token
	AlgNone        Fault = "alg_none"        // … not signed
	AlgHS256       Fault = "alg_hs256"       // … signed with the public key as a shared secret
	AlgHS256Client Fault = "alg_hs256_client"
	OtherKey       Fault = "other_key"       // … signed with a key that is not published, under a published name
	WrongSubject   Fault = "wrong_subject"   // user info is somebody else's
	TokenFails     Fault = "token_fails"     // the token endpoint answers 500
	TokenRefuses   Fault = "token_refuses"   // … with an OAuth error
	TokenGarbage   Fault = "token_garbage"   // … something that is no JSON
	UserInfoFails  Fault = "userinfo_fails"  // user info answers 500
	DiscoveryFails Fault = "discovery_fails" // discovery answers 500
	Slow           Fault = "slow"            // everything but discovery takes as long as Delay
	Denied         Fault = "denied"          // the person refuses
	OtherIss       Fault = "other_iss"       // the answer at the callback is of another issuer (RFC 9207)
)

// Client is a program that may ask for tokens.
type Client struct {
	ID        string
	Secret    string
	Redirects []string // where answers may go; nil means anywhere
	Public    bool     // has no secret
}

// Person is somebody who can sign in: every password is right but "wrong".
type Person map[string]any

// Provider is a provider on a port of this machine.
type Provider struct {
	URL   string // the issuer
	Delay time.Duration

	mu      sync.Mutex
	key     *rsa.PrivateKey
	keyID   string
	clients map[string]*Client
	people  map[string]Person // by the name they sign in with
	inToken map[string]bool   // claims of the ID token; nil means all
	faults  map[Fault]bool
	grants  map[string]*grant // by code
	tokens  map[string]*grant // by access token
	refresh map[string]*grant // by refresh token
	life    int               // seconds of an access token; 0: not said
	idLife  time.Duration
	noFresh bool
	extra   map[string]any // members of the discovery document
	log     []string
	last    url.Values // form of the last token request
	auth    string     // its Authorization
	serial  int
}

// grant is what a person has allowed a client.
type grant struct {
	client, person, redirect, nonce, challenge, scope, resource string
}

// Handler makes a provider that is served at an address by whoever asks for it.
func Handler(address string) (*Provider, http.Handler) {
	p := &Provider{URL: address, clients: map[string]*Client{}, people: map[string]Person{}, faults: map[Fault]bool{}, grants: map[string]*grant{},
		tokens: map[string]*grant{}, refresh: map[string]*grant{}, life: 3600, idLife: time.Hour, extra: map[string]any{}}
	p.Rotate()
	p.clients["galley"] = &Client{ID: "galley", Secret: "a secret"}
	p.people["ann"] = Person{"sub": "ann-1", "email": "Ann@Example.com", "email_verified": true, "name": "Ann Example"}
	mux := http.NewServeMux()
	p.routes(mux)
	return p, mux
}

// New starts a provider for a test. It knows the client "galley" with the secret "a secret", and Ann.
func New(t testing.TB) *Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	p, h := Handler("http://" + server.Listener.Addr().String())
	server.Config.Handler = h
	server.Start()
	t.Cleanup(server.Close)
	return p
}

// Discovery is the address of the provider's description.
func (p *Provider) Discovery() string { return p.URL + "/.well-known/openid-configuration" }

// Add makes a person known under a name; one of that name is replaced.
func (p *Provider) Add(name string, person Person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.people[name] = person
}

// Register makes a client known.
func (p *Provider) Register(c Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c.ID] = &c
}

// Do has the provider do these things wrong, and no others.
func (p *Provider) Do(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = map[Fault]bool{}
	for _, f := range faults {
		p.faults[f] = true
	}
}

func (p *Provider) does(f Fault) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[f]
}

// Lifetime sets for how many seconds access tokens are said to be good (0: nothing is said), whether refresh tokens are
// given, and for how long ID tokens are good.
func (p *Provider) Lifetime(seconds int, refresh bool, id time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life, p.noFresh, p.idLife = seconds, !refresh, id
}

// Describe changes members of the discovery document; nil removes one.
func (p *Provider) Describe(members map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.extra, members)
}

// InToken limits the ID token's claims about a person to these; none means that it has all.
func (p *Provider) InToken(claims ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inToken = nil
	for _, c := range claims {
		if p.inToken == nil {
			p.inToken = map[string]bool{}
		}
		p.inToken[c] = true
	}
}

// Rotate exchanges the signing key.
func (p *Provider) Rotate() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
	p.key, p.keyID = key, fmt.Sprint("key-", p.serial)
}

// Take gives the requests that came since it was last called ("POST /token").
func (p *Provider) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.log
	p.log = nil
	return out
}

// LastToken is the form of the last request for a token, and its Authorization header.
func (p *Provider) LastToken() (url.Values, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.auth
}

// Expire has an access token be good no more.
func (p *Provider) Expire(accessToken string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tokens, accessToken)
}

func (p *Provider) routes(mux *http.ServeMux) {
	add := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			p.log = append(p.log, r.Method+" "+r.URL.Path)
			wait := p.faults[Slow] && !strings.HasPrefix(r.URL.Path, "/.well-known") && !strings.HasPrefix(r.URL.Path, "/test")
			p.mu.Unlock()
			if wait {
				_ = r.ParseForm() // a connection that is closed is noticed once the body is read
				select {
				case <-r.Context().Done():
					return
				case <-time.After(p.Delay):
				}
			}
			h(w, r)
		})
	}
	for _, path := range []string{"openid-configuration", "oauth-authorization-server"} {
		add("GET /.well-known/"+path, p.discovery)
	}
	add("GET /.well-known/oauth-protected-resource", p.resource)
	add("GET /.well-known/oauth-protected-resource/mcp", p.resource)
	add("POST /mcp", p.mcp)
	add("GET /jwks", p.keys)
	add("GET /authorize", p.authorize)
	add("POST /authorize", p.signedIn)
	add("POST /token", p.token)
	add("GET /userinfo", p.userInfo)
	add("POST /introspect", p.introspect)
	add("POST /register", p.register)
	add("GET /end_session", p.endSession)
	add("GET /login/oauth/authorize", p.authorize)
	add("POST /login/oauth/authorize", p.signedIn)
	add("POST /login/oauth/access_token", p.token)
	add("GET /user", p.userInfo)
	add("GET /user/emails", p.emails)
	add("GET /picture", p.picture)
	add("POST /test/{what}", p.control)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code, why string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": why})
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	if p.does(DiscoveryFails) {
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	}
	doc := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "userinfo_endpoint": p.URL + "/userinfo",
		"jwks_uri": p.URL + "/jwks", "end_session_endpoint": p.URL + "/end_session", "introspection_endpoint": p.URL + "/introspect",
		"registration_endpoint": p.URL + "/register", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "none"},
		"scopes_supported":                      []string{"openid", "email", "profile"}, "backchannel_logout_supported": true,
	}
	p.mu.Lock()
	for name, v := range p.extra {
		if doc[name] = v; v == nil {
			delete(doc, name)
		}
	}
	p.mu.Unlock()
	answer(w, http.StatusOK, doc)
}

// publicKey is the RSA key as a JSON Web Key.
func (p *Provider) publicKey() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": p.keyID, "n": base64.RawURLEncoding.EncodeToString(p.key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString([]byte{1, 0, 1})}
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"keys": []any{p.publicKey()}})
}

// check reads a request for authorization; its error is for the person.
func (p *Provider) check(q url.Values) (*grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.clients[q.Get("client_id")]
	switch {
	case c == nil:
		return nil, fmt.Errorf("invalid_client: nobody knows %q", q.Get("client_id"))
	case c.Redirects != nil && !slices.Contains(c.Redirects, q.Get("redirect_uri")):
		return nil, fmt.Errorf("redirect_uri %q is not registered", q.Get("redirect_uri"))
	case q.Get("response_type") != "code":
		return nil, fmt.Errorf("response_type %q", q.Get("response_type"))
	case q.Get("code_challenge") != "" && q.Get("code_challenge_method") != "S256":
		return nil, fmt.Errorf("code_challenge_method %q", q.Get("code_challenge_method"))
	case c.Public && q.Get("code_challenge") == "":
		return nil, fmt.Errorf("code_challenge is missing")
	}
	return &grant{client: c.ID, redirect: q.Get("redirect_uri"), nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), scope: q.Get("scope"),
		resource: q.Get("resource")}, nil
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	if _, err := p.check(r.URL.Query()); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if c, err := r.Cookie("idp"); err == nil { // signed in here already
		p.grantTo(w, r, c.Value, r.URL.Query())
		return
	}
	signInPage(w, r.URL.Query(), "")
}

func (p *Provider) signedIn(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if _, err := p.check(q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := r.PostFormValue("username")
	p.mu.Lock()
	known := p.people[name] != nil
	p.mu.Unlock()
	if !known || r.PostFormValue("password") == "wrong" {
		signInPage(w, q, "That is not right.")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "idp", Value: name, Path: "/", HttpOnly: true})
	p.grantTo(w, r, name, q)
}

// grantTo sends the person back to the client with a code.
func (p *Provider) grantTo(w http.ResponseWriter, r *http.Request, person string, q url.Values) {
	http.Redirect(w, r, p.callback(person, q), http.StatusFound)
}

// callback is the address at the client, with the answer to a request for authorization.
func (p *Provider) callback(person string, q url.Values) string {
	g, err := p.check(q)
	if err != nil {
		panic(err)
	}
	g.person = person
	to, err := url.Parse(g.redirect)
	if err != nil {
		panic(err)
	}
	out := to.Query()
	out.Set("state", q.Get("state"))
	if p.does(Denied) {
		out.Set("error", "access_denied")
		out.Set("error_description", "The person said no")
	} else {
		code := rand.Text()
		p.mu.Lock()
		p.grants[code] = g
		p.mu.Unlock()
		out.Set("code", code)
	}
	if p.does(OtherIss) {
		out.Set("iss", "https://other.example")
	}
	to.RawQuery = out.Encode()
	return to.String()
}

// Approve is what happens when a person signs in at an address of the authorization endpoint: it gives where the browser
// is sent then.
func (p *Provider) Approve(t testing.TB, person, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(u.Path, "/authorize") {
		t.Fatalf("%s is not the authorization endpoint", address)
	}
	if _, err := p.check(u.Query()); err != nil {
		t.Fatal(err)
	}
	return p.callback(person, u.Query())
}

// clientOf finds the client that asks for a token.
func (p *Provider) clientOf(r *http.Request) *Client {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.auth = maps.Clone(r.PostForm), r.Header.Get("Authorization")
	c := p.clients[id]
	if c == nil || !c.Public && c.Secret != secret || basic && r.PostForm.Has("client_secret") {
		return nil
	}
	return c
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	c := p.clientOf(r)
	switch {
	case p.does(TokenFails):
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	case p.does(TokenRefuses):
		refuse(w, "invalid_grant", "not today")
		return
	case p.does(TokenGarbage):
		_, _ = io.WriteString(w, "<p>hello</p>")
		return
	case c == nil:
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		code := r.PostFormValue("code")
		p.mu.Lock()
		g := p.grants[code]
		delete(p.grants, code)
		p.mu.Unlock()
		switch sum := challenge(r.PostFormValue("code_verifier")); {
		case g == nil || g.client != c.ID:
			refuse(w, "invalid_grant", "the code is not good")
		case g.redirect != r.PostFormValue("redirect_uri"):
			refuse(w, "invalid_grant", "another redirect_uri")
		case g.challenge != "" && g.challenge != sum:
			refuse(w, "invalid_grant", "the code_verifier is wrong")
		default:
			p.give(w, g)
		}
	case "refresh_token":
		p.mu.Lock()
		g := p.refresh[r.PostFormValue("refresh_token")]
		delete(p.refresh, r.PostFormValue("refresh_token"))
		p.mu.Unlock()
		if g == nil || g.client != c.ID {
			refuse(w, "invalid_grant", "the refresh token is not good")
			return
		}
		p.give(w, g)
	default:
		refuse(w, "unsupported_grant_type", "")
	}
}

// give answers with tokens.
func (p *Provider) give(w http.ResponseWriter, g *grant) {
	access := "at-" + rand.Text()
	out := map[string]any{"access_token": access, "token_type": "Bearer", "scope": g.scope}
	p.mu.Lock()
	p.tokens[access] = g
	if p.life != 0 {
		out["expires_in"] = p.life
	}
	if !p.noFresh {
		fresh := "rt-" + rand.Text()
		p.refresh[fresh] = g
		out["refresh_token"] = fresh
	}
	p.mu.Unlock()
	if slices.Contains(strings.Fields(g.scope), "openid") {
		out["id_token"] = p.idToken(g, access)
	}
	answer(w, http.StatusOK, out)
}

func (p *Provider) idToken(g *grant, access string) string {
	now := time.Now()
	p.mu.Lock()
	c := jwt.MapClaims{}
	for name, v := range p.people[g.person] {
		if name == "sub" || p.inToken == nil || p.inToken[name] {
			c[name] = v
		}
	}
	idLife, secret := p.idLife, p.clients[g.client].Secret
	p.mu.Unlock()
	c["iss"], c["aud"], c["iat"], c["exp"] = p.URL, g.client, now.Unix(), now.Add(idLife).Unix()
	c["at_hash"] = halfHash(access)
	if g.nonce != "" {
		c["nonce"] = g.nonce
	}
	for fault, f := range map[Fault]func(){
		WrongIssuer:   func() { c["iss"] = "https://other.example" },
		WrongAudience: func() { c["aud"] = "other" },
		ManyAudiences: func() { c["aud"] = []string{g.client, "other"} },
		WrongNonce:    func() { c["nonce"] = "other" },
		NoNonce:       func() { delete(c, "nonce") },
		Expired:       func() { c["iat"], c["exp"] = now.Add(-2*time.Hour).Unix(), now.Add(-time.Hour).Unix() },
		FromTheFuture: func() { c["iat"], c["exp"] = now.Add(time.Hour).Unix(), now.Add(2*time.Hour).Unix() },
		WrongHash:     func() { c["at_hash"] = halfHash("another") },
	} {
		if p.does(fault) {
			f()
		}
	}
	switch {
	case p.does(AlgNone):
		return p.Sign(c, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType)
	case p.does(AlgHS256):
		text, _ := json.Marshal(p.publicKey())
		return p.Sign(c, jwt.SigningMethodHS256, text)
	case p.does(AlgHS256Client):
		return p.Sign(c, jwt.SigningMethodHS256, []byte(secret))
	case p.does(OtherKey):
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return p.Sign(c, jwt.SigningMethodRS256, key)
	}
	return p.Sign(c, nil, nil)
}

// Sign makes a token of claims under the name of the provider's key; method nil means its own and its key.
func (p *Provider) Sign(c jwt.MapClaims, method jwt.SigningMethod, key any) string {
	p.mu.Lock()
	if method == nil {
		method, key = jwt.SigningMethodRS256, p.key
	}
	id := p.keyID
	p.mu.Unlock()
	t := jwt.NewWithClaims(method, c)
	t.Header["kid"] = id
	text, err := t.SignedString(key)
	if err != nil {
		panic(err)
	}
	return text
}

func challenge(verifier string) string {
	h := crypto.SHA256.New()
	h.Write([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func halfHash(access string) string {
	h := crypto.SHA256.New()
	h.Write([]byte(access))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// bearer finds what an access token was given for; nil where it is not good.
func (p *Provider) bearer(r *http.Request) *grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
}

func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	g := p.bearer(r)
	switch {
	case p.does(UserInfoFails):
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	case g == nil:
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	p.mu.Lock()
	out := maps.Clone(p.people[g.person])
	p.mu.Unlock()
	if p.does(WrongSubject) {
		out["sub"] = "somebody else"
	}
	if r.URL.Path == "/user" { // GitHub shows an address only where the person made it public, and never a list of them
		delete(out, "emails")
	}
	answer(w, http.StatusOK, out)
}

func (p *Provider) emails(w http.ResponseWriter, r *http.Request) {
	g := p.bearer(r)
	if g == nil {
		answer(w, http.StatusUnauthorized, map[string]any{"message": "Bad credentials"})
		return
	}
	p.mu.Lock()
	list := p.people[g.person]["emails"]
	p.mu.Unlock()
	answer(w, http.StatusOK, list)
}

func (p *Provider) introspect(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	if p.clientOf(r) == nil {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	p.mu.Lock()
	g := p.tokens[r.PostFormValue("token")]
	p.mu.Unlock()
	if g == nil {
		answer(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	answer(w, http.StatusOK, map[string]any{"active": true, "client_id": g.client})
}

func (p *Provider) register(w http.ResponseWriter, r *http.Request) {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, "invalid_client_metadata", err.Error())
		return
	}
	c := Client{ID: "client-" + rand.Text()[:8], Redirects: []string{}}
	redirects, _ := in["redirect_uris"].([]any)
	for _, u := range redirects {
		c.Redirects = append(c.Redirects, fmt.Sprint(u))
	}
	out := maps.Clone(in)
	out["client_id"], out["client_id_issued_at"] = c.ID, time.Now().Unix()
	if in["token_endpoint_auth_method"] == "none" {
		c.Public = true
	} else {
		c.Secret = rand.Text()
		out["client_secret"] = c.Secret
	}
	p.Register(c)
	answer(w, http.StatusCreated, out)
}

// Forget has the provider not know a client any more.
func (p *Provider) Forget(clientID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.clients, clientID)
}

func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "idp", Path: "/", MaxAge: -1})
	if to := r.URL.Query().Get("post_logout_redirect_uri"); to != "" && r.URL.Query().Get("id_token_hint") != "" {
		http.Redirect(w, r, to, http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!doctype html><title>Signed out</title><h1>You are signed out</h1>")
}

// resource is what the server of tools says of itself.
func (p *Provider) resource(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"resource": p.URL + "/mcp", "authorization_servers": []string{p.URL}, "scopes_supported": []string{"tools"}})
}

func (p *Provider) mcp(w http.ResponseWriter, r *http.Request) {
	if p.bearer(r) == nil {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+p.URL+`/.well-known/oauth-protected-resource/mcp"`)
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{}})
}

// Pixel is the smallest picture: what /picture answers with where its query says nothing else.
var Pixel, _ = base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

// picture answers with a picture: "type" is its type, "size" its bytes, "to" sends elsewhere, "bearer" asks for a token.
func (p *Provider) picture(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case q.Get("to") != "":
		http.Redirect(w, r, q.Get("to"), http.StatusFound)
		return
	case q.Has("bearer") && p.bearer(r) == nil:
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	kind := q.Get("type")
	if kind == "" {
		kind = "image/png"
	}
	w.Header().Set("Content-Type", kind)
	body := Pixel
	var size int
	if _, err := fmt.Sscan(q.Get("size"), &size); err == nil {
		body = bytes.Repeat([]byte{'x'}, size)
	}
	_, _ = w.Write(body)
}

// LogoutClaims are those of a logout token for a person's subject, to be changed before it is signed.
func (p *Provider) LogoutClaims(client, subject string) jwt.MapClaims {
	return jwt.MapClaims{"iss": p.URL, "aud": client, "iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix(), "jti": rand.Text(), "sub": subject,
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}
}

// SendLogout posts a logout token to a client's address, as providers do.
func (p *Provider) SendLogout(ctx context.Context, address, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return http.DefaultClient.Do(req)
}

// control lets scripts change what the provider does: /test/faults with a list of faults, /test/people with claims by
// name, /test/client with a client, /test/logout with {"url", "sub"}, /test/lifetime with {"seconds", "refresh"},
// /test/intoken with a list of claims.
func (p *Provider) control(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	out := any(map[string]any{"status": true})
	switch r.PathValue("what") {
	case "faults":
		var faults []Fault
		if err = json.Unmarshal(body, &faults); err == nil {
			p.Do(faults...)
		}
	case "people":
		var people map[string]Person
		err = json.Unmarshal(body, &people)
		for name, person := range people {
			p.Add(name, person)
		}
	case "client":
		var c Client
		if err = json.Unmarshal(body, &c); err == nil {
			p.Register(c)
		}
	case "lifetime":
		in := struct {
			Seconds int
			Refresh bool
		}{Refresh: true}
		if err = json.Unmarshal(body, &in); err == nil {
			p.Lifetime(in.Seconds, in.Refresh, time.Hour)
		}
	case "intoken":
		var claims []string
		if err = json.Unmarshal(body, &claims); err == nil {
			p.InToken(claims...)
		}
	case "requests":
		last, auth := p.LastToken()
		out = map[string]any{"requests": p.Take(), "token": last, "authorization": auth}
	case "sign":
		var c jwt.MapClaims
		if err = json.Unmarshal(body, &c); err == nil {
			out = map[string]any{"token": p.Sign(c, nil, nil)}
		}
	case "logout":
		var in struct{ URL, Sub, Client string }
		if err = json.Unmarshal(body, &in); err == nil {
			resp, failed := p.SendLogout(r.Context(), in.URL, p.Sign(p.LogoutClaims(in.Client, in.Sub), nil, nil))
			if err = failed; err == nil {
				text, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				out = map[string]any{"status": resp.StatusCode, "body": string(text)}
			}
		}
	}
	if err != nil {
		refuse(w, "invalid_request", err.Error())
		return
	}
	answer(w, http.StatusOK, out)
}
