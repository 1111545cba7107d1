package app

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"os"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/toolserver"
	"github.com/galleychat/galley/routes/tools"
)

// openToolServers makes what calls tool servers. They are called with TLS settings of their own.
func (a *App) openToolServers() error {
	tls, err := a.Env.Client.ToolTLS.Config()
	if err != nil {
		return &SettingError{Err: err}
	}
	a.ToolServers = toolserver.New(toolserver.Deps{
		Settings: a.Settings, Env: a.Env, Access: a.Access, Headers: a.LLM.Client().Headers(), HTTP: toolserver.NewClient(tls, a.Obs.Tracer.Transport),
		Tokens: a.OAuth.Clients, Keep: a.keepToolFile, Observe: a.observeToolCall, Log: a.Log,
	})
	return nil
}

// keepToolFile stores a file that a tool made, as its user's.
func (a *App) keepToolFile(ctx context.Context, p *auth.Principal, mediaType string, content []byte) (string, error) {
	hash, err := files.Digest(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	name := "tool-result"
	if extensions, err := mime.ExtensionsByType(mediaType); err == nil && len(extensions) > 0 {
		name += extensions[0]
	}
	f := files.Upload{UserID: p.ID, Name: name, ContentType: mediaType, Size: int64(len(content)), Hash: hash}.File()
	if err := a.Uploads.Keep(f, func(path string) error { return os.WriteFile(path, content, 0o600) }); err != nil {
		return "", err
	}
	if err := a.Files.Insert(ctx, f); err != nil {
		return "", errors.Join(err, a.Uploads.Remove(*f.Path))
	}
	return "/api/v1/files/" + f.ID + "/content", nil
}

func (a *App) observeToolCall(server string) func(error) {
	began := time.Now()
	return func(err error) { a.Obs.Metrics.ToolCall(server, err != nil, time.Since(began)) }
}

// serverTools lists tool servers for the tools menu.
type serverTools struct{ *toolserver.Servers }

// List implements tools.ToolSource.
func (s serverTools) List(ctx context.Context, p *auth.Principal) ([]tools.ToolSet, error) {
	sets, err := s.Servers.List(ctx, p)
	var out []tools.ToolSet
	for _, set := range sets {
		out = append(out, tools.ToolSet{ID: set.ID, Name: set.Name, Description: set.Description, Authenticated: set.Authenticated})
	}
	return out, err
}

// Specs implements tools.Discoverer.
func (s serverTools) Specs(ctx context.Context, p *auth.Principal, cookies []*http.Cookie, setID string) ([]jsondoc.Doc, error) {
	specs, err := s.Servers.Specs(ctx, p, toolserver.Caller(p, cookies), setID)
	switch {
	case errors.Is(err, toolserver.ErrNotFound):
		err = tools.ErrNoTool
	case errors.Is(err, toolserver.ErrSignIn):
		err = tools.ErrSignIn
	}
	return specs, err
}
