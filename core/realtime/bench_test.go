package realtime

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json/jsontext"
)

// delta is an event of a streamed answer as the frontend gets it.
var delta = []byte(`{"chat_id":"5f0c9a36-0000-4000-8000-000000000000","message_id":"7a1d1c52-0000-4000-8000-000000000000",` +
	`"data":{"type":"response:completion","data":{"type":"response.output_text.delta","delta":" token"}}}`)

func benchServer(b *testing.B, opts Options, sockets int) (*Server, *httptest.Server, *atomic.Int64) {
	b.Helper()
	opts.QueueBytes = 1 << 30
	opts.QueuePackets = 1 << 30
	opts.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	srv, ts := start(b, opts)
	var read atomic.Int64
	for range sockets {
		c := join(b, ts, "tok-alice")
		eventually(b, "the user", func() bool { s := srv.SocketByID(c.sid); return s != nil && s.User().ID != "" })
		go func() { // counts bytes as cheaply as possible
			nc := websocket.NetConn(b.Context(), c.ws, websocket.MessageText)
			buf := make([]byte, 64<<10)
			for {
				n, err := nc.Read(buf)
				read.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
	return srv, ts, &read
}

// BenchmarkEncode compares the ways to make a packet.
func BenchmarkEncode(b *testing.B) {
	b.Run("EncodeEvent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			EncodeEvent("events", delta)
		}
	})
	b.Run("Encode/raw", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Encode("events", jsontext.Value(delta))
		}
	})
	type data struct {
		Type  string `json:"type"`
		Delta string `json:"delta"`
	}
	payload := struct {
		ChatID    string `json:"chat_id"`
		MessageID string `json:"message_id"`
		Data      data   `json:"data"`
	}{"5f0c9a36-0000-4000-8000-000000000000", "7a1d1c52-0000-4000-8000-000000000000", data{"chat:completion", " token"}}
	b.Run("Encode/struct", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Encode("events", &payload)
		}
	})
}

// BenchmarkEmit measures encoding, queueing and writing of small events to the
// sockets of one room, the clients of which run in the same process.
func BenchmarkEmit(b *testing.B) {
	for _, sockets := range []int{1, 3, 100} {
		b.Run(fmt.Sprintf("sockets=%d", sockets), func(b *testing.B) {
			srv, _, read := benchServer(b, Options{}, sockets)
			size := int64(len(EncodeEvent("events", delta).Bytes()))
			from := read.Load()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				srv.EmitRaw("user:1", EncodeEvent("events", delta))
				if i%1000 == 999 { // stay within reach of the readers
					for read.Load()-from < int64(i-5000)*size*int64(sockets) {
						time.Sleep(50 * time.Microsecond)
					}
				}
			}
			for read.Load()-from < int64(b.N)*size*int64(sockets) {
				time.Sleep(50 * time.Microsecond)
			}
			b.ReportMetric(float64(b.N*sockets)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkTurns is a load of many chat turns at a time, each of which emits
// its deltas with a pause between them.
func BenchmarkTurns(b *testing.B) {
	for _, flush := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		b.Run("flush="+flush.String(), func(b *testing.B) {
			srv, _, read := benchServer(b, Options{FlushInterval: flush}, 2)
			size := int64(len(EncodeEvent("events", delta).Bytes()))
			from := read.Load()
			cpuSeconds()
			b.ResetTimer()
			var wg sync.WaitGroup
			slots := make(chan struct{}, 8)
			for range b.N {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					for range 200 {
						srv.EmitRaw("user:1", EncodeEvent("events", delta))
						time.Sleep(100 * time.Microsecond)
					}
				})
			}
			wg.Wait()
			for read.Load()-from < int64(b.N)*200*2*size {
				time.Sleep(50 * time.Microsecond)
			}
			b.ReportMetric(cpuSeconds()/float64(b.N)*1e3, "cpu-ms/turn")
		})
	}
}

// discard is a connection that takes everything at once.
type discard struct {
	net.Conn
	writes atomic.Int64
}

func (d *discard) Write(p []byte) (int, error) { d.writes.Add(1); return len(p), nil }

// BenchmarkQueue measures the server's own work per event: no system calls.
func BenchmarkQueue(b *testing.B) {
	srv := New(Options{QueueBytes: 1 << 30, QueuePackets: 1 << 30})
	defer srv.Close(b.Context())
	d := &discard{}
	c := srv.newConn()
	t := &wsTransport{fc: &frameConn{Conn: d}}
	s := newSocket(c)
	srv.addSocket(s)
	s.Join("user:1")
	go c.writeLoop(t)
	p := EncodeEvent("events", delta)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		srv.EmitRaw("user:1", p)
	}
	b.StopTimer()
	eventually(b, "an empty queue", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.queued == 0
	})
	b.ReportMetric(float64(b.N)/float64(d.writes.Load()), "events/write")
	s.end(ReasonServer, true)
	c.mu.Lock()
	c.state = connClosed
	c.asleep = true
	c.notifyLocked()
	c.mu.Unlock()
}

// BenchmarkWriteOneByOne is the alternative that was not taken:
// coder/websocket flushes every message.
func BenchmarkWriteOneByOne(b *testing.B) {
	srv, ts := start(b, Options{})
	c := join(b, ts, "tok-alice")
	go func() {
		for {
			if _, err := c.next(); err != nil {
				return
			}
		}
	}()
	t := srv.SocketByID(c.sid).conn.transport()
	text := EncodeEvent("events", []byte(strings.TrimSpace(string(delta)))).Bytes()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := t.ws.Write(b.Context(), websocket.MessageText, text); err != nil {
			b.Fatal(err)
		}
	}
}
