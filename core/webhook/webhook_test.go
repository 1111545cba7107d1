package webhook

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/outbound"
)

// receiver notes what it is sent; answer gives the status of the n-th request (from 1), and may wait.
type receiver struct {
	*httptest.Server
	answer func(n int, r *http.Request) int
	mu     sync.Mutex
	got    []string
}

func newReceiver(t *testing.T, answer func(n int, r *http.Request) int) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.got = append(r.got, string(body))
	n := len(r.got)
	r.mu.Unlock()
	if r.answer != nil {
		w.WriteHeader(r.answer(n, req))
	}
}

func (r *receiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// tally counts outcomes.
type tally struct {
	mu sync.Mutex
	n  map[Outcome]int
}

func (c *tally) add(o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[Outcome]int{}
	}
	c.n[o]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d delivered, %d failed, %d dropped", c.n[Delivered], c.n[Failed], c.n[Dropped])
}

func newSender(t *testing.T, o Options) (*Sender, *tally) {
	c := &tally{}
	o.Guard = outbound.Guard{Local: true}
	o.HTTP, o.Observed, o.Log = o.Guard.Client(nil, false), c.add, slog.New(slog.DiscardHandler)
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	s := New(o)
	t.Cleanup(s.Close)
	return s, c
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func message(url string, n int) Message {
	return Message{URL: url, Text: "t", Payload: jsondoc.Doc(fmt.Sprintf(`{"n":%d}`, n))}
}

func TestMessagesArriveInOrder(t *testing.T) {
	r := newReceiver(t, nil)
	s, c := newSender(t, Options{})
	var want []string
	for i := range 50 {
		m := message(r.URL, i)
		if i%2 == 0 {
			s.Queue(m)
		} else {
			s.QueueLater(r.URL, func(context.Context) (Message, bool) { return m, true })
		}
		want = append(want, string(m.Payload))
	}
	s.QueueLater(r.URL, func(context.Context) (Message, bool) { return Message{}, false })
	eventually(t, "not all arrived", func() bool { return len(r.received()) == 50 })
	if !slices.Equal(r.received(), want) {
		t.Errorf("received %v", r.received())
	}
	eventually(t, "not counted", func() bool { return c.String() == "50 delivered, 0 failed, 0 dropped" })
}

func TestRetries(t *testing.T) {
	for _, tc := range []struct {
		name     string
		statuses []int // of the first requests; then 200
		requests int   // for two messages
		want     string
	}{
		{"well", nil, 2, "2 delivered, 0 failed, 0 dropped"},
		{"once", []int{503}, 3, "2 delivered, 0 failed, 0 dropped"},
		{"twice", []int{500, 502}, 4, "2 delivered, 0 failed, 0 dropped"},
		{"for good", []int{500, 500, 500}, 4, "1 delivered, 1 failed, 0 dropped"},
		{"refused", []int{404}, 2, "1 delivered, 1 failed, 0 dropped"},
		{"redirected", []int{302}, 2, "2 delivered, 0 failed, 0 dropped"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newReceiver(t, func(n int, _ *http.Request) int {
				if n <= len(tc.statuses) {
					return tc.statuses[n-1]
				}
				return 200
			})
			s, c := newSender(t, Options{})
			s.Queue(message(r.URL, 1))
			s.Queue(message(r.URL, 2))
			eventually(t, "not done: "+c.String(), func() bool { return c.String() == tc.want })
			got := r.received()
			if len(got) != tc.requests || got[len(got)-1] != `{"n":2}` || got[0] != `{"n":1}` {
				t.Errorf("received %v", got)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + ln.Addr().String()
	_ = ln.Close()
	s, c := newSender(t, Options{Backoff: 20 * time.Millisecond})
	s.Queue(message(address, 1))
	var got sync.WaitGroup
	got.Add(1)
	// the receiver comes up between two attempts
	eventually(t, "no attempt", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.lanes[address] != nil && s.lanes[address].attempt > 0
	})
	if ln, err = net.Listen("tcp", strings.TrimPrefix(address, "http://")); err != nil {
		t.Skip("the port is taken")
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Done() })}
	go srv.Serve(ln) //nolint:errcheck // ends with the test
	defer srv.Close()
	got.Wait()
	eventually(t, c.String(), func() bool { return c.String() == "1 delivered, 0 failed, 0 dropped" })
}

func TestAddressesThatAreNotCalled(t *testing.T) {
	r := newReceiver(t, nil)
	c := &tally{}
	s := New(Options{HTTP: outbound.Guard{}.Client(nil, false), Observed: c.add, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	s.Queue(message(r.URL, 1))
	eventually(t, c.String(), func() bool { return c.String() == "0 delivered, 1 failed, 0 dropped" })
	if len(r.received()) > 0 {
		t.Error("a private address was called")
	}
}

// TestASlowReceiver: it delays nobody else, not even more slow ones than there are workers could stop the publisher, and
// loses its own messages beyond the queue.
func TestASlowReceiver(t *testing.T) {
	free := make(chan struct{})
	slow := newReceiver(t, func(_ int, r *http.Request) int {
		select {
		case <-free:
		case <-r.Context().Done():
		}
		return 200
	})
	quick := newReceiver(t, nil)
	s, c := newSender(t, Options{})
	begin := time.Now()
	for i := range maxQueue + 10 {
		s.Queue(message(slow.URL, i))
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("queueing took %v", took)
	}
	s.Queue(message(quick.URL, 0))
	eventually(t, "the quick receiver waits for the slow one", func() bool { return len(quick.received()) == 1 })
	eventually(t, c.String(), func() bool { return c.String() == "1 delivered, 0 failed, 10 dropped" })
	if n := len(slow.received()); n != 1 {
		t.Errorf("%d requests at once to one receiver", n)
	}
	close(free)
	eventually(t, "not all arrived", func() bool { return c.String() == fmt.Sprintf("%d delivered, 0 failed, 10 dropped", maxQueue+1) })
}

func TestTimeout(t *testing.T) {
	r := newReceiver(t, func(_ int, r *http.Request) int {
		<-r.Context().Done()
		return 200
	})
	s, c := newSender(t, Options{Timeout: 30 * time.Millisecond})
	s.Queue(message(r.URL, 1))
	eventually(t, c.String(), func() bool { return c.String() == "0 delivered, 1 failed, 0 dropped" })
	if n := len(r.received()); n != 1 { // it may have taken it
		t.Errorf("%d requests", n)
	}
}

func TestDrain(t *testing.T) {
	t.Run("all is sent", func(t *testing.T) {
		r := newReceiver(t, nil)
		s, c := newSender(t, Options{})
		for i := range 20 {
			s.Queue(message(r.URL, i))
		}
		if err := s.Drain(t.Context()); err != nil || len(r.received()) != 20 {
			t.Errorf("%v, %d received", err, len(r.received()))
		}
		s.Queue(message(r.URL, 99)) // too late
		if c.String() != "20 delivered, 0 failed, 1 dropped" {
			t.Error(c)
		}
	})
	t.Run("a pause is cut short", func(t *testing.T) {
		r := newReceiver(t, func(n int, _ *http.Request) int { return map[bool]int{true: 503, false: 200}[n == 1] })
		s, c := newSender(t, Options{Backoff: time.Hour})
		s.Queue(message(r.URL, 1))
		eventually(t, "no attempt", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.lanes[r.URL] != nil && s.lanes[r.URL].pause != nil
		})
		if err := s.Drain(t.Context()); err != nil || c.String() != "1 delivered, 0 failed, 0 dropped" {
			t.Errorf("%v, %s", err, c)
		}
	})
	t.Run("a failing receiver is given up", func(t *testing.T) {
		begun, free := make(chan struct{}), make(chan struct{})
		r := newReceiver(t, func(n int, _ *http.Request) int {
			if n == 1 {
				close(begun)
				<-free
			}
			return 503
		})
		s, c := newSender(t, Options{Backoff: time.Hour})
		for i := range 10 {
			s.Queue(message(r.URL, i))
		}
		<-begun
		drained := make(chan error, 1)
		go func() { drained <- s.Drain(t.Context()) }()
		eventually(t, "not draining", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.draining
		})
		close(free)
		if err := <-drained; err != nil || c.String() != "0 delivered, 1 failed, 9 dropped" {
			t.Errorf("%v, %s", err, c)
		}
	})
	t.Run("the time is over", func(t *testing.T) {
		r := newReceiver(t, func(_ int, r *http.Request) int {
			<-r.Context().Done()
			return 200
		})
		s, c := newSender(t, Options{})
		s.Queue(message(r.URL, 1))
		s.Queue(message(r.URL, 2))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := s.Drain(ctx); err == nil || err.Error() != "2 messages to webhooks were not delivered" {
			t.Errorf("drained: %v", err)
		}
		s.Close()
		if c.String() != "0 delivered, 0 failed, 2 dropped" {
			t.Error(c)
		}
	})
}

func TestAMakerThatPanics(t *testing.T) {
	r := newReceiver(t, nil)
	s, _ := newSender(t, Options{})
	s.QueueLater(r.URL, func(context.Context) (Message, bool) { panic("broken") })
	s.Queue(message(r.URL, 1))
	eventually(t, "the queue stands still", func() bool { return len(r.received()) == 1 })
}

func TestForms(t *testing.T) {
	payload := jsondoc.Doc(`{"event":"user.created","actor":{"id":"u","name":"Ann"},"action":"test"}`)
	for _, tc := range []struct {
		name string
		m    Message
		want string
	}{
		{"plain", Message{URL: "https://x.test"}, string(payload)},
		{"Slack", Message{URL: "https://hooks.slack.com/x", Text: "T", Description: "D"}, `{"text":"T\nD\nEvent: user.created"}`},
		{"Google Chat", Message{URL: "https://chat.googleapis.com/x", Text: "T", Description: "T"}, `{"text":"T\nEvent: user.created"}`},
		{"Discord", Message{URL: "https://discord.com/api/webhooks/x", Text: "T"}, `{"content":"T\nEvent: user.created"}`},
		{"Discord, long", Message{URL: "https://discord.com/api/webhooks/x", Text: strings.Repeat("ü", 2000)}, `{"content":"` + strings.Repeat("ü", 1980) + `... (truncated)"}`},
		{"Teams", Message{URL: "https://a.webhook.office.com/x", Text: "T", Description: "D"},
			`{"@type":"MessageCard","@context":"http://schema.org/extensions","themeColor":"0076D7","summary":"T","sections":[{"activityTitle":"T","activitySubtitle":"Galley (0.12.4) - test",` +
				`"activityImage":"http://g/favicon.png","text":"D","facts":[{"name":"description","value":"D"},{"name":"event","value":"user.created"},{"name":"id","value":"u"},{"name":"name","value":"Ann"}],"markdown":true}]}`},
	} {
		tc.m.Payload = payload
		if got := string(tc.m.body("Galley", "http://g/favicon.png")); got != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.name, got, tc.want)
		}
	}
}
