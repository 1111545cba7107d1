package obs

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Log formats understood by [Config].LogFormat.
const (
	FormatText = "text" // key=value lines, the default
	FormatJSON = "json" // one JSON object a line, as the reference's LOG_FORMAT=json
)

// OTLP transports understood by [OTLP].Protocol.
const (
	ProtocolGRPC = "grpc" // the reference's default
	ProtocolHTTP = "http" // protobuf bodies over HTTP
)

// Span attribute conventions, a bit set; see [Config].Semconv.
const (
	SemconvLegacy = 1 << iota // http.method, http.route, db.statement: what the reference emits
	SemconvStable             // http.request.method, url.path, db.query.text
)

// Config says what is observed and where it goes. The zero value logs text at
// level INFO and has metrics and traces off; [ConfigFromEnv] fills it from the
// environment variables of the reference.
type Config struct {
	LogLevel  slog.Level // GLOBAL_LOG_LEVEL, default INFO
	LogFormat string     // LOG_FORMAT, FormatText or FormatJSON; "" means text

	// Metrics keeps a Prometheus registry (GALLEY_METRICS, default true: the
	// reference has no such variable, it pushes metrics only).
	Metrics bool
	// MetricsToken, if set, is the bearer token a scrape must present
	// (GALLEY_METRICS_TOKEN).
	MetricsToken Secret
	// MetricsMaxModels caps the number of (provider, model) label pairs
	// (GALLEY_METRICS_MAX_MODELS); 0 means DefaultMaxModels.
	MetricsMaxModels int

	Traces      OTLP // ENABLE_OTEL_TRACES
	MetricsPush OTLP // ENABLE_OTEL_METRICS
	// LogsRequested tells that ENABLE_OTEL_LOGS was set. Logs are written to
	// the process output only, so [New] logs a warning for it.
	LogsRequested bool
	// MetricsInterval is the pause between two pushes
	// (OTEL_METRICS_EXPORT_INTERVAL_MILLIS, default 10 s).
	MetricsInterval time.Duration

	ServiceName        string            // OTEL_SERVICE_NAME, default "open-webui"
	ResourceAttributes map[string]string // OTEL_RESOURCE_ATTRIBUTES, values percent-decoded
	// Sampler is one of the names OpenTelemetry defines for
	// OTEL_TRACES_SAMPLER, default "parentbased_always_on".
	Sampler string
	// SamplerRatio is the share of root traces kept by the ratio samplers, in
	// [0,1] (OTEL_TRACES_SAMPLER_ARG, default 1).
	SamplerRatio float64
	// Semconv chooses the names of span attributes, SemconvLegacy and/or
	// SemconvStable (OTEL_SEMCONV_STABILITY_OPT_IN: "http" and "database"
	// choose the stable names, "http/dup" and "database/dup" both). 0 means legacy.
	Semconv int
}

// OTLP names one signal's collector.
type OTLP struct {
	Enabled  bool
	Protocol string // ProtocolGRPC or ProtocolHTTP; "" means gRPC
	// Endpoint is a URL (scheme://host:port/path) or host:port. Over HTTP a
	// URL without a path gets the signal's default path (/v1/traces,
	// /v1/metrics), any other is used as it stands.
	Endpoint string
	// Insecure turns TLS off for gRPC unless the endpoint says https. As in
	// the reference an http:// endpoint alone does not, and OTLP over HTTP
	// looks at the scheme only.
	Insecure bool
	Username string // basic authentication, sent only if both parts are set
	Password Secret
}

// ConfigFromEnv reads a Config through lookup (os.LookupEnv in production).
// A variable set to the empty string counts as unset. The error is one line
// that names every variable with a bad value and what would be accepted; the
// Config returned with it is usable and has the default in those places.
func ConfigFromEnv(lookup func(string) (string, bool)) (Config, error) {
	e := &env{lookup: lookup}
	on := e.boolean("ENABLE_OTEL", false)
	c := Config{
		LogLevel:         e.level("GLOBAL_LOG_LEVEL"),
		LogFormat:        e.oneOf("LOG_FORMAT", FormatText, FormatText, FormatJSON),
		Metrics:          e.boolean("GALLEY_METRICS", true),
		MetricsToken:     Secret(e.str("GALLEY_METRICS_TOKEN", "")),
		MetricsMaxModels: e.positive("GALLEY_METRICS_MAX_MODELS", DefaultMaxModels),
		LogsRequested:    e.boolean("ENABLE_OTEL_LOGS", false) && on,
		MetricsInterval:  time.Duration(e.positive("OTEL_METRICS_EXPORT_INTERVAL_MILLIS", 10000)) * time.Millisecond,
		ServiceName:      e.str("OTEL_SERVICE_NAME", "open-webui"),
		Sampler: e.oneOf("OTEL_TRACES_SAMPLER", "parentbased_always_on", "parentbased_always_on", "parentbased_always_off",
			"parentbased_traceidratio", "always_on", "always_off", "traceidratio"),
		SamplerRatio:       e.ratio("OTEL_TRACES_SAMPLER_ARG", 1),
		Semconv:            semconvFrom(e.str("OTEL_SEMCONV_STABILITY_OPT_IN", "")),
		ResourceAttributes: e.pairs("OTEL_RESOURCE_ATTRIBUTES"),
	}
	c.Traces = OTLP{
		Enabled:  e.boolean("ENABLE_OTEL_TRACES", false) && on,
		Protocol: e.oneOf("OTEL_OTLP_SPAN_EXPORTER", ProtocolGRPC, ProtocolGRPC, ProtocolHTTP),
		Endpoint: e.endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317"),
		Insecure: e.boolean("OTEL_EXPORTER_OTLP_INSECURE", false),
		Username: e.str("OTEL_BASIC_AUTH_USERNAME", ""),
		Password: Secret(e.str("OTEL_BASIC_AUTH_PASSWORD", "")),
	}
	c.MetricsPush = OTLP{
		Enabled:  e.boolean("ENABLE_OTEL_METRICS", false) && on,
		Protocol: e.oneOf("OTEL_METRICS_OTLP_SPAN_EXPORTER", c.Traces.Protocol, ProtocolGRPC, ProtocolHTTP),
		Endpoint: e.endpoint("OTEL_METRICS_EXPORTER_OTLP_ENDPOINT", c.Traces.Endpoint),
		Insecure: e.boolean("OTEL_METRICS_EXPORTER_OTLP_INSECURE", c.Traces.Insecure),
		Username: e.str("OTEL_METRICS_BASIC_AUTH_USERNAME", c.Traces.Username),
		Password: Secret(e.str("OTEL_METRICS_BASIC_AUTH_PASSWORD", string(c.Traces.Password))),
	}
	if len(e.bad) > 0 {
		return c, errors.New("environment: " + strings.Join(e.bad, "; "))
	}
	return c, nil
}

