package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/config"
)

var errHelp = errors.New("help wanted")

// setting is a flag. One with a variable is laid over the environment, so that both are checked and explained in one
// place; others are options of their command.
type setting struct {
	flag  string // without dashes
	env   string // variable it stands for; "" for none
	value string // what the help calls its value; "" for a switch
	usage string
}

// flagGroup is a heading in the help and the flags below it.
type flagGroup struct {
	title string
	flags []setting
}

var (
	flagDataDir     = setting{"data-dir", "DATA_DIR", "DIR", "folder of the database, uploads and the installed frontend (./data)"}
	flagDatabaseURL = setting{"database-url", "DATABASE_URL", "URL", "sqlite:////path/webui.db or postgresql://user@host/name (webui.db in the data folder)"}
	flagFrontendDir = setting{"frontend-dir", "FRONTEND_BUILD_DIR", "DIR", "a built frontend to serve instead of the installed one"}
	flagDemo        = setting{"demo", "GALLEY_DEMO", "", "offer the built-in demo model, which needs no provider"}
)

var listenFlags = flagGroup{"Where to listen", []setting{
	{"host", "HOST", "ADDR", "address to listen on (0.0.0.0; up: 127.0.0.1)"},
	{"port", "PORT", "N", "port to listen on; 0 takes a free one (8080)"},
}}

var dataFlags = flagGroup{"Data", []setting{
	flagDataDir,
	flagDatabaseURL,
	flagFrontendDir,
}}

var modelFlags = flagGroup{"Models", []setting{
	{"openai-url", "OPENAI_API_BASE_URL", "URL", "OpenAI-compatible server, with its key in OPENAI_API_KEY; first start only"},
	{"ollama-url", "OLLAMA_BASE_URL", "URL", "Ollama server; first start only"},
	flagDemo,
}}

var runFlags = flagGroup{"Running", []setting{
	{"log-level", "GLOBAL_LOG_LEVEL", "LEVEL", "DEBUG, INFO, WARNING or ERROR (INFO)"},
	{"log-format", "LOG_FORMAT", "FORMAT", "text or json (text)"},
	{"metrics", "GALLEY_METRICS", "", "Prometheus metrics at /metrics (on; --metrics=false)"},
	{"shutdown-timeout", "GALLEY_SHUTDOWN_TIMEOUT", "SECONDS", "time for running answers to end after SIGTERM (8)"},
}}

// input is a command line taken apart.
type input struct {
	lookup  config.LookupFunc // the environment with the flags over it
	options map[string]string // flags that stand for no variable, if given
	args    []string          // what is no flag
}

// fallback gives a variable a value where neither a flag nor the environment has one.
func (in *input) fallback(name, value string) {
	next := in.lookup
	in.lookup = func(n string) (string, bool) {
		v, ok := next(n)
		if n == name && (!ok || v == "") {
			return value, true
		}
		return v, ok
	}
}

// on says whether a switch is given.
func (in *input) on(name string) bool {
	on, err := strconv.ParseBool(in.options[name])
	return on && err == nil
}

// parse reads the flags of a command, before and behind its arguments, as many as it takes.
func (c *command) parse(lookup config.LookupFunc, args []string) (*input, error) {
	in := &input{lookup: lookup, options: map[string]string{}}
	over := map[string]string{}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, s := range c.settings() {
		take := func(v string) error {
			if s.env == "" {
				in.options[s.flag] = v
			} else {
				over[s.env] = v
			}
			return nil
		}
		if s.value == "" {
			fs.BoolFunc(s.flag, s.usage, take)
		} else {
			fs.Func(s.flag, s.usage, take)
		}
	}
	for rest := args; ; rest = fs.Args()[1:] {
		switch err := fs.Parse(rest); {
		case errors.Is(err, flag.ErrHelp):
			return nil, errHelp
		case err != nil:
			return nil, &usageError{fmt.Sprintf("%s: %v; galley %s -h lists its flags", c.name, err, c.name)}
		}
		if fs.NArg() == 0 {
			break
		}
		if read := len(rest) - fs.NArg(); read > 0 && rest[read-1] == "--" { // flags end here
			in.args = append(in.args, fs.Args()...)
			break
		}
		in.args = append(in.args, fs.Arg(0))
	}
	switch n := len(in.args); {
	case n < c.least:
		return nil, &usageError{fmt.Sprintf("%s: what is missing is%s; galley %s -h explains it", c.name, c.args, c.name)}
	case n > c.most:
		return nil, &usageError{fmt.Sprintf("%s: unexpected %q; galley %s -h explains it", c.name, in.args[c.most], c.name)}
	}
	in.lookup = func(name string) (string, bool) {
		if v, ok := over[name]; ok {
			return v, true
		}
		return lookup(name)
	}
	return in, nil
}

func (c *command) settings() []setting {
	var all []setting
	for _, g := range c.flags {
		all = append(all, g.flags...)
	}
	return all
}

// inFlags words an error about variables that flags gave in terms of those flags.
func inFlags(err error, args []string) string {
	parts := strings.Split(err.Error(), "; ")
	for i, part := range parts {
		for _, g := range []flagGroup{listenFlags, dataFlags, modelFlags, runFlags, pluginFlags} {
			for _, s := range g.flags {
				if rest, ok := strings.CutPrefix(part, s.env); ok && strings.ContainsAny(rest[:min(1, len(rest))], "=:") && slices.ContainsFunc(args, s.is) {
					parts[i] = "--" + s.flag + rest
				}
			}
		}
	}
	return strings.Join(parts, "; ")
}

// dashed is the flag as it is written.
func (s setting) dashed() string {
	if len(s.flag) == 1 {
		return "-" + s.flag
	}
	return "--" + s.flag
}

// is says whether an argument is this flag.
func (s setting) is(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return strings.HasPrefix(arg, "-") && name == s.flag
}
