package app

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/galleychat/galley/core/audit"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/obs"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// observeParts adds what the parts can tell of themselves to the metrics.
func (a *App) observeParts() {
	m := a.Obs.Metrics
	if m == nil {
		return
	}
	for name, pool := range a.DB.Pools() {
		if err := m.DB(name, pool); err != nil {
			a.Log.Warn("no metrics of a database pool", "pool", name, "error", err)
		}
	}
	m.Sockets(a.Realtime.Count)
	if a.Plugins != nil {
		if err := m.Register(a.Plugins.Metrics()); err != nil {
			a.Log.Warn("no metrics of plugins", "error", err)
		}
		m.Augment(a.Plugins.Scrape)
	}
}

// queryHook traces queries; nil, which costs nothing, while traces are off.
func (a *App) queryHook(url string) store.Hook {
	t := a.Obs.Tracer
	if t == nil {
		return nil
	}
	system := "postgresql"
	if strings.HasPrefix(url, "sqlite") {
		system = "sqlite"
	}
	return func(ctx context.Context, text string) (context.Context, func(error)) {
		ctx, span := t.Query(ctx, system, text)
		return ctx, func(err error) {
			span.Fail(err)
			span.End()
		}
	}
}

// observeRoute gives each route its series and spans; nil while both are off.
func (a *App) observeRoute() func(method, pattern string) web.Observer {
	if a.Obs.Metrics == nil && a.Obs.Tracer == nil {
		return nil
	}
	return func(method, pattern string) web.Observer {
		return &routeObserver{series: a.Obs.Metrics.HTTP(pattern, method), tracer: a.Obs.Tracer, name: method + " " + pattern}
	}
}

// observeDynamic is observeRoute for the routes of plugins.
func (a *App) observeDynamic() func(owner, method, pattern string) web.Observer {
	if a.Obs.Metrics == nil && a.Obs.Tracer == nil {
		return nil
	}
	return func(owner, method, pattern string) web.Observer {
		return &routeObserver{series: a.Obs.Metrics.OwnedHTTP(owner, pattern, method), tracer: a.Obs.Tracer, name: pattern, owner: owner, plugins: a.Plugins}
	}
}

type routeObserver struct {
	series  *obs.HTTPRoute
	tracer  *obs.Tracer
	name    string
	owner   string // of a route that can go again
	plugins *plugin.Manager
}

// Forget implements web.Forgetter.
func (o *routeObserver) Forget() { o.series.Forget() }

// permit says whether a caller has a permission that a route of a plugin asks for.
func (a *App) permit(ctx context.Context, p *auth.Principal, permission string) (bool, error) {
	return a.Access.HasOrAdmin(ctx, p.User, permission)
}

// Begin implements web.Observer.
func (o *routeObserver) Begin(r *http.Request) (context.Context, func(status int, written int64)) {
	ctx, span := o.tracer.Server(r, o.name)
	if o.owner != "" {
		span.SetString("galley.route.owner", o.owner)
	}
	o.series.Start()
	begin, in := time.Now(), r.ContentLength
	return ctx, func(status int, written int64) {
		took := time.Since(begin)
		o.series.Done(status, took, in, written)
		if o.plugins != nil {
			o.plugins.Served(o.owner, status, took, in, written)
		}
		span.Status(status)
		span.End()
	}
}

// llmObserver records calls to providers, and what they used in the audit log.
type llmObserver struct {
	metrics *obs.Metrics // may be nil
	audit   *audit.Log   // may be nil
}

// Request implements llm.Observer.
func (o llmObserver) Request(ctx context.Context, provider, model string) llm.Call {
	return &llmCall{LLMCall: o.metrics.LLM(provider, model).Start(), audit: o.audit, ctx: ctx, model: model}
}

type llmCall struct {
	obs.LLMCall
	audit *audit.Log
	ctx   context.Context // says which request the call is for
	model string
}

// Again implements llm.Observer.
func (o llmObserver) Again(provider, how string) { o.metrics.LLMAgain(provider, how) }

// Circuit implements llm.Observer.
func (o llmObserver) Circuit(provider string, open bool) { o.metrics.LLMCircuit(provider, open) }

// Done implements llm.Call.
func (c *llmCall) Done(t llm.Tokens, err error) {
	c.LLMCall.Done(t.Prompt, t.Completion, err)
	if c.audit != nil {
		c.audit.Usage(c.ctx, c.model, t.Prompt, t.Completion)
	}
}

// TurnStarted counts a chat turn; call what it returns at its end. It is what the turn engine is told to call.
func (a *App) TurnStarted() (done func()) {
	a.Obs.Metrics.TurnStarted()
	return a.Obs.Metrics.TurnDone
}
