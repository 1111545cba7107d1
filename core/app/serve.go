package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/galleychat/galley/core/events"
)

// Limits of the HTTP server. There is no write timeout: answers of models take as long as they take, and routes set
// deadlines of their own.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 1 << 20
)

// Run opens an App, serves until ctx ends, and stops it. It listens before it touches the database, so that a second
// process on the same port gets no further.
func Run(ctx context.Context, c Config) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(c.Env.Host, strconv.Itoa(c.Env.Port)))
	if err != nil {
		return err
	}
	a, err := Open(ctx, c)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	return a.Serve(ctx, ln)
}

// Serve answers requests that come by ln until ctx ends, then closes the App: turns and requests that are running have
// Config.Grace to come to their end.
func (a *App) Serve(ctx context.Context, ln net.Listener) error {
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	quieter := &releaser{log: a.Log}
	srv := &http.Server{
		Handler: quieter.count(a.Handler()), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	a.ready.Store(true)
	url := URL(ln.Addr())
	a.Log.Info("listening", "url", url, "version", a.Config.Version, "database", a.DB.Dialect().String())
	if a.Config.Ready != nil {
		a.Config.Ready(a, url)
	}
	a.run(quieter)
	a.run(upkeep{a})
	select {
	case err := <-served:
		a.ready.Store(false)
		return errors.Join(fmt.Errorf("serve: %w", err), a.Close(context.WithoutCancel(ctx)))
	case <-ctx.Done():
		return a.shutdown(srv, abort)
	}
}

// lastStep is kept of the grace for what follows the turns: their last events to browsers, and the requests in flight.
const lastStep = time.Second

// shutdown ends everything. While turns run out their browsers stay connected and may still read; only new turns are
// refused, and /ready says 503 so that a load balancer sends nobody any more.
func (a *App) shutdown(srv *http.Server, abort context.CancelFunc) error {
	a.ready.Store(false)
	a.Log.Info("stopping", "grace", a.Config.Grace)
	a.Events.Publish(context.Background(), events.Event{Name: "system.shutdown.started", Source: "system"})
	begin := time.Now()
	grace, cancel := context.WithTimeout(context.Background(), max(a.Config.Grace-lastStep, 0))
	defer cancel()
	for _, p := range a.parts {
		if d, ok := p.(Drainer); ok {
			if err := d.Drain(grace); err != nil {
				a.Log.Warn("work given up at the end of the grace period", "error", err)
			}
		}
	}
	deadline := begin.Add(a.Config.Grace)
	if least := time.Now().Add(lastStep); deadline.Before(least) {
		deadline = least
	}
	last, cancelLast := context.WithDeadline(context.Background(), deadline)
	defer cancelLast()
	closed := make(chan error, 1)
	go func() { closed <- srv.Shutdown(last) }()
	// Sockets are hijacked connections, which Shutdown does not see, or long polls, which it would wait for.
	if err := a.Realtime.Close(last); err != nil {
		a.Log.Debug("socket handlers cancelled", "error", err)
	}
	if err := <-closed; err != nil {
		a.Log.Warn("requests given up at the end of the grace period")
		abort()
		_ = srv.Close()
	}
	a.Events.Publish(context.Background(), events.Event{Name: "system.shutdown.completed", Source: "system"})
	if err := a.Sender.Drain(last); err != nil {
		a.Log.Warn("messages given up at the end of the grace period", "error", err)
	}
	err := a.Close(context.Background())
	a.Log.Info("stopped", "took", time.Since(begin).Round(time.Millisecond))
	return err
}

// URL is the address to open for a listener's: an unspecified host becomes the loopback's.
func URL(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "http://" + addr.String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
