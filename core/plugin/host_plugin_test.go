package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/sdk"
)

func init() {
	testPlugins["host"] = func() { sdk.Serve(hostPlugin()) }
}

// order is what a test wants the plugin "host" to do.
type order struct {
	Op, Key, Value, ID, Email, Model, Chat, Message string

	TTL     time.Duration
	Delta   int64
	N, Size int
}

// hostPlugin does what tests order, and says in words how it went.
func hostPlugin() sdk.Plugin {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /do", func(w http.ResponseWriter, r *http.Request) {
		var in order
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f := orders[in.Op]
		if f == nil {
			http.Error(w, "unknown order", http.StatusBadRequest)
			return
		}
		text, err := f(r.Context(), sdk.HostFrom(r.Context()), in)
		if err != nil {
			text = inWords(err)
		}
		_, _ = io.WriteString(w, text)
	})
	return sdk.Plugin{ID: "host", Version: "1.0.0", HTTP: mux, LLM: narcissus{}, Start: func(ctx context.Context) error {
		h := sdk.HostFrom(ctx)
		if !h.Granted("kv") {
			return nil
		}
		return h.KV.Put(ctx, "started", []byte("yes"), 0)
	}}
}

func inWords(err error) string {
	var r *sdk.Refusal
	switch {
	case errors.As(err, &r):
		return fmt.Sprintf("refused: %d %s, Retry-After %s", r.Status, r.Detail, r.Headers["Retry-After"])
	case errors.Is(err, sdk.ErrNotFound):
		return "not found"
	case errors.Is(err, sdk.ErrConflict):
		return "conflict"
	case errors.Is(err, sdk.ErrQuota):
		return "quota"
	case errors.Is(err, sdk.ErrNotGranted):
		_, text, _ := strings.Cut(err.Error(), sdk.ErrNotGranted.Error()+": ")
		return "not granted: " + text
	}
	return err.Error()
}

// life is a time to live in words.
func life(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Until(t).Round(time.Minute).String()
}

