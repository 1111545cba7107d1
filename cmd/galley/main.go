// Command galley serves the HTTP API of Open WebUI, and its web interface once that is installed.
//
// This file only takes the command line apart; each command has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/config"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // something went wrong while running
	exitUsage   = 2 // the command line or a setting cannot be used; nothing was started
)

// program is what commands are given of their surroundings.
type program struct {
	lookup config.LookupFunc
	out    io.Writer // answers
	errs   io.Writer // logs and errors
	dotEnv string    // the file that variables were read from; "" for none
}

// readDotEnv puts the variables of a file into the environment, where they are not set, as the reference does: .env of the
// working directory, or GALLEY_ENV_FILE, which names none where it is empty.
func (p *program) readDotEnv() error {
	file, given := p.lookup("GALLEY_ENV_FILE")
	if !given {
		file = ".env"
	}
	if file == "" {
		return nil
	}
	variables, err := config.ReadDotEnv(file, p.lookup)
	if given && err == nil && variables == nil {
		_, err = os.Stat(file)
	}
	if err != nil {
		return fmt.Errorf("GALLEY_ENV_FILE: %w", err)
	}
	from := map[string]string{}
	for _, v := range variables {
		if _, set := p.lookup(v.Name); !set {
			from[v.Name] = v.Value // the last of a name counts
		}
	}
	for name, value := range from {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if len(from) > 0 {
		p.dotEnv = file
	}
	return nil
}

// command is one word of the command line.
type command struct {
	name  string // "up", or two words: "frontend install"
	args  string // after the name, for the help: " ID"
	least int    // how many arguments it takes
	most  int
	short string // one line
	long  string // for -h
	group string
	flags []flagGroup
	run   func(ctx context.Context, p *program, in *input) error
}

func main() {
	serveBuiltin(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the context; from then on signals have their usual effect, so that a second one ends the
	// process at once.
	context.AfterFunc(ctx, stop)
	p := &program{lookup: os.LookupEnv, out: os.Stdout, errs: os.Stderr}
	code := exitUsage
	if err := p.readDotEnv(); err != nil {
		fmt.Fprintln(p.errs, "galley:", err)
	} else {
		code = p.main(ctx, os.Args[1:])
	}
	stop()
	os.Exit(code)
}

// main runs a command line and gives the exit code.
func (p *program) main(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	var usage *usageError
	var setting *app.SettingError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.As(err, &setting):
		fmt.Fprintln(p.errs, "galley:", inFlags(err, args))
		return exitUsage
	}
	fmt.Fprintln(p.errs, "galley:", err)
	return exitFailure
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		writeHelp(p.errs)
		return &usageError{"which command?"}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		return p.help(args[1:])
	case "-v", "-version", "--version":
		args = []string{"version"}
	}
	cmd, rest := find(args)
	if cmd == nil {
		return &usageError{fmt.Sprintf("there is no command %q; galley help lists them", unknown(args))}
	}
	in, err := cmd.parse(p.lookup, rest)
	if errors.Is(err, errHelp) {
		cmd.writeHelp(p.out)
		return nil
	}
	if err != nil {
		return err
	}
	return cmd.run(ctx, p, in)
}

// usageError is a command line that cannot be used.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }
