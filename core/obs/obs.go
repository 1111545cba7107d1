package obs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
)

// Options are the arguments of [New].
type Options struct {
	Config   Config
	Output   io.Writer // where log lines go; nil means os.Stdout
	Version  string    // release, shown by galley_build_info and service.version
	Revision string    // commit, shown by galley_build_info
}

// Obs is the observability of one process. Metrics and Tracer are nil when off.
type Obs struct {
	Log     *slog.Logger
	Level   *slog.LevelVar // changes the level of Log at run time
	Metrics *Metrics
	Tracer  *Tracer

	scrape http.Handler

	once sync.Once
	stop []func(context.Context) error
	err  error
}

// New builds loggers, metrics and tracing as o.Config says. It makes no
// network connection: a collector that cannot be reached shows up later as log
// lines and in galley_telemetry_export_failures_total.
func New(o Options) (*Obs, error) {
	c := o.Config
	level := new(slog.LevelVar)
	level.Set(c.LogLevel)
	if o.Output == nil {
		o.Output = os.Stdout
	}
	ob := &Obs{Level: level, Log: NewLogger(o.Output, c.LogFormat, level)}
	if c.Metrics || c.MetricsPush.Enabled {
		ob.Metrics = newMetrics(c.MetricsMaxModels, cmp.Or(o.Version, "unknown"), cmp.Or(o.Revision, "unknown"))
	}
	if err := ob.startTraces(c, o.Version); err != nil {
		return nil, err
	}
	if err := ob.startPush(c, o.Version); err != nil {
		return nil, errors.Join(err, ob.Shutdown(context.Background()))
	}
	ob.scrape = http.NotFoundHandler()
	if c.Metrics {
		ob.scrape = ob.Metrics.Handler(c.MetricsToken)
	}
	if c.LogsRequested {
		ob.Log.Warn("ENABLE_OTEL_LOGS has no effect: logs are written to the process output only")
	}
	return ob, nil
}

// MetricsHandler serves the metrics to Prometheus, under the configured token
// if there is one. It answers 404 when Config.Metrics is false, also if metrics
// are pushed.
func (o *Obs) MetricsHandler() http.Handler { return o.scrape }

// Shutdown sends what is still queued to the collectors and frees their
// connections, waiting no longer than ctx allows. Loggers and metrics may be
// used afterwards, spans are dropped. Later calls return the first result.
func (o *Obs) Shutdown(ctx context.Context) error {
	if o == nil {
		return nil
	}
	o.once.Do(func() {
		var errs []error
		for _, f := range o.stop {
			errs = append(errs, f(ctx))
		}
		o.err = errors.Join(errs...)
	})
	return o.err
}
