package auths_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
)

// person is somebody with a second factor.
type person struct {
	t      *testing.T
	s      *sessiontest.Server
	id     string
	email  string
	secret string
	codes  []string
	token  string // of the session
}

const expired = "This authentication step expired. Please start again."

// meet makes an account where second factors are asked for.
func meet(t *testing.T, s *sessiontest.Server, name string) *person {
	t.Helper()
	s.Set("auth.mfa.enable", true)
	u, _ := s.User(name, "user")
	return &person{t: t, s: s, id: u.ID, email: u.Email}
}

// enrolled makes an account with a second factor and a session.
func enrolled(t *testing.T, s *sessiontest.Server, name string) *person {
	t.Helper()
	p := meet(t, s, name)
	p.enroll(p.signIn("enroll"))
	return p
}

// signIn gives the password, and the challenge that comes then.
func (p *person) signIn(next string) string {
	p.t.Helper()
	a := p.s.Call("", "POST "+base+"/signin", `{"email":"`+p.email+`","password":"`+sessiontest.Password+`"}`)
	if a.Code != 200 || a.Doc().Text("next_step") != next || a.Doc().Get("token") != nil || a.Header().Get("Set-Cookie") != "" {
		p.t.Fatalf("sign-in of %s: %d %s", p.email, a.Code, a.Body)
	}
	if n, _ := a.Doc().Int("expires_in"); n != 300 {
		p.t.Errorf("the challenge is good for %d s", n)
	}
	return a.Doc().Text("challenge_token")
}

// post sends members (name, value, …) to a route of second factors.
func (p *person) post(token, path string, members ...any) *sessiontest.Answer {
	p.t.Helper()
	var b jsondoc.Builder
	for i := 0; i+1 < len(members); i += 2 {
		b.Add(members[i].(string), members[i+1])
	}
	return p.s.Call(token, "POST "+base+"/mfa/"+path, b.Done().String())
}

func (p *person) enroll(challenge string) {
	p.t.Helper()
	setup := p.post("", "enroll/start", "challenge_token", challenge)
	p.secret = setup.Doc().Text("manual_key")
	a := p.post("", "enroll/confirm", "challenge_token", challenge, "code", p.code())
	if p.token = a.Doc().Text("token"); a.Code != 200 || p.token == "" {
		p.t.Fatalf("enrolment: %s, then %d %s", setup.Body, a.Code, a.Body)
	}
	p.codes = a.Doc().Get("recovery_codes").Texts()
}

// code is what the authenticator shows.
func (p *person) code() string { return factor.Code(p.secret, p.s.Now()) }

// next is the code of half a minute later, when the last one is over.
func (p *person) next() string {
	p.s.Later(30 * time.Second)
	return p.code()
}

// wrong is a code that is not good.
func (p *person) wrong() string {
	for i := range 10 {
		code := fmt.Sprintf("%06d", i)
		good := false
		for _, d := range []time.Duration{-time.Minute, -30 * time.Second, 0, 30 * time.Second, time.Minute} {
			good = good || factor.Code(p.secret, p.s.Now().Add(d)) == code
		}
		if !good {
			return code
		}
	}
	panic("ten codes are good at once")
}

