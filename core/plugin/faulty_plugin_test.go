package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/galleychat/galley/sdk"
)

func init() {
	testPlugins["faulty"] = func() {
		if fault("exit") {
			fmt.Fprintln(os.Stderr, "cannot find my keys")
			os.Exit(3)
		}
		if path := os.Getenv("FAULTY_EXIT_IF"); path != "" {
			if _, err := os.Stat(path); err == nil {
				os.Exit(4)
			}
		}
		sdk.Serve(faultyPlugin())
	}
}

// fault says whether a test wants the plugin to be faulty in a way.
func fault(name string) bool { return strings.Contains(os.Getenv("FAULTY"), name) }

// faultyConfig is what tests set while the plugin runs.
type faultyConfig struct {
	Mode  string   `json:"mode" enum:"ok,fail,hang,refuse,swallow"`
	Count int      `json:"count" minimum:"0" maximum:"9"`
	Words []string `json:"words,omitempty"`
}

// faultyPlugin does what it is asked to, well or badly.
func faultyPlugin() sdk.Plugin {
	config := sdk.NewConfig(faultyConfig{Mode: "ok", Count: 1})
	p := sdk.Plugin{
		ID: orText(os.Getenv("FAULTY_ID"), "faulty"), Version: orText(os.Getenv("TEST_VERSION"), "1.0.0"),
		HTTP: faultyHTTP(), Config: config, Tools: faultyTools(),
	}
	if routes := os.Getenv("FAULTY_ROUTES"); routes != "" {
		for _, r := range strings.Split(routes, ",") {
			pattern, access, _ := strings.Cut(r, "=")
			p.Routes = append(p.Routes, sdk.Route{Pattern: pattern, Access: map[string]sdk.Access{"public": sdk.Public, "admin": sdk.Admin}[access]})
		}
	}
	if model := os.Getenv("FAULTY_MODEL"); model != "" {
		p.LLM = talker{model}
	}
	if fault("hangs at start") {
		p.Start = func(context.Context) error { select {} }
	}
	if order := os.Getenv("FAULTY_FILTER"); order != "" {
		priority, _ := strconv.Atoi(order)
		p.Filter = faultyFilter(config, p.ID, priority)
	}
	if fault("metrics") {
		p.Metrics = http.HandlerFunc(faultyMetrics)
	}
	return p
}

func faultyHTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, os.Getenv("TEST_VERSION"))
	})
	mux.HandleFunc("/pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(5) })
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { select {} })
	mux.HandleFunc("/stop", func(http.ResponseWriter, *http.Request) { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
	mux.HandleFunc("/sse", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; r.Context().Err() == nil; i++ {
			if _, err := fmt.Fprintf(w, "data: %s %d\n\n", os.Getenv("TEST_VERSION"), i); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			if over() {
				fmt.Fprint(w, "data: end\n\n")
				return
			}
			pause(r.Context())
		}
	})
	mux.HandleFunc("/log", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		size, _ := strconv.Atoi(r.FormValue("size"))
		long := strings.Repeat("x", size)
		for i := range n {
			slog.Info("line", "n", i, "long", long)
		}
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err, r.Trailer.Get("Sum"))
	})
	mux.HandleFunc("/full", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "Done")
		w.WriteHeader(http.StatusEarlyHints)
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(bytes.ToUpper(buf[:n]))
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("Done", "yes")
	})
	mux.HandleFunc("/ranges", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader("0123456789"))
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })
	return mux
}

// over says that streams are to end, by a file that the test makes.
func over() bool {
	_, err := os.Stat(os.Getenv("FAULTY_OVER"))
	return err == nil
}

// pause keeps endless things from filling the machine.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// talker has one model, which talks until it is told to end, or does what the last message says.
type talker struct{ model string }

func (t talker) Models(ctx context.Context) ([]sdk.Model, error) {
	if fault("models hang") {
		select {}
	}
	return []sdk.Model{{ID: t.model, Name: os.Getenv("FAULTY_ID")}}, nil
}

