package check

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// shown are the tables that people ask for, and what their rows are called.
var shown = []struct{ table, name string }{
	{"user", "users"}, {"group", "groups"}, {"chat", "chats"}, {"chat_message", "messages"}, {"shared_chat", "shared chats"}, {"folder", "folders"},
	{"tag", "tags"}, {"file", "files"}, {"memory", "memories"}, {"model", "models"}, {"prompt", "prompts"}, {"tool", "tools"}, {"config", "settings"},
	{"access_grant", "access grants"}, {"api_key", "API keys"}, {"oauth_session", "OAuth sessions"},
}

// WriteText writes a report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	release := "of no release that is known"
	if r.Release != "" {
		release = "Open WebUI " + r.Release
		if r.State == "older" {
			release = "about " + release
		}
	}
	head := strings.Join(r.Head, ", ") + " (" + release + ")"
	if len(r.Head) == 0 {
		head = "none"
	}
	fmt.Fprintf(t, "Database\t%s, %s\n", r.Database, size(r.Size))
	fmt.Fprintf(t, "Revision\t%s\n", head)
	if r.Own > 0 {
		fmt.Fprintf(t, "Galley's own tables\tstep %d\n", r.Own)
	}
	integrity := r.Integrity
	switch {
	case integrity == "read":
		integrity = "all documents could be read (PostgreSQL has no check of its own)"
	case integrity == "ok" && r.Quick:
		integrity = "ok, but for indexes, which a quick check leaves out"
	}
	fmt.Fprintf(t, "Integrity\t%s\n", integrity)
	if err := t.Flush(); err != nil {
		return err
	}
	r.writeCounts(w)
	if len(r.Waiting) > 0 {
		fmt.Fprint(w, "\nKept, not served by this version\n")
		writeTable(w, r.Waiting, nil)
	}
	for _, section := range []struct {
		title    string
		findings []Finding
	}{{"Notes", r.Notes}, {"Warnings", r.Warnings}, {"Damage", r.Damage}} {
		if len(section.findings) > 0 {
			fmt.Fprintf(w, "\n%s\n", section.title)
			for _, f := range section.findings {
				fmt.Fprintf(w, "  %s\n", f.line())
			}
		}
	}
	verdict := "Sound"
	switch {
	case r.Refused != "":
		verdict = "Not to be served by this version: " + strings.TrimSuffix(r.Refused, "; nothing was changed")
	case len(r.Damage) > 0:
		verdict = "Damaged"
	case len(r.Warnings) == 1:
		verdict = "Sound, with 1 warning"
	case len(r.Warnings) > 1:
		verdict = fmt.Sprintf("Sound, with %d warnings", len(r.Warnings))
	}
	how := "Checked"
	if r.Quick {
		how = "Checked quickly, without reading all rows,"
	}
	took := time.Duration(r.Seconds * float64(time.Second)).Round(time.Millisecond)
	if took > 10*time.Second {
		took = took.Round(100 * time.Millisecond)
	}
	_, err := fmt.Fprintf(w, "\n%s. %s in %v.\n", verdict, how, took)
	return err
}

// writeCounts writes what people ask for; what there is none of is left out.
func (r *Report) writeCounts(w io.Writer) {
	var counts []Count
	for _, s := range shown {
		if n := r.Rows(s.table); n > 0 {
			counts = append(counts, Count{s.name, n})
		}
	}
	if len(counts) == 0 {
		return
	}
	fmt.Fprint(w, "\nHolds\n")
	more := map[string]string{}
	if f := r.Files; f.Rows > 0 {
		more["files"] = fmt.Sprintf("%s in %s", size(f.Bytes), f.Folder)
	}
	writeTable(w, counts, more)
}

// writeTable writes counts, their numbers aligned, and what is to be said behind some.
func writeTable(w io.Writer, counts []Count, more map[string]string) {
	width, longest := 0, 0
	for _, c := range counts {
		width, longest = max(width, len(c.Name)), max(longest, len(number(c.Rows)))
	}
	for _, c := range counts {
		fmt.Fprintf(w, "%s\n", strings.TrimRight(fmt.Sprintf("  %-*s  %*s  %s", width, c.Name, longest, number(c.Rows), more[c.Name]), " "))
	}
}

func (f Finding) line() string {
	text := f.Text
	if strings.HasPrefix(f.Check, "orphans.") || strings.HasPrefix(f.Check, "foreign_key.") || strings.HasPrefix(f.Check, "duplicates.") ||
		strings.HasPrefix(f.Check, "documents.") || strings.HasPrefix(f.Check, "shape.") || strings.HasPrefix(f.Check, "files.") {
		text = number(f.Count) + " " + text
		if len(f.Examples) > 0 {
			text += ": " + strings.Join(f.Examples, ", ")
			if f.Count > int64(len(f.Examples)) {
				text += ", …"
			}
		}
	}
	return text
}

// number has commas between thousands.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(n int64) string {
	switch f := float64(n); {
	case f >= 1e9:
		return fmt.Sprintf("%.1f GB", f/1e9)
	case f >= 1e6:
		return fmt.Sprintf("%.1f MB", f/1e6)
	case f >= 1e3:
		return fmt.Sprintf("%.0f kB", f/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}
