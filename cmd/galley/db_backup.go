package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/backup"
)

var dbBackupCommands = []*command{
	{
		name: "db backup", group: "Database",
		short: "copy the database and the uploads into one file",
		long: `Writes the database and the data folder into one file, of mode 0600, while the server goes on working; Galley's or
Open WebUI's. The database is of one moment, and every upload that it knows is there. Left out is what can be had again:
the web interface, Python packages, models for embedding and speech, spoken answers. The backup of an SQLite database can
be restored into Postgres, and the other way round. Unpacked by hand with tar it is a data folder.`,
		flags: []flagGroup{{"Options", []setting{
			{"to", "", "FILE", "file to make; - writes to the standard output (galley-backup-DATE-TIME.tar.gz in the working directory)"},
			{"compress", "", "HOW", "gzip or none (gzip)"},
			{"database-only", "", "", "leave the data folder out"},
			{"without-secret-key", "", "", "leave .webui_secret_key out: who has the backup cannot make sessions then"},
			flagDataDir, flagDatabaseURL,
		}}},
		run: runBackup,
	},
	{
		name: "db restore", group: "Database", args: " FILE", least: 1, most: 1,
		short: "put a backup in place of what there is",
		long: `Reads a backup to its end, and refuses it where anything is wrong with it before it changes anything. Then it is
unpacked beside the data and put in place by renaming. Stop the server first. Where there are data already, --force moves
them into a folder before-restore-TIME in the data folder, which is one itself. A Postgres database has to be empty. A
restore that was interrupted is completed by the same command once more; no server starts until then.`,
		flags: []flagGroup{{"Options", []setting{
			{"force", "", "", "move what is there aside"},
			flagDataDir, flagDatabaseURL,
		}}},
		run: runRestore,
	},
	{
		name: "db verify", group: "Database", args: " FILE", least: 1, most: 1,
		short: "check a backup and say what is in it",
		long:  `Reads a backup to its end and compares every file in it with its digest; exit code 1 where one differs.`,
		run:   runVerifyBackup,
	},
}

// meter prints how far a work is: a line for each stage, and one every few seconds.
func meter(w io.Writer) func(backup.Progress) {
	stage, last := "", time.Now()
	return func(p backup.Progress) {
		if p.Stage == stage && time.Since(last) < 2*time.Second {
			return
		}
		stage, last = p.Stage, time.Now()
		if p.Total > 0 {
			fmt.Fprintf(w, "  %s, %d of %d MB\n", p.Stage, p.Done>>20, p.Total>>20)
		} else {
			fmt.Fprintf(w, "  %s\n", p.Stage)
		}
	}
}

func runBackup(ctx context.Context, p *program, in *input) error {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	release, _ := version()
	o := backup.Options{
		DataDir: c.Env.DataDir, DatabaseURL: c.Env.Database.URL, PostgresSchema: c.Env.Database.Schema, Version: release,
		File: in.options["to"], Compress: in.options["compress"], DatabaseOnly: in.on("database-only"), WithoutSecretKey: in.on("without-secret-key"),
	}
	suffix := ".tar.gz"
	switch o.Compress {
	case "", "gzip":
	case "none":
		suffix = ".tar"
	default:
		return &usageError{"db backup: --compress is gzip or none"}
	}
	say := p.out
	switch o.File {
	case "-":
		o.Out, say = p.out, p.errs
	case "":
		o.File = "galley-backup-" + time.Now().Format("20060102-150405") + suffix
	}
	backup.LowPriority()
	debug.SetGCPercent(25) // most of what is held at a time is soon let go
	o.Progress = meter(say)
	r, err := backup.Make(ctx, o)
	if err != nil {
		return explain(ctx, err)
	}
	fmt.Fprintf(say, "Backup of %s: database of %s, %d files, %d MB, as %d MB in %s\n",
		o.DataDir, r.Made.Local().Format(time.DateTime), r.Files(), r.Bytes()>>20, r.Size>>20, place(r.File))
	if !r.DatabaseOnly && !r.SecretKey {
		fmt.Fprintln(say, "The secret key is not in it. Keep WEBUI_SECRET_KEY: with another key everybody has to sign in again, and stored tokens of other services cannot be read.")
	}
	if !r.DatabaseOnly && !strings.HasPrefix(c.Env.PluginsDir, o.DataDir+string(filepath.Separator)) {
		fmt.Fprintf(say, "Plugins are in %s, outside of the data folder, and not in it.\n", c.Env.PluginsDir)
	}
	if r.Remote > 0 {
		fmt.Fprintf(say, "%d uploads are in an object storage and not in the backup.\n", r.Remote)
	}
	few(say, "Left out, since they are neither files nor folders or have no proper name:", r.Skipped, most)
	tellManifest(say, &r.Manifest, most)
	return nil
}

