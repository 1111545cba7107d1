package plugin

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

const (
	// maxPluginSeries is how many series of its own a plugin has in a scrape.
	maxPluginSeries = 500
	scrapeTimeout   = 2 * time.Second
	maxMetrics      = 8 << 20 // bytes of text
)

// Scrape adds the plugins' own metrics to Galley's: of those with the grant "metrics", each with the label plugin. A plugin
// that does not answer in time is left out; so are series beyond the limit, and families whose type differs from that of
// others of their name.
func (m *Manager) Scrape(families []*dto.MetricFamily) []*dto.MetricFamily {
	byName := make(map[string]*dto.MetricFamily, len(families))
	for _, f := range families {
		byName[f.GetName()] = f
	}
	for _, s := range m.scrapeAll() {
		left := maxPluginSeries
		for _, f := range s.families {
			kept, dropped := f.Metric, 0
			known := byName[f.GetName()]
			if known != nil && known.GetType() != f.GetType() || strings.HasPrefix(f.GetName(), "galley_") {
				kept = nil // galley_ names Galley's own
			}
			kept = distinct(kept, s.id)
			if len(kept) > left {
				kept = kept[:left]
			}
			if dropped = len(f.Metric) - len(kept); dropped > 0 {
				m.figures.dropped.WithLabelValues(s.id).Add(float64(dropped))
			}
			left -= len(kept)
			if len(kept) == 0 {
				continue
			}
			if known != nil {
				known.Metric = append(slices.Clip(known.Metric), kept...)
				continue
			}
			f.Metric = kept
			byName[f.GetName()] = f
			families = append(families, f)
		}
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families
}

// distinct gives the series the label plugin and leaves out those that are then the same as another.
func distinct(series []*dto.Metric, id string) []*dto.Metric {
	seen := make(map[string]bool, len(series))
	out := make([]*dto.Metric, 0, len(series))
	for _, metric := range series {
		mark(metric, id)
		var key strings.Builder
		for _, l := range metric.Label {
			fmt.Fprintf(&key, "%q=%q,", l.GetName(), l.GetValue())
		}
		if !seen[key.String()] {
			seen[key.String()] = true
			out = append(out, metric)
		}
	}
	return out
}

// mark gives a series the label plugin, in place of one that it may have.
func mark(metric *dto.Metric, id string) {
	name := "plugin"
	metric.Label = slices.DeleteFunc(metric.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
	metric.Label = append(metric.Label, &dto.LabelPair{Name: &name, Value: &id})
	slices.SortFunc(metric.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// scraped is what one plugin said.
type scraped struct {
	id       string
	families []*dto.MetricFamily
}

func (m *Manager) scrapeAll() []scraped {
	var mu sync.Mutex
	var out []scraped
	var wg sync.WaitGroup
	for _, u := range m.all() {
		inst := u.current.Load()
		if inst == nil || inst.noScrape.Load() || !slices.Contains(inst.grants(), "metrics") {
			continue
		}
		wg.Go(func() {
			if families := inst.scrape(); len(families) > 0 {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, scraped{inst.id(), families})
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b scraped) int { return cmp.Compare(a.id, b.id) })
	return out
}

// scrape asks a plugin for its metrics.
func (inst *instance) scrape() []*dto.MetricFamily {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	resp, err := inst.life.Metrics(ctx, &pb.MetricsRequest{}, grpc.MaxCallRecvMsgSize(maxMetrics))
	if status.Code(err) == codes.Unimplemented {
		inst.noScrape.Store(true)
		return nil
	}
	if err != nil {
		return nil
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(bytes.NewReader(resp.GetText()))
	if err != nil {
		inst.unit.logger().Debug("metrics of the plugin cannot be read", "error", err)
		return nil
	}
	out := make([]*dto.MetricFamily, 0, len(parsed))
	for _, f := range parsed {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out
}
