package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/galleychat/galley/core/plugin"
)

// Table prints plugins, a line for each.
func Table(w io.Writer, list []plugin.Info) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no plugins")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tVERSION\tSTATE\tPID\tMEMORY\tCPU\tRESTARTS\tROUTES\tMODELS\tERROR")
	for _, i := range list {
		pid, memory, cpu := "-", "-", "-"
		if i.PID > 0 {
			pid, memory, cpu = strconv.Itoa(i.PID), size(i.Memory), fmt.Sprintf("%.1fs", i.CPU)
		}
		fmt.Fprintln(t, strings.Join([]string{
			i.ID, orDash(i.Version), string(i.State), pid, memory, cpu, strconv.Itoa(i.Restarts), strconv.Itoa(len(i.Routes)), strconv.Itoa(len(i.Models)), trouble(i),
		}, "\t"))
	}
	return t.Flush()
}

// trouble is what is wrong with a plugin, on one line.
func trouble(i plugin.Info) string {
	text := i.Error
	if text == "" {
		text = i.Warning
	}
	return strings.Join(strings.Fields(text), " ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func size(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d MB", n>>20)
}

// JSON prints a value for programs.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Outcome prints how a plugin is now. It is an error if it does not do what it should.
func Outcome(w io.Writer, i plugin.Info) error {
	switch i.State {
	case plugin.StateReady:
		fmt.Fprintf(w, "%s %s is ready, process %d\n", i.ID, i.Version, i.PID)
		if text := trouble(i); text != "" {
			return fmt.Errorf("%s: %s", i.ID, text)
		}
		return nil
	case plugin.StateDisabled, plugin.StateStopped:
		_, err := fmt.Fprintf(w, "%s is %s\n", i.ID, i.State)
		return err
	}
	return fmt.Errorf("%s is %s: %s", i.ID, i.State, trouble(i))
}

// Checked prints the result of a verification.
func Checked(w io.Writer, v plugin.Verification) error {
	switch {
	case !v.OK:
		_, err := fmt.Fprintf(w, "%s: %s\n", v.ID, strings.Join(strings.Fields(v.Error), " "))
		return err
	case v.Pinned == 0:
		_, err := fmt.Fprintf(w, "%s: no digest is pinned\n", v.ID)
		return err
	}
	_, err := fmt.Fprintf(w, "%s: as pinned (%d)\n", v.ID, v.Pinned)
	return err
}

// LogLine prints a line of a log.
func LogLine(w io.Writer, l plugin.Line) error {
	var fields strings.Builder
	for _, name := range sortedKeys(l.Fields) {
		fmt.Fprintf(&fields, " %s=%v", name, l.Fields[name])
	}
	_, err := fmt.Fprintf(w, "%s %-5s %s%s\n", l.Time.Local().Format(time.DateTime), strings.ToUpper(l.Level), l.Message, fields.String())
	return err
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// JSONLine prints a value for programs on one line.
func JSONLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
