package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/transfer"
)

var dbCopyCommands = []*command{
	{
		name: "db copy", group: "Database",
		short: "copy everything into another database, from SQLite to Postgres or back",
		long: `Copies all accounts, chats and whatever else a database of Open WebUI or Galley holds into an empty one. Either is
an SQLite file or a Postgres database:

  galley db copy --from sqlite:////srv/data/webui.db --to postgresql://galley@db.example.com/galley

The source is only read, as it is at one moment: a server may go on running on it, but what it writes from then on is not in
the copy. The target gets its tables, must hold no accounts, and Galley does not serve it until it is whole. A copy that was cut off, by Ctrl-C or a power failure, goes on with the same command; what has changed
in the source meanwhile is put right. At the end all rows are read again and compared by counts and checksums.

SQLite holds things that Postgres does not: NUL characters and halves of Unicode characters are left out, as Open WebUI does
when it writes to Postgres, NaN in JSON becomes null, and text where a number belongs NULL. The report says which rows
that was. A row that the target refuses altogether, say for a name that is taken, keeps the copy from ending unless
--skip-refused leaves it out. Rows that point at something deleted are kept.

A password need not stand in the URL: PGPASSWORD and ~/.pgpass work too. Files lie in the data folder and not in the
database; the copy is used with the same DATA_DIR.`,
		flags: []flagGroup{{"Options", []setting{
			{"from", "", "URL", "database to read: sqlite:////path/webui.db or postgresql://user@host/name"},
			{"to", "", "URL", "database to write, empty or not there yet, or an unfinished copy"},
			{"from-schema", "", "NAME", "schema in a Postgres database (that of its search_path)"},
			{"to-schema", "", "NAME", "schema in a Postgres database (that of its search_path)"},
			{"verify", "", "", "read the copy again and compare it (on; --verify=false)"},
			{"skip-unknown", "", "", "leave out tables and columns that the target cannot have"},
			{"skip-refused", "", "", "leave out rows that the target does not take"},
			{"force", "", "", "write over what lies in a target without accounts, or is an unfinished copy of another source"},
			{"quiet", "", "", "no progress"},
			{"json", "", "", "print the report as JSON"},
		}}},
		run: runDBCopy,
	},
}

func runDBCopy(ctx context.Context, p *program, in *input) error {
	for _, flag := range []string{"from", "to"} {
		if in.options[flag] == "" {
			return &usageError{"db copy: --" + flag + " has to say which database; galley db copy -h explains it"}
		}
	}
	from, err := store.Open(ctx, in.options["from"], store.Options{SkipSchemaCheck: true, Existing: true, PostgresSchema: in.options["from-schema"]})
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer from.Close()
	to, err := store.Open(ctx, in.options["to"], store.Options{SkipSchemaCheck: true, PostgresSchema: in.options["to-schema"]})
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer to.Close()
	o := transfer.Options{
		Verify: in.options["verify"] == "" || in.on("verify"), Force: in.on("force"), SkipUnknown: in.on("skip-unknown"), SkipRefused: in.on("skip-refused"),
	}
	if !in.on("quiet") {
		o.Progress = newCopyProgress(p.errs, time.Now).show
	}
	// Rows come and go, and what is held at a time is little: the memory of the process is kept near that.
	debug.SetGCPercent(25)
	report, err := transfer.Copy(ctx, from, to, o)
	if in.on("json") {
		text, jsonErr := json.MarshalIndent(report, "", "  ")
		if jsonErr != nil {
			return jsonErr
		}
		fmt.Fprintf(p.out, "%s\n", text)
	} else {
		writeCopyReport(p.out, report, err == nil)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("stopped; the same command once more goes on where it ended")
	case errors.Is(err, transfer.ErrRefused):
		return fmt.Errorf("%w; put them right in the source and give the same command once more, or add --skip-refused to do without them", err)
	}
	return err
}

// writeCopyReport tells what a copy did.
func writeCopyReport(w io.Writer, r *transfer.Report, whole bool) {
	if len(r.Tables) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "TABLE\tROWS\tCHECKSUM\tNOTES")
		var rows int64
		for i := range r.Tables {
			c := &r.Tables[i]
			if rows += c.Rows; c.Rows > 0 || c.TargetRows > 0 {
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", c.Name, c.Rows, c.Sum, tableNotes(c))
			}
		}
		_ = t.Flush()
		fmt.Fprintf(w, "%d rows in %s", rows, r.Duration.Round(time.Millisecond))
		if r.Verified {
			fmt.Fprint(w, ", the same on both sides")
		}
		fmt.Fprintln(w)
	}
	notes(w, "Left out, since the target has no place for it", r.Skipped)
	notes(w, "Note", r.Warnings)
	rowNotes(w, "Changed, since the target cannot hold it as it was (row: columns)", r.Changed)
	rowNotes(w, "Refused by the target", r.Refused)
	rowNotes(w, "Not the same on both sides", r.Differ)
	if whole {
		fmt.Fprintf(w, "The copy in %s is whole. Files are not in the database: uploads stay in the folder uploads of DATA_DIR, which goes with it.\n", r.To)
	}
}