func TestSecondFactor(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		var heard []string
		s.Events.Subscribe(func(_ context.Context, e events.Event) {
			if strings.HasPrefix(e.Name, "auth.") {
				heard = append(heard, e.Name+" "+jsondoc.Of(e.Data).String())
			}
		})
		p := meet(t, s, "Ann")
		old := p.signIn("enroll")
		challenge := p.signIn("enroll")
		expect(t, "a challenge before the last", p.post("", "enroll/start", "challenge_token", old), 401, expired)
		expect(t, "a code before the secret", p.post("", "enroll/confirm", "challenge_token", challenge, "code", "123456"), 401, "Invalid code. Check your authenticator and try again.")
		expect(t, "a code in place of the enrolment", p.post("", "verify", "challenge_token", challenge, "code", "123456"), 401, expired)
		setup := p.post("", "enroll/start", "challenge_token", challenge)
		p.secret = setup.Doc().Text("manual_key")
		if again := p.post("", "enroll/start", "challenge_token", challenge); again.Doc().String() != setup.Doc().String() {
			t.Error("the secret is another one when it is shown again")
		}
		if setup.Header().Get("Cache-Control") != "no-store" || !strings.HasPrefix(setup.Doc().Text("qr_code"), "data:image/svg+xml;base64,") {
			t.Errorf("setup: %v %s", setup.Header(), setup.Body)
		}
		expect(t, "a wrong code", p.post("", "enroll/confirm", "challenge_token", challenge, "code", p.wrong()), 401, "Invalid code. Check your authenticator and try again.")
		p.enroll(challenge)
		expect(t, "enrolment again", p.post("", "enroll/confirm", "challenge_token", challenge, "code", p.code()), 401, expired)
		status := func(token, want string) {
			t.Helper()
			if a := s.Call(token, "GET "+base+"/mfa/status", ""); a.Doc().String() != want {
				t.Errorf("status %s, want %s", a.Body, want)
			}
		}
		status(p.token, `{"enabled":true,"required":true,"recovery_codes_remaining":10}`)
		if a := s.Call(p.token, "GET "+base+"/", ""); a.Code != 200 {
			t.Errorf("session: %d %s", a.Code, a.Body)
		}
		if c, err := s.Users.Credential(t.Context(), p.id); err != nil || strings.Contains(c.MFA.String(), p.secret) || strings.Contains(c.MFA.String(), p.codes[0]) {
			t.Errorf("the row tells secrets: %s, %v", c.MFA, err)
		}
		want := []string{`auth.mfa.failed {"event":"auth.mfa.failed"}`, `auth.mfa.failed {"event":"auth.mfa.failed"}`,
			`auth.mfa.enrolled {"event":"auth.mfa.enrolled"}`, `auth.login {"auth_method":"password"}`}
		if !slices.Equal(heard, want) {
			t.Errorf("events %q", heard)
		}

		// with a code
		challenge = p.signIn("verify")
		expect(t, "the code of the enrolment", p.post("", "verify", "challenge_token", challenge, "code", p.code()), 401, "Invalid or already used code.")
		a := p.post("", "verify", "challenge_token", challenge, "code", " "+p.next()+" ")
		if a.Code != 200 || a.Doc().Text("id") != p.id || a.Doc().Get("recovery_codes") != nil {
			t.Fatalf("code: %d %s", a.Code, a.Body)
		}
		if cookies := a.Result().Cookies(); len(cookies) != 2 || cookies[0].Name != "token" || !cookies[0].HttpOnly || cookies[1].Name != "mfa_challenge" || cookies[1].MaxAge >= 0 {
			t.Errorf("cookies %v", cookies)
		}
		expect(t, "the challenge again", p.post("", "verify", "challenge_token", challenge, "code", p.next()), 401, expired)
		status(p.token, `{"enabled":true,"required":true,"recovery_codes_remaining":10}`)

		// with a recovery code
		heard = nil
		challenge = p.signIn("verify")
		expect(t, "a recovery code as a code", p.post("", "verify", "challenge_token", challenge, "code", p.codes[0]), 401, "Invalid or already used code.")
		expect(t, "a recovery code", p.post("", "verify", "challenge_token", challenge, "code", strings.ToUpper(p.codes[0]), "recovery", true), 200, "")
		challenge = p.signIn("verify")
		expect(t, "a used recovery code", p.post("", "verify", "challenge_token", challenge, "code", p.codes[0], "recovery", true), 401, "Invalid or already used code.")
		status(p.token, `{"enabled":true,"required":true,"recovery_codes_remaining":9}`)
		want = []string{`auth.mfa.failed {"event":"auth.mfa.failed"}`, `auth.mfa.recovery_used {"event":"auth.mfa.recovery_used"}`, `auth.login {"auth_method":"password"}`,
			`auth.mfa.failed {"event":"auth.mfa.failed"}`}
		if !slices.Equal(heard, want) {
			t.Errorf("events %q", heard)
		}
	})
}

