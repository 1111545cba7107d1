package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/galleychat/galley/sdk"
	"github.com/galleychat/galley/sdk/plugintest"
)

func TestAnswers(t *testing.T) {
	h := plugintest.Start(t, plugin())
	for _, c := range []struct {
		as           sdk.Caller
		method, path string
		body         string
		status       int
		want         string
	}{
		{plugintest.User, "GET", "/hello", "", 200, `{"message":"Hello, Test User!"}`},
		{plugintest.Anonymous, "GET", "/hello", "", 401, ""},
		{plugintest.Pending, "GET", "/hello", "", 401, ""},
		{plugintest.User, "POST", "/hello", "", 405, ""},
		{plugintest.User, "GET", "/nowhere", "", 404, ""},
		{plugintest.User, "POST", "/greet/J%C3%BCrgen", `{"language":"de","times":2}`, 200, `{"greetings":["Hallo, Jürgen!","Hallo, Jürgen!"]}`},
		{plugintest.User, "POST", "/greet/a%2Fb", `{}`, 200, `{"greetings":["Hello, a/b!"]}`},
		{plugintest.User, "POST", "/greet/x", `{"times":11}`, 422, ""},
		{plugintest.User, "POST", "/greet/x", `{"time":1}`, 422, ""},
		{plugintest.User, "POST", "/greet/x", `{`, 422, ""},
		{plugintest.User, "GET", "/count?n=x", "", 422, ""},
		{plugintest.User, "GET", "/count?n=2&pause=0", "", 200, "data: {\"n\":1}\n\ndata: {\"n\":2}"},
		{sdk.Caller{ID: "7", Name: "Zoë 😀", Role: "user", Groups: []sdk.Group{{ID: "g", Name: "Staff"}}}, "GET", "/whoami", "", 200,
			`{"caller":{"id":"7","name":"Zoë 😀","email":"","role":"user","groups":[{"id":"g","name":"Staff"}]},"prefix":"/api/v1/plugins/hello","request_id":"request-1"}`},
		{plugintest.Anonymous, "GET", "/public", "", 200, `{"known":false}`},
		{plugintest.User, "GET", "/public", "", 200, `{"known":true}`},
		{plugintest.User, "GET", "/admin", "", 403, ""},
		{plugintest.Admin, "GET", "/admin", "", 200, `{"message":"Test Admin may be here"}`},
		{plugintest.User, "GET", "/echo", "", 426, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(sdk.CallerHeader, `{"id":"forged","role":"admin"}`) // has no effect
		resp, err := h.As(c.as).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || c.want != "" && strings.TrimSpace(string(body)) != c.want {
			t.Errorf("%s %s as %s: %d %s, %v", c.method, c.path, c.as.Name, resp.StatusCode, body, err)
		}
	}
}

func TestCountFlushes(t *testing.T) {
	h := plugintest.Start(t, plugin())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/count?n=3&pause=60000", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	line, err := bufio.NewReader(resp.Body).ReadString('\n') // a minute before the next
	if err != nil || line != "data: {\"n\":1}\n" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%q, %v", line, err)
	}
	cancel() // the harness waits for the handler to end
}

func TestEcho(t *testing.T) {
	h := plugintest.Start(t, plugin())
	conn, _, err := websocket.Dial(t.Context(), h.URL("/echo"), &websocket.DialOptions{HTTPClient: h.HTTP()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	for _, text := range []string{"one", "", strings.Repeat("x", 30_000)} {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		kind, got, err := conn.Read(t.Context())
		if err != nil || kind != websocket.MessageText || string(got) != text {
			t.Errorf("%v %.20q, %v", kind, got, err)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	if _, _, err := websocket.Dial(t.Context(), h.URL("/echo"), &websocket.DialOptions{HTTPClient: h.As(plugintest.Anonymous).HTTP()}); err == nil {
		t.Error("a stranger was let in")
	}
	foreign := http.Header{"Origin": {"https://elsewhere.example"}}
	if _, _, err := websocket.Dial(t.Context(), h.URL("/echo"), &websocket.DialOptions{HTTPClient: h.HTTP(), HTTPHeader: foreign}); err == nil {
		t.Error("a page from elsewhere was let in")
	}
}

func TestUpload(t *testing.T) {
	h := plugintest.Start(t, plugin())
	const size = 64 << 20
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "/upload", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || strings.TrimSpace(string(body)) != `{"bytes":67108864}` {
		t.Errorf("%s, %v", body, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
