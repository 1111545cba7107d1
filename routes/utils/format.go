package utils

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/python"
)

// blackVersion is the formatter that is installed where the machine has none: the reference's.
const (
	blackVersion = "26.5.1"
	blackName    = "black-" + blackVersion
)

const (
	maxCode       = 1 << 20 // bytes
	formatTimeout = 30 * time.Second
)

var errNoFormatter = errors.New("no formatter for Python was found: install black or ruff on the server, or python3 with pip, by which it gets black itself")

// formatter formats Python with a program of the machine, or with one that it has pip install into a folder.
type formatter struct {
	installer *python.Installer

	mu      sync.Mutex
	command *python.Command // nil until one was found
}

// format gives code in the form that black gives it. Errors are for the caller to read.
func (f *formatter) format(ctx context.Context, code string) (string, error) {
	if len(code) > maxCode {
		return "", fmt.Errorf("the code is longer than %d bytes", maxCode)
	}
	cmd, err := f.find(ctx)
	if err != nil {
		return "", err
	}
	limited, cancel := context.WithTimeout(ctx, formatTimeout)
	defer cancel()
	out, stderr, err := cmd.Run(limited, strings.NewReader(code))
	switch {
	case err == nil:
		return out, nil
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return "", errors.New("formatting the code took too long")
	}
	if !errors.As(err, new(*exec.ExitError)) {
		f.forget(cmd) // the program is gone
		return "", fmt.Errorf("the formatter does not run: %w", err)
	}
	message := strings.TrimSpace(stderr)
	if _, rest, ok := strings.Cut(message, "cannot format -: "); ok {
		message = rest
	}
	if message == "" {
		message = err.Error()
	}
	return "", errors.New(message)
}

func (f *formatter) forget(c *python.Command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.command == c {
		f.command = nil
	}
}

// blackArgs have black read standard input, look at nobody's settings, and leave out its own double check, as its API does.
var blackArgs = []string{"-q", "--fast", "--config", os.DevNull, "-"}

// find gives the program to format with, and installs one if the machine has none.
func (f *formatter) find(ctx context.Context) (*python.Command, error) {
	if c, err := f.known(ctx); c != nil || err != nil {
		return c, err
	}
	interpreter, err := python.Find("")
	if err != nil {
		return nil, errNoFormatter
	}
	err = f.installer.Install(ctx, python.Wish{
		Name: blackName, Python: interpreter, Packages: []string{"black==" + blackVersion},
		Check: func(ctx context.Context) error {
			if f.present(ctx) == nil {
				return errNoFormatter
			}
			return nil
		},
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, python.ErrOffline):
		return nil, errNoFormatter
	case err != nil:
		return nil, fmt.Errorf("%w (installing black failed)", errNoFormatter)
	}
	if c, err := f.known(ctx); c != nil || err != nil {
		return c, err
	}
	return nil, errNoFormatter
}

// known gives the program that was found before or is there now.
func (f *formatter) known(ctx context.Context) (*python.Command, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.command == nil {
		f.command = f.present(ctx)
	}
	return f.command, ctx.Err()
}

// present finds what the machine or an earlier installation has.
func (f *formatter) present(ctx context.Context) *python.Command {
	var list []*python.Command
	if path, err := exec.LookPath("black"); err == nil {
		list = append(list, &python.Command{Args: append([]string{path}, blackArgs...)})
	}
	if interpreter, err := python.Find(""); err == nil {
		module := append([]string{interpreter, "-m", "black"}, blackArgs...)
		list = append(list, &python.Command{Args: module})
		if f.installer.Has(blackName) {
			list = append(list, &python.Command{Args: module, Env: []string{"PYTHONPATH=" + f.installer.Path(blackName)}})
		}
	}
	if path, err := exec.LookPath("ruff"); err == nil {
		list = append(list, &python.Command{Args: []string{path, "format", "--isolated", "--quiet", "--no-cache", "-"}})
	}
	for _, c := range list {
		limited, cancel := context.WithTimeout(ctx, formatTimeout)
		out, _, err := c.Run(limited, strings.NewReader("x=1\n"))
		cancel()
		if err == nil && out == "x = 1\n" {
			return c
		}
	}
	return nil
}
