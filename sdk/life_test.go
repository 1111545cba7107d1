package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

func TestLife(t *testing.T) {
	type conf struct {
		N int `json:"n" minimum:"1"`
	}
	settings := sdk.NewConfig(conf{1})
	var starts, stops atomic.Int32
	background := make(chan struct{})
	var health atomic.Value
	health.Store("")
	p := plugin(func(p *sdk.Plugin) {
		p.Config = settings
		p.Wants = []string{"kv"}
		p.Start = func(ctx context.Context) error {
			starts.Add(1)
			if settings.Get().N == 13 {
				return errors.New("unlucky")
			}
			if err := sdk.HostFrom(ctx).KV.Put(ctx, "started", []byte("yes"), 0); err != nil {
				return err
			}
			go func() { <-ctx.Done(); close(background) }()
			return nil
		}
		p.Stop = func() { stops.Add(1) }
		p.Check = func(context.Context) error {
			switch s := health.Load().(string); s {
			case "":
				return nil
			case "slow":
				return fmt.Errorf("upstream: %w", sdk.Degraded(s))
			default:
				return errors.New(s)
			}
		}
		p.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "# accept %s\nup 1\n", r.Header.Get("Accept"))
		})
	})
	t.Run("runs", func(t *testing.T) {
		h := plugintest.Start(t, p, plugintest.Config(map[string]int{"n": 5}))
		if e, err := h.Host().KV.Get(t.Context(), "started"); err != nil || string(e.Value) != "yes" {
			t.Errorf("%s, %v", e.Value, err)
		}
		if settings.Get().N != 5 || string(h.Config()) != `{"n":5}` {
			t.Errorf("%+v, %s", settings.Get(), h.Config())
		}
		if wrong := h.Configure(map[string]int{"n": 0}); fmt.Sprint(wrong) != "[{n must be at least 1}]" || settings.Get().N != 5 {
			t.Errorf("%v, %+v", wrong, settings.Get())
		}
		if wrong := h.Configure(nil); wrong != nil || settings.Get().N != 1 {
			t.Errorf("%v, %+v", wrong, settings.Get())
		}
		for state, want := range map[string]string{"": "ok", "slow": "degraded upstream: slow", "dead": "failed dead"} {
			health.Store(state)
			if got, message := h.Check(); strings.TrimSpace(got+" "+message) != want {
				t.Errorf("%q: %s %s", state, got, message)
			}
		}
		if text, err := h.Metrics(); err != nil || text != "# accept text/plain;version=0.0.4\nup 1\n" {
			t.Errorf("%q, %v", text, err)
		}
		if starts.Load() != 1 {
			t.Errorf("started %d times", starts.Load())
		}
	})
	select {
	case <-background:
	case <-time.After(10 * time.Second):
		t.Error("the work in the background goes on")
	}
	if stops.Load() != 1 {
		t.Errorf("stopped %d times", stops.Load())
	}
	if _, err := plugintest.TryStart(t, p, plugintest.Config(map[string]int{"n": 13})); err == nil || !strings.Contains(err.Error(), "unlucky") {
		t.Error(err)
	}
	if _, err := plugintest.TryStart(t, p, plugintest.Grants()); err == nil || !strings.Contains(err.Error(), sdk.ErrNotGranted.Error()) {
		t.Error(err)
	}
	if _, err := plugintest.TryStart(t, p, plugintest.Config(map[string]int{"n": 0})); err == nil || !strings.Contains(err.Error(), "at least 1") {
		t.Error(err)
	}
}