func (t talker) Chat(ctx context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) {
		switch req.Last("user") {
		case "hang":
			select {}
		case "refuse":
			yield(sdk.Chunk{}, sdk.Refuse(429, "slow down").With("Retry-After", "9"))
			return
		case "inject":
			yield(sdk.Chunk{}, sdk.Refuse(418, "no\r\nSet-Cookie: a=b").With("Retry-After", "1\r\nSet-Cookie: a=b").With("X\r\nY", "z"))
			return
		case "odd status":
			yield(sdk.Chunk{}, &sdk.Refusal{Status: 200, Detail: "fine"})
			return
		case "fail":
			yield(sdk.Chunk{}, errors.New("secret"))
			return
		case "short":
			yield(sdk.Chunk{Text: os.Getenv("TEST_VERSION")}, nil)
			return
		}
		for ctx.Err() == nil {
			if !yield(sdk.Chunk{Text: "word "}, nil) || over() {
				return
			}
			pause(ctx)
		}
	}
}

func faultyTools() []sdk.Tool {
	type in struct {
		Do string `json:"do"`
	}
	return []sdk.Tool{sdk.NewTool("work", "Works.", func(ctx context.Context, in in) (any, error) {
		switch in.Do {
		case "exit":
			os.Exit(6)
		case "fail":
			return nil, errors.New("it went wrong")
		case "text":
			return "a text", nil
		case "wait":
			_ = sdk.ToolCallFrom(ctx).Status("waiting", false)
			<-ctx.Done()
			_ = os.WriteFile(os.Getenv("FAULTY_OVER")+".cancelled", nil, 0o600)
			return nil, ctx.Err()
		case "panic":
			panic("oh")
		}
		return map[string]string{"did": in.Do}, nil
	})}
}

// faultyFilter adds its id to the request's "seen", or fails as the configuration says.
func faultyFilter(config *sdk.Config[faultyConfig], id string, priority int) *sdk.Filter {
	trouble := func(ctx context.Context) error {
		switch config.Get().Mode {
		case "fail":
			return errors.New("out of order")
		case "refuse":
			return sdk.Refuse(451, "not that").With("Retry-After", "4")
		case "hang":
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	f := &sdk.Filter{Priority: priority, Required: fault("required"), Tasks: fault("tasks")}
	if models := os.Getenv("FAULTY_FOR"); models != "" {
		f.Models = strings.Split(models, ",")
	}
	f.Inlet = func(ctx context.Context, req *sdk.Body) error {
		if err := trouble(ctx); err != nil {
			return err
		}
		var seen string
		_ = req.Get("seen", &seen)
		req.Set("seen", seen+id)
		return nil
	}
	f.Stream = func(ctx context.Context) (sdk.StreamFilter, error) {
		return sdk.StreamFunc(func(c sdk.Chunk) ([]sdk.Chunk, error) {
			if err := trouble(ctx); err != nil {
				return nil, err
			}
			if config.Get().Mode == "swallow" {
				return nil, nil
			}
			c.Text += id
			return []sdk.Chunk{c}, nil
		}), nil
	}
	return f
}

func faultyMetrics(w http.ResponseWriter, r *http.Request) {
	if fault("metrics hang") {
		<-r.Context().Done()
		return
	}
	fmt.Fprint(w, "# TYPE work_total counter\nwork_total{plugin=\"liar\",kind=\"a\"} 3\nwork_total{plugin=\"other\",kind=\"a\"} 4\n")
	fmt.Fprint(w, "# TYPE clash "+orText(os.Getenv("FAULTY_CLASH"), "gauge")+"\nclash 1\n")
	fmt.Fprint(w, "# TYPE galley_plugin_restarts_total counter\ngalley_plugin_restarts_total 99\n")
	if fault("metrics flood") {
		fmt.Fprint(w, "# TYPE zz gauge\n")
		for i := range 600 {
			fmt.Fprintf(w, "zz{i=\"%d\"} 1\n", i)
		}
	}
}
