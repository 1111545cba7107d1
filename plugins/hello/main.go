// Hello is a Galley plugin with HTTP endpoints of every kind: JSON, a stream of events, a WebSocket, a large upload, and
// addresses for everybody and for administrators only.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/galleychat/galley/sdk"
)

func main() { sdk.Serve(plugin()) }

// routes are the plugin's addresses with the functions that answer them.
var routes = []struct {
	sdk.Route
	serve http.HandlerFunc
}{
	{sdk.Route{Pattern: "GET /hello", Summary: "Greets the caller"}, hello},
	{sdk.Route{Pattern: "POST /greet/{name}", Summary: "Greets somebody in a language", OpenAPI: greetOpenAPI}, greet},
	{sdk.Route{Pattern: "GET /count", Summary: "Counts in a stream of events"}, count},
	{sdk.Route{Pattern: "GET /echo", Summary: "Echoes messages of a WebSocket"}, echo},
	{sdk.Route{Pattern: "PUT /upload", Summary: "Counts the bytes of a body of any size"}, upload},
	{sdk.Route{Pattern: "GET /whoami", Summary: "Tells who the caller is"}, whoami},
	{sdk.Route{Pattern: "GET /public", Access: sdk.Public, Summary: "Answers anybody"}, public},
	{sdk.Route{Pattern: "GET /admin", Access: sdk.Admin, Summary: "Answers administrators"}, admin},
}

func plugin() sdk.Plugin {
	mux := http.NewServeMux()
	p := sdk.Plugin{ID: "hello", Name: "Hello", Version: "1.0.0", Description: "Examples of HTTP endpoints", HTTP: mux}
	for _, r := range routes {
		p.Routes = append(p.Routes, r.Route)
		mux.HandleFunc(r.Pattern, r.serve)
	}
	return p
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}

func fail(w http.ResponseWriter, status int, detail string) {
	reply(w, status, map[string]string{"detail": detail})
}

func hello(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, map[string]string{"message": "Hello, " + sdk.CallerFrom(r.Context()).Name + "!"})
}

// greetRequest is the body of POST /greet/{name}.
type greetRequest struct {
	Language string `json:"language"`
	Times    int    `json:"times"`
}

var greetOpenAPI = []byte(`{
	"parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}],
	"requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object", "properties": {
		"language": {"type": "string", "enum": ["en", "de", "fr"], "default": "en"},
		"times": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1}}}}}},
	"responses": {"200": {"description": "The greetings"}, "422": {"description": "The request is wrong"}}}`)

func greet(w http.ResponseWriter, r *http.Request) {
	req := greetRequest{Language: "en", Times: 1}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	word := map[string]string{"en": "Hello", "de": "Hallo", "fr": "Bonjour"}[req.Language]
	if word == "" || req.Times < 1 || req.Times > 10 {
		fail(w, http.StatusUnprocessableEntity, "language is en, de or fr; times is 1 to 10")
		return
	}
	greetings := []string{}
	for range req.Times {
		greetings = append(greetings, word+", "+r.PathValue("name")+"!")
	}
	reply(w, http.StatusOK, map[string]any{"greetings": greetings})
}

// count sends ?n numbers, ?pause milliseconds apart; each is flushed, and the client's going ends it.
func count(w http.ResponseWriter, r *http.Request) {
	n, err := number(r, "n", 5, 1000)
	pause, perr := number(r, "pause", 100, 60_000)
	if err := errors.Join(err, perr); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	for i := 1; i <= n; i++ {
		if _, err := fmt.Fprintf(w, "data: {\"n\":%d}\n\n", i); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
		if i == n {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(time.Duration(pause) * time.Millisecond):
		}
	}
}

func number(r *http.Request, name string, otherwise, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s is a number from 0 to %d", name, most)
	}
	return n, nil
}

func echo(w http.ResponseWriter, r *http.Request) {
	// pages of the address that Galley is reached at may connect; the plugin's own is another
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{r.Header.Get("X-Forwarded-Host")}})
	if err != nil {
		return // answered already
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(1 << 20)
	for {
		kind, data, err := conn.Read(r.Context())
		if err != nil {
			return // closed by the client, or gone
		}
		if err := conn.Write(r.Context(), kind, data); err != nil {
			return
		}
	}
}

func upload(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, "the body ended early")
		return
	}
	reply(w, http.StatusOK, map[string]int64{"bytes": n})
}

func whoami(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, map[string]any{"caller": sdk.CallerFrom(r.Context()), "request_id": sdk.MetaFrom(r.Context()).RequestID, "prefix": r.Header.Get("X-Forwarded-Prefix")})
}

func public(w http.ResponseWriter, r *http.Request) {
	c := sdk.CallerFrom(r.Context())
	reply(w, http.StatusOK, map[string]any{"known": !c.Anonymous()})
}

func admin(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, map[string]string{"message": sdk.CallerFrom(r.Context()).Name + " may be here"})
}
