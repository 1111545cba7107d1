package obs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxProviders bounds the label provider: one per connection or plugin.
const maxProviders = 32

// llmVecs are the metrics of calls to model providers.
type llmVecs struct {
	requests, errors, tokens  *prometheus.CounterVec
	duration, firstToken, tps *prometheus.HistogramVec
	inFlight                  prometheus.Gauge
	again                     *prometheus.CounterVec
	circuit                   *prometheus.GaugeVec

	max       int
	mu        sync.RWMutex
	series    map[llmKey]*LLMSeries
	models    int             // entries of series that are not "other"
	providers map[string]bool // provider labels in use
}

type llmKey struct{ provider, model string }

func (v *llmVecs) init(reg *prometheus.Registry, maxModels int) {
	if maxModels <= 0 {
		maxModels = DefaultMaxModels
	}
	v.max, v.series, v.providers = maxModels, map[llmKey]*LLMSeries{}, map[string]bool{}
	by := []string{"provider", "model"}
	v.requests = counterVec("galley_llm_requests_total", "Calls to model providers.", by...)
	v.errors = counterVec("galley_llm_errors_total",
		"Calls to model providers that failed, by reason (error, timeout, canceled).", "provider", "model", "reason")
	v.tokens = counterVec("galley_llm_tokens_total",
		"Tokens as the providers report them, by kind (prompt, completion).", "provider", "model", "kind")
	v.duration = histogramVec("galley_llm_request_duration_seconds", "Time from a call to the end of its answer.",
		[]float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}, by...)
	v.firstToken = histogramVec("galley_llm_time_to_first_token_seconds", "Time from a call to its first token.",
		[]float64{.05, .1, .25, .5, .75, 1, 1.5, 2.5, 5, 10, 20, 30, 60}, by...)
	v.tps = histogramVec("galley_llm_tokens_per_second",
		"Completion tokens divided by the time from the first to the last of them.",
		[]float64{1, 2.5, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 250, 500, 1000}, by...)
	v.inFlight = gauge("galley_llm_requests_in_flight", "Calls to model providers not yet ended.")
	v.again = counterVec("galley_llm_requests_again_total",
		"Calls to model providers that failed before their answer began and were sent again, by how: to the same provider (retry) or another (failover).", "provider", "how")
	v.circuit = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "galley_llm_circuit_open", Help: "1 while a model provider that could not be reached is not asked."}, []string{"provider"})
	reg.MustRegister(v.again, v.circuit, v.requests, v.errors, v.tokens, v.duration, v.firstToken, v.tps, v.inFlight)
}

// LLMSeries holds the series of one model at one provider. A nil *LLMSeries
// records nothing.
type LLMSeries struct {
	v                            *llmVecs
	requests, prompt, completion prometheus.Counter
	failed, timedOut, canceled   prometheus.Counter
	duration, firstToken, perSec prometheus.Observer
}

// LLM returns the series of a model at a provider, for instance
// ("openai", "gpt-5"). At most [Config].MetricsMaxModels pairs get series of
// their own, the rest are recorded under model "other". Pass only models that
// exist: names made up by clients would use the room up.
func (m *Metrics) LLM(provider, model string) *LLMSeries {
	if m == nil {
		return nil
	}
	v := &m.llm
	key := llmKey{label(provider), label(model)}
	v.mu.RLock()
	s := v.series[key]
	full := v.models >= v.max
	if s == nil && full { // the common case once the cap is reached
		s = v.series[llmKey{key.provider, otherLabel}]
	}
	v.mu.RUnlock()
	if s != nil {
		return s
	}
	return v.add(key)
}

func (v *llmVecs) add(key llmKey) *LLMSeries {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.providers[key.provider] {
		if len(v.providers) >= maxProviders {
			key = llmKey{otherLabel, otherLabel}
		} else {
			v.providers[key.provider] = true
		}
	}
	if v.series[key] == nil && v.models >= v.max {
		key.model = otherLabel
	}
	if s := v.series[key]; s != nil {
		return s
	}
	if key.model != otherLabel {
		v.models++
	}
	s := v.resolve(key.provider, key.model)
	v.series[key] = s
	return s
}

func (v *llmVecs) resolve(p, m string) *LLMSeries {
	return &LLMSeries{
		v:          v,
		requests:   v.requests.WithLabelValues(p, m),
		prompt:     v.tokens.WithLabelValues(p, m, "prompt"),
		completion: v.tokens.WithLabelValues(p, m, "completion"),
		failed:     v.errors.WithLabelValues(p, m, "error"),
		timedOut:   v.errors.WithLabelValues(p, m, "timeout"),
		canceled:   v.errors.WithLabelValues(p, m, "canceled"),
		duration:   v.duration.WithLabelValues(p, m),
		firstToken: v.firstToken.WithLabelValues(p, m),
		perSec:     v.tps.WithLabelValues(p, m),
	}
}

// LLMAgain counts a call that is sent once more, to a provider; how is "retry" or "failover".
func (m *Metrics) LLMAgain(provider, how string) {
	if m != nil {
		m.llm.again.WithLabelValues(m.llm.provider(provider), how).Inc()
	}
}

// LLMCircuit says whether a provider is not asked for a while.
func (m *Metrics) LLMCircuit(provider string, open bool) {
	if m == nil {
		return
	}
	value := 0.0
	if open {
		value = 1
	}
	m.llm.circuit.WithLabelValues(m.llm.provider(provider)).Set(value)
}

// provider is the label of a provider, "other" once too many have one.
func (v *llmVecs) provider(id string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	id = label(id)
	if !v.providers[id] {
		if len(v.providers) >= maxProviders {
			return otherLabel
		}
		v.providers[id] = true
	}
	return id
}

// LLMCall times one call to a provider. It belongs to one goroutine; the zero
// value records nothing.
type LLMCall struct {
	s            *LLMSeries
	start, first time.Time
}

// Start counts a call and starts its clock. End it with [LLMCall.Done].
func (s *LLMSeries) Start() LLMCall {
	if s == nil {
		return LLMCall{}
	}
	s.requests.Inc()
	s.v.inFlight.Inc()
	return LLMCall{s: s, start: time.Now()}
}

// FirstToken marks the arrival of the first token; later calls do nothing, so
// it may be called for every chunk that carries text.
func (c *LLMCall) FirstToken() {
	if c.s == nil || !c.first.IsZero() {
		return
	}
	c.first = time.Now()
	c.s.firstToken.Observe(c.first.Sub(c.start).Seconds())
}

// Done ends the call. prompt and completion are the provider's token counts, 0
// if it gave none. An err that is context.Canceled counts as "canceled", a
// deadline as "timeout", all others as "error". Later calls do nothing.
func (c *LLMCall) Done(prompt, completion int, err error) {
	s := c.s
	if s == nil {
		return
	}
	c.s = nil
	now := time.Now()
	s.v.inFlight.Dec()
	s.duration.Observe(now.Sub(c.start).Seconds())
	if prompt > 0 {
		s.prompt.Add(float64(prompt))
	}
	if completion > 0 {
		s.completion.Add(float64(completion))
		// Under two tokens there is no span of time to divide by.
		if d := now.Sub(c.first); completion > 1 && !c.first.IsZero() && d > 0 {
			s.perSec.Observe(float64(completion) / d.Seconds())
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		s.canceled.Inc()
	case errors.Is(err, context.DeadlineExceeded):
		s.timedOut.Inc()
	default:
		s.failed.Inc()
	}
}
