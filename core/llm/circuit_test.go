package llm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	refused  = DetailError(http.StatusInternalServerError, ServerConnectionError, syscall.ECONNREFUSED)
	tooSlow  = DetailError(http.StatusInternalServerError, ServerConnectionError, context.DeadlineExceeded)
	tooMany  = NewUpstreamError(http.StatusTooManyRequests, http.Header{}, []byte("slow down"), false)
	gateway  = NewUpstreamError(http.StatusBadGateway, http.Header{}, []byte("no backend"), false)
	notValid = NewUpstreamError(http.StatusBadRequest, http.Header{}, []byte("bad"), false)
)

func TestCircuit(t *testing.T) {
	now := time.Now()
	var c circuit
	allowed := func() bool {
		_, ok := c.enter(now)
		return ok
	}
	leave := func(err error, open, changed bool) {
		t.Helper()
		if o, ch := c.leave(err, now); o != open || ch != changed {
			t.Fatalf("after %v: open %t, changed %t", err, o, ch)
		}
	}
	for i := range failuresToOpen {
		if !allowed() {
			t.Fatalf("shut after %d failures", i)
		}
		leave(refused, i == failuresToOpen-1, i == failuresToOpen-1)
	}
	if err, ok := c.enter(now); ok || err != error(refused) || !c.open(now) {
		t.Fatalf("open: %v, %t", err, ok)
	}
	now = now.Add(firstPause)
	if !allowed() || allowed() {
		t.Fatal("after the pause one request tries it, and just one")
	}
	leave(context.Canceled, true, false)
	if !allowed() {
		t.Fatal("a caller who went keeps others from trying")
	}
	leave(gateway, true, false)
	now = now.Add(firstPause)
	if allowed() {
		t.Fatal("the second pause is not longer")
	}
	now = now.Add(firstPause)
	if !allowed() {
		t.Fatal("not tried after the second pause")
	}
	leave(notValid, false, true) // it answers again
	for range 2 {
		if !allowed() {
			t.Fatal("closed, but not asked")
		}
	}
	// answers in between are forgiven
	for range failuresToOpen {
		leave(refused, false, false)
		leave(nil, false, false)
	}
}

// outcome is what a provider answers, in turn; the last for ever.
type outcomes struct {
	errs  []error
	asked int
}

func (o *outcomes) next() error {
	err := o.errs[min(o.asked, len(o.errs)-1)]
	o.asked++
	return err
}

func TestChatAgain(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers [][]error // of each connection
		calls   int
		asked   []int  // how often each was asked at least
		total   int    // requests that all were sent together; 0 for any number
		failed  error  // of the last call
		again   string // the first of these
		circuit []string
	}{
		{"good", [][]error{{nil}}, 3, []int{3}, 3, nil, "", nil},
		{"refused once", [][]error{{refused, nil}}, 1, []int{2}, 2, nil, "retry openai/0", nil},
		{"refused", [][]error{{refused}}, 1, []int{2}, 2, refused, "retry openai/0", nil},
		{"a time-out is not sent again", [][]error{{tooSlow, nil}}, 1, []int{1}, 1, tooSlow, "", nil},
		{"an answer is not sent again", [][]error{{gateway, nil}}, 1, []int{1}, 1, gateway, "", nil},
		{"a bad request is not sent elsewhere", [][]error{{notValid}, {notValid}}, 1, []int{0, 0}, 1, notValid, "", nil},
		{"one of two is down", [][]error{{refused}, {nil}}, 60, []int{failuresToOpen, 60}, 60 + failuresToOpen, nil, "failover openai/1", []string{"openai/0 true"}},
		{"too many requests", [][]error{{tooMany}, {nil}}, 60, []int{10, 60}, 0, nil, "failover openai/1", nil},
		{"shared", [][]error{{nil}, {nil}}, 100, []int{20, 20}, 100, nil, "", nil},
		{"all down", [][]error{{refused}, {gateway}}, 30, []int{failuresToOpen, failuresToOpen}, 2 * failuresToOpen, nil, "failover", []string{"openai/0 true", "openai/1 true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conns := conns(KindOpenAI, make([]string, len(c.answers))...)
				providers := make([]*outcomes, len(c.answers))
				rec := &recorder{}
				reg := New(Options{Observer: rec, Backends: map[Kind]Backend{KindOpenAI: {New: func(conn Connection, _ *Client) Provider {
					o := &outcomes{errs: c.answers[conn.Index]}
					providers[conn.Index] = o
					return &fake{id: conn.ID(), models: fixed(model("m")), chat: func(*Request) (*Response, error) {
						if err := o.next(); err != nil {
							return nil, err
						}
						return NewBody(200, http.Header{}, []byte("{}")), nil
					}}
				}}}})
				for i := range conns {
					conns[i].URL = fmt.Sprintf("http://%d.test", i)
				}
				reg.Configure(conns)
				var err error
				for range c.calls {
					target, rerr := reg.Resolve(t.Context(), nil, "m")
					if rerr != nil {
						t.Fatal(rerr)
					}
					_, err = target.Chat(t.Context(), &Request{Body: []byte("{}")})
				}
				total := 0
				for i, p := range providers {
					total += p.asked
					if p.asked < c.asked[i] {
						t.Errorf("connection %d was asked %d times, want %d", i, p.asked, c.asked[i])
					}
				}
				if c.total != 0 && total != c.total {
					t.Errorf("%d requests, want %d", total, c.total)
				}
				if c.failed != nil && !errors.Is(err, c.failed) || c.failed == nil && err != nil && c.name != "all down" || c.name == "all down" && err == nil {
					t.Errorf("last answer: %v", err)
				}
				if got := append(rec.again, "")[0]; c.again == "" && got != "" || len(got) < len(c.again) || got[:len(c.again)] != c.again {
					t.Errorf("sent again: %q, want %q", got, c.again)
				}
				slices.Sort(rec.circuits)
				if !slices.Equal(rec.circuits, c.circuit) {
					t.Errorf("circuits: %q, want %q", rec.circuits, c.circuit)
				}
			})
		})
	}
}
