package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

var ctx = context.Background()

// request makes a request with headers: name, value, name, value….
func request(path string, headers ...string) *http.Request {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// try authorizes a request and gives "status detail" of a refusal or the caller's name.
func try(s *session.Sessions, level auth.Level, r *http.Request) string {
	p, err := s.Authorize(r, level)
	var e *web.Error
	switch {
	case errors.As(err, &e):
		return http.StatusText(e.Status) + ": " + e.Detail.(string)
	case err != nil:
		return err.Error()
	case p == nil:
		return "nobody"
	}
	return p.Name
}

const (
	notSent    = "Unauthorized: Not authenticated"
	malformed  = "Unauthorized: 401 Unauthorized"
	invalid    = "Unauthorized: Invalid token"
	noAccount  = "Unauthorized: Invalid authentication request."
	again      = "Unauthorized: Your session has expired or the token is invalid. Please sign in again."
	prohibited = "Unauthorized: You do not have permission to access this resource. Please contact your administrator for assistance."
	noKeys     = "Forbidden: Use of API key is not enabled in the environment."
	notHere    = "Forbidden: You do not have permission to access this resource. Please contact your administrator for assistance."
)

func TestAuthorize(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := sessiontest.New(t, db)
		_, boss := s.User("Boss", "admin")
		_, ann := s.User("Ann", "user")
		_, wait := s.User("Wait", "pending")
		gone, goneToken := s.User("Gone", "user")
		if err := s.Users.Delete(ctx, gone.ID); err != nil {
			t.Fatal(err)
		}
		half, halfToken := s.User("Half", "user")
		if _, err := db.Exec(ctx, `DELETE FROM "user" WHERE id = $1`, half.ID); err != nil {
			t.Fatal(err)
		}
		off, offToken := s.User("Off", "user")
		if _, err := db.Exec(ctx, `UPDATE auth SET active = $1 WHERE id = $2`, false, off.ID); err != nil {
			t.Fatal(err)
		}
		annUser, _ := s.Users.ByEmail(ctx, "ann@contract.test")
		cred, _ := s.Users.Credential(ctx, annUser.ID)
		odd, _, _ := s.Sessions.Issue(annUser.ID, cred.Stamp, auth.Claims{Type: "refresh"})
		automation, _, _ := s.Sessions.Issue(annUser.ID, cred.Stamp, auth.Claims{Type: auth.TypeAutomation})
		stale, _, _ := s.Sessions.Issue(annUser.ID, "old stamp", auth.Claims{})
		forged, _, _ := auth.NewTokens("another key").Make(auth.Claims{ID: annUser.ID, Stamp: cred.Stamp})
		expired, _, _ := s.Sessions.Issue(annUser.ID, cred.Stamp, auth.Claims{Expires: time.Now().Add(-time.Minute).Unix()})
		for _, c := range []struct {
			name    string
			level   auth.Level
			headers []string
			want    string
		}{
			{"public", auth.Public, nil, "nobody"},
			{"nothing", auth.Any, nil, notSent},
			{"optional, nothing", auth.Optional, nil, "nobody"},
			{"optional, junk", auth.Optional, []string{"Authorization", "Bearer junk"}, "nobody"},
			{"optional", auth.Optional, []string{"Authorization", "Bearer " + ann}, "Ann"},
			{"bearer", auth.Verified, []string{"Authorization", "Bearer " + ann}, "Ann"},
			{"scheme in any case", auth.Verified, []string{"Authorization", "bearer " + ann}, "Ann"},
			{"cookie", auth.Verified, []string{"Cookie", "token=" + ann}, "Ann"},
			{"bearer before cookie", auth.Verified, []string{"Authorization", "Bearer " + boss, "Cookie", "token=" + ann}, "Boss"},
			{"cookie before another scheme", auth.Verified, []string{"Authorization", "Token " + boss, "Cookie", "token=" + ann}, "Ann"},
			{"another scheme", auth.Verified, []string{"Authorization", "Token " + boss}, "Boss"},
			{"scheme alone", auth.Any, []string{"Authorization", "Bearer"}, notSent},
			{"token in the API key's header", auth.Verified, []string{"X-Api-Key", ann}, "Ann"},
			{"empty cookie", auth.Any, []string{"Cookie", "token="}, malformed},
			{"junk", auth.Any, []string{"Authorization", "Bearer junk.junk.junk"}, malformed},
			{"forged", auth.Any, []string{"Authorization", "Bearer " + forged}, malformed},
			{"expired", auth.Any, []string{"Authorization", "Bearer " + expired}, malformed},
			{"older than the stamp", auth.Any, []string{"Authorization", "Bearer " + stale}, invalid},
			{"unknown type", auth.Any, []string{"Authorization", "Bearer " + odd}, invalid},
			{"automation", auth.Verified, []string{"Authorization", "Bearer " + automation}, "Ann"},
			{"deleted", auth.Any, []string{"Authorization", "Bearer " + goneToken}, noAccount},
			{"account without its row", auth.Any, []string{"Authorization", "Bearer " + halfToken}, again},
			{"switched off", auth.Any, []string{"Authorization", "Bearer " + offToken}, noAccount},
			{"pending", auth.Any, []string{"Authorization", "Bearer " + wait}, "Wait"},
			{"pending, verified wanted", auth.Verified, []string{"Authorization", "Bearer " + wait}, prohibited},
			{"user, admin wanted", auth.Admin, []string{"Authorization", "Bearer " + ann}, prohibited},
			{"admin", auth.Admin, []string{"Authorization", "Bearer " + boss}, "Boss"},
			{"unknown API key", auth.Any, []string{"Authorization", "Bearer sk-none"}, again},
		} {
			for range 2 { // from the database, then from the cache
				if got := try(s.Sessions, c.level, request("/", c.headers...)); got != c.want {
					t.Errorf("%s: %s, want %s", c.name, got, c.want)
				}
			}
		}
		if p, ok := s.Sessions.Verified(ctx, ann); !ok || p.Name != "Ann" {
			t.Errorf("Verified: %v, %v", p, ok)
		}
		for _, token := range []string{"", wait, "junk", "sk-none"} {
			if _, ok := s.Sessions.Verified(ctx, token); ok {
				t.Errorf("%q is verified", token)
			}
		}
	})
}

func TestAPIKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := sessiontest.New(t, db)
		boss, _ := s.User("Boss", "admin")
		ann, _ := s.User("Ann", "user")
		for id, key := range map[string]string{boss.ID: "sk-boss", ann.ID: "sk-ann"} {
			if err := s.Users.SetAPIKey(ctx, id, key); err != nil {
				t.Fatal(err)
			}
		}
		check := func(step, key, path, want string) {
			t.Helper()
			if got := try(s.Sessions, auth.Verified, request(path, "X-Api-Key", key)); got != want {
				t.Errorf("%s: %s at %s is %s, want %s", step, key, path, got, want)
			}
		}
		check("switched off", "sk-boss", "/api/v1/chats/", noKeys)
		s.Set("auth.enable_api_keys", true)
		check("switched on", "sk-boss", "/api/v1/chats/", "Boss")
		check("without the permission", "sk-ann", "/api/v1/chats/", noKeys)
		g, err := s.Access.Groups().Insert(ctx, groups.NewGroup{Name: "g", Permissions: jsondoc.Doc(`{"features":{"api_keys":true}}`)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Access.Groups().AddMembers(ctx, g.ID, []string{ann.ID}); err != nil {
			t.Fatal(err)
		}
		check("with the permission", "sk-ann", "/api/v1/chats/", "Ann")
		s.Set("auth.api_key.endpoint_restrictions", true, "auth.api_key.allowed_endpoints", "/api/v1/chat, /api/models ,")
		for path, want := range map[string]string{"/api/v1/chat": "Boss", "/api/v1/chat/x": "Boss", "/api/models": "Boss", "/api/v1/chats/": notHere, "/": notHere} {
			check("restricted", "sk-boss", path, want)
		}
		s.Set("auth.api_key.endpoint_restrictions", false)
		p, err := s.Sessions.Authorize(request("/", "X-Api-Key", "sk-ann"), auth.Any)
		if err != nil || !p.APIKey || p.Human() {
			t.Errorf("principal %+v, %v", p, err)
		}
		if err := s.Users.SetAPIKey(ctx, ann.ID, "sk-new"); err != nil {
			t.Fatal(err)
		}
		check("replaced", "sk-ann", "/", again)
		check("new", "sk-new", "/", "Ann")
	})
}

