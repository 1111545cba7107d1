package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/frontend"
)

func runServe(ctx context.Context, p *program, in *input) error {
	c, err := p.config(in)
	if err != nil {
		return err
	}
	return app.Run(ctx, c)
}

// config reads the settings of a server and sets up the process for it.
func (p *program) config(in *input) (app.Config, error) {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return c, err
	}
	c.Version, c.Revision = version()
	c.Log, c.EnvFile = p.errs, p.dotEnv
	if err := useBuiltins(&c); err != nil {
		return c, err
	}
	app.TuneMemory(in.lookup)
	c.Ready = func(a *app.App, _ string) { slog.SetDefault(a.Log) } // for packages without a logger of their own
	return c, nil
}

// runUp is serve with the conveniences of a first try.
func runUp(ctx context.Context, p *program, in *input) error {
	in.fallback("HOST", "127.0.0.1")
	in.fallback("GALLEY_DEMO", "true")
	in.fallback("GLOBAL_LOG_LEVEL", "WARNING")
	c, err := p.config(in)
	if err != nil {
		return err
	}
	if err := app.CheckDatabase(ctx, c.Env); err != nil {
		return err
	}
	if frontend.Find(c.Env.DataDir, c.Env.FrontendDir) == "" {
		fmt.Fprintf(p.out, "Installing the web interface (Open WebUI %s) into %s, once …\n", frontend.DefaultVersion, frontend.Dir(c.Env.DataDir))
		_, err := install(ctx, p.out, frontend.InstallOptions{Dir: frontend.Dir(c.Env.DataDir)})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			fmt.Fprintf(p.out, "The web interface could not be installed: %v\nStarting all the same, with the small built-in page.\n", err)
		}
	}
	c.Ready = func(a *app.App, url string) {
		slog.SetDefault(a.Log) // for packages without a logger of their own
		p.announce(a, url)
	}
	return app.Run(ctx, c)
}

// announce prints where the server is and what it works with.
func (p *program) announce(a *app.App, url string) {
	ui := "built-in page; galley frontend install fetches the full one"
	if dir := a.Site.Path(); dir != "" {
		ui = "Open WebUI's, from " + dir
	}
	model := "those of the connections in the settings"
	if a.Config.Demo {
		model = "galley-demo (built in), and " + model
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nGalley is running:\t%s\n", url)
	fmt.Fprintf(w, "  data\t%s\n", a.Env.DataDir)
	fmt.Fprintf(w, "  database\t%s\n", a.DB.URL())
	fmt.Fprintf(w, "  interface\t%s\n", ui)
	fmt.Fprintf(w, "  models\t%s\n", model)
	_ = w.Flush()
	fmt.Fprint(p.out, "The first account that signs up is the administrator. Ctrl-C stops.\n")
}

// install runs an installation and prints how far it is: a line for each stage, and one for every tenth or few seconds.
func install(ctx context.Context, out io.Writer, o frontend.InstallOptions) (frontend.Installed, error) {
	var stage frontend.Stage
	var last time.Time
	o.Progress = func(p frontend.Progress) {
		if p.Stage == stage && time.Since(last) < 2*time.Second {
			return
		}
		stage, last = p.Stage, time.Now()
		switch {
		case p.Stage == frontend.StageDone:
			fmt.Fprintln(out, "  done")
		case p.Total > 0:
			fmt.Fprintf(out, "  %s %d of %d MB\n", p.Stage, p.Done>>20, p.Total>>20)
		case p.Done > 0:
			fmt.Fprintf(out, "  %s %d MB\n", p.Stage, p.Done>>20)
		default:
			fmt.Fprintf(out, "  %s\n", p.Stage)
		}
	}
	return frontend.Install(ctx, o)
}

// runInstall is galley frontend install.
func runInstall(ctx context.Context, p *program, in *input) error {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	wheel := in.options["wheel"]
	if wheel != "" {
		if _, err := os.Stat(wheel); err != nil {
			return &usageError{"--wheel: " + err.Error()}
		}
	}
	done, err := install(ctx, p.out, frontend.InstallOptions{
		Dir: frontend.Dir(c.Env.DataDir), Version: in.options["version"], Wheel: wheel,
	})
	if err != nil {
		return err
	}
	what := "Installed"
	if !done.Fresh {
		what = "Already installed:"
	}
	fmt.Fprintf(p.out, "%s Open WebUI %s, %d files, %d MB, in %s\n", what, done.Version, done.Files, done.Bytes>>20, done.Path)
	return nil
}

// runVerify is galley frontend verify.
func runVerify(ctx context.Context, p *program, in *input) error {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	dir := frontend.Find(c.Env.DataDir, c.Env.FrontendDir)
	if dir == "" {
		return fmt.Errorf("%w in %s; galley frontend install makes one", frontend.ErrNotInstalled, frontend.Dir(c.Env.DataDir))
	}
	m, err := frontend.Verify(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "Open WebUI %s in %s is whole: %d files, %d MB\n", m.Version, dir, m.Files, m.Bytes>>20)
	return nil
}

// buildVersion is set by the linker: -ldflags "-X main.buildVersion=1.2.3".
var buildVersion string

// version is the release of this program and the commit it was built from, as far as the build says.
func version() (release, revision string) {
	release = buildVersion
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release, ""
	}
	if release == "" {
		release = strings.Trim(info.Main.Version, "()")
	}
	modified := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	return release, revision + modified
}