func TestChangeFactor(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	p := enrolled(t, s, "Ann")
	s.Realtime.Take()
	if err := s.Users.SetAPIKey(t.Context(), p.id, "sk-ann"); err != nil {
		t.Fatal(err)
	}
	s.Set("auth.enable_api_keys", true)
	s.Set("user.permissions", map[string]any{"features": map[string]any{"api_keys": true}})
	for _, path := range []string{"replace", "recovery/codes"} {
		expect(t, path+" by API key", p.post("sk-ann", path, "code", p.codes[0], "recovery", true), 403, session.TextHuman)
		expect(t, path+" by API key, whatever it says", p.post("sk-ann", path), 403, session.TextHuman)
		expect(t, path+" by nobody", p.post("", path), 401, session.TextNotAuthenticated)
		expect(t, path+" without a code", p.post(p.token, path), 422, session.TextNoAccount)
		expect(t, path+" with a wrong code", p.post(p.token, path, "code", p.wrong()), 401, "Invalid or already used code.")
	}
	a := p.post(p.token, "replace", "code", p.next())
	if a.Code != 200 || a.Doc().Text("next_step") != "enroll" {
		t.Fatalf("replace: %d %s", a.Code, a.Body)
	}
	challenge := a.Doc().Text("challenge_token")
	if a := p.post("", "verify", "challenge_token", challenge, "code", p.next()); a.Code != 401 {
		t.Errorf("signed in by a challenge to replace: %d %s", a.Code, a.Body)
	}
	old, oldCodes := p.secret, p.codes
	p.secret = p.post("", "enroll/start", "challenge_token", challenge).Doc().Text("manual_key")
	a = p.post("", "enroll/confirm", "challenge_token", challenge, "code", p.code())
	if a.Code != 200 || a.Doc().Get("token") != nil || a.Doc().Get("recovery_codes").Len() != 10 || a.Header().Get("Set-Cookie") != "" {
		t.Fatalf("replaced: %d %s", a.Code, a.Body)
	}
	p.codes = a.Doc().Get("recovery_codes").Texts()
	if told := s.Realtime.Take(); !slices.Contains(told, "disconnect "+p.id) {
		t.Errorf("connections go on: %q", told)
	}
	expect(t, "the session after that", s.Call(p.token, "GET "+base+"/", ""), 401, session.TextInvalidToken)
	challenge = p.signIn("verify")
	expect(t, "an old recovery code", p.post("", "verify", "challenge_token", challenge, "code", oldCodes[1], "recovery", true), 401, "Invalid or already used code.")
	expect(t, "a code of the old secret", p.post("", "verify", "challenge_token", challenge, "code", factor.Code(old, s.Now())), 401, "Invalid or already used code.")
	p.token = p.post("", "verify", "challenge_token", challenge, "code", p.next()).Doc().Text("token")

	// a new limit, as the old one is almost used up; the session is too old then
	s.Later(16 * time.Minute)
	expect(t, "a long time after the sign-in", p.post(p.token, "recovery/codes", "code", p.code()), 403, "reauthentication_required")
	c, err := s.Users.Credential(t.Context(), p.id)
	if err != nil {
		t.Fatal(err)
	}
	p.token, _, err = s.Sessions.Issue(p.id, c.Stamp, auth.Claims{Method: "password", MFAVerified: true, AuthTime: s.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	a = p.post(p.token, "recovery/codes", "code", p.codes[9], "recovery", true)
	if a.Code != 200 || a.Doc().Get("recovery_codes").Len() != 10 {
		t.Fatalf("new codes: %d %s", a.Code, a.Body)
	}
	expect(t, "the session after that", s.Call(p.token, "GET "+base+"/", ""), 401, session.TextInvalidToken)
	challenge = p.signIn("verify")
	expect(t, "a code of before", p.post("", "verify", "challenge_token", challenge, "code", p.codes[0], "recovery", true), 401, "Invalid or already used code.")
	expect(t, "a new code", p.post("", "verify", "challenge_token", challenge, "code", a.Doc().Get("recovery_codes").Texts()[0], "recovery", true), 200, "")
}

func TestFactorLimits(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	p := enrolled(t, s, "Ann")
	for round := range 2 {
		challenge := p.signIn("verify")
		for i := range 5 - round { // the enrolment was a try too
			expect(t, fmt.Sprintf("try %d", i), p.post("", "verify", "challenge_token", challenge, "code", p.wrong()), 401, "Invalid or already used code.")
		}
		a := p.post("", "verify", "challenge_token", challenge, "code", p.next())
		if a.Code != 429 || a.Header().Get("Retry-After") == "" || a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("round %d: %d %v %s", round, a.Code, a.Header(), a.Body)
		}
		if want := []string{"Too many codes. Please sign in again.", "Too many attempts. Please try again later."}[round]; a.Detail() != want {
			t.Errorf("round %d: %s", round, a.Body)
		}
	}
	expect(t, "changes share the limit", p.post(p.token, "replace", "code", p.code()), 429, "Too many attempts. Please try again later.")
	s.Later(16 * time.Minute)
	expect(t, "later", p.post("", "verify", "challenge_token", p.signIn("verify"), "code", p.code()), 200, "")

	// passwords
	bob := meet(t, s, "Bob")
	for i := range 11 {
		a := s.Call("", "POST "+base+"/signin", `{"email":"`+strings.ToUpper(bob.email)+`","password":"no"}`)
		if want := 400; i < 10 && a.Code != want {
			t.Errorf("password %d: %d %s", i, a.Code, a.Body)
		} else if i == 10 && (a.Code != 429 || a.Detail() != "Too many attempts. Please try again later." || a.Header().Get("Retry-After") == "") {
			t.Errorf("the eleventh password: %d %s", a.Code, a.Body)
		}
	}
	if a := s.Call("", "POST "+base+"/signin", `{"email":"nobody@contract.test","password":"no"}`); a.Code != 400 {
		t.Errorf("nobody: %d %s", a.Code, a.Body)
	}
}

// TestClientLimit sends more than a client may, with second factors and without.
func TestClientLimit(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	send := func() *sessiontest.Answer { return s.Call("", "POST "+base+"/mfa/verify", `{`) }
	for range 101 {
		if a := send(); a.Code != 422 {
			t.Fatalf("off: %d %s", a.Code, a.Body)
		}
	}
	s.Set("auth.mfa.enable", true)
	for range 100 {
		if a := send(); a.Code != 422 {
			t.Fatalf("on: %d %s", a.Code, a.Body)
		}
	}
	if a := send(); a.Code != 429 || a.Header().Get("Retry-After") != "900" || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("too much: %d %v %s", a.Code, a.Header(), a.Body)
	}
	expect(t, "sign-in", s.Call("", "POST "+base+"/signin", `{"email":"a@b.c","password":"x"}`), 429, "Too many attempts. Please try again later.")
	expect(t, "reads", s.Call("", "GET "+base+"/mfa/status", ""), 401, session.TextNotAuthenticated)
}

