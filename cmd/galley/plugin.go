package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/control"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/plugin/cli"
	"github.com/galleychat/galley/sdk/scaffold"
)

var (
	flagPluginsDir = setting{"plugins-dir", "PLUGINS_DIR", "DIR", "folder of the plugins (plugins in the data folder)"}
	flagJSON       = setting{"json", "", "", "print JSON, for programs"}
)

// pluginFlags say where the plugins are.
var pluginFlags = flagGroup{"Which server", []setting{
	flagDataDir,
	flagPluginsDir,
	{"url", "GALLEY_URL", "URL", "a server elsewhere, with an administrator's API key or token in GALLEY_TOKEN"},
}}

const aboutServer = " By way of the server that runs with this data folder, or that --url names."

var pluginCommands = []*command{
	{
		name: "plugin list", group: "Plugins",
		short: "list plugins and how they are",
		long:  "Lists the plugins: state, process, memory, and what is wrong with them." + aboutServer,
		flags: []flagGroup{{"Options", []setting{flagJSON}}, pluginFlags},
		run:   runPluginList,
	},
	{
		name: "plugin enable", group: "Plugins", args: " ID", least: 1, most: 1,
		short: "enable a plugin, for good",
		long:  "Enables a plugin and waits for it to be ready; exit code 1 if it does not get there." + aboutServer,
		flags: []flagGroup{{"Options", []setting{flagJSON}}, pluginFlags},
		run: changePlugin(func(ctx context.Context, on cli.Plugins, id string) (plugin.Info, error) {
			return on.SetEnabled(ctx, id, true)
		}),
	},
	{
		name: "plugin disable", group: "Plugins", args: " ID", least: 1, most: 1,
		short: "disable a plugin, for good",
		long:  "Disables a plugin, which ends once its calls have ended." + aboutServer,
		flags: []flagGroup{{"Options", []setting{flagJSON}}, pluginFlags},
		run: changePlugin(func(ctx context.Context, on cli.Plugins, id string) (plugin.Info, error) {
			return on.SetEnabled(ctx, id, false)
		}),
	},
	{
		name: "plugin restart", group: "Plugins", args: " ID", least: 1, most: 1,
		short: "give a plugin a new process",
		long:  "Starts a plugin's process anew; the old one ends its calls. One that was given up is tried again." + aboutServer,
		flags: []flagGroup{{"Options", []setting{flagJSON}}, pluginFlags},
		run: changePlugin(func(ctx context.Context, on cli.Plugins, id string) (plugin.Info, error) {
			return on.Restart(ctx, id)
		}),
	},
	{
		name: "plugin logs", group: "Plugins", args: " ID", least: 1, most: 1,
		short: "print what a plugin wrote",
		long:  "Prints the last lines of a plugin's log." + aboutServer,
		flags: []flagGroup{{"Options", []setting{
			{"n", "", "N", "how many lines (100)"},
			{"f", "", "", "go on with those that come, until Ctrl-C"},
			flagJSON,
		}}, pluginFlags},
		run: runPluginLogs,
	},
	{
		name: "plugin verify", group: "Plugins", args: " [ID…]", most: 1000,
		short: "compare plugins with their pinned digests",
		long: `Compares the files of plugins, or of all, with the digests in their plugin.json; exit code 1 where one differs.
With --write it pins the files as they are now instead: those of the plugins named, or of folders of plugins.` + aboutServer,
		flags: []flagGroup{{"Options", []setting{{"write", "", "", "write the digests into plugin.json"}, flagJSON}}, pluginFlags},
		run:   runPluginVerify,
	},
	{
		name: "plugin install", group: "Plugins", args: " PATH", least: 1, most: 1,
		short: "install a folder, archive or executable",
		long: `Installs a folder with a plugin.json, a .tar.gz or .zip archive of one, or a single executable, for which a
plugin.json is made that pins it. A running server starts it at once; exit code 1 if it does not get ready.` + aboutServer,
		flags: []flagGroup{{"Options", []setting{
			{"sha256", "", "DIGEST", "refuse an archive or an executable with another SHA-256"},
			{"replace", "", "", "take the place of the installed one: an upgrade"},
			{"id", "", "ID", "id of a single executable (its file's name)"},
			{"grant", "", "NAME,…", "what a single executable may use: " + strings.Join(plugin.Grants, ", ")},
			flagJSON,
		}}, pluginFlags},
		run: runPluginInstall,
	},
	{
		name: "plugin remove", group: "Plugins", args: " ID", least: 1, most: 1,
		short: "uninstall a plugin",
		long:  "Ends a plugin and removes it. What it has stored and how it was configured stays." + aboutServer,
		flags: []flagGroup{pluginFlags},
		run:   runPluginRemove,
	},
	{
		name: "plugin new", group: "Plugins", args: " NAME", least: 1, most: 1,
		short: "begin a plugin",
		long:  "Makes a folder with a plugin that runs, its test and its plugin.json.",
		flags: []flagGroup{{"Options", []setting{
			{"lang", "", "LANG", strings.Join(scaffold.Languages, " or ") + " (" + scaffold.Languages[0] + ")"},
			{"dir", "", "DIR", "folder to make (./NAME)"},
			{"sdk", "", "DIR", "a checkout of Galley to take the SDK from"},
		}}},
		run: runPluginNew,
	},
	{
		name: "plugin run", group: "Plugins", args: " DIR", least: 1, most: 1,
		short: "run a plugin while it is written",
		long: `Starts a server of its own for a plugin, with data that is thrown away at the end, and prints how to call it. A Go
program is built first; whenever its files or those of a Python program change, the plugin is built and started anew.`,
		flags: []flagGroup{{"Options", []setting{
			{"port", "PORT", "N", "port to listen on (a free one)"},
			{"log-level", "GLOBAL_LOG_LEVEL", "LEVEL", "of the server: DEBUG, INFO, WARNING or ERROR (WARNING)"},
		}}},
		run: runPluginRun,
	},
	{
		name: "plugin digest", group: "Plugins", args: " PATH", least: 1, most: 1,
		short: "print the SHA-256 to pin",
		long:  "Prints the SHA-256 of a file, or of those files of a plugin's folder that its plugin.json can pin.",
		run:   runPluginDigest,
	},
}

