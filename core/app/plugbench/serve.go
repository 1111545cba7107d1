package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/web"
)

// serve runs the server with the built-in twins of what the plugin has.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c, err := app.ReadConfig(os.LookupEnv)
	if err != nil {
		return err
	}
	app.TuneMemory(os.LookupEnv)
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	c.Builtin = []plugin.Manifest{{ID: "bench", Command: exe}}
	c.Ready = func(_ *app.App, url string) { fmt.Println(url) }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, c)
	if err != nil {
		return err
	}
	a.Router.Mount("/builtin", twins{})
	if err := a.LLM.Register(builtinModel{}); err != nil {
		return err
	}
	return a.Serve(ctx, ln)
}

// twins are the plugin's handlers as endpoints of the server's own.
type twins struct{}

func (twins) Name() string { return "builtin" }

func (twins) Routes(g *web.Group) {
	plain := func(h http.HandlerFunc) *web.Endpoint {
		return web.JSON(auth.Verified, func(c *web.Call, _ web.None) (web.Done, error) {
			h(c.W, c.R)
			return web.Done{}, nil
		})
	}
	g.Add("GET /hello", plain(hello))
	g.Add("PUT /upload", plain(upload))
	g.Add("GET /socket", plain(socket))
}

// builtinModel is the plugin's model inside the server.
type builtinModel struct{}

func (builtinModel) ID() string { return "builtin" }

func (builtinModel) Models(context.Context, *llm.Caller) ([]llm.Model, error) {
	entry := []byte(`{"id":"builtin","name":"builtin","object":"model","created":0,"owned_by":"bench","connection_type":"local","tags":[]}`)
	return []llm.Model{{ID: "builtin", Upstream: "builtin", Name: "builtin", OwnedBy: "bench", ConnectionType: "local", Entry: entry, Native: entry}}, nil
}

func (builtinModel) Chat(_ context.Context, req *llm.Request) (*llm.Response, error) {
	messages := jsondoc.Doc(req.Body).Get("messages").List()
	return llm.NewStream(http.Header{}, &source{left: chunks(messages[len(messages)-1].Text("content"))}), nil
}

// source gives its chunks as fast as they are taken.
type source struct{ left int }

func (s *source) Next() ([]byte, error) {
	if s.left--; s.left < 0 {
		return nil, io.EOF
	}
	return fmt.Appendf(nil, `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":0,"model":"builtin","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`, word), nil
}

// More has chunks be written in one go, as those of the plugin are.
func (s *source) More() bool { return s.left > 0 && s.left%32 != 0 }

func (s *source) Close() error { return nil }