// TestChallengeEnds does what ends a challenge between the password and the code.
func TestChallengeEnds(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	for _, c := range []struct {
		name   string
		does   func(p *person)
		status int
		detail string
	}{
		{"five minutes", func(*person) { s.Later(5 * time.Minute) }, 401, expired},
		{"a new password", func(p *person) {
			c, err := s.Users.Credential(t.Context(), p.id)
			if err == nil {
				err = s.Users.SetPassword(t.Context(), c, sessiontest.Hash)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 401, expired},
		{"the end of all sessions", func(p *person) {
			if err := s.Sessions.RevokeUser(t.Context(), p.id); err != nil {
				t.Fatal(err)
			}
		}, 401, expired},
		{"a role of nothing", func(p *person) { edit(t, s, p.id, `UPDATE "user" SET role = 'pending' WHERE id = $1`) }, 403, "Account is awaiting approval."},
		{"no account", func(p *person) { edit(t, s, p.id, `DELETE FROM "user" WHERE id = $1`) }, 403, "Account is awaiting approval."},
		{"no credentials", func(p *person) { edit(t, s, p.id, `DELETE FROM auth WHERE id = $1`) }, 401, session.TextNoAccount},
		{"an account that is off", func(p *person) { edit(t, s, p.id, `UPDATE auth SET active = FALSE WHERE id = $1`) }, 401, session.TextNoAccount},
		{"a row that nobody wrote", func(p *person) { edit(t, s, p.id, `UPDATE auth SET mfa = '{"surprise":1}' WHERE id = $1`) }, 503, session.TextUnavailable},
		{"a secret under another key", func(p *person) {
			edit(t, s, p.id, `UPDATE auth SET mfa = replace(mfa, '"secret":"gAAA', '"secret":"gBBB') WHERE id = $1`)
		}, 503, "Authenticator configuration is unavailable. Contact the operator."},
		{"factors switched off", func(p *person) { s.Set("auth.mfa.enable", false) }, 403, "MFA is disabled. Please sign in again."},
	} {
		p := enrolled(t, s, strings.ReplaceAll(c.name, " ", "-"))
		challenge := p.signIn("verify")
		c.does(p)
		expect(t, c.name, p.post("", "verify", "challenge_token", challenge, "code", p.next()), c.status, c.detail)
	}
	for _, token := range []string{strings.Repeat("x", 40), strings.Repeat("x", 65) + ".aaaaaaaaaa"} {
		expect(t, "no challenge", (&person{t: t, s: s}).post("", "enroll/start", "challenge_token", token), 401, expired)
	}
	expect(t, "a challenge of nobody", (&person{t: t, s: s}).post("", "enroll/start", "challenge_token", store.NewID()+".aaaaaaaaaa"), 401, session.TextNoAccount)
}

func edit(t *testing.T, s *sessiontest.Server, id, text string) {
	t.Helper()
	if _, err := s.DB.Exec(t.Context(), text, id); err != nil {
		t.Fatal(err)
	}
	s.Users.Changed(id)
}

// TestFactorRaces sends one code many times at once: it is good once.
func TestFactorRaces(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		// two replicas on one database
		servers := []*sessiontest.Server{newServer(t, db), newServer(t, db)}
		s := servers[0]
		race := func(what, path, body string) *sessiontest.Answer {
			t.Helper()
			const n = 8
			var won *sessiontest.Answer
			var mu sync.Mutex
			var wg sync.WaitGroup
			wins := 0
			for i := range n {
				wg.Go(func() {
					a := servers[i%2].Call("", "POST "+base+"/mfa/"+path, body)
					mu.Lock()
					defer mu.Unlock()
					switch a.Code {
					case 200:
						wins++
						won = a
					case 401, 409, 429:
					default:
						t.Errorf("%s: %d %s", what, a.Code, a.Body)
					}
				})
			}
			wg.Wait()
			if wins != 1 {
				t.Fatalf("%s: %d of %d won", what, wins, n)
			}
			return won
		}
		servers[1].Set("auth.mfa.enable", true)
		p := meet(t, s, "Ann")
		challenge := p.signIn("enroll")
		p.secret = p.post("", "enroll/start", "challenge_token", challenge).Doc().Text("manual_key")
		a := race("enrolment", "enroll/confirm", `{"challenge_token":"`+challenge+`","code":"`+p.code()+`"}`)
		p.codes = a.Doc().Get("recovery_codes").Texts()
		if a := servers[1].Call(a.Doc().Text("token"), "GET "+base+"/", ""); a.Code != 200 {
			t.Errorf("the session at the other replica: %d %s", a.Code, a.Body)
		}
		for _, srv := range servers {
			srv.Later(time.Hour)
		}
		race("code", "verify", `{"challenge_token":"`+p.signIn("verify")+`","code":"`+p.next()+`"}`)
		for _, srv := range servers {
			srv.Later(time.Hour)
		}
		race("recovery code", "verify", `{"challenge_token":"`+p.signIn("verify")+`","code":"`+p.codes[4]+`","recovery":true}`)
		if n := s.Call("", "POST "+base+"/mfa/verify", `{"challenge_token":"`+p.signIn("verify")+`","code":"`+p.codes[4]+`","recovery":true}`); n.Code != 401 {
			t.Errorf("the recovery code again: %d", n.Code)
		}
	})
}