func place(file string) string {
	if file == "-" {
		return "the standard output"
	}
	return file
}

// most is how many lines of a kind are printed, where galley db verify prints them all.
const most = 20

// tellManifest prints what is missing of a backup, or not as it was.
func tellManifest(w io.Writer, m *backup.Manifest, limit int) {
	lines := make([]string, len(m.Missing))
	for i, l := range m.Missing {
		lines[i] = l.ID + " " + strconv.Quote(l.Name) + ", " + l.Path
	}
	few(w, fmt.Sprintf("Uploads that the database has and the disk had not (%d):", len(lines)), lines, limit)
	few(w, "Of the database:", m.Notes, limit)
	few(w, "Written to while they were copied, so that they may not be whole:", m.Changed, limit)
}

// few prints lines, up to a limit.
func few(w io.Writer, title string, lines []string, limit int) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for i, l := range lines {
		if i == limit {
			fmt.Fprintf(w, "  and %d more\n", len(lines)-i)
			break
		}
		fmt.Fprintln(w, "  "+l)
	}
}

func runRestore(ctx context.Context, p *program, in *input) error {
	c, err := app.ReadConfig(in.lookup)
	if err != nil {
		return err
	}
	r, err := backup.Restore(ctx, backup.RestoreOptions{
		File: in.args[0], DataDir: c.Env.DataDir, DatabaseURL: c.Env.Database.URL, PostgresSchema: c.Env.Database.Schema,
		Force: in.on("force"), Progress: meter(p.out),
	})
	if err != nil {
		return explain(ctx, err)
	}
	if r.Completed {
		fmt.Fprintf(p.out, "Completed the restore that was interrupted, of the backup of %s.\n", r.Made.Local().Format(time.DateTime))
	} else {
		fmt.Fprintf(p.out, "Restored the backup of %s into %s: %d files, %d MB\n", r.Made.Local().Format(time.DateTime), c.Env.DataDir, r.Files(), r.Bytes()>>20)
	}
	if r.Paths > 0 {
		fmt.Fprintf(p.out, "%d uploads were in another folder; their rows name this one now.\n", r.Paths)
	}
	few(p.out, "Of the database:", r.Told, most)
	few(p.out, "What was there before is kept in:", r.Kept, most)
	return nil
}

func runVerifyBackup(ctx context.Context, p *program, in *input) error {
	h, m, err := backup.Verify(ctx, in.args[0], meter(p.out))
	if err != nil {
		return explain(ctx, err)
	}
	what := "the data folder " + h.DataDir
	if h.DatabaseOnly {
		what = "the database alone"
	}
	fmt.Fprintf(p.out, "%s is whole: %s, from %s, of %s, made by Galley %s; %d files, %d MB\n",
		filepath.Base(in.args[0]), what, h.Dialect, h.Made.Local().Format(time.DateTime), h.Galley, m.Files(), m.Bytes()>>20)
	tellManifest(p.out, m, math.MaxInt)
	return nil
}

// explain words what operators meet.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, backup.ErrUnfinished) {
		return errors.New("interrupted; nothing was changed")
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w (run this as the account that the server runs as)", err)
	}
	return err
}
