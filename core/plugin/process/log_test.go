//go:build unix

package process

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, opts LogOptions, text string) []Line {
	t.Helper()
	log := NewLog(opts)
	if n, err := log.ReadFrom(strings.NewReader(text)); err != nil || n != int64(len(text)) {
		t.Fatal(n, err)
	}
	return log.Last(0)
}

func TestLines(t *testing.T) {
	goPanic := "panic: broken\n\tagain\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1]\n\ngoroutine 1 [running]:\nmain.main()\n\t/x/main.go:3 +0x1d\ncreated by main.x in goroutine 1\n\t/x/y.go:1\nexit status 2"
	chained := "Traceback (most recent call last):\n  File \"x\", line 1\nKeyError: 1\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"x\", line 2\nValueError: 2"
	for _, tc := range []struct {
		name, text string
		want       []string // level|module|message
	}{
		{"plain", "one\r\ntwo\n\nlast", []string{"info||one", "info||two", "info||", "info||last"}},
		{"hclog", `{"@level":"warn","@message":"hi","@module":"m","@timestamp":"2026-01-02T03:04:05.000006Z","n":1}` + "\n", []string{"warn|m|hi"}},
		{"other JSON", "{\"a\":1}\n{broken\n", []string{`info||{"a":1}`, "info||{broken"}},
		{"unknown level", `{"@level":"loud","@message":"hi"}` + "\n", []string{"info||hi"}},
		{"go", "before\n" + goPanic + "\nafter all\n", []string{"info||before", "error||" + goPanic, "info||after all"}},
		{"python", chained + "\nafter\n", []string{"error||" + chained, "info||after"}},
		{"no UTF-8", "a\xffb\n", []string{"info||a\uFFFDb"}},
		{"long", strings.Repeat("x", maxLine+5) + "\nnext\n", []string{"info||" + strings.Repeat("x", maxLine) + cutMark, "info||next"}},
		{"as long as may be", strings.Repeat("x", maxLine) + "\n", []string{"info||" + strings.Repeat("x", maxLine)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{"whole": strings.NewReader(tc.text), "bytes": oneByte{strings.NewReader(tc.text)}} {
				log := NewLog(LogOptions{BytesPerSecond: 1 << 30})
				_, _ = log.ReadFrom(r)
				var got []string
				for _, l := range log.Last(0) {
					got = append(got, l.Level+"|"+l.Module+"|"+l.Message)
				}
				if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tc.want) {
					t.Errorf("%s: got  %.300q\nwant %.300q", name, got, tc.want)
				}
			}
		})
	}
	lines := read(t, LogOptions{}, `{"@message":"hi","@timestamp":"2026-01-02T03:04:05.000006Z","n":1}`)
	if !lines[0].Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)) || len(lines[0].Fields) != 1 || lines[0].Fields["n"] != 1.0 {
		t.Errorf("%+v", lines[0])
	}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.r.Read(b[:1]) }

func TestRing(t *testing.T) {
	var text strings.Builder
	for i := range 50 {
		fmt.Fprintln(&text, i)
	}
	lines := read(t, LogOptions{Lines: 10}, text.String())
	if len(lines) != 10 || lines[0].Message != "40" || lines[9].Message != "49" {
		t.Errorf("%+v", lines)
	}
	lines = read(t, LogOptions{Bytes: 1000}, text.String())
	if len(lines) == 0 || len(lines) > 15 || lines[len(lines)-1].Message != "49" {
		t.Errorf("%d lines", len(lines))
	}
}

func TestRateLimit(t *testing.T) {
	text := strings.Repeat("line\n", 500) + "panic: kept\n\ngoroutine 1 [running]:\n" + strings.Repeat("line\n", 500)
	log := NewLog(LogOptions{LinesPerSecond: 10})
	if _, err := log.ReadFrom(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	kept, told, trace := 0, 0, false
	for _, l := range log.Last(0) {
		var n int
		if _, err := fmt.Sscanf(l.Message, "… %d lines dropped", &n); err == nil {
			told += n
		} else if strings.HasPrefix(l.Message, "panic: kept") {
			trace = true
		} else {
			kept++
		}
	}
	if !trace || kept+told != 1000 || kept < 20 || kept > 40 || log.Dropped() != int64(told) {
		t.Errorf("%d kept, %d told, trace %v, %d dropped", kept, told, trace, log.Dropped())
	}
}

func TestFollow(t *testing.T) {
	log := NewLog(LogOptions{})
	_, _ = log.ReadFrom(strings.NewReader("a\nb\n"))
	last, lines, stop := log.Follow(1)
	if len(last) != 1 || last[0].Message != "b" {
		t.Errorf("%+v", last)
	}
	_, _ = log.ReadFrom(strings.NewReader("c\n"))
	if line := <-lines; line.Message != "c" {
		t.Errorf("%+v", line)
	}
	_, _ = log.ReadFrom(strings.NewReader(strings.Repeat("x\n", followerBuffer+7))) // more than it can hold
	for range followerBuffer {
		<-lines
	}
	_, _ = log.ReadFrom(strings.NewReader("d\n"))
	if a, b := <-lines, <-lines; a.Message != "… 7 lines dropped" || b.Message != "d" {
		t.Errorf("%+v %+v", a, b)
	}
	stop()
	stop()
	if _, open := <-lines; open {
		t.Error("not closed")
	}
}

// A panic appears soon, though its last line cannot be known while the process lives.
func TestPanicSettles(t *testing.T) {
	log := NewLog(LogOptions{})
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = log.ReadFrom(r) }()
	_, _ = io.WriteString(w, "panic: x\n\ngoroutine 1 [running]:\n")
	eventually(t, "the panic", func() bool { return len(log.Last(0)) == 1 })
	_ = w.Close()
	<-done

	p := start(t, roleSpec(t, "crash"))
	log = NewLog(LogOptions{})
	_, _ = log.ReadFrom(p.Stderr())
	if lines := log.Last(0); len(lines) != 1 || !strings.Contains(lines[0].Message, "on purpose") || !strings.Contains(lines[0].Message, "main_test.go") {
		t.Errorf("%+v", lines)
	}
}

// A flood of lines, far above the rate: the time is what the host spends.
func BenchmarkFlood(b *testing.B) {
	text := strings.Repeat(`{"@level":"info","@message":"something happened again","@timestamp":"2026-01-02T03:04:05.000006Z"}`+"\n", 100_000)
	log := NewLog(LogOptions{})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := log.ReadFrom(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}

// The child is not held up by the log either.
func TestFloodFromProcess(t *testing.T) {
	p := start(t, sh(`yes "a line of a log that says little" | head -n 300000 >&2`))
	log := NewLog(LogOptions{})
	began := time.Now()
	n, err := log.ReadFrom(p.Stderr())
	if want := int64(300_000 * 33); err != nil || n != want {
		t.Error(n, want, err)
	}
	if log.Dropped() < 250_000 || time.Since(began) > 20*time.Second {
		t.Error(log.Dropped(), time.Since(began))
	}
}
