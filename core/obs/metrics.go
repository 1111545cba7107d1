package obs

import (
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"fmt"
	"hash/crc32"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// DefaultMaxModels is the number of (provider, model) pairs that get series of
// their own; later models share the label "other".
const DefaultMaxModels = 100

// otherLabel replaces label values that would make too many series.
const otherLabel = "other"

// maxLabelLen bounds a label value in bytes.
const maxLabelLen = 128

// Metrics is Galley's Prometheus registry and the series in it. A nil *Metrics
// records nothing. All methods may be called from several goroutines.
type Metrics struct {
	reg *prometheus.Registry

	httpRequests  *prometheus.CounterVec
	httpDuration  *prometheus.HistogramVec
	httpInFlight  prometheus.Gauge
	requestBytes  *prometheus.CounterVec
	responseBytes *prometheus.CounterVec
	routeInfo     *prometheus.GaugeVec

	llm   llmVecs
	tools toolVecs

	turnsInFlight  prometheus.Gauge
	turns          prometheus.Counter
	webhooks       *prometheus.CounterVec
	sockets        atomic.Pointer[func() int]
	augment        atomic.Pointer[func([]*dto.MetricFamily) []*dto.MetricFamily]
	exportFailures *prometheus.CounterVec
}

// httpBuckets are in seconds; the upper ones are for streamed completions.
var httpBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// newMetrics makes the registry. version and revision label galley_build_info.
func newMetrics(maxModels int, version, revision string) *Metrics {
	m := &Metrics{reg: prometheus.NewRegistry()}
	route := []string{"route", "method"}
	m.httpRequests = counterVec("galley_http_requests_total",
		"HTTP requests answered, by route pattern, method and status code.", "route", "method", "status")
	m.httpDuration = histogramVec("galley_http_request_duration_seconds",
		"Time from the start of a request to the end of its response, streams included.", httpBuckets, route...)
	m.httpInFlight = gauge("galley_http_requests_in_flight", "HTTP requests being served.")
	m.requestBytes = counterVec("galley_http_request_bytes_total", "Bytes of HTTP request bodies read.", route...)
	m.responseBytes = counterVec("galley_http_response_bytes_total", "Bytes of HTTP response bodies written.", route...)
	m.routeInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "galley_http_route_info", Help: "Always 1, for each route that can go again; owner tells whose it is, a plugin's.",
	}, append(route, "owner"))
	m.turnsInFlight = gauge("galley_turns_in_flight", "Chat turns being worked on.")
	m.turns = prometheus.NewCounter(prometheus.CounterOpts{Name: "galley_turns_total", Help: "Chat turns started."})
	m.webhooks = counterVec("galley_webhook_messages_total",
		"Messages to webhooks of administrators and users, by what became of them (delivered, failed, dropped).", "outcome")
	for _, outcome := range []string{"delivered", "failed", "dropped"} {
		m.webhooks.WithLabelValues(outcome)
	}
	m.exportFailures = counterVec("galley_telemetry_export_failures_total",
		"Failed OTLP exports, by signal (traces, metrics).", "signal")
	for _, signal := range []string{signalTraces, signalMetrics} {
		m.exportFailures.WithLabelValues(signal)
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "galley_build_info", Help: "Always 1; the labels tell what is running.",
	}, []string{"version", "revision", "goversion"})
	build.WithLabelValues(label(version), label(revision), runtime.Version()).Set(1)
	sockets := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "galley_socket_connections", Help: "Socket.IO clients connected.",
	}, m.socketCount)

	m.reg.MustRegister(m.httpRequests, m.httpDuration, m.httpInFlight, m.requestBytes, m.responseBytes, m.routeInfo,
		m.turnsInFlight, m.turns, m.webhooks, m.exportFailures, build, sockets,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.llm.init(m.reg, maxModels)
	m.tools.init(m.reg)
	return m
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// label makes v fit to be a label value: client_golang panics on invalid
// UTF-8. It does not allocate for a value that fits already.
func label(v string) string {
	if len(v) > maxLabelLen {
		v = v[:maxLabelLen]
	}
	return strings.ToValidUTF8(v, "\uFFFD")
}

// Handler serves the registry in the Prometheus text format. With a token it
// answers 401 to whoever does not send it as "Authorization: Bearer <token>".
// On a nil Metrics it answers 404.
func (m *Metrics) Handler(token Secret) http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	scrape := promhttp.HandlerFor(prometheus.GathererFunc(m.gather), promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
	if token == "" {
		return scrape
	}
	want := sha256.Sum256([]byte("Bearer " + string(token)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		scrape.ServeHTTP(w, r)
	})
}

// Augment has f change what each scrape shows: metrics that come from elsewhere.
// It must be safe to call from any goroutine.
func (m *Metrics) Augment(f func([]*dto.MetricFamily) []*dto.MetricFamily) {
	if m != nil {
		m.augment.Store(&f)
	}
}

func (m *Metrics) gather() ([]*dto.MetricFamily, error) {
	families, err := m.reg.Gather()
	if f := m.augment.Load(); f != nil {
		families = (*f)(families)
	}
	return families, err
}

// Register adds a collector. Its metrics must not clash with any already there.
func (m *Metrics) Register(c prometheus.Collector) error {
	if m == nil {
		return nil
	}
	if err := m.reg.Register(c); err != nil {
		return fmt.Errorf("obs: register metric: %w", err)
	}
	return nil
}

// Unregister removes a collector and tells whether it was there.
func (m *Metrics) Unregister(c prometheus.Collector) bool {
	return m != nil && m.reg.Unregister(c)
}

// GaugeFunc adds a gauge without labels whose value f gives at each scrape. f
// must be quick and safe to call from any goroutine.
func (m *Metrics) GaugeFunc(name, help string, f func() float64) error {
	if m == nil {
		return nil
	}
	return m.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// DB adds the pool statistics of db (go_sql_open_connections,
// go_sql_wait_duration_seconds_total, ...) with the label db_name=pool.
func (m *Metrics) DB(pool string, db *sql.DB) error {
	return m.Register(collectors.NewDBStatsCollector(db, label(pool)))
}

// Sockets sets what galley_socket_connections shows: the number of Socket.IO
// clients connected to this process, asked for at each scrape.
func (m *Metrics) Sockets(count func() int) {
	if m != nil {
		m.sockets.Store(&count)
	}
}

func (m *Metrics) socketCount() float64 {
	if f := m.sockets.Load(); f != nil && *f != nil {
		return float64((*f)())
	}
	return 0
}

// TurnStarted counts a chat turn as begun; call TurnDone once when it ends.
func (m *Metrics) TurnStarted() {
	if m != nil {
		m.turns.Inc()
		m.turnsInFlight.Inc()
	}
}

// TurnDone counts a chat turn as ended, whatever the outcome.
func (m *Metrics) TurnDone() {
	if m != nil {
		m.turnsInFlight.Dec()
	}
}

// WebhookMessage counts a message to a webhook by what became of it: delivered,
// failed or dropped.
func (m *Metrics) WebhookMessage(outcome string) {
	if m != nil {
		m.webhooks.WithLabelValues(outcome).Inc()
	}
}

func (m *Metrics) exportFailed(signal string) {
	if m != nil {
		m.exportFailures.WithLabelValues(signal).Inc()
	}
}

// HTTPRoute holds the series of one route. A nil *HTTPRoute records nothing.
type HTTPRoute struct {
	m                    *Metrics
	route, method, owner string

	once     sync.Once // makes the three below
	duration prometheus.Observer
	in, out  prometheus.Counter
	statuses [len(commonStatuses)]atomic.Pointer[prometheus.Counter]

	mu   sync.Mutex // held where series are made and dropped
	gone bool       // no series are made any more
}

// HTTP returns the series of the route with this pattern, for instance
// "/api/v1/chats/{id}". Call it when the route is registered, not per request.
// The series come to life with the first request, so that unused routes add
// nothing to a scrape. An empty method stands for any and is shown as "ANY".
func (m *Metrics) HTTP(pattern, method string) *HTTPRoute {
	if m == nil {
		return nil
	}
	if method == "" {
		method = "ANY"
	}
	return &HTTPRoute{m: m, route: label(pattern), method: label(strings.ToUpper(method))}
}

// OwnedHTTP is HTTP for a route that can go again: that of a plugin. While it is
// there galley_http_route_info tells whose it is. Call Forget once when it goes.
func (m *Metrics) OwnedHTTP(owner, pattern, method string) *HTTPRoute {
	if len(pattern) > maxLabelLen {
		// cut off, it could be the label of another route
		pattern = fmt.Sprintf("%s~%08x", pattern[:maxLabelLen-9], crc32.ChecksumIEEE([]byte(pattern)))
	}
	r := m.HTTP(pattern, method)
	if r != nil {
		r.owner = label(owner)
		m.routeInfo.WithLabelValues(r.route, r.method, r.owner).Set(1)
	}
	return r
}

// Forget drops the series of a route. Requests on it that are still running are
// counted in no series when they end.
func (r *HTTPRoute) Forget() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	labels := prometheus.Labels{"route": r.route, "method": r.method}
	r.m.routeInfo.DeletePartialMatch(labels)
	r.m.httpRequests.DeletePartialMatch(labels)
	r.m.httpDuration.DeletePartialMatch(labels)
	r.m.requestBytes.DeletePartialMatch(labels)
	r.m.responseBytes.DeletePartialMatch(labels)
}

// Start counts a request as in flight; call Done once for it.
func (r *HTTPRoute) Start() {
	if r != nil {
		r.m.httpInFlight.Inc()
	}
}

// Done records a request: its status code, how long it took, and the bytes of
// body read and written (0 or less if unknown). It does not allocate once the
// route has answered with this status before.
func (r *HTTPRoute) Done(status int, took time.Duration, bytesIn, bytesOut int64) {
	if r == nil {
		return
	}
	r.m.httpInFlight.Dec()
	r.once.Do(r.resolve)
	requests := r.counter(status)
	if r.duration == nil || requests == nil {
		return
	}
	r.duration.Observe(took.Seconds())
	requests.Inc()
	if bytesIn > 0 {
		r.in.Add(float64(bytesIn))
	}
	if bytesOut > 0 {
		r.out.Add(float64(bytesOut))
	}
}

// resolve makes the series, unless the route has gone.
func (r *HTTPRoute) resolve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	r.duration = r.m.httpDuration.WithLabelValues(r.route, r.method)
	r.in = r.m.requestBytes.WithLabelValues(r.route, r.method)
	r.out = r.m.responseBytes.WithLabelValues(r.route, r.method)
}

// counter is the series of a status, nil if the route has gone and never answered with it.
func (r *HTTPRoute) counter(status int) prometheus.Counter {
	slot := statusSlot(status)
	if slot >= 0 {
		if c := r.statuses[slot].Load(); c != nil {
			return *c
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil
	}
	c := r.m.httpRequests.WithLabelValues(r.route, r.method, statusLabel(status))
	if slot >= 0 {
		r.statuses[slot].Store(&c)
	}
	return c
}

// commonStatuses are the codes whose counters a route keeps at hand.
var commonStatuses = [...]int{
	200, 201, 204, 206, 302, 304, 307, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 502, 503, 504,
}

var statusSlots = func() (t [600]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, code := range commonStatuses {
		t[code] = int8(i)
	}
	return t
}()

func statusSlot(status int) int {
	if status < 0 || status >= len(statusSlots) {
		return -1
	}
	return int(statusSlots[status])
}

// statusLabel bounds the label: a proxied upstream may invent codes.
func statusLabel(status int) string {
	if status < 100 || status > 599 {
		return otherLabel
	}
	return fmt.Sprint(status)
}
