package obs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// toolVecs are the series of tool servers. There is a handful of those: an administrator lists them.
type toolVecs struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func (v *toolVecs) init(reg *prometheus.Registry) {
	v.calls = counterVec("galley_tool_server_calls_total", "Calls of tools on tool servers, by server and outcome (ok, failed).", "server", "outcome")
	v.duration = histogramVec("galley_tool_server_call_duration_seconds", "Time that a call of a tool on a tool server took.", httpBuckets, "server")
	reg.MustRegister(v.calls, v.duration)
}

// ToolCall records a call of a tool on a tool server.
func (m *Metrics) ToolCall(server string, failed bool, took time.Duration) {
	if m == nil {
		return
	}
	outcome := "ok"
	if failed {
		outcome = "failed"
	}
	server = label(server)
	m.tools.calls.WithLabelValues(server, outcome).Inc()
	m.tools.duration.WithLabelValues(server).Observe(took.Seconds())
}