// plugins finds the plugins that a command is about: of the server that is named, of the one that runs, or of none.
func (p *program) plugins(ctx context.Context, in *input) (cli.Plugins, app.Config, error) {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return nil, c, err
	}
	if url, _ := in.lookup("GALLEY_URL"); url != "" {
		token, _ := in.lookup("GALLEY_TOKEN")
		if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
			return nil, c, &usageError{"GALLEY_URL=" + url + ": an address such as https://chat.example.com is needed"}
		}
		if token == "" {
			return nil, c, &usageError{"GALLEY_TOKEN: an administrator's API key or token is needed"}
		}
		return &cli.Client{URL: url, Token: token, HTTP: http.DefaultClient}, c, nil
	}
	client, err := control.Connect(ctx, c.Env.DataDir)
	if errors.Is(err, control.ErrNoServer) {
		return &cli.Folder{Env: c.Env, RequireChecksum: c.RequireChecksum}, c, nil
	}
	if err != nil {
		return nil, c, fmt.Errorf("find the running server: %w", err)
	}
	return &cli.Client{URL: "http://galley", HTTP: client, Local: true}, c, nil
}

// notRunning says that a command worked without a server.
func (p *program) notRunning(on cli.Plugins) {
	if _, alone := on.(*cli.Folder); alone {
		fmt.Fprintln(p.errs, "Galley is not running; this is of the plugins folder alone.")
	}
}

func runPluginList(ctx context.Context, p *program, in *input) error {
	on, _, err := p.plugins(ctx, in)
	if err != nil {
		return err
	}
	list, err := on.List(ctx)
	if err != nil {
		return err
	}
	p.notRunning(on)
	if in.on("json") {
		return cli.JSON(p.out, list)
	}
	return cli.Table(p.out, list)
}

// changePlugin is a command that changes the state of a plugin.
func changePlugin(change func(context.Context, cli.Plugins, string) (plugin.Info, error)) func(context.Context, *program, *input) error {
	return func(ctx context.Context, p *program, in *input) error {
		on, _, err := p.plugins(ctx, in)
		if err != nil {
			return err
		}
		i, err := change(ctx, on, in.args[0])
		if err != nil {
			return err
		}
		return p.outcome(on, in, i)
	}
}

func (p *program) outcome(on cli.Plugins, in *input, i plugin.Info) error {
	p.notRunning(on)
	if !in.on("json") {
		return cli.Outcome(p.out, i)
	}
	return errors.Join(cli.JSON(p.out, i), cli.Outcome(p.errs, i))
}

