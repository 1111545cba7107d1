package llm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// A provider that could not be reached several times in a row is not asked for a while: others that serve the model are,
// or its last error is the answer at once. After the pause one request tries it.
const (
	failuresToOpen = 5
	firstPause     = time.Second // doubled with each try that fails
	longestPause   = 30 * time.Second
	pauseToRetry   = 100 * time.Millisecond // before a request that was not answered is sent again
)

// circuit remembers how the last requests to a provider ended.
type circuit struct {
	mu       sync.Mutex
	failures int // in a row
	pause    time.Duration
	until    time.Time // closed again after; zero while closed
	trying   bool      // one request is on its way to see whether the provider is back
	last     error
}

// enter says whether the provider may be asked; if not, it gives the error that it failed with last. Whoever may calls
// leave afterwards.
func (c *circuit) enter(now time.Time) (error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.until.IsZero():
		return nil, true
	case c.trying || now.Before(c.until):
		return c.last, false
	}
	c.trying = true
	return nil, true
}

// open says whether the provider is not to be asked at a time.
func (c *circuit) open(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.until.IsZero() && (c.trying || now.Before(c.until))
}

// leave notes how a request ended. changed says that the circuit was opened or closed by it.
func (c *circuit) leave(err error, now time.Time) (open, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := !c.until.IsZero()
	tried := c.trying
	c.trying = false
	switch {
	case isEnd(err): // the caller went: that says nothing of the provider
	case !isDown(err):
		c.failures, c.pause, c.until, c.last = 0, 0, time.Time{}, nil
	default:
		c.failures++
		c.last = err
		if c.failures >= failuresToOpen && (!was || tried) {
			c.pause = min(max(firstPause, 2*c.pause), longestPause)
			c.until = now.Add(c.pause)
		}
	}
	open = !c.until.IsZero()
	return open, open != was
}

// isEnd says that a call ended because its caller did not want it any more.
func isEnd(err error) bool { return errors.Is(err, context.Canceled) }

// isDown says that a provider could not be reached, or that what stands before it says so.
func isDown(err error) bool {
	var e *UpstreamError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.Err != nil
}

// isElsewhere says that another provider may do what this one would not.
func isElsewhere(err error) bool {
	var e *UpstreamError
	return isDown(err) || errors.As(err, &e) && e.Status == http.StatusTooManyRequests
}

// isUnheard says that the provider has not heard of the request, as far as can be known: no connection, or one that broke
// before anything came. Time-outs are not of this kind.
func isUnheard(err error) bool {
	var e *UpstreamError
	if !errors.As(err, &e) || e.Err == nil || errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, errIdle) {
		return false
	}
	var n net.Error
	return !(errors.As(e.Err, &n) && n.Timeout())
}

// Chat runs a chat completion on the target's provider; req.Model and req.Pipeline are set here. Each call is reported to
// the registry's Observer. Until a provider has begun to answer, a request that failed is sent to the next one that serves
// the model, or where there is none once more to the same.
func (t Target) Chat(ctx context.Context, req *Request) (*Response, error) {
	if t.way == nil { // made by hand
		return t.ask(ctx, t.Provider, t.Upstream, req)
	}
	resp, err := t.try(ctx, t.way, req)
	switch {
	case err == nil || ctx.Err() != nil:
	case len(t.others) > 0 && isElsewhere(err):
		for _, s := range t.others {
			t.again(s, "failover")
			if resp, err = t.try(ctx, s, req); err == nil || !isElsewhere(err) || ctx.Err() != nil {
				break
			}
		}
	case isUnheard(err) && !t.way.circuit.open(time.Now()):
		timer := time.NewTimer(pauseToRetry)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		}
		t.again(t.way, "retry")
		resp, err = t.try(ctx, t.way, req)
	}
	return resp, err
}

func (t Target) again(s *slot, how string) {
	if t.observer != nil {
		t.observer.Again(s.provider.ID(), how)
	}
}

// try asks a provider unless its circuit is open.
func (t Target) try(ctx context.Context, s *slot, req *Request) (*Response, error) {
	if last, ok := s.circuit.enter(time.Now()); !ok {
		return nil, last
	}
	var err error = context.Canceled // if the provider panics
	defer func() {
		if open, changed := s.circuit.leave(err, time.Now()); changed && t.observer != nil {
			t.observer.Circuit(s.provider.ID(), open)
		}
	}()
	var resp *Response
	resp, err = t.ask(ctx, s.provider, s.upstream(t.Model), req)
	return resp, err
}

func (t Target) ask(ctx context.Context, p Provider, upstream string, req *Request) (*Response, error) {
	own := *req
	own.Model = upstream
	own.Pipeline = t.Model.Pipeline
	if t.observer == nil {
		return p.Chat(ctx, &own)
	}
	call := t.observer.Request(ctx, p.ID(), t.Model.ID)
	resp, err := p.Chat(ctx, &own)
	if err != nil {
		call.Done(Tokens{}, err)
		return nil, err
	}
	resp.call = call
	if !resp.Stream {
		resp.finish(nil)
	}
	return resp, nil
}