// env reads typed variables and collects what it could not read.
type env struct {
	lookup func(string) (string, bool)
	bad    []string
}

func (e *env) str(key, def string) string {
	v, _ := e.lookup(key)
	return cmp.Or(strings.TrimSpace(v), def)
}

func (e *env) fail(key, value, want string) {
	e.bad = append(e.bad, fmt.Sprintf("%s=%q: want %s", key, value, want))
}

// boolean takes only "true" for true, as the reference does; the spellings
// that plainly mean false are allowed, while "1" and "yes" (false there) are
// refused because whoever wrote them expects the opposite.
func (e *env) boolean(key string, def bool) bool {
	v := e.str(key, "")
	switch strings.ToLower(v) {
	case "":
		return def
	case "true":
		return true
	case "false", "0", "no", "off":
		return false
	}
	e.fail(key, v, "true or false")
	return def
}

func (e *env) oneOf(key, def string, allowed ...string) string {
	v := e.str(key, def)
	for _, a := range allowed {
		if strings.EqualFold(v, a) {
			return a
		}
	}
	e.fail(key, v, "one of "+strings.Join(allowed, ", "))
	return def
}

func (e *env) positive(key string, def int) int {
	v := e.str(key, "")
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		e.fail(key, v, "a whole number above 0")
		return def
	}
	return n
}

func (e *env) ratio(key string, def float64) float64 {
	v := e.str(key, "")
	if v == "" {
		return def
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0 && f <= 1) { // the negation also refuses NaN
		e.fail(key, v, "a number from 0 to 1")
		return def
	}
	return f
}

// level knows the names of Python's logging module, which the variable has
// always taken.
func (e *env) level(key string) slog.Level {
	v := e.str(key, "INFO")
	switch strings.ToUpper(v) {
	case "NOTSET", "DEBUG":
		return slog.LevelDebug
	case "INFO":
		return slog.LevelInfo
	case "WARN", "WARNING":
		return slog.LevelWarn
	case "ERROR":
		return slog.LevelError
	case "CRITICAL", "FATAL":
		return LevelFatal
	}
	e.fail(key, v, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
	return slog.LevelInfo
}

// endpoint checks the form only. The message leaves the value out if it may
// carry credentials.
func (e *env) endpoint(key, def string) string {
	v := e.str(key, def)
	if _, _, err := splitEndpoint(v); err != nil {
		e.fail(key, Redact(v), "an http(s) URL or host:port")
		return def
	}
	return v
}

// pairs reads "k1=v1,k2=v2" with percent-encoded values.
func (e *env) pairs(key string) map[string]string {
	v := e.str(key, "")
	if v == "" {
		return nil
	}
	out := map[string]string{}
	for item := range strings.SplitSeq(v, ",") {
		k, val, ok := strings.Cut(item, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			if strings.TrimSpace(item) != "" {
				e.fail(key, item, "key=value pairs separated by commas")
			}
			continue
		}
		val = strings.TrimSpace(val)
		if dec, err := url.PathUnescape(val); err == nil {
			val = dec
		}
		out[k] = val
	}
	return out
}

func semconvFrom(v string) int {
	set := 0
	for item := range strings.SplitSeq(v, ",") {
		switch strings.TrimSpace(item) {
		case "http", "database":
			set |= SemconvStable
		case "http/dup", "database/dup":
			set |= SemconvStable | SemconvLegacy
		}
	}
	return cmp.Or(set, SemconvLegacy)
}

// splitEndpoint takes an endpoint apart. scheme is "" for plain host:port.
func splitEndpoint(v string) (scheme string, u *url.URL, err error) {
	if !strings.Contains(v, "://") {
		u = &url.URL{Host: v}
		if v == "" || strings.ContainsAny(v, "/ @") {
			return "", nil, errors.New("obs: malformed endpoint")
		}
		return "", u, nil
	}
	u, err = url.Parse(v)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", nil, errors.New("obs: malformed endpoint")
	}
	return u.Scheme, u, nil
}