// TestChangesCountAtOnce checks that nothing of the cache outlives a change in this process.
func TestChangesCountAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := sessiontest.New(t, db)
		ann, token := s.User("Ann", "user")
		bearer := func(token string) *http.Request { return request("/", "Authorization", "Bearer "+token) }
		check := func(step, want string) {
			t.Helper()
			if got := try(s.Sessions, auth.Verified, bearer(token)); got != want {
				t.Errorf("%s: %s, want %s", step, got, want)
			}
		}
		check("begin", "Ann")
		if _, err := s.Users.Update(ctx, ann.ID, users.SetName("Anna")); err != nil {
			t.Fatal(err)
		}
		check("renamed", "Anna")
		if _, err := s.Users.Update(ctx, ann.ID, users.SetRole("pending")); err != nil {
			t.Fatal(err)
		}
		check("demoted", prohibited)
		if _, err := s.Users.Update(ctx, ann.ID, users.SetRole("user")); err != nil {
			t.Fatal(err)
		}
		check("promoted", "Anna")
		s.Realtime.Take()
		if err := s.Sessions.RevokeUser(ctx, ann.ID); err != nil {
			t.Fatal(err)
		}
		check("revoked", invalid)
		if got := s.Realtime.Take(); !slices.Equal(got, []string{"disconnect " + ann.ID}) {
			t.Errorf("told %v", got)
		}
		token = s.Token(ann.ID)
		check("new session", "Anna")
		cred, err := s.Users.Credential(ctx, ann.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Users.SetPassword(ctx, cred, "x"); err != nil {
			t.Fatal(err)
		}
		check("new password", invalid)
		token = s.Token(ann.ID)
		check("new session", "Anna")
		if err := s.Users.Delete(ctx, ann.ID); err != nil {
			t.Fatal(err)
		}
		check("deleted", noAccount)
	})
}

// shared is what processes know together, in memory.
type shared struct {
	mu      sync.Mutex
	revoked map[string]bool
	counts  map[string]int
	down    bool
}

func (s *shared) lock() (func(), error) {
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		return nil, errors.New("down")
	}
	return s.mu.Unlock, nil
}

func (s *shared) Count(key string, _, _ int64, _ time.Duration) (int, error) {
	unlock, err := s.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	s.counts[key]++
	return s.counts[key], nil
}

func (s *shared) Revoke(_ context.Context, jti string, _ int64) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s.revoked[jti] = true
	return nil
}

func (s *shared) Revoked(_ context.Context, c auth.Claims) (bool, error) {
	unlock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	return s.revoked[c.JTI], nil
}

// TestWhatSignOutEnds signs out with two sessions of an account, as a program or as a browser would.
func TestWhatSignOutEnds(t *testing.T) {
	type pair struct{ bearer, cookie bool }
	for _, c := range []struct {
		name     string
		setting  string
		redis    bool
		sent     pair
		sameOnly bool // cookie and bearer are one token
		ended    pair
	}{
		{"a program", "", false, pair{bearer: true}, false, pair{}},
		{"a browser", "", false, pair{true, true}, true, pair{true, true}},
		{"a browser without the header", "", false, pair{cookie: true}, false, pair{cookie: true}},
		{"two sessions", "", false, pair{true, true}, false, pair{true, true}},
		{"a program, with Redis", "", true, pair{bearer: true}, false, pair{bearer: true}},
		{"a program, if asked for", "true", false, pair{bearer: true}, false, pair{bearer: true}},
		{"a browser, as the reference", "false", false, pair{true, true}, true, pair{}},
		{"as the reference with Redis", "false", true, pair{true, true}, false, pair{bearer: true}},
		{"a cookie, as the reference with Redis", "false", true, pair{cookie: true}, false, pair{cookie: true}},
		{"nothing", "true", true, pair{}, false, pair{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sessiontest.New(t, storetest.SQLite(t), "GALLEY_SIGNOUT_REVOKES", c.setting)
			o := session.Options{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env}
			if c.redis {
				o.Shared = &shared{revoked: map[string]bool{}}
			}
			sessions := session.New(o)
			ann, bearer := s.User("Ann", "user")
			cookie := s.Token(ann.ID)
			if c.sameOnly {
				cookie = bearer
			}
			var sent [2]string
			if c.sent.bearer {
				sent[0] = bearer
			}
			if c.sent.cookie {
				sent[1] = cookie
			}
			id, err := sessions.SignOut(ctx, sent[0], sent[1])
			if err != nil || (id == ann.ID) != (c.sent != pair{}) {
				t.Fatalf("%q, %v", id, err)
			}
			for token, ended := range map[string]bool{bearer: c.ended.bearer, cookie: c.ended.cookie} {
				got := try(sessions, auth.Verified, request("/", "Authorization", "Bearer "+token))
				if (got == invalid) != ended {
					t.Errorf("bearer %t: %s", token == bearer, got)
				}
			}
		})
	}
	s := sessiontest.New(t, storetest.SQLite(t))
	_, token := s.User("Ann", "user")
	if _, err := s.Sessions.SignOut(ctx, token, "junk"); err != nil {
		t.Fatal(err)
	}
	if got := try(s.Sessions, auth.Verified, request("/", "Authorization", "Bearer "+token)); got != "Ann" {
		t.Errorf("a cookie that is no session: %s", got)
	}
}

