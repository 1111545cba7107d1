package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/app"
)

var dbCheckCommands = []*command{
	{
		name: "db check", group: "Database",
		short: "look a database over: is it whole, what is in it, what waits",
		long: `Checks the database, of this server or of Open WebUI, and the uploads in the data folder: the revision and
what it means, integrity, missing and unknown tables, documents that cannot be read, rows and files that belong to
nothing, duplicates. Counts what is there, and what this version keeps but does not serve. Only reads, and may run
beside a server of either kind; reading all of 5 GB takes a minute or two.

Exit codes: 0 sound, warnings or not; 1 damaged, or of a version that this program does not serve.`,
		flags: []flagGroup{{"Options", []setting{
			flagDataDir, flagDatabaseURL,
			{"quick", "", "", "leave out what reads every row"},
			{"json", "", "", "print the report as JSON"},
		}}},
		run: runDBCheck,
	},
}

func runDBCheck(ctx context.Context, p *program, in *input) error {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	r, err := app.CheckData(ctx, c, in.on("quick"))
	if err != nil {
		return err
	}
	if in.on("json") {
		err = json.MarshalWrite(p.out, r, jsontext.WithIndent("  "))
		if err == nil {
			_, err = fmt.Fprintln(p.out)
		}
	} else {
		err = r.WriteText(p.out)
	}
	switch {
	case err != nil:
		return err
	case r.Refused != "":
		return errors.New(r.Refused)
	case !r.Sound():
		return fmt.Errorf("the database is damaged: %s", r.Damage[0].Text)
	}
	return nil
}
