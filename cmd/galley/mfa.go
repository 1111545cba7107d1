package main

import (
	"context"
	"fmt"

	"github.com/galleychat/galley/core/app"
)

var mfaCommands = []*command{
	{
		name: "mfa reset", group: "Accounts", args: " EMAIL", least: 1, most: 1,
		short: "let somebody who lost their second factor set up another",
		long: `Removes the second factor and the recovery codes of an account, ends its sessions, and prints a token that is good
once, for half an hour. Make sure first who asks, and hand the token over on a way that nobody else can read: whoever
has it and the password may set up a new factor. Works on the database itself, whether or not a server runs.`,
		flags: []flagGroup{{"Options", []setting{
			{"reason", "", "TEXT", "why, for the log; has to be given"},
			flagDataDir, flagDatabaseURL,
		}}},
		run: runMFAReset,
	},
}

func runMFAReset(ctx context.Context, p *program, in *input) error {
	if in.options["reason"] == "" {
		return &usageError{"mfa reset: --reason has to say why"}
	}
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	c.Log = p.errs
	token, err := app.ResetFactor(ctx, c, in.args[0], in.options["reason"])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "Recovery token, good for 30 minutes. Hand it to the person you have verified, and to nobody else:\n%s\n", token)
	return err
}
