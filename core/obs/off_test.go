package obs

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// allOff exercises every call of a request's way on an Obs that is off.
func allOff(o *Obs, r *http.Request, h http.Header, err error) {
	ctx, span := o.Tracer.Server(r, "GET /api/v1/chats/{id}")
	qctx, q := o.Tracer.Query(ctx, "sqlite", "SELECT 1")
	q.Fail(err)
	q.End()
	lctx, l := o.Tracer.LLM(qctx, "chat", "openai", "gpt")
	o.Tracer.Inject(lctx, h)
	ctx, w := o.Tracer.Start(o.Tracer.Extract(ctx, h), "work")
	w.SetString("a", "b")
	w.SetInt("n", 100000)
	w.End()
	l.Tokens(1000, 2000)
	l.End()
	span.Route("GET", "/x")
	span.Status(500)
	span.End()
	_ = ctx

	m := o.Metrics
	route := m.HTTP("/x", "GET")
	route.Start()
	route.Done(200, time.Second, 1, 2)
	call := m.LLM("openai", "gpt").Start()
	call.FirstToken()
	call.Done(1, 2, err)
	m.TurnStarted()
	m.TurnDone()
}

func offObs(t testing.TB) *Obs {
	o, err := New(Options{Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOffCostsNothing(t *testing.T) {
	o := offObs(t)
	if o.Tracer != nil || o.Metrics != nil || len(o.stop) != 0 {
		t.Fatalf("off makes objects: %+v", o)
	}
	r, h, err := httptest.NewRequest("GET", "/api/v1/chats/1", nil), http.Header{}, errors.New("x")
	r.Header.Set("traceparent", remoteParent)
	if n := testing.AllocsPerRun(100, func() { allOff(o, r, h, err) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(h) != 0 {
		t.Errorf("headers were written: %v", h)
	}
	if ctx, _ := o.Tracer.Server(r, "/"); ctx != r.Context() {
		t.Error("the context was changed")
	}
	if o.Tracer.Transport(http.DefaultTransport) != http.DefaultTransport {
		t.Error("the transport is wrapped")
	}
	if err := errors.Join(o.Shutdown(context.Background()), (*Obs)(nil).Shutdown(context.Background()),
		o.Metrics.DB("x", nil), o.Metrics.GaugeFunc("x", "", nil), o.Metrics.Register(nil)); err != nil {
		t.Error(err)
	}
	o.Metrics.Sockets(nil)
	if o.Metrics.Unregister(nil) {
		t.Error("something was unregistered")
	}
	if _, span := o.Tracer.Provider().Tracer("x").Start(context.Background(), "y"); span.IsRecording() {
		t.Error("the provider of a nil tracer records")
	}
}

func BenchmarkOff(b *testing.B) {
	o := offObs(b)
	r, h := httptest.NewRequest("GET", "/api/v1/chats/1", nil), http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		allOff(o, r, h, nil)
	}
}
