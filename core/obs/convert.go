package obs

import (
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/sdk/resource"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
)

// converter turns gathered Prometheus families into OTLP, names unchanged and
// sums cumulative since start.
type converter struct {
	resource *resourcepb.Resource
	start    uint64 // nanoseconds since the epoch
}

func newConverter(res *resource.Resource, start time.Time) *converter {
	out := &resourcepb.Resource{}
	for _, kv := range res.Attributes() {
		out.Attributes = append(out.Attributes, stringAttr(string(kv.Key), kv.Value.String()))
	}
	return &converter{resource: out, start: uint64(start.UnixNano())}
}

func stringAttr(k, v string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: k, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}}
}

func (c *converter) request(families []*dto.MetricFamily, now time.Time) *colmetrics.ExportMetricsServiceRequest {
	at := uint64(now.UnixNano())
	metrics := make([]*metricspb.Metric, 0, len(families))
	for _, f := range families {
		m := &metricspb.Metric{Name: f.GetName(), Description: f.GetHelp()}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			m.Data = &metricspb.Metric_Sum{Sum: &metricspb.Sum{
				DataPoints:             c.numbers(f, at),
				IsMonotonic:            true,
				AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE,
			}}
		case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
			m.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: c.numbers(f, at)}}
		case dto.MetricType_HISTOGRAM:
			m.Data = &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{
				DataPoints:             c.histograms(f, at),
				AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE,
			}}
		case dto.MetricType_SUMMARY:
			m.Data = &metricspb.Metric_Summary{Summary: &metricspb.Summary{DataPoints: c.summaries(f, at)}}
		default:
			continue
		}
		metrics = append(metrics, m)
	}
	return &colmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{
		Resource: c.resource,
		ScopeMetrics: []*metricspb.ScopeMetrics{{
			Scope: &commonpb.InstrumentationScope{Name: scopeName}, Metrics: metrics,
		}},
	}}}
}

func labels(m *dto.Metric) []*commonpb.KeyValue {
	out := make([]*commonpb.KeyValue, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		out = append(out, stringAttr(l.GetName(), l.GetValue()))
	}
	return out
}

func (c *converter) numbers(f *dto.MetricFamily, at uint64) []*metricspb.NumberDataPoint {
	out := make([]*metricspb.NumberDataPoint, 0, len(f.GetMetric()))
	for _, m := range f.GetMetric() {
		// Only one of the three is set; the others read as 0.
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		out = append(out, &metricspb.NumberDataPoint{
			Attributes: labels(m), StartTimeUnixNano: c.start, TimeUnixNano: at,
			Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: v},
		})
	}
	return out
}

// histograms undoes Prometheus's accumulation: OTLP buckets count only
// themselves and have one more entry, for values above the last bound.
func (c *converter) histograms(f *dto.MetricFamily, at uint64) []*metricspb.HistogramDataPoint {
	out := make([]*metricspb.HistogramDataPoint, 0, len(f.GetMetric()))
	for _, m := range f.GetMetric() {
		h := m.GetHistogram()
		sum := h.GetSampleSum()
		p := &metricspb.HistogramDataPoint{
			Attributes: labels(m), StartTimeUnixNano: c.start, TimeUnixNano: at, Count: h.GetSampleCount(), Sum: &sum,
		}
		var below uint64
		for _, b := range h.GetBucket() {
			if math.IsInf(b.GetUpperBound(), 1) {
				continue
			}
			p.ExplicitBounds = append(p.ExplicitBounds, b.GetUpperBound())
			p.BucketCounts = append(p.BucketCounts, b.GetCumulativeCount()-below)
			below = b.GetCumulativeCount()
		}
		p.BucketCounts = append(p.BucketCounts, h.GetSampleCount()-below)
		out = append(out, p)
	}
	return out
}

func (c *converter) summaries(f *dto.MetricFamily, at uint64) []*metricspb.SummaryDataPoint {
	out := make([]*metricspb.SummaryDataPoint, 0, len(f.GetMetric()))
	for _, m := range f.GetMetric() {
		s := m.GetSummary()
		p := &metricspb.SummaryDataPoint{
			Attributes: labels(m), StartTimeUnixNano: c.start, TimeUnixNano: at,
			Count: s.GetSampleCount(), Sum: s.GetSampleSum(),
		}
		for _, q := range s.GetQuantile() {
			p.QuantileValues = append(p.QuantileValues, &metricspb.SummaryDataPoint_ValueAtQuantile{
				Quantile: q.GetQuantile(), Value: q.GetValue(),
			})
		}
		out = append(out, p)
	}
	return out
}