var orders = map[string]func(context.Context, *sdk.Host, order) (string, error){
	"get": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		e, err := h.KV.Get(ctx, in.Key)
		return string(e.Value) + " " + life(e.Expires), err
	},
	"put": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		return "ok", h.KV.Put(ctx, in.Key, []byte(in.Value), in.TTL)
	},
	"fill": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		return "ok", h.KV.Put(ctx, in.Key, make([]byte, in.Size), 0)
	},
	"many": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		for i := range in.N {
			if err := h.KV.Put(ctx, fmt.Sprintf("%s%04d", in.Key, i), nil, 0); err != nil {
				return "", err
			}
		}
		return "ok", nil
	},
	"cas": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		_, err := h.KV.CompareAndSet(ctx, in.Key, []byte(in.Value), 0, 0)
		return "ok", err
	},
	"cas again": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		e, err := h.KV.Get(ctx, in.Key)
		if err != nil {
			return "", err
		}
		_, err = h.KV.CompareAndSet(ctx, in.Key, []byte(in.Value), e.Version, 0)
		return "ok", err
	},
	"add": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		n, expires, err := h.KV.Add(ctx, in.Key, in.Delta, in.TTL)
		return fmt.Sprint(n, " ", life(expires)), err
	},
	"delete": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		deleted, err := h.KV.Delete(ctx, in.Key)
		return fmt.Sprint(deleted), err
	},
	"list": func(ctx context.Context, h *sdk.Host, in order) (out string, err error) {
		for e, err := range h.KV.List(ctx, in.Key) {
			if err != nil {
				return "", err
			}
			if e.Key != "started" {
				out += e.Key + " "
			}
		}
		return out, nil
	},
	"user": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		get, what := h.Users.Get, in.ID
		if in.Email != "" {
			get, what = h.Users.ByEmail, in.Email
		}
		c, err := get(ctx, what)
		if err != nil {
			return "", err
		}
		out, err := json.Marshal(c)
		return string(out), err
	},
	"users": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		list, total, err := h.Users.List(ctx, in.Key, in.N)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(list[0].Name, " ", total), nil
	},
	"models": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		list, err := h.Models.List(ctx, in.ID)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(list[0].ID, " ", list[0].Name, " ", list[0].Tags), nil
	},
	"chat": func(ctx context.Context, h *sdk.Host, in order) (out string, err error) {
		n := 0
		for c, err := range h.Models.Chat(ctx, in.ID, map[string]any{"model": in.Model, "messages": []any{}}) {
			if err != nil {
				return "", err
			}
			out += c.Text
			if n++; n == in.N {
				break
			}
		}
		return out, nil
	},
	"flood": flood,
	"embed": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		v, err := h.Models.Embed(ctx, in.ID, in.Model, in.Key, in.Key)
		return fmt.Sprint(v), err
	},
	"emit": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		var data any
		if in.Value != "" {
			data = json.RawMessage(in.Value)
		}
		if in.Size > 0 {
			data = strings.Repeat("x", in.Size)
		}
		n, err := h.Events.Emit(ctx, sdk.Event{UserID: in.ID, ChatID: in.Chat, MessageID: in.Message, Type: in.Key, Data: data})
		return fmt.Sprint(n), err
	},
	"file": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		f, err := h.Files.Get(ctx, in.ID)
		return fmt.Sprint(f.ID, " ", f.UserID, " ", f.Name, " ", f.ContentType, " ", f.Size), err
	},
	"read": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		r, err := h.Files.Read(ctx, in.ID)
		if err != nil {
			return "", err
		}
		defer r.Close()
		sum := sha256.New()
		_, err = io.Copy(sum, r)
		return hex.EncodeToString(sum.Sum(nil)), err
	},
	"write": func(ctx context.Context, h *sdk.Host, in order) (string, error) {
		f, err := h.Files.Write(ctx, sdk.File{UserID: in.ID, Name: in.Key, ContentType: in.Value}, io.LimitReader(&pattern{}, int64(in.Size)))
		return fmt.Sprint(f.ID, " ", f.UserID, " ", f.Name, " ", f.ContentType, " ", f.Size), err
	},
	"memory": func(context.Context, *sdk.Host, order) (string, error) {
		raw, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return "", err
		}
		_, rest, _ := strings.Cut(string(raw), "RssAnon:")
		var kb int
		if _, err := fmt.Sscan(rest, &kb); err != nil {
			return "", err
		}
		if kb > 100<<10 {
			return fmt.Sprint(kb>>10, " MiB"), nil
		}
		return "ok", nil
	},
}

// flood asks for many answers at once, leaves them once all have begun or were refused, and says how many of each.
func flood(ctx context.Context, h *sdk.Host, in order) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var answered, refused, settled atomic.Int64
	var wg sync.WaitGroup
	for range in.N {
		wg.Go(func() {
			for _, err := range h.Models.Chat(ctx, "", map[string]any{"model": in.Model}) {
				switch {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, sdk.ErrQuota):
					refused.Add(1)
				default:
					return
				}
				if settled.Add(1) == int64(in.N) {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf("%d answered, %d refused", answered.Load(), refused.Load()), nil
}

// pattern is a content without end that does not repeat in parts of any usual size.
type pattern struct{ n uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n++
		b[i] = byte(p.n ^ p.n>>8*7 ^ p.n>>16*13)
	}
	return len(b), nil
}

// narcissus answers by asking itself.
type narcissus struct{}

func (narcissus) Models(context.Context) ([]sdk.Model, error) {
	return []sdk.Model{{ID: "narcissus"}}, nil
}

func (narcissus) Chat(ctx context.Context, _ *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return sdk.HostFrom(ctx).Models.Chat(ctx, "", map[string]any{"model": "narcissus"})
}

func (narcissus) Embed(_ context.Context, model string, input []string) ([][]float32, error) {
	if model != "narcissus" {
		return nil, sdk.Refuse(http.StatusNotFound, "no such mirror")
	}
	out := make([][]float32, len(input))
	for i, text := range input {
		out[i] = []float32{float32(len(text)), 0.25}
	}
	return out, nil
}
