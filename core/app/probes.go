package app

import (
	"context"
	"net/http"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/web"
)

// pingTimeout bounds a probe's question to the database: orchestrators give up after about as long.
const pingTimeout = 5 * time.Second

// probes are the addresses that load balancers and orchestrators ask.
type probes struct{ app *App }

// alive is the answer of a probe.
type alive struct {
	Status bool `json:"status"`
}

// Name implements web.Module.
func (p *probes) Name() string { return "probes" }

// Routes implements web.Module.
func (p *probes) Routes(g *web.Group) {
	g.Add("GET /health", web.JSON(auth.Public, p.health))
	g.Add("GET /ready", web.JSON(auth.Public, p.ready))
	g.Add("GET /health/db", web.JSON(auth.Public, p.database))
}

func (p *probes) health(*web.Call, web.None) (alive, error) { return alive{true}, nil }

func (p *probes) ready(c *web.Call, _ web.None) (alive, error) {
	if !p.app.ready.Load() {
		return alive{}, web.Fail(http.StatusServiceUnavailable, "Startup not complete")
	}
	if err := p.ping(c.Context()); err != nil {
		return alive{}, web.Because(http.StatusServiceUnavailable, "Database not ready", err)
	}
	if r := p.app.Redis; r != nil {
		if err := r.Ping(c.Context()); err != nil {
			return alive{}, web.Because(http.StatusServiceUnavailable, "Redis not ready", err)
		}
	}
	return alive{true}, nil
}

func (p *probes) database(c *web.Call, _ web.None) (alive, error) {
	if err := p.ping(c.Context()); err != nil {
		return alive{}, err
	}
	return alive{true}, nil
}

func (p *probes) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return p.app.DB.Ping(ctx)
}