// TestOperatorReset lets somebody in who lost everything but the password.
func TestOperatorReset(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		p := enrolled(t, s, "Ann")
		pending := p.signIn("verify")
		for _, c := range [][2]string{{"nobody@contract.test", "why"}, {p.email, " "}} {
			if token, err := s.Factors.Reset(t.Context(), c[0], c[1]); err == nil || token != "" {
				t.Errorf("%q: %q, %v", c, token, err)
			}
		}
		ticket, err := s.Factors.Reset(t.Context(), " "+strings.ToUpper(p.email), "lost the phone")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "the session", s.Call(p.token, "GET "+base+"/", ""), 401, session.TextInvalidToken)
		expect(t, "what was under way", p.post("", "verify", "challenge_token", pending, "code", p.next()), 401, expired)
		challenge := p.signIn("recover")
		expect(t, "enrolment at once", p.post("", "enroll/start", "challenge_token", challenge), 401, expired)
		expect(t, "a wrong token", p.post("", "recover", "challenge_token", challenge, "reset_token", strings.Repeat("x", 43)), 401, "Invalid or expired operator recovery token.")
		expect(t, "a short token", p.post("", "recover", "challenge_token", challenge, "reset_token", "x"), 422, session.TextNoAccount)
		a := p.post("", "recover", "challenge_token", challenge, "reset_token", ticket)
		if a.Code != 200 || a.Doc().Text("next_step") != "enroll" {
			t.Fatalf("recover: %d %s", a.Code, a.Body)
		}
		expect(t, "the token again", p.post("", "recover", "challenge_token", challenge, "reset_token", ticket), 401, expired)
		// who goes away now has to ask again
		expect(t, "the token with another sign-in", p.post("", "recover", "challenge_token", p.signIn("recover"), "reset_token", ticket), 401, "Invalid or expired operator recovery token.")
		ticket, err = s.Factors.Reset(t.Context(), p.email, "again")
		if err != nil {
			t.Fatal(err)
		}
		s.Later(30 * time.Minute)
		expect(t, "half an hour later", p.post("", "recover", "challenge_token", p.signIn("recover"), "reset_token", ticket), 401, "Invalid or expired operator recovery token.")
		if ticket, err = s.Factors.Reset(t.Context(), p.email, "once more"); err != nil {
			t.Fatal(err)
		}
		p.enroll(p.post("", "recover", "challenge_token", p.signIn("recover"), "reset_token", ticket).Doc().Text("challenge_token"))
		if a := s.Call(p.token, "GET "+base+"/", ""); a.Code != 200 {
			t.Errorf("session: %d %s", a.Code, a.Body)
		}
	})
}