func runPluginLogs(ctx context.Context, p *program, in *input) error {
	n := 100
	if text, ok := in.options["n"]; ok {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return &usageError{"plugin logs: -n takes a number of lines"}
		}
	}
	on, _, err := p.plugins(ctx, in)
	if err != nil {
		return err
	}
	return on.Logs(ctx, in.args[0], n, in.on("f"), func(line plugin.Line) error {
		if in.on("json") {
			return cli.JSONLine(p.out, line)
		}
		return cli.LogLine(p.out, line)
	})
}

func runPluginVerify(ctx context.Context, p *program, in *input) error {
	on, c, err := p.plugins(ctx, in)
	if err != nil {
		return err
	}
	ids := in.args
	if len(ids) == 0 {
		list, err := on.List(ctx)
		if err != nil {
			return err
		}
		for _, i := range list {
			ids = append(ids, i.ID)
		}
	}
	if in.on("write") {
		return p.writeDigests(c, in.args)
	}
	p.notRunning(on)
	results := []plugin.Verification{}
	failed := 0
	for _, id := range ids {
		v, err := on.Verify(ctx, id)
		if err != nil {
			return err
		}
		if results = append(results, v); !v.OK {
			failed++
		}
		if !in.on("json") {
			if err := cli.Checked(p.out, v); err != nil {
				return err
			}
		}
	}
	if in.on("json") {
		if err := cli.JSON(p.out, results); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d plugins are not what was pinned", failed, len(results))
	}
	return nil
}

// writeDigests pins plugins, which are named by id or by their folder.
func (p *program) writeDigests(c app.Config, names []string) error {
	if len(names) == 0 {
		return &usageError{"plugin verify: --write takes the plugins to pin"}
	}
	for _, name := range names {
		dir := name
		if !strings.ContainsRune(name, filepath.Separator) {
			path, err := plugin.Folder{Dir: c.Env.PluginsDir}.Path(name)
			if err == nil {
				dir = path
			}
		}
		pins, err := plugin.WriteDigests(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(p.out, "%s: %d files pinned\n", name, len(pins))
	}
	return nil
}

func runPluginInstall(ctx context.Context, p *program, in *input) error {
	path, err := filepath.Abs(in.args[0])
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	o := plugin.Installation{SHA256: in.options["sha256"], Replace: in.on("replace"), ID: in.options["id"]}
	for grant := range strings.SplitSeq(in.options["grant"], ",") {
		if grant = strings.TrimSpace(grant); grant == "" {
			continue
		}
		if !slices.Contains(plugin.Grants, grant) {
			return &usageError{fmt.Sprintf("plugin install: --grant %s is none of %s", grant, strings.Join(plugin.Grants, ", "))}
		}
		o.Grants = append(o.Grants, grant)
	}
	if info.IsDir() && (o.SHA256 != "" || len(o.Grants) > 0) {
		return &usageError{"plugin install: --sha256 and --grant are for files; of a folder they stand in its plugin.json"}
	}
	on, _, err := p.plugins(ctx, in)
	if err != nil {
		return err
	}
	i, err := on.Install(ctx, path, o)
	if err != nil {
		return err
	}
	return p.outcome(on, in, i)
}

func runPluginRemove(ctx context.Context, p *program, in *input) error {
	on, _, err := p.plugins(ctx, in)
	if err != nil {
		return err
	}
	if err := on.Remove(ctx, in.args[0]); err != nil {
		return err
	}
	p.notRunning(on)
	_, err = fmt.Fprintf(p.out, "%s is removed\n", in.args[0])
	return err
}

func runPluginNew(_ context.Context, p *program, in *input) error {
	name, lang, dir := in.args[0], in.options["lang"], in.options["dir"]
	if lang == "" {
		lang = scaffold.Languages[0]
	}
	if dir == "" {
		dir = name
	}
	if err := scaffold.New(dir, name, lang, scaffold.Options{SDKPath: in.options["sdk"]}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "Made %s. Its README.md says how to go on; galley plugin run %s tries it.\n", dir, dir)
	return err
}

func runPluginDigest(_ context.Context, p *program, in *input) error {
	pins, err := plugin.Digests(in.args[0])
	if err != nil {
		return err
	}
	for _, pin := range pins {
		if _, err := fmt.Fprintf(p.out, "%s  %s\n", pin.SHA256, pin.Name); err != nil {
			return err
		}
	}
	return nil
}
