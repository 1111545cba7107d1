package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"
)

func TestLogLines(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newLogHandler(&b))
	log.Debug("d")
	log.Info("i", "time", "noon", "level", 3, "took", 1500*time.Millisecond, "error", errors.New("boom"))
	log.With("id", 1).WithGroup("g").Warn("w", "level", slog.LevelError)
	log.Error("e\n2")
	var lines []map[string]any
	for d := json.NewDecoder(&b); d.More(); {
		var m map[string]any
		if err := d.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if _, err := time.Parse(time.RFC3339Nano, m["@timestamp"].(string)); err != nil {
			t.Error(err)
		}
		delete(m, "@timestamp")
		lines = append(lines, m)
	}
	got := string(mustJSON(lines))
	want := `[{"@level":"debug","@message":"d"},{"@level":"info","@message":"i","error":"boom","level":3,"time":"noon","took":"1.5s"},` +
		`{"@level":"warn","@message":"w","g":{"level":"ERROR"},"id":1},{"@level":"error","@message":"e\n2"}]`
	if got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
}
