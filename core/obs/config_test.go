package obs

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func envOf(kv map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := kv[k]; return v, ok }
}

func TestConfigDefaults(t *testing.T) {
	c, err := ConfigFromEnv(envOf(map[string]string{"OTEL_SERVICE_NAME": "", "GLOBAL_LOG_LEVEL": ""}))
	if err != nil {
		t.Fatal(err)
	}
	if c.LogLevel != slog.LevelInfo || c.LogFormat != FormatText || !c.Metrics || c.MetricsMaxModels != DefaultMaxModels {
		t.Errorf("logs and metrics: %+v", c)
	}
	want := OTLP{Protocol: ProtocolGRPC, Endpoint: "http://localhost:4317"}
	if c.Traces != want || c.MetricsPush != want {
		t.Errorf("OTLP: %+v, %+v", c.Traces, c.MetricsPush)
	}
	if c.ServiceName != "open-webui" || c.Sampler != "parentbased_always_on" || c.SamplerRatio != 1 ||
		c.MetricsInterval != 10*time.Second || c.Semconv != SemconvLegacy {
		t.Errorf("otel: %+v", c)
	}
}

func TestConfigFromEnv(t *testing.T) {
	c, err := ConfigFromEnv(envOf(map[string]string{
		"GLOBAL_LOG_LEVEL": "warning", "LOG_FORMAT": "JSON",
		"ENABLE_OTEL": "True", "ENABLE_OTEL_TRACES": "true", "ENABLE_OTEL_METRICS": "TRUE", "ENABLE_OTEL_LOGS": "true",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://col:4318", "OTEL_OTLP_SPAN_EXPORTER": "HTTP",
		"OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_METRICS_EXPORTER_OTLP_INSECURE": "false",
		"OTEL_BASIC_AUTH_USERNAME": "u", "OTEL_BASIC_AUTH_PASSWORD": "p", "OTEL_METRICS_BASIC_AUTH_PASSWORD": "q",
		"OTEL_METRICS_OTLP_SPAN_EXPORTER": "grpc", "OTEL_METRICS_EXPORTER_OTLP_ENDPOINT": "m:1",
		"OTEL_RESOURCE_ATTRIBUTES": "a=1, b = x%20y,", "OTEL_TRACES_SAMPLER": "TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.25",
		"OTEL_METRICS_EXPORT_INTERVAL_MILLIS": "250", "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.LogLevel != slog.LevelWarn || c.LogFormat != FormatJSON || !c.LogsRequested {
		t.Errorf("logs: %+v", c)
	}
	if want := (OTLP{true, ProtocolHTTP, "https://col:4318", true, "u", "p"}); c.Traces != want {
		t.Errorf("traces: %+v", c.Traces)
	}
	if want := (OTLP{true, ProtocolGRPC, "m:1", false, "u", "q"}); c.MetricsPush != want {
		t.Errorf("push: %+v", c.MetricsPush)
	}
	if c.ResourceAttributes["a"] != "1" || c.ResourceAttributes["b"] != "x y" || len(c.ResourceAttributes) != 2 {
		t.Errorf("resource: %v", c.ResourceAttributes)
	}
	if c.Sampler != "traceidratio" || c.SamplerRatio != .25 || c.MetricsInterval != 250*time.Millisecond ||
		c.Semconv != SemconvLegacy|SemconvStable {
		t.Errorf("otel: %+v", c)
	}
}

func TestConfigMasterSwitch(t *testing.T) {
	c, err := ConfigFromEnv(envOf(map[string]string{"ENABLE_OTEL_TRACES": "true", "ENABLE_OTEL_METRICS": "true", "ENABLE_OTEL": "0"}))
	if err != nil || c.Traces.Enabled || c.MetricsPush.Enabled {
		t.Errorf("without ENABLE_OTEL: %+v, %v", c, err)
	}
}

func TestConfigErrors(t *testing.T) {
	for key, bad := range map[string]string{
		"GLOBAL_LOG_LEVEL": "loud", "LOG_FORMAT": "xml", "ENABLE_OTEL": "1", "OTEL_TRACES_SAMPLER": "some",
		"OTEL_TRACES_SAMPLER_ARG": "NaN", "OTEL_OTLP_SPAN_EXPORTER": "kafka", "OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x",
		"OTEL_METRICS_EXPORT_INTERVAL_MILLIS": "0", "OTEL_RESOURCE_ATTRIBUTES": "novalue", "GALLEY_METRICS_MAX_MODELS": "many",
	} {
		_, err := ConfigFromEnv(envOf(map[string]string{key: bad}))
		if err == nil || !strings.Contains(err.Error(), key+"=") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%s: %v", key, bad, err)
		}
	}
	c, err := ConfigFromEnv(envOf(map[string]string{"ENABLE_OTEL": "yes", "GLOBAL_LOG_LEVEL": "loud"}))
	if err == nil || strings.Count(err.Error(), "want") != 2 || strings.Contains(err.Error(), "\n") {
		t.Errorf("two faults in one line: %v", err)
	}
	if c.LogLevel != slog.LevelInfo || c.ServiceName != "open-webui" {
		t.Errorf("config beside the error is not usable: %+v", c)
	}
	_, err = ConfigFromEnv(envOf(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://user:hunter2@x"}))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestTarget(t *testing.T) {
	for _, tc := range []struct {
		c    OTLP
		want string
	}{
		{OTLP{Protocol: ProtocolGRPC, Endpoint: "http://h:4317"}, "https://h:4317"},
		{OTLP{Protocol: ProtocolGRPC, Endpoint: "http://h:4317", Insecure: true}, "http://h:4317"},
		{OTLP{Protocol: ProtocolGRPC, Endpoint: "https://h:4317", Insecure: true}, "https://h:4317"},
		{OTLP{Protocol: ProtocolGRPC, Endpoint: "h:4317", Insecure: true}, "http://h:4317"},
		{OTLP{Protocol: ProtocolHTTP, Endpoint: "http://h:4318"}, "http://h:4318/v1/traces"},
		{OTLP{Protocol: ProtocolHTTP, Endpoint: "https://h/", Insecure: true}, "https://h/v1/traces"},
		{OTLP{Protocol: ProtocolHTTP, Endpoint: "http://h/otlp/x"}, "http://h/otlp/x"},
		{OTLP{Protocol: ProtocolHTTP, Endpoint: "h:1", Insecure: true}, "http://h:1/v1/traces"},
	} {
		if got, err := tc.c.target("/v1/traces"); got != tc.want || err != nil {
			t.Errorf("%+v: got %s, %v; want %s", tc.c, got, err, tc.want)
		}
	}
}
