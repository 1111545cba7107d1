// Package app is the composition root: it opens what the server is made of in the right order, lists the modules of the
// API, serves, and stops everything in the reverse order.
//
// Order of the start: settings of the process, listener, a look at the database, folders, database, key, settings, accounts and sessions,
// realtime, providers, modules, router. Order of the stop: not ready any more, chat turns, listener and requests, sockets,
// modules, background work, database, telemetry.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/audit"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/factor"
	"github.com/galleychat/galley/core/auth/oauth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/backup"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/frontend"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/obs"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/redis"
	"github.com/galleychat/galley/core/replicas"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// App is a server with all its parts.
type App struct {
	Config   Config
	Env      *config.Env
	Obs      *obs.Obs
	Log      *slog.Logger
	DB       *store.DB
	Settings *config.Settings
	Events   *events.Bus
	Users    *users.Store
	Redis    *redis.Client // nil for none
	Access   *access.Access
	Sessions *session.Sessions
	Factors  *factor.Factors
	OAuth    *oauth.Service
	LLM      *llm.Registry
	Replicas *replicas.Node // nil for a process on its own
	Realtime *realtime.Server
	Plugins  *plugin.Manager // nil where ENABLE_PLUGINS is off
	Site     *frontend.Site
	Router   *web.Router
	// Filters take part in what models are asked; nil for none. They are to be known before openConversation.
	Filters filter.Set
	conversation
	telling

	clientTLS  *tls.Config // of requests to other servers; nil for the system's
	audit      *audit.Log  // nil for none
	ready      atomic.Bool
	parts      []any // what has a Start, Drain or Stop, in the order of the start
	background sync.WaitGroup
	life       context.Context // of background work
	cancel     context.CancelFunc
	closed     sync.Once
}

// Starter is a part with work to do before requests are served. ctx ends with the process.
type Starter interface {
	Start(ctx context.Context) error
}

// Runner is a part that works in the background until ctx ends.
type Runner interface{ Run(ctx context.Context) }

// Drainer is a part with work in flight that outlives the request that began it, such as chat turns: Drain takes no more
// of it and waits; when ctx ends, the rest is given up and stored as far as it has come.
type Drainer interface {
	Drain(ctx context.Context) error
}

// Stopper is a part that is to be ended before the database is closed.
type Stopper interface {
	Stop(ctx context.Context) error
}

// Open makes an App: when it returns, requests can be answered. Errors that come of bad settings are a [*SettingError].
func Open(ctx context.Context, c Config) (a *App, err error) {
	a = &App{Config: c, Env: c.Env, Filters: c.Filters}
	a.life, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close(context.Background()))
		}
	}()
	if err := a.openObs(); err != nil {
		return a, err
	}
	if err := backup.Unfinished(a.Env.DataDir); err != nil {
		return a, &SettingError{Err: fmt.Errorf("DATA_DIR: %w", err)}
	}
	if err := a.openStore(ctx); err != nil {
		return a, err
	}
	if err := a.openIdentity(ctx); err != nil {
		return a, err
	}
	if err := a.openLLM(); err != nil {
		return a, err
	}
	if err := a.openEvents(ctx); err != nil {
		return a, err
	}
	a.openPlugins()
	if err := a.openToolServers(); err != nil {
		return a, err
	}
	a.openConversation()
	if a.Site, err = frontend.New(frontend.Options{DataDir: a.Env.DataDir, BuildDir: a.Env.FrontendDir, StaticDir: a.Env.StaticDir}); err != nil {
		return a, err
	}
	if err := a.openRouter(); err != nil {
		return a, err
	}
	a.observeParts()
	if a.Plugins != nil {
		a.parts = append(a.parts, a.Plugins)
		a.openControl()
	}
	if err := a.start(); err != nil {
		return a, err
	}
	a.Events.Publish(ctx, events.Event{Name: "system.startup.completed", Source: "system"})
	return a, nil
}

func (a *App) openObs() (err error) {
	out := a.Config.Log
	if out == nil {
		out = os.Stderr
	}
	if a.Obs, err = obs.New(obs.Options{Config: a.Config.Obs, Output: out, Version: a.Config.Version, Revision: a.Config.Revision}); err != nil {
		return &SettingError{Err: err}
	}
	a.Log = a.Obs.Log
	if a.Config.EnvFile != "" {
		a.Log.Info("variables are from a file too", "file", a.Config.EnvFile)
	}
	return nil
}

