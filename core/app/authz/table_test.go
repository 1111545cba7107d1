package authz

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

const tableFile = "testdata/authz.txt"

var (
	parameter   = regexp.MustCompile(`\{[^}/]+\}`)
	columnNames = func() map[string]bool {
		m := map[string]bool{}
		for _, c := range columns {
			m[c] = true
		}
		return m
	}()
)

// line is an operation in the table.
type line struct {
	level    string
	outcomes map[string]outcome // by caller
	comment  string
}

// table is what operations answer.
type table struct {
	lines map[string]*line
	say   map[string]string // details to short names

	skipped map[string]bool // operations that were not called
}

func newTable(say map[string]string) *table {
	return &table{lines: map[string]*line{}, say: maps.Clone(say), skipped: map[string]bool{}}
}

func (t *table) line(op, level string) *line {
	l := &line{level: level, outcomes: map[string]outcome{}}
	t.lines[op] = l
	return l
}

// name gives a detail its short name: the one that calls.txt says, else its first words.
func (t *table) name(detail string) string {
	if n := t.say[detail]; n != "" {
		return n
	}
	words := strings.FieldsFunc(strings.ToLower(detail), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	base := strings.Join(words[:min(len(words), 4)], "-")
	n := base
	taken := slices.Collect(maps.Values(t.say))
	for i := 2; slices.Contains(taken, n); i++ {
		n = fmt.Sprintf("%s-%d", base, i)
	}
	t.say[detail] = n
	return n
}

// cells are a line's outcomes as they stand in the table.
func (t *table) cells(l *line) []string {
	var out []string
	for _, c := range columns {
		o := l.outcomes[c]
		text := fmt.Sprint(o.status)
		if o.detail != "" {
			text += " " + t.name(o.detail)
		}
		if with, isKey := strings.CutSuffix(c, " key"); isKey && o == l.outcomes[with] {
			text = "="
		}
		out = append(out, text)
	}
	return out
}

func (t *table) ops() []string { return slices.SortedFunc(maps.Keys(t.lines), compareOps) }

// text is the table as a file.
func (t *table) text() []byte {
	ops := t.ops()
	rows := [][]string{append(append([]string{"operation", "level"}, columns...), "comment")}
	for _, op := range ops {
		l := t.lines[op]
		rows = append(rows, append(append([]string{op, l.level}, t.cells(l)...), l.comment))
	}
	width := make([]int, len(rows[0])-1)
	for _, r := range rows {
		for i := range width {
			width[i] = max(width[i], len(r[i]))
		}
	}
	var b bytes.Buffer
	b.WriteString("# Who may call what. Written by \"go test ./core/app/authz -update\"; the package comment there explains it.\n#\n# Refusals:\n")
	used := map[string]bool{}
	for _, l := range t.lines {
		for _, o := range l.outcomes {
			used[o.detail] = o.detail != ""
		}
	}
	byName := map[string]string{}
	longest := 0
	for detail, name := range t.say {
		if used[detail] {
			byName[name] = detail
			longest = max(longest, len(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		fmt.Fprintf(&b, "#   %-*s  %s\n", longest, name, byName[name])
	}
	b.WriteString("\n")
	for _, r := range rows {
		for i, w := range width {
			fmt.Fprintf(&b, "%-*s | ", w, r[i])
		}
		b.WriteString(r[len(width)] + "\n")
	}
	return trimLines(b.Bytes())
}

func trimLines(text []byte) []byte {
	var out bytes.Buffer
	for l := range bytes.Lines(text) {
		out.Write(bytes.TrimRight(l, " |\n"))
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// stored is the table as it was read: its texts, by operation.
type stored struct {
	lines map[string][]string // cells from level to comment
	whole []byte
}

func readTable(t *testing.T) *stored {
	t.Helper()
	s := &stored{lines: map[string][]string{}}
	var err error
	if s.whole, err = os.ReadFile(tableFile); errors.Is(err, fs.ErrNotExist) && *update {
		return s
	} else if err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(bytes.NewReader(s.whole))
	for scan.Scan() {
		if scan.Text() == "" || scan.Text()[0] == '#' || strings.HasPrefix(scan.Text(), "operation ") {
			continue
		}
		cells := strings.Split(scan.Text(), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		for len(cells) < len(columns)+3 {
			cells = append(cells, "")
		}
		s.lines[cells[0]] = cells[1:]
	}
	return s
}

// keepComments takes the comments of the table that was there.
func (t *table) keepComments(old *stored) {
	for op, l := range t.lines {
		if cells := old.lines[op]; cells != nil {
			l.comment = cells[len(columns)+1]
		}
	}
}

func (t *table) write(tt *testing.T) {
	tt.Helper()
	if err := os.WriteFile(tableFile, t.text(), 0o644); err != nil {
		tt.Fatal(err)
	}
}

// compare says where the table differs from the one that is stored.
func (t *table) compare(tt *testing.T, want *stored) {
	tt.Helper()
	t.keepComments(want)
	text := t.text() // which names all details, in the table's order
	for _, op := range t.ops() {
		cells := want.lines[op]
		if cells == nil {
			tt.Errorf("%s is not in %s", op, tableFile)
			continue
		}
		l := t.lines[op]
		if cells[0] != l.level {
			tt.Errorf("%s is for %s, in the table for %s", op, l.level, cells[0])
		}
		for i, got := range t.cells(l) {
			if got != cells[i+1] {
				tt.Errorf("%s as %s: %s, in the table %s", op, columns[i], got, cells[i+1])
			}
		}
	}
	for op := range want.lines {
		if t.lines[op] == nil && !t.skipped[op] {
			tt.Errorf("%s has no operation for %s", tableFile, op)
		}
	}
	if !tt.Failed() && len(t.skipped) == 0 && !bytes.Equal(text, want.whole) {
		tt.Errorf("%s is not as -update writes it: the texts of refusals, the order or the columns differ", tableFile)
	}
}
