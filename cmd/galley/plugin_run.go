package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/frontend"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/plugin/cli"
	"github.com/galleychat/galley/core/plugin/dev"
)

// override gives variables a value whatever flags and the environment say; "" takes one away.
func (in *input) override(vars map[string]string) {
	next := in.lookup
	in.lookup = func(n string) (string, bool) {
		if v, ok := vars[n]; ok {
			return v, v != ""
		}
		return next(n)
	}
}

// workbench is a server for one plugin that is being written.
type workbench struct {
	p       *program
	project *dev.Project
	email   string
	pass    string
	running sync.WaitGroup
	said    sync.Mutex // lines of several goroutines
}

// printf prints a line.
func (w *workbench) printf(format string, args ...any) {
	w.said.Lock()
	defer w.said.Unlock()
	fmt.Fprintf(w.p.out, format+"\n", args...)
}

// Write implements io.Writer, for compilers.
func (w *workbench) Write(text []byte) (int, error) {
	w.said.Lock()
	defer w.said.Unlock()
	return w.p.out.Write(text)
}

func runPluginRun(ctx context.Context, p *program, in *input) (err error) {
	usual, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "galley-dev-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	folder := filepath.Join(temp, "plugins")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	w := &workbench{p: p, email: "admin@example.com", pass: rand.Text()}
	if w.project, err = dev.Open(in.args[0], folder, w); err != nil {
		return err
	}
	in.fallback("PORT", "0")
	in.fallback("GLOBAL_LOG_LEVEL", "WARNING")
	in.override(map[string]string{
		"DATA_DIR": filepath.Join(temp, "data"), "PLUGINS_DIR": folder, "HOST": "127.0.0.1", "FRONTEND_BUILD_DIR": frontend.Find(usual.Env.DataDir, usual.Env.FrontendDir),
		"WEBUI_ADMIN_EMAIL": w.email, "WEBUI_ADMIN_PASSWORD": w.pass, "DATABASE_URL": "", "DATABASE_TYPE": "", "REDIS_URL": "", "WEBUI_SECRET_KEY_FILE": "",
		"PLUGINS_REQUIRE_CHECKSUM": "", "ENABLE_PLUGINS": "",
	})
	c, err := p.config(in)
	if err != nil {
		return err
	}
	if _, err := w.project.Update(ctx); err != nil {
		w.printf("%v", err) // it is tried again when something changes
	}
	work, end := context.WithCancel(ctx)
	c.Ready = func(a *app.App, url string) {
		slog.SetDefault(a.Log)
		w.running.Go(func() { w.serve(work, a, url) })
	}
	err = app.Run(ctx, c)
	end()
	w.running.Wait()
	return err
}

// serve tells how to call the server and follows the plugin, until ctx ends.
func (w *workbench) serve(ctx context.Context, a *app.App, url string) {
	w.printf("Galley is running: %s\n  account   %s\n  password  %s", url, w.email, w.pass)
	if token, err := w.signIn(ctx, url); err == nil {
		w.printf("  token     %s", token)
	} else {
		w.printf("  no token: %v", err)
	}
	w.printf("Ctrl-C stops it and throws its data away.")
	w.running.Go(func() { w.project.Watch(ctx, 300*time.Millisecond, func() { w.changed(ctx, a) }) })
	w.follow(ctx, a, url)
}

// signIn gets a token of the administrator.
func (w *workbench) signIn(ctx context.Context, url string) (string, error) {
	body, err := json.Marshal(map[string]string{"email": w.email, "password": w.pass})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/auths/signin", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	var answer struct{ Token string }
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err == nil && answer.Token == "" {
		err = fmt.Errorf("signing in: %s", resp.Status)
	}
	return answer.Token, err
}

// changed takes up what was written.
func (w *workbench) changed(ctx context.Context, a *app.App) {
	w.printf("-- changed")
	restart, err := w.project.Update(ctx)
	if err != nil {
		w.printf("-- %v", err)
		return
	}
	for _, i := range a.Plugins.List(ctx) {
		if restart && ours(i) {
			_ = a.Plugins.Restart(ctx, i.ID) // gone again: nothing to restart
		}
	}
}

// ours says whether a plugin is the one being written and does not come with the program.
func ours(i plugin.Info) bool { return !strings.HasPrefix(i.Source, "builtin:") }

// follow prints the plugin's log and what becomes of it.
func (w *workbench) follow(ctx context.Context, a *app.App, url string) {
	followed := map[string]bool{}
	var before []plugin.Status
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		if now := a.Plugins.Statuses(); !slices.Equal(now, before) {
			before = now
			for _, i := range a.Plugins.List(ctx) {
				if !ours(i) {
					continue
				}
				if !followed[i.Source] {
					followed[i.Source] = true
					w.running.Go(func() { w.log(ctx, a, i.ID) })
				}
				w.tell(i, url)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (w *workbench) log(ctx context.Context, a *app.App, id string) {
	last, more, stop, err := a.Plugins.Follow(id, 1000)
	if err != nil {
		return
	}
	defer stop()
	for _, line := range last {
		_ = cli.LogLine(w, line)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case line, ok := <-more:
			if !ok {
				return
			}
			_ = cli.LogLine(w, line)
		}
	}
}

// tell prints how the plugin is and what it offers.
func (w *workbench) tell(i plugin.Info, url string) {
	switch i.State {
	case plugin.StateReady:
	case plugin.StateStarting, plugin.StateStopping:
		return
	default:
		w.printf("-- %s is %s: %s", i.ID, i.State, i.Error)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- %s %s is ready, process %d", i.ID, i.Version, i.PID)
	for _, r := range i.Routes {
		method := r.Method
		if method == "" {
			method = "ANY"
		}
		fmt.Fprintf(&b, "\n  %-7s %s%s (%s)", method, url, r.Path, r.Access)
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"models", i.Models}, {"tools", i.Tools}, {"grants missing in plugin.json", i.Missing}} {
		if len(list.names) > 0 {
			fmt.Fprintf(&b, "\n  %s: %s", list.what, strings.Join(list.names, ", "))
		}
	}
	if i.Filter != nil {
		b.WriteString("\n  a filter")
	}
	if i.Error != "" || i.Warning != "" {
		fmt.Fprintf(&b, "\n  %s", strings.TrimSpace(i.Error+" "+i.Warning))
	}
	w.printf("%s", b.String())
}