// CheckDatabase says whether the database is one that can be served, or made. It is only read, and so is the data folder:
// whoever is refused finds all as it was.
func CheckDatabase(ctx context.Context, env *config.Env) error {
	if err := checkFolders(env); err != nil {
		return &SettingError{Err: err}
	}
	if err := refuseOllama(env); err != nil {
		return err
	}
	s, err := store.Inspect(ctx, env.Database.URL, storeOptions(env))
	switch {
	case err != nil:
		return databaseError(err)
	case s.Kind == store.Empty && !env.Database.Migrations:
		return errors.New("the database is empty, and ENABLE_DB_MIGRATIONS is false, so that no tables are made")
	}
	return s.Err()
}

// storeOptions are what the environment says of the database.
func storeOptions(env *config.Env) store.Options {
	db := env.Database
	return store.Options{
		PoolSize: db.PoolSize, PoolRecycle: db.PoolRecycle, BusyTimeout: db.BusyTimeout, Synchronous: db.Synchronous, PostgresSchema: db.Schema,
		NoWAL: db.NoWAL, CacheKiB: db.CacheSize,
	}
}

// databaseError tells bad settings from what fails.
func databaseError(err error) error {
	if strings.HasPrefix(err.Error(), "DATABASE_URL:") || strings.HasPrefix(err.Error(), "DATABASE_SCHEMA:") {
		return &SettingError{Err: err}
	}
	return fmt.Errorf("open database: %w", err)
}

func (a *App) openStore(ctx context.Context) error {
	if err := CheckDatabase(ctx, a.Env); err != nil {
		return err
	}
	if err := os.MkdirAll(a.Env.DataDir, 0o755); err != nil {
		return &SettingError{Err: fmt.Errorf("DATA_DIR: %w", err)}
	}
	o := storeOptions(a.Env)
	o.Hook = a.queryHook(a.Env.Database.URL)
	var err error
	if a.DB, err = store.Open(ctx, a.Env.Database.URL, o); err != nil {
		return databaseError(err)
	}
	if err := a.loadSecretKey(ctx); err != nil {
		return err
	}
	if a.Settings, err = config.Load(ctx, a.DB, a.Env, config.Options{Log: a.Log}); err != nil {
		if errors.As(err, new(*config.VarError)) {
			return &SettingError{Err: err}
		}
		return err
	}
	a.parts = append(a.parts, a.Settings)
	return a.tellWaiting(ctx)
}

func (a *App) openIdentity(ctx context.Context) (err error) {
	a.Events = events.NewBus(a.Env.InstanceID)
	a.Users = users.New(a.DB)
	a.Users.SetActiveInterval(a.Env.ActiveInterval)
	a.Access = access.New(a.DB, a.Settings)
	o := session.Options{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env}
	if a.Config.PasswordCost != 0 {
		o.Passwords = auth.NewPasswordsCost(a.Env.Password, a.Config.PasswordCost)
	}
	if a.Redis, err = redis.Open(a.Env.Redis, a.Log); err != nil {
		return &SettingError{Err: err}
	}
	if a.Redis != nil {
		a.parts = append(a.parts, a.Redis)
		o.Shared = a.Redis
		a.Log.Info("Redis is used for revoked tokens and rate limits")
	}
	if err := a.openReplicas(); err != nil {
		return err
	}
	a.Sessions = session.New(o)
	if a.audit, err = audit.Open(audit.Options{Env: a.Env.Audit, Door: a.Sessions, Stdout: os.Stdout, Log: a.Log}); err != nil {
		return &SettingError{Err: err}
	}
	if a.audit != nil {
		a.parts = append(a.parts, a.audit)
	}
	a.Factors = factor.New(factor.Options{Users: a.Users, Settings: a.Settings, Env: a.Env, Sessions: a.Sessions, Events: a.Events, Log: a.Log})
	a.Sessions.SetFactor(a.Factors)
	if err := a.Factors.Check(ctx); errors.Is(err, factor.ErrPolicy) {
		return &SettingError{Err: err}
	} else if err != nil {
		return err
	}
	if err := a.openOAuth(); err != nil {
		return err
	}
	ws := a.Env.WebSocket
	a.Realtime = realtime.New(realtime.Options{
		Authenticate: a.socketUser, Logger: a.Log, AllowOrigin: a.allowOrigin,
		AllowPolling: !ws.Enabled, NoWebSocket: !ws.Enabled,
		PingInterval: ws.PingInterval, PingTimeout: ws.PingTimeout, Replicas: a.Replicas,
	})
	a.Sessions.SetRealtime(a.Realtime)
	admin, err := a.Sessions.MakeAdmin(ctx)
	if err != nil {
		return fmt.Errorf("WEBUI_ADMIN_EMAIL: %w", err)
	}
	if admin != nil {
		a.Log.Info("administrator made", "email", admin.Email)
	}
	return nil
}

