package plugin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// metrics are the figures of all plugins, and a prometheus.Collector.
type metrics struct {
	m        *Manager
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	running  *prometheus.GaugeVec
	bytes    *prometheus.CounterVec
	restarts *prometheus.CounterVec
	dropped  *prometheus.CounterVec

	state, resident, cpu, processes, started *prometheus.Desc
}

var callBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

func newMetrics(m *Manager) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("galley_plugin_"+name, help, append([]string{"plugin"}, labels...), nil)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "galley_plugin_" + name, Help: help}, append([]string{"plugin"}, labels...))
	}
	return &metrics{
		m:     m,
		calls: counter("calls_total", "Calls of a plugin that have ended, by kind (http, chat, embed, tool, inlet, outlet, stream, host) and outcome (ok, refused, canceled, error).", "kind", "outcome"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "galley_plugin_call_duration_seconds",
			Help: "Time of a call from start to end, streams included.", Buckets: callBuckets}, []string{"plugin", "kind"}),
		running:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "galley_plugin_calls_in_flight", Help: "Calls that are running, streams and WebSockets among them."}, []string{"plugin", "kind"}),
		bytes:     counter("http_bytes_total", "Bytes of bodies of HTTP requests (in) and answers (out).", "direction"),
		restarts:  counter("restarts_total", "Processes that were started in place of one that failed."),
		dropped:   counter("metrics_dropped_total", "Series of a plugin's own that were left out of a scrape: too many, or at odds with others."),
		state:     desc("state", "1 for the state that a plugin is in.", "state"),
		resident:  desc("resident_memory_bytes", "Memory of a plugin's processes."),
		cpu:       desc("cpu_seconds_total", "CPU time of a plugin's current processes."),
		processes: desc("processes", "Processes of a plugin."),
		started:   desc("start_time_seconds", "Unix time when a plugin's current process was started."),
	}
}

// Metrics is a collector of the figures of all plugins.
func (m *Manager) Metrics() prometheus.Collector { return m.figures }

// vectors are those that know their own description.
func (x *metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{x.calls, x.duration, x.running, x.bytes, x.restarts, x.dropped}
}

// Describe implements prometheus.Collector.
func (x *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range x.vectors() {
		v.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{x.state, x.resident, x.cpu, x.processes, x.started} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (x *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range x.vectors() {
		v.Collect(ch)
	}
	seen := map[string]bool{}
	for _, u := range x.m.all() {
		u.mu.Lock()
		id, state, started := u.id, u.state, u.started
		u.mu.Unlock()
		if seen[id] { // refused, since its id is taken
			continue
		}
		seen[id] = true
		ch <- prometheus.MustNewConstMetric(x.state, prometheus.GaugeValue, 1, id, string(state))
		inst := u.current.Load()
		if inst == nil {
			continue
		}
		if s, ok := inst.stats(); ok {
			ch <- prometheus.MustNewConstMetric(x.resident, prometheus.GaugeValue, float64(s.MemoryBytes), id)
			ch <- prometheus.MustNewConstMetric(x.cpu, prometheus.CounterValue, s.CPU.Seconds(), id)
			ch <- prometheus.MustNewConstMetric(x.processes, prometheus.GaugeValue, float64(s.Processes), id)
		}
		ch <- prometheus.MustNewConstMetric(x.started, prometheus.GaugeValue, float64(started.UnixMilli())/1000, id)
	}
}

// forget drops the series of a plugin that is there no more.
func (x *metrics) forget(id string) {
	labels := prometheus.Labels{"plugin": id}
	x.calls.DeletePartialMatch(labels)
	x.duration.DeletePartialMatch(labels)
	x.running.DeletePartialMatch(labels)
	x.bytes.DeletePartialMatch(labels)
	x.restarts.DeletePartialMatch(labels)
	x.dropped.DeletePartialMatch(labels)
}

// series are the figures of one plugin.
type series struct {
	x  *metrics
	id string
}

func (m *Manager) seriesOf(id string) *series { return &series{m.figures, id} }

// call counts a call that begins; what it returns is called at its end, with its error.
func (s *series) call(kind string) func(error) {
	running := s.x.running.WithLabelValues(s.id, kind)
	running.Inc()
	start := time.Now()
	return func(err error) {
		running.Dec()
		s.x.duration.WithLabelValues(s.id, kind).Observe(time.Since(start).Seconds())
		s.x.calls.WithLabelValues(s.id, kind, outcome(err)).Inc()
	}
}

func outcome(err error) string {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return "ok"
	case refusalOf(err) != nil:
		return "refused"
	case errors.Is(err, context.Canceled), status.Code(err) == codes.Canceled:
		return "canceled"
	}
	return "error"
}

// Served counts an HTTP request that a plugin answered: its status, how long it took, and the bytes of both bodies (0 or
// less if unknown). owner is that of the route.
func (m *Manager) Served(owner string, code int, took time.Duration, in, out int64) {
	const prefix = "plugin:"
	if len(owner) <= len(prefix) {
		return
	}
	id := owner[len(prefix):]
	result := "ok"
	switch {
	case code >= 500:
		result = "error"
	case code >= 400:
		result = "refused"
	}
	x := m.figures
	x.calls.WithLabelValues(id, "http", result).Inc()
	x.duration.WithLabelValues(id, "http").Observe(took.Seconds())
	if in > 0 {
		x.bytes.WithLabelValues(id, "in").Add(float64(in))
	}
	if out > 0 {
		x.bytes.WithLabelValues(id, "out").Add(float64(out))
	}
}