// TestFactorPolicy switches factors on and off.
func TestFactorPolicy(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		boss, token := s.User("Boss", "admin")
		ann, annToken := s.User("Ann", "user")
		var heard []events.Event
		s.Events.Subscribe(func(_ context.Context, e events.Event) { heard = append(heard, e) })
		form := s.Call(token, "GET "+base+"/admin/config", "").Doc()
		set := func(token string, pairs ...string) *sessiontest.Answer {
			f := form
			for i := 0; i < len(pairs); i += 2 {
				f = f.Set(jsondoc.Doc(pairs[i+1]), pairs[i])
			}
			return s.Call(token, "POST "+base+"/admin/config", f.String())
		}
		revoked := func(what string, a *sessiontest.Answer, want bool) {
			t.Helper()
			if a.Code != 200 || a.Doc().Bool("sessions_revoked") != want {
				t.Errorf("%s: %d %s", what, a.Code, a.Body)
			}
		}
		revoked("as it is", set(token), false)
		s.Realtime.Take()
		revoked("on", set(token, "ENABLE_MFA", "true"), true)
		told := s.Realtime.Take()
		slices.Sort(told)
		want := []string{"disconnect " + ann.ID, "disconnect " + boss.ID}
		slices.Sort(want)
		if !slices.Equal(told, want) {
			t.Errorf("connections: %q", told)
		}
		if len(heard) != 1 || heard[0].Name != "auth.mfa.policy_changed" || heard[0].SubjectID != boss.ID {
			t.Errorf("events %+v", heard)
		}
		for _, old := range []string{token, annToken} {
			expect(t, "a session of before", s.Call(old, "GET "+base+"/", ""), 401, session.TextInvalidToken)
		}
		// who is not admitted is asked for nothing
		s.User("Wait", "pending")
		a := s.Call("", "POST "+base+"/signin", `{"email":"wait@contract.test","password":"`+sessiontest.Password+`"}`)
		if a.Code != 200 || a.Doc().String() != `{"next_step":"pending"}` || a.Header().Get("Set-Cookie") != "" {
			t.Errorf("pending: %d %s", a.Code, a.Body)
		}
		s.Set("ui.enable_signup", true, "ui.default_user_role", "pending")
		if a := s.Call("", "POST "+base+"/signup", signUp("Fresh")); a.Code != 200 || a.Doc().String() != `{"next_step":"pending"}` {
			t.Errorf("sign-up: %d %s", a.Code, a.Body)
		}
		s.Set("ui.default_user_role", "user")
		if a := s.Call("", "POST "+base+"/signup", signUp("Fresher")); a.Code != 200 || a.Doc().Text("next_step") != "enroll" {
			t.Errorf("sign-up of who is admitted: %d %s", a.Code, a.Body)
		}
		// other ways of signing in
		verified, _, _ := s.Sessions.Issue(boss.ID, stamp(t, s, boss.ID), auth.Claims{Method: "password", MFAVerified: true})
		expect(t, "verified, but of nobody with a factor", s.Call(verified, "GET "+base+"/", ""), 401, session.TextInvalidToken)
		p := &person{t: t, s: s, id: boss.ID, email: boss.Email}
		p.enroll(p.signIn("enroll"))
		revoked("bypass", set(p.token, "ENABLE_MFA", "true", "MFA_ALLOW_OAUTH_BYPASS", "true"), true)
		for method, want := range map[string]bool{"oauth": false, "trusted_header": true, "password": true, "ldap": true} {
			out, err := s.Sessions.SignIn(t.Context(), nil, ann, nil, method)
			if _, asked := out.(*session.Challenge); asked != want || err != nil {
				t.Errorf("%s: %v, %v", method, out, err)
			}
		}
		// off again
		p.token = p.post("", "verify", "challenge_token", p.signIn("verify"), "code", p.next()).Doc().Text("token")
		revoked("off", set(p.token), true)
		if a := s.Call("", "POST "+base+"/signin", `{"email":"`+boss.Email+`","password":"`+sessiontest.Password+`"}`); a.Doc().Text("token") == "" {
			t.Errorf("sign-in without factors: %s", a.Body)
		} else {
			token = a.Doc().Text("token")
		}
		// a secret that cannot be read
		edit(t, s, ann.ID, `UPDATE auth SET mfa = '{"revision":"r","secret":"gAAA"}' WHERE id = $1`)
		expect(t, "a secret of another key", set(token, "ENABLE_MFA", "true"), 409, "Unable to update MFA policy. Check configuration and retry.")
		edit(t, s, ann.ID, `UPDATE auth SET mfa = '{"surprise":true}' WHERE id = $1`)
		expect(t, "a row that nobody wrote", set(token, "ENABLE_MFA", "true"), 409, "Unable to update MFA policy. Check configuration and retry.")
		edit(t, s, ann.ID, `UPDATE auth SET mfa = 'null' WHERE id = $1`)
		revoked("on again", set(token, "ENABLE_MFA", "true"), true)
	})
}