// TestShared has one replica end sessions of which another has just seen that they are good.
func TestShared(t *testing.T) {
	s := sessiontest.New(t, storetest.SQLite(t))
	redis := &shared{revoked: map[string]bool{}, counts: map[string]int{}}
	o := session.Options{Users: s.Users, Access: s.Access, Settings: s.Settings, Env: s.Env, Shared: redis, TTL: time.Hour}
	here := session.New(o)
	o.Users = users.New(s.DB)
	there := session.New(o)
	ann, token := s.User("Ann", "user")
	check := func(step string, on *session.Sessions, token, want string) {
		t.Helper()
		if got := try(on, auth.Verified, request("/", "Authorization", "Bearer "+token)); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	check("before", there, token, "Ann")
	if _, err := here.SignOut(ctx, token, ""); err != nil {
		t.Fatal(err)
	}
	check("at once", there, token, invalid)
	limits := []*auth.RateLimiter{here.NewLimiter(2, 3*time.Minute), there.NewLimiter(2, 3*time.Minute)}
	if limits[0].Limited("A") || limits[1].Limited("a") || !limits[0].Limited("a") {
		t.Errorf("counts %v", redis.counts)
	}
	// without Redis sessions stay good, and those that ended stay so; each process counts for itself
	second := s.Token(ann.ID)
	redis.down = true
	check("Redis down", there, second, "Ann")
	check("Redis down, ended before", there, token, invalid)
	if _, err := here.SignOut(ctx, second, ""); err != nil {
		t.Fatal(err)
	}
	check("signed out without Redis", here, second, invalid)
	for i, want := range []bool{false, false, true} {
		if got := limits[0].Limited("a"); got != want {
			t.Errorf("event %d without Redis: %v", i, got)
		}
	}
	if limits[1].Limited("a") {
		t.Error("a process without Redis counts for another")
	}
}

func TestSignOut(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := sessiontest.New(t, db, "GALLEY_SIGNOUT_REVOKES", "true")
		ann, first := s.User("Ann", "user")
		second := s.Token(ann.ID)
		replica := session.New(session.Options{Users: users.New(db), Access: s.Access, Settings: s.Settings, Env: s.Env})
		check := func(step string, sessions *session.Sessions, token, want string) {
			t.Helper()
			if got := try(sessions, auth.Verified, request("/", "Authorization", "Bearer "+token)); got != want {
				t.Errorf("%s: %s, want %s", step, got, want)
			}
		}
		check("before", s.Sessions, first, "Ann")
		s.Realtime.Take()
		if id, err := s.Sessions.SignOut(ctx, first, ""); err != nil || id != ann.ID {
			t.Fatalf("%q, %v", id, err)
		}
		check("signed out", s.Sessions, first, invalid)
		check("signed out, on another replica", replica, first, invalid)
		check("the other session", s.Sessions, second, "Ann")
		if got := s.Realtime.Take(); !slices.Equal(got, []string{"disconnect " + ann.ID}) {
			t.Errorf("told %v", got)
		}
		// again, or with what is no token: nothing happens, and newer sessions stay connected
		for _, token := range []string{first, "junk", ""} {
			if id, err := s.Sessions.SignOut(ctx, token, ""); id != "" || err != nil {
				t.Errorf("%q: %q, %v", token, id, err)
			}
		}
		if got := s.Realtime.Take(); len(got) != 0 {
			t.Errorf("told %v", got)
		}
		// tokens that have expired are forgotten, those that never do are not
		if _, err := db.Exec(ctx, `INSERT INTO galley_revoked_token (jti, expires_at) VALUES ('old', 5), ('eternal', 0)`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sessions.SignOut(ctx, second, ""); err != nil {
			t.Fatal(err)
		}
		rows, err := db.Query(ctx, `SELECT jti FROM galley_revoked_token WHERE jti IN ('old', 'eternal')`)
		if left, err := store.Strings(rows, err); err != nil || !slices.Equal(left, []string{"eternal"}) {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

// TestCacheRace revokes sessions while their tokens are in use: a revoked token is never good again.
func TestCacheRace(t *testing.T) {
	s := sessiontest.New(t, storetest.SQLite(t))
	ann, _ := s.User("Ann", "user")
	for range 20 {
		token := s.Token(ann.ID)
		r := request("/", "Authorization", "Bearer "+token)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-start
				for range 20 {
					try(s.Sessions, auth.Verified, r)
				}
			})
		}
		close(start)
		if _, err := s.Users.RevokeSessions(ctx, ann.ID); err != nil {
			t.Fatal(err)
		}
		if got := try(s.Sessions, auth.Verified, r); got != invalid {
			t.Fatalf("after the revocation: %s", got)
		}
		wg.Wait()
		if got := try(s.Sessions, auth.Verified, r); got != invalid {
			t.Fatalf("when all is quiet: %s", got)
		}
	}
}

// factor stands for what asks for second factors.
type factor struct {
	method string
	tries  []string
}

func (f *factor) StartLogin(_ context.Context, _ *users.User, _ *users.Credential, method string) (*session.Challenge, error) {
	f.method = method
	return &session.Challenge{NextStep: "verify"}, nil
}

func (f *factor) Throttle(_ context.Context, userID string) error {
	f.tries = append(f.tries, userID)
	return nil
}

func TestSecondFactor(t *testing.T) {
	db := storetest.SQLite(t)
	s := sessiontest.New(t, db)
	ann, plain := s.User("Ann", "user")
	wait, _ := s.User("Wait", "pending")
	cred, err := s.Users.Credential(ctx, ann.ID)
	if err != nil {
		t.Fatal(err)
	}
	verified, _, _ := s.Sessions.Issue(ann.ID, cred.Stamp, auth.Claims{Method: "password", MFAVerified: true})
	byOAuth, _, _ := s.Sessions.Issue(ann.ID, cred.Stamp, auth.Claims{Method: "oauth"})
	automation, _, _ := s.Sessions.Issue(ann.ID, cred.Stamp, auth.Claims{Type: auth.TypeAutomation})
	check := func(step, token, want string) {
		t.Helper()
		if got := try(s.Sessions, auth.Verified, request("/", "Authorization", "Bearer "+token)); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	check("off", plain, "Ann")
	s.Set("auth.mfa.enable", true)
	check("on", plain, invalid)
	check("verified, but without a secret", verified, invalid)
	if _, err := db.Exec(ctx, `UPDATE auth SET mfa = $1 WHERE id = $2`, `{"secret":"x","reset_required":false}`, ann.ID); err != nil {
		t.Fatal(err)
	}
	s.Users.Changed(ann.ID)
	check("verified", verified, "Ann")
	check("automation", automation, "Ann")
	check("OAuth", byOAuth, invalid)
	s.Set("auth.mfa.allow_oauth_bypass", true)
	check("OAuth may do without", byOAuth, "Ann")
	if _, err := db.Exec(ctx, `UPDATE auth SET mfa = $1 WHERE id = $2`, `{"secret":"x","reset_required":true}`, ann.ID); err != nil {
		t.Fatal(err)
	}
	s.Users.Changed(ann.ID)
	check("to be set up anew", verified, invalid)

	w := httptest.NewRecorder()
	s.Sessions.SetFactor(nil)
	if _, err := s.Sessions.SignIn(ctx, w, ann, nil, "password"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("signed in without a second factor: %v", err)
	}
	if out, err := s.Sessions.SignIn(ctx, w, wait, nil, "password"); err != nil || jsondoc.Of(out).String() != `{"next_step":"pending"}` {
		t.Errorf("pending: %v, %v", out, err)
	}
	f := &factor{}
	s.Sessions.SetFactor(f)
	if out, err := s.Sessions.SignIn(ctx, w, ann, nil, "password"); err != nil || jsondoc.Of(out).Text("next_step") != "verify" || f.method != "password" {
		t.Errorf("%v, %v by %q", out, err, f.method)
	}
	for _, email := range []string{"ANN@contract.test", "nobody@contract.test"} {
		if err := s.Sessions.Throttle(ctx, email); err != nil {
			t.Errorf("throttle: %v", err)
		}
	}
	if !slices.Equal(f.tries, []string{ann.ID}) {
		t.Errorf("tries counted: %q", f.tries)
	}
	if out, err := s.Sessions.SignIn(ctx, w, ann, nil, "oauth"); err != nil || jsondoc.Of(out).Text("token") == "" {
		t.Errorf("OAuth: %v, %v", out, err)
	}
}

func TestTrustedHeader(t *testing.T) {
	s := sessiontest.New(t, storetest.SQLite(t), "WEBUI_AUTH_TRUSTED_EMAIL_HEADER", "X-Email")
	_, ann := s.User("Ann", "user")
	for email, want := range map[string]string{"": "Ann", "ANN@contract.test": "Ann", "bob@contract.test": "Unauthorized: User mismatch. Please sign in again."} {
		if got := try(s.Sessions, auth.Any, request("/", "Authorization", "Bearer "+ann, "X-Email", email)); got != want {
			t.Errorf("%q: %s, want %s", email, got, want)
		}
	}
}

func TestSignInWithOldCredentials(t *testing.T) {
	s := sessiontest.New(t, storetest.SQLite(t))
	ann, _ := s.User("Ann", "user")
	u, cred, err := s.Sessions.PasswordOwner(ctx, "ANN@contract.test", sessiontest.Password)
	if err != nil || u == nil || u.ID != ann.ID {
		t.Fatalf("%v, %v", u, err)
	}
	for _, c := range [][2]string{{"ann@contract.test", "wrong"}, {"nobody@contract.test", sessiontest.Password}, {"nobody@contract.test", ""}} {
		if u, _, err := s.Sessions.PasswordOwner(ctx, c[0], c[1]); u != nil || err != nil {
			t.Errorf("%v: %v, %v", c, u, err)
		}
	}
	if _, err := s.Users.RevokeSessions(ctx, ann.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sessions.SignIn(ctx, httptest.NewRecorder(), u, cred, "password"); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("signed in with credentials that changed: %v", err)
	}
	if _, err := s.Users.DB().Exec(ctx, `UPDATE auth SET active = $1`, false); err != nil {
		t.Fatal(err)
	}
	if u, _, err := s.Sessions.PasswordOwner(ctx, "ann@contract.test", sessiontest.Password); u != nil || err != nil {
		t.Errorf("switched off: %v, %v", u, err)
	}
}

func TestMakeAdmin(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := sessiontest.New(t, db, "WEBUI_ADMIN_EMAIL", "Root@X.test", "WEBUI_ADMIN_PASSWORD", "secret", "WEBUI_ADMIN_NAME", "Root")
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 3 {
			wg.Go(func() {
				u, err := s.Sessions.MakeAdmin(ctx)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if u != nil {
					made++
				}
			})
		}
		wg.Wait()
		u, _, err := s.Sessions.PasswordOwner(ctx, "root@x.test", "secret")
		if err != nil || u == nil || !u.IsAdmin() || u.Name != "Root" || made != 1 {
			t.Errorf("%+v, %v; made %d", u, err, made)
		}
		if s.Settings.Snapshot().Bool("ui.enable_signup") {
			t.Error("sign-up is still on")
		}
	})
}

func BenchmarkAuthorize(b *testing.B) {
	s := sessiontest.New(b, storetest.SQLite(b))
	_, token := s.User("Ann", "user")
	r := request("/api/v1/chats/", "Authorization", "Bearer "+token)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sessions.Authorize(r, auth.Verified); err != nil {
			b.Fatal(err)
		}
	}
}
