package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"os"
	"testing"

	"github.com/galleychat/galley/sdk"
)

// TestMain has the test binary play the plugins: which one says a variable that their manifests set.
func TestMain(m *testing.M) {
	if kind := os.Getenv("TEST_PLUGIN"); kind != "" {
		testPlugins[kind]()
		return
	}
	os.Exit(m.Run())
}

// testPlugins are the plugins that tests run, each in a process of its own.
var testPlugins = map[string]func(){
	"basic": func() { sdk.Serve(basicPlugin()) },
}

// basicPlugin has one of everything.
func basicPlugin() sdk.Plugin {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /whoami", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"caller": sdk.CallerFrom(r.Context()), "authorization": r.Header.Get("Authorization"), "cookie": r.Header.Get("Cookie"),
			"prefix": r.Header.Get("X-Forwarded-Prefix"), "path": r.URL.Path, "version": os.Getenv("TEST_VERSION"),
		})
	})
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!", r.PathValue("name"))
	})
	return sdk.Plugin{
		ID: "basic", Version: orText(os.Getenv("TEST_VERSION"), "1.0.0"), HTTP: mux, LLM: parrot{},
		Tools: []sdk.Tool{sdk.NewTool("add", "Adds.", func(_ context.Context, in struct {
			A int `json:"a"`
			B int `json:"b"`
		}) (any, error) {
			return map[string]int{"sum": in.A + in.B}, nil
		})},
	}
}

// parrot repeats what it is told.
type parrot struct{}

func (parrot) Models(context.Context) ([]sdk.Model, error) {
	return []sdk.Model{{ID: "parrot", Name: "Parrot"}, {ID: "flood"}}, nil
}

func (parrot) Chat(_ context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) {
		if req.Model == "flood" {
			for range 20000 {
				if !yield(sdk.Chunk{Text: "word "}, nil) {
					return
				}
			}
			return
		}
		yield(sdk.Chunk{Text: req.Last("user")}, nil)
	}
}