func tableNotes(c *transfer.TableReport) string {
	var parts []string
	for _, n := range []struct {
		count int64
		what  string
	}{{c.Removed, "removed or renewed"}, {c.Changed, "changed"}, {c.Refused, "refused"}} {
		if n.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	if c.TargetSum != "" && (c.TargetSum != c.Sum || c.TargetRows != c.Rows-c.Refused) {
		parts = append(parts, fmt.Sprintf("DIFFERS: the target has %d, %s", c.TargetRows, c.TargetSum))
	}
	return strings.Join(parts, ", ")
}

func notes(w io.Writer, title string, lines []string) {
	for _, l := range lines {
		fmt.Fprintf(w, "%s: %s\n", title, l)
	}
}

// maxShown is how many rows are listed in each part of the report; --json has more.
const maxShown = 20

func rowNotes(w io.Writer, title string, rows []transfer.RowNote) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w, title+":")
	for _, n := range rows[:min(maxShown, len(rows))] {
		fmt.Fprintf(w, "  %s %s: %s\n", n.Table, n.Key, n.Note)
	}
	if more := len(rows) - maxShown; more > 0 {
		fmt.Fprintf(w, "  and %d more; --json lists them, up to 100 of each table\n", more)
	}
}

// copyProgress writes how far a copy is: a line for each table and, in long ones, every few seconds; on a terminal one
// line that is written over.
type copyProgress struct {
	w        io.Writer
	now      func() time.Time
	terminal bool
	phase    string
	began    time.Time // of the phase
	last     time.Time // when something was written
	told     time.Time // when show was last called
	table    time.Time // when the table at hand began
	name     string
}

func newCopyProgress(w io.Writer, now func() time.Time) *copyProgress {
	c := &copyProgress{w: w, now: now}
	if f, ok := w.(*os.File); ok {
		s, err := f.Stat()
		c.terminal = err == nil && s.Mode()&os.ModeCharDevice != 0
	}
	return c
}

var phaseVerbs = map[string]string{"copy": "copying", "compare": "comparing", "index": "making", "verify": "checking"}

func (c *copyProgress) show(p transfer.Progress) {
	now := c.now()
	phase := p.Phase
	if phase == "compare" { // tables are copied or compared in turn
		phase = "copy"
	}
	if phase != c.phase {
		c.phase, c.began, c.last, c.told = phase, now, now, now
	}
	if p.Table != c.name { // since the last was told
		c.name, c.table = p.Table, c.told
	}
	c.told = now
	every := 5 * time.Second
	if c.terminal {
		every = 200 * time.Millisecond
	}
	switch {
	case p.TableEnded && p.Total > 0:
		c.line(fmt.Sprintf("%s: %d rows in %s", p.Table, p.Total, now.Sub(c.table).Round(time.Millisecond)), true)
	case now.Sub(c.last) >= every:
		c.last = now
		text := fmt.Sprintf("%s %s: %d of %d", phaseVerbs[p.Phase], p.Table, p.Done, p.Total)
		took := now.Sub(c.began)
		if p.Bytes > 0 && took > 0 {
			text += fmt.Sprintf(", %.1f MB/s", float64(p.Bytes)/1e6/took.Seconds())
		}
		if p.Bytes > 0 && p.Bytes < p.AllBytes {
			left := time.Duration(float64(took) * float64(p.AllBytes-p.Bytes) / float64(p.Bytes))
			text += fmt.Sprintf(", about %s left", max(left.Round(time.Second), time.Second))
		}
		c.line(text, false)
	}
}

// line writes a line; on a terminal one that does not stay is written over by the next.
func (c *copyProgress) line(text string, stays bool) {
	if !c.terminal {
		fmt.Fprintln(c.w, text)
		return
	}
	end := ""
	if stays {
		end = "\n"
	}
	fmt.Fprintf(c.w, "\r\x1b[K%s%s", text, end)
}
