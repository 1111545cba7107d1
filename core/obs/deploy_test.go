package obs

import (
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/galleychat/galley/core/plugin"
)

const deployDir = "../../deployments/observability"

// exposed returns every metric name a scrape may show (histograms with their
// suffixes) and its labels, from a registry in which each metric has a sample.
func exposed(t *testing.T) map[string]map[string]bool {
	t.Helper()
	m := newMetrics(0, "1", "r")
	r := m.HTTP("/x", "GET")
	r.Start()
	r.Done(200, time.Second, 1, 1)
	c := m.LLM("p", "m").Start()
	c.FirstToken()
	c.Done(1, 2, nil)
	m.LLMAgain("p", "retry")
	m.LLMCircuit("p", true)
	m.ToolCall("s", false, time.Second)
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := m.DB("write", db); err != nil {
		t.Fatal(err)
	}
	families, err := m.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]bool{"up": {}} // Prometheus makes it itself
	for _, f := range families {
		labels := map[string]bool{"instance": true, "job": true} // added by the scrape
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels[l.GetName()] = true
		}
		name := f.GetName()
		if f.GetType() == dto.MetricType_HISTOGRAM {
			labels["le"] = true
			out[name+"_bucket"], out[name+"_sum"], out[name+"_count"] = labels, labels, labels
			continue
		}
		out[name] = labels
	}
	for name, labels := range ofPlugins(t) {
		out[name] = labels
	}
	return out
}

// ofPlugins returns the metrics of plugins, of which none is running, as their collector describes them.
func ofPlugins(t *testing.T) map[string]map[string]bool {
	t.Helper()
	ch := make(chan *prometheus.Desc, 100)
	plugin.New(plugin.Options{}).Metrics().Describe(ch)
	close(ch)
	described := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	out := map[string]map[string]bool{}
	for d := range ch {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		labels := map[string]bool{"instance": true, "job": true}
		for l := range strings.SplitSeq(m[2], ",") {
			labels[l] = true
		}
		if strings.HasSuffix(m[1], "_duration_seconds") {
			labels["le"] = true
			out[m[1]+"_bucket"], out[m[1]+"_sum"], out[m[1]+"_count"] = labels, labels, labels
			continue
		}
		out[m[1]] = labels
	}
	return out
}

var (
	quotedRE   = regexp.MustCompile(`"[^"]*"`)
	rangeRE    = regexp.MustCompile(`\[[^\]]*\]`)
	groupingRE = regexp.MustCompile(`\b(by|without|on|ignoring)\s*\(([^)]*)\)`)
	selectorRE = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}`)
	wordRE     = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*\b\s*\(?`)
	labelRE    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

// checkExpr fails for metrics that do not exist and labels they do not have,
// and adds the metrics it saw to used.
func checkExpr(t *testing.T, known map[string]map[string]bool, used map[string]bool, where, expr string) {
	t.Helper()
	for _, pair := range []string{"()", "[]", "{}"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			t.Errorf("%s: unbalanced %s in %s", where, pair, expr)
		}
	}
	s := rangeRE.ReplaceAllString(quotedRE.ReplaceAllString(expr, `""`), "")
	labels := map[string]bool{}
	for _, g := range groupingRE.FindAllStringSubmatch(s, -1) {
		for l := range strings.SplitSeq(g[2], ",") {
			labels[strings.TrimSpace(l)] = true
		}
	}
	s = groupingRE.ReplaceAllString(s, "")
	for _, sel := range selectorRE.FindAllStringSubmatch(s, -1) {
		for _, l := range labelRE.FindAllStringSubmatch(sel[2], -1) {
			if !known[sel[1]][l[1]] && sel[1] != "up" {
				t.Errorf("%s: %s has no label %s", where, sel[1], l[1])
			}
		}
	}
	s = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(s, "")
	grouped := map[string]bool{}
	found := false
	for _, w := range wordRE.FindAllString(s, -1) {
		if strings.HasSuffix(w, "(") || strings.Contains(" and or unless bool offset ", " "+strings.TrimSpace(w)+" ") {
			continue
		}
		w = strings.TrimSpace(w)
		if known[w] == nil {
			t.Errorf("%s: no metric %s is registered", where, w)
			continue
		}
		found, used[w] = true, true
		for l := range known[w] {
			grouped[l] = true
		}
	}
	if !found {
		t.Errorf("%s: no metric in %q", where, expr)
	}
	for l := range labels {
		if !grouped[l] {
			t.Errorf("%s: grouped by %s, which no metric in it has", where, l)
		}
	}
}

func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(deployDir, "grafana-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID      int    `json:"id"`
			Type    string `json:"type"`
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	known, used, ids := exposed(t), map[string]bool{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel id %d twice", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, q := range p.Targets {
			checkExpr(t, known, used, p.Title, q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if v.Definition == "" {
			continue
		}
		metric, label, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", ")
		if !known[metric][label] {
			t.Errorf("variable %s", v.Definition)
		}
	}
	for name := range known {
		if strings.HasPrefix(name, "galley_") && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") && !used[name] {
			t.Errorf("%s is on no panel", name)
		}
	}
}

func TestAlertRules(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(deployDir, "prometheus-rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	known, seen := exposed(t), map[string]bool{}
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("rule %q is incomplete or there twice", r.Alert)
			}
			seen[r.Alert] = true
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: for: %v", r.Alert, err)
			}
			checkExpr(t, known, map[string]bool{}, r.Alert, r.Expr)
		}
	}
	if len(seen) == 0 {
		t.Error("no rules")
	}
}
