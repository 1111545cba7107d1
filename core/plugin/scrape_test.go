package plugin

import (
	"fmt"
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/galleychat/galley/sdk"
)

func init() {
	testPlugins["measured"] = func() {
		sdk.Serve(sdk.Plugin{ID: "measured", Version: "1", Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "# TYPE shared gauge\nshared{plugin=\"somebody else\"} 1\n# TYPE clashing gauge\nclashing 1\n# TYPE zeta counter\n")
			for i := range 2 * maxPluginSeries {
				fmt.Fprintf(w, "zeta{n=\"%d\"} %d\n", i, i)
			}
		})})
	}
}

func TestScrape(t *testing.T) {
	b := newBench(t, Options{})
	b.put(t, Manifest{ID: "measured", Grants: []string{"metrics"}}, "measured")
	b.put(t, Manifest{ID: "basic", Grants: []string{"metrics"}}, "basic") // has none
	b.start(t)
	family := func(name string, kind dto.MetricType) *dto.MetricFamily {
		return &dto.MetricFamily{Name: &name, Type: &kind, Metric: []*dto.Metric{{Gauge: &dto.Gauge{}}}}
	}
	got := map[string]*dto.MetricFamily{}
	for _, f := range b.Scrape([]*dto.MetricFamily{family("shared", dto.MetricType_GAUGE), family("clashing", dto.MetricType_COUNTER)}) {
		got[f.GetName()] = f
	}
	if n := len(got["clashing"].GetMetric()); n != 1 {
		t.Errorf("%d series of the family of another type", n)
	}
	shared := got["shared"].GetMetric()
	if len(shared) != 2 || len(shared[1].GetLabel()) != 1 || shared[1].GetLabel()[0].GetValue() != "measured" {
		t.Errorf("%v", shared)
	}
	if n := len(got["zeta"].GetMetric()); n == 0 || n+1 > maxPluginSeries {
		t.Errorf("%d series of its own", n)
	}
	for _, m := range got["zeta"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["plugin"] != "measured" || labels["n"] == "" {
			t.Fatal(labels)
		}
	}
}