// socketUser resolves the token of a Socket.IO session.
func (a *App) socketUser(ctx context.Context, token string) (realtime.User, bool) {
	p, err := a.Sessions.ByToken(ctx, token)
	if err != nil || p == nil {
		return realtime.User{}, false
	}
	return realtime.User{ID: p.ID, Name: p.Name, Role: p.Role, Extra: p}, true
}

func (a *App) allowOrigin(origin string) bool {
	return slices.Contains(a.Env.CORSOrigins, "*") || slices.Contains(a.Env.CORSOrigins, origin)
}

func (a *App) openRouter() error {
	limit := a.Env.MaxBody
	if limit == 0 {
		limit = math.MaxInt64
	}
	var auditor web.Auditor // stays nil without a log
	if a.audit != nil {
		auditor = a.audit
	}
	a.Router = web.New(web.Options{
		Auth: a.Sessions, Logger: a.Log, Observe: a.observeRoute(), ObserveDynamic: a.observeDynamic(), Permit: a.permit, Fallback: shareLinks(a.pluginsOrSite()), MaxBody: limit,
		CORS: a.Env.CORSOrigins, Version: config.Version, Compress: a.Env.Compression, UploadDir: a.Env.UploadDir(),
		Headers: a.Env.Headers, Audit: auditor, Proxies: web.ParseProxies(a.Env.ForwardedAllow),
	})
	modules, err := a.modules()
	if err != nil {
		return err
	}
	for _, m := range modules {
		a.Router.Mount(m.prefix, m.module)
		a.parts = append(a.parts, m.module)
	}
	a.Router.Handle("GET /metrics", a.Obs.MetricsHandler())
	sockets := upgradesOnly(a.Realtime)
	a.Router.Handle("/ws/socket.io", sockets)
	a.Router.Handle("/ws/socket.io/", sockets)
	a.Router.Describe()
	a.Router.Finish()
	return nil
}

// start has the parts begin their work.
func (a *App) start() error {
	for _, p := range a.parts {
		if s, ok := p.(Starter); ok {
			if err := s.Start(a.life); err != nil {
				return err
			}
		}
		if r, ok := p.(Runner); ok {
			a.run(r)
		}
	}
	return nil
}

// run runs a part in the background until the App is closed.
func (a *App) run(r Runner) { a.background.Go(func() { r.Run(a.life) }) }

// Close ends all parts and the database. It is for an App that serves no requests any more. Later calls do nothing.
func (a *App) Close(ctx context.Context) (err error) {
	a.closed.Do(func() { err = a.close(ctx) })
	return err
}

func (a *App) close(ctx context.Context) error {
	var errs []error
	for _, p := range slices.Backward(a.parts) {
		if s, ok := p.(Stopper); ok {
			errs = append(errs, s.Stop(ctx))
		}
	}
	a.cancel()
	a.background.Wait()
	if a.Users != nil {
		errs = append(errs, a.Users.FlushActive(ctx))
	}
	if a.LLM != nil {
		a.LLM.Client().CloseIdle()
	}
	if a.DB != nil {
		errs = append(errs, a.DB.Close())
	}
	if a.Obs != nil {
		// Telemetry comes last and has a moment of its own, so that what the end of the process did is sent too.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		errs = append(errs, a.Obs.Shutdown(last))
	}
	return errors.Join(errs...)
}

// Handler answers requests.
func (a *App) Handler() http.Handler { return a.Router }