func stamp(t *testing.T, s *sessiontest.Server, id string) string {
	t.Helper()
	c, err := s.Users.Credential(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c.Stamp
}

// TestFactorPossible switches factors on where they cannot be had.
func TestFactorPossible(t *testing.T) {
	for name, vars := range map[string][]string{
		"settings that are not stored": {"ENABLE_PERSISTENT_CONFIG", "false"},
		"no accounts":                  {"WEBUI_AUTH", "false"},
		"a bad key":                    {"MFA_ENCRYPTION_KEY", "short"},
	} {
		s := newServer(t, storetest.SQLite(t), vars...)
		_, token := s.User("Boss", "admin")
		form := s.Call(token, "GET "+base+"/admin/config", "").Doc()
		expect(t, name, s.Call(token, "POST "+base+"/admin/config", form.Set(jsondoc.Doc("true"), "ENABLE_MFA").String()), 409,
			"Unable to update MFA policy. Check configuration and retry.")
		if a := s.Call(token, "POST "+base+"/admin/config", form.String()); a.Code != 200 {
			t.Errorf("%s, off: %d %s", name, a.Code, a.Body)
		}
	}
}

// TestChallengeCookie asks for the challenge that a redirect left in a cookie.
func TestChallengeCookie(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	p := meet(t, s, "Ann")
	token := p.signIn("enroll")
	ask := func(origin, cookie string) *sessiontest.Answer {
		return s.Call("", "POST "+base+"/mfa/challenge", "", "Origin", origin, "Cookie", "mfa_challenge="+cookie)
	}
	dropped := func(a *sessiontest.Answer) bool {
		c := a.Result().Cookies()
		return len(c) == 1 && c[0].Name == "mfa_challenge" && c[0].MaxAge < 0 && c[0].Path == base+"/mfa"
	}
	expect(t, "another origin", ask("http://evil.test", token), 403, "Invalid request origin.")
	a := ask("http://example.com", token)
	if a.Code != 200 || a.Doc().Text("challenge_token") != token || a.Doc().Text("next_step") != "enroll" || !dropped(a) {
		t.Errorf("%d %s %v", a.Code, a.Body, a.Header())
	}
	for name, token := range map[string]string{"none": "", "no token": "x", "of nobody": store.NewID() + ".aaaaaaaaaaaa", "over": token + "x"} {
		a := ask("http://example.com", token)
		expect(t, name, a, 401, expired)
		if !dropped(a) {
			t.Errorf("%s: the cookie stays: %v", name, a.Header())
		}
	}
	s.Set("webui.url", "https://chat.test/somewhere")
	expect(t, "not where the server says it is", ask("http://example.com", token), 403, "Invalid request origin.")
	if a := ask("https://chat.test", token); a.Code != 200 {
		t.Errorf("where it says it is: %d %s", a.Code, a.Body)
	}
	p.enroll(token)
	replace := p.post(p.token, "replace", "code", p.next()).Doc().Text("challenge_token")
	expect(t, "a challenge to replace", ask("https://chat.test", replace), 401, expired)
}

// TestOAuthChallenge goes on with the provider's session after the code.
func TestOAuthChallenge(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	p := enrolled(t, s, "Ann")
	u, err := s.Users.ByID(t.Context(), p.id)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, s, p.id, `INSERT INTO oauth_session (id, user_id, provider, token, expires_at, created_at, updated_at) VALUES ('os', $1, 'oidc', 't', 9, 1, 1)`)
	for _, id := range []string{"os", "gone", ""} {
		s.Later(time.Hour)
		out, err := s.Sessions.SignIn(session.WithOAuth(t.Context(), session.OAuth{SessionID: id, Provider: "oidc"}), nil, u, nil, "oauth")
		ch, ok := out.(*session.Challenge)
		if !ok || err != nil {
			t.Fatalf("%v, %v", out, err)
		}
		a := p.post("", "verify", "challenge_token", ch.Token, "code", p.code())
		var kept string
		for _, c := range a.Result().Cookies() {
			if c.Name == "oauth_session_id" && c.HttpOnly {
				kept = c.Value
			}
		}
		if a.Code != 200 || (kept == "os") != (id == "os") {
			t.Errorf("%q: %d %s, cookie %q", id, a.Code, a.Body, kept)
		}
		if method := claim(a.Doc().Text("token"), "auth_method"); method != "oauth" {
			t.Errorf("%q: the session began by %q", id, method)
		}
	}
}

// claim reads a text claim of a token.
func claim(token, name string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	return jsondoc.Doc(raw).Text(name)
}

// TestUnavailable answers as the reference does while the database fails.
func TestUnavailable(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	p := enrolled(t, s, "Ann")
	if _, err := s.DB.Exec(t.Context(), `ALTER TABLE auth RENAME TO elsewhere`); err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{
		"/signin":     `{"email":"` + p.email + `","password":"x"}`,
		"/mfa/verify": `{"challenge_token":"` + p.id + `.aaaaaaaaaa","code":"1"}`,
	} {
		a := s.Call("", "POST "+base+path, body)
		expect(t, path, a, http.StatusServiceUnavailable, session.TextUnavailable)
		if a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept", path)
		}
	}
	if _, err := s.DB.Exec(t.Context(), `ALTER TABLE elsewhere RENAME TO auth`); err != nil {
		t.Fatal(err)
	}
}
