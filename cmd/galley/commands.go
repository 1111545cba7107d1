package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
)

// commands are in the order of the help.
var commands = slices.Concat(serverCommands, dbCheckCommands, dbCopyCommands, dbBackupCommands, mfaCommands, pluginCommands, helpCommands)

var serverCommands = []*command{
	{
		name: "up", group: "Run",
		short: "start with everything set up for a first try",
		long: `Starts the server on this machine, with an SQLite database in the data folder. The web interface is
installed first if it is not there (this needs pip and a package index, once); where that fails the server says
why and starts with a small built-in page. A demo model answers until a provider is connected.`,
		flags: []flagGroup{listenFlags, dataFlags, modelFlags, runFlags},
		run:   runUp,
	},
	{
		name: "serve", group: "Run",
		short: "start the server, for production",
		long: `Starts the server with exactly the settings given. Nothing is installed and no demo model is on
unless asked for. Ready when GET /ready answers 200. SIGTERM or Ctrl-C ends it once running answers have ended; a
second one ends it at once.`,
		flags: []flagGroup{listenFlags, dataFlags, modelFlags, runFlags},
		run:   runServe,
	},
	{
		name: "frontend install", group: "Web interface",
		short: "install Open WebUI's interface from its wheel",
		long: `Takes the built interface out of the open-webui wheel, checks every file and puts it into the data folder.
The wheel is fetched with pip, with whatever index and proxy pip is set up for, unless --wheel names a file. A
running server serves it at once.`,
		flags: []flagGroup{{"Options", []setting{
			{"version", "", "V", "release to install (the one this program serves)"},
			{"wheel", "", "FILE", "a wheel file that is there already"},
			flagDataDir,
		}}},
		run: runInstall,
	},
	{
		name: "frontend verify", group: "Web interface",
		short: "check every file of the installed interface",
		long:  `Compares the installed files with the digests taken at installation; exit code 1 where one differs.`,
		flags: []flagGroup{{"Options", []setting{flagDataDir, flagFrontendDir}}},
		run:   runVerify,
	},
}

var helpCommands = []*command{
	{
		name: "version", group: "Help",
		short: "print the version",
		long:  "Prints the version of the program, of the toolchain, and of the API it serves.",
		run:   runVersion,
	},
}

func runVersion(_ context.Context, p *program, _ *input) error {
	release, revision := version()
	if revision != "" {
		release += " (" + revision + ")"
	}
	_, err := fmt.Fprintf(p.out, "galley %s, %s %s/%s, API of Open WebUI %s\n", release, runtime.Version(), runtime.GOOS, runtime.GOARCH, config.Version)
	return err
}

// find gives the command that args begin with, and the rest; nil where there is none.
func find(args []string) (*command, []string) {
	for _, c := range commands {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c, args[len(words):]
		}
	}
	// "galley frontend -h" is about all commands that begin so.
	if len(args) == 2 && isHelp(args[1]) || len(args) == 1 {
		if group := below(args[0]); len(group) > 0 {
			return groupHelp(args[0], group), []string{"-h"}
		}
	}
	return nil, nil
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func below(word string) []*command {
	var out []*command
	for _, c := range commands {
		if strings.HasPrefix(c.name, word+" ") {
			out = append(out, c)
		}
	}
	return out
}

// groupHelp is a command that has nothing but help.
func groupHelp(word string, group []*command) *command {
	var b strings.Builder
	for _, c := range group {
		fmt.Fprintf(&b, "  galley %-20s %s\n", c.name, c.short)
	}
	return &command{name: word, args: " COMMAND", long: strings.TrimRight(b.String(), "\n")}
}

// unknown is the part of a command line that names no command.
func unknown(args []string) string {
	if len(args) > 1 && len(below(args[0])) > 0 {
		return args[0] + " " + args[1]
	}
	return args[0]
}

// help is galley help [command].
func (p *program) help(args []string) error {
	if len(args) == 0 {
		writeHelp(p.out)
		return nil
	}
	c, _ := find(args)
	if c == nil {
		return &usageError{fmt.Sprintf("there is no command %q; galley help lists them", strings.Join(args, " "))}
	}
	c.writeHelp(p.out)
	return nil
}

func writeHelp(w io.Writer) {
	fmt.Fprint(w, "Galley serves the API of Open WebUI "+config.Version+" from one program, with its web interface, its clients and its database.\n\n"+
		"Usage:  galley COMMAND [flags]\n")
	group := ""
	for _, c := range commands {
		if c.group != group {
			group = c.group
			fmt.Fprintf(w, "\n%s\n", group)
		}
		fmt.Fprintf(w, "  %-18s %s\n", c.name, c.short)
	}
	fmt.Fprintf(w, "  %-18s %s\n", "help [COMMAND]", "this text, or all about a command (as COMMAND -h)")
	fmt.Fprint(w, "\nSettings come from environment variables with the names Open WebUI uses (DATA_DIR, DATABASE_URL, OPENAI_API_KEY, …);\n"+
		"flags go before them, and those of a file .env in the working directory (GALLEY_ENV_FILE) behind. Most can be changed later in the administration of the web interface.\n\n"+
		"Exit codes: 0 ended as asked, 1 something failed, 2 bad command line or setting.\n")
}

func (c *command) writeHelp(w io.Writer) {
	fmt.Fprintf(w, "Usage:  galley %s%s", c.name, c.args)
	if len(c.flags) > 0 {
		fmt.Fprint(w, " [flags]")
	}
	fmt.Fprintf(w, "\n\n%s\n", c.long)
	for _, g := range c.flags {
		fmt.Fprintf(w, "\n%s\n", g.title)
		for _, s := range g.flags {
			fmt.Fprintf(w, "  %-26s %-23s  %s\n", strings.TrimSpace(s.dashed()+" "+s.value), s.env, s.usage)
		}
	}
}
