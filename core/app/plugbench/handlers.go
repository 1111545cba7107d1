package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"

	"github.com/coder/websocket"

	"github.com/galleychat/galley/sdk"
)

// greeting is what both sides answer.
var greeting = []byte(`{"message":"Hello! This is an answer of some length, as an endpoint of a plugin may give it to a caller."}`)

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(greeting)))
	_, _ = w.Write(greeting) // an error means that the client is gone
}

func upload(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, `{"bytes":%d}`, n)
}

func socket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // a client that is no browser
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, b) != nil {
			return
		}
	}
}

// word is one chunk's text.
const word = "galley "

// chunks is how many chunks a request asks for: its last message is the number.
func chunks(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 1
	}
	return n
}

// benchPlugin is the plugin that is measured.
func benchPlugin() sdk.Plugin {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", hello)
	mux.HandleFunc("PUT /upload", upload)
	mux.HandleFunc("GET /socket", socket)
	return sdk.Plugin{ID: "bench", Version: "1.0.0", HTTP: mux, LLM: pluginModel{}}
}

type pluginModel struct{}

func (pluginModel) Models(context.Context) ([]sdk.Model, error) {
	return []sdk.Model{{ID: "plugin"}}, nil
}

func (pluginModel) Chat(_ context.Context, req *sdk.ChatRequest) iter.Seq2[sdk.Chunk, error] {
	return func(yield func(sdk.Chunk, error) bool) {
		for range chunks(req.Last("user")) {
			if !yield(sdk.Chunk{Text: word}, nil) {
				return
			}
		}
	}
}
