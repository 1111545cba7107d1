// Package sessiontest is the part of a server that tests of route modules need: accounts, access, settings, sessions and
// a router to mount modules on.
package sessiontest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Server is what modules are built from. Mount modules on Router, then Call it.
type Server struct {
	DB       *store.DB
	Env      *config.Env
	Users    *users.Store
	Access   *access.Access
	Settings *config.Settings
	Sessions *session.Sessions
	Factors  *factor.Factors // asked for where auth.mfa.enable is set
	OAuth    *oauth.Service
	Events   *events.Bus
	Realtime *Realtime
	Router   *web.Router
	Log      *slog.Logger // of nothing

	toldMu sync.Mutex
	told   []string

	t     testing.TB
	ahead atomic.Int64 // by how much the clock of the factors is, in nanoseconds
}

// Password is that of the accounts that User makes, and Hash its hash at the least cost.
const (
	Password = "contract-user-1"
	Hash     = "$2b$04$fsOCKZCRV/VYW8HUaAA3L.S5xsL/XboPk6kbIe5kOdD1cQZhXOVFG"
)

// New builds a server over a database. vars are environment variables: name, value, name, value….
func New(t testing.TB, db *store.DB, vars ...string) *Server {
	t.Helper()
	ctx := context.Background()
	env, err := config.ReadEnv(func(name string) (string, bool) {
		for i := 0; i+1 < len(vars); i += 2 {
			if vars[i] == name {
				return vars[i+1], true
			}
		}
		return "", false
	})
	if err != nil {
		t.Fatal(err)
	}
	if env.SecretKey == "" {
		env.SecretKey = "a key for tests"
	}
	settings, err := config.Load(ctx, db, env, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{DB: db, Env: env, Users: users.New(db), Access: access.New(db, settings), Settings: settings, Realtime: &Realtime{},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Events: events.NewBus("test"), t: t}
	s.Events.Subscribe(s.note)
	s.Sessions = session.New(session.Options{Users: s.Users, Access: s.Access, Settings: settings, Env: env, Realtime: s.Realtime,
		Passwords: auth.NewPasswordsCost(env.Password, bcrypt.MinCost)})
	s.Factors = factor.New(factor.Options{Users: s.Users, Settings: settings, Env: env, Sessions: s.Sessions, Events: s.Events, Log: s.Log, Now: s.Now})
	s.Sessions.SetFactor(s.Factors)
	s.OAuth, err = oauth.New(oauth.Options{Users: s.Users, Access: s.Access, Settings: settings, Env: env, Sessions: s.Sessions, Events: s.Events, Log: s.Log,
		Pictures: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	s.Router = web.New(web.Options{Auth: s.Sessions, Logger: s.Log})
	t.Cleanup(func() {
		if err := s.Users.FlushActive(ctx); err != nil {
			t.Errorf("last activity: %v", err)
		}
	})
	return s
}

// note writes an event down as "who source name type:id data", ids of accounts by their names.
func (s *Server) note(ctx context.Context, e events.Event) {
	d := e.Payload()
	who := d.Text("actor", "name")
	if who == "" {
		who = "nobody"
	}
	id := d.Text("subject", "id")
	if u, err := s.Users.ByID(ctx, id); err == nil {
		id = u.Name
	}
	s.toldMu.Lock()
	defer s.toldMu.Unlock()
	s.told = append(s.told, strings.Join([]string{who, d.Text("source"), e.Name, d.Text("subject", "type") + ":" + id, d.Get("data").String()}, " "))
}

// Told gives what was published since the last call, in words.
func (s *Server) Told() []string {
	s.toldMu.Lock()
	defer s.toldMu.Unlock()
	out := s.told
	s.told = nil
	return out
}

// Now is the time by which second factors go.
func (s *Server) Now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// Later has time pass for second factors.
func (s *Server) Later(d time.Duration) { s.ahead.Add(int64(d)) }

// User makes an account, name@contract.test, and gives it with a session token.
func (s *Server) User(name, role string) (*users.User, string) {
	s.t.Helper()
	u, err := s.Users.Insert(context.Background(), users.NewUser{Email: strings.ToLower(name) + "@contract.test", Name: name, Role: role,
		Password: Hash, ProfileImageURL: users.DefaultImage})
	if err != nil {
		s.t.Fatal(err)
	}
	return u, s.Token(u.ID)
}

// Token makes a session token for an account.
func (s *Server) Token(userID string) string {
	s.t.Helper()
	c, err := s.Users.Credential(context.Background(), userID)
	if err != nil {
		s.t.Fatal(err)
	}
	token, _, err := s.Sessions.Issue(userID, c.Stamp, auth.Claims{Method: "password"})
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// Set changes settings: key, value, key, value….
func (s *Server) Set(pairs ...any) {
	s.t.Helper()
	c := config.Changes{}
	for i := 0; i+1 < len(pairs); i += 2 {
		c[pairs[i].(string)] = pairs[i+1]
	}
	if err := s.Settings.Set(context.Background(), c); err != nil {
		s.t.Fatal(err)
	}
}

// Call sends a request ("GET /api/v1/…") and gives the answer. token "" sends none; body "" sends none; headers are name,
// value, name, value….
func (s *Server) Call(token, call, body string, headers ...string) *Answer {
	s.t.Helper()
	method, target, ok := strings.Cut(call, " ")
	if !ok {
		s.t.Fatalf("call %q has no method", call)
	}
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Router.ServeHTTP(w, req)
	return &Answer{w}
}

// Answer is what a Call got.
type Answer struct{ *httptest.ResponseRecorder }

// Doc is the answer's body.
func (a *Answer) Doc() jsondoc.Doc { return jsondoc.Doc(a.Body.Bytes()) }

// Detail is the text of an error.
func (a *Answer) Detail() string { return a.Doc().Text("detail") }

// Realtime notes what it is told.
type Realtime struct {
	mu  sync.Mutex
	log []string
}

// Emit implements session.Realtime.
func (r *Realtime) Emit(room, event string, payload any, _ ...string) error {
	r.note("emit " + room + " " + event + " " + jsondoc.Of(payload).String())
	return nil
}

// DisconnectUser implements session.Realtime.
func (r *Realtime) DisconnectUser(userID string) int {
	r.note("disconnect " + userID)
	return 0
}

func (r *Realtime) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, s)
}

// Take gives what was noted ("emit ROOM EVENT PAYLOAD", "disconnect USER") and forgets it.
func (r *Realtime) Take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.log
	r.log = nil
	return out
}
