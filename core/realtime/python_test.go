package realtime

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// pythonClient drives a session with python-socketio and prints what it saw.
const pythonClient = `
import socketio, sys, threading
base, transports = sys.argv[1], sys.argv[2].split(",")
c = socketio.Client(reconnection=False, serializer="default")
got, done = [], threading.Event()

@c.on("*")
def caught(event, *args):
    got.append([event, *args])
    if event == "last":
        done.set()
    return "seen " + event

gone = threading.Event()
c.on("disconnect", lambda *a: gone.set())
c.connect(base, socketio_path="/ws/socket.io", transports=transports, auth={"token": "tok-alice"}, wait_timeout=10)
assert c.get_sid() != c.eio.sid
print("transport", c.transport())
print("ack", c.call("echo", {"é": [1, None, 1.5]}, timeout=10))
print("none", c.call("none", timeout=10))
print("several", c.call("several", timeout=10))
print("binary", c.call("echo", {"u": b"\x00\xff", "v": [b""]}, timeout=10))
print("ask", c.call("ask", timeout=10))
c.emit("burst", 300)
assert done.wait(10)
print("events", len(got), got[1], got[-1])
try:
    socketio.Client(reconnection=False).connect(base, socketio_path="/ws/socket.io", transports=transports, namespaces=["/admin"], wait_timeout=5)
except socketio.exceptions.ConnectionError as e:
    print("refused", e)
c.emit("bye")
assert gone.wait(10)
print("gone")
`

func TestPythonClient(t *testing.T) {
	python := os.Getenv("GALLEY_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PYTHON names no Python with python-socketio")
	}
	for _, transports := range []string{"websocket", "polling", "polling,websocket"} {
		t.Run(transports, func(t *testing.T) {
			t.Parallel()
			srv, ts := start(t, Options{AllowPolling: transports != "websocket", NoWebSocket: transports == "polling"})
			srv.On("echo", func(_ context.Context, _ *Socket, args []jsontext.Value) (any, error) { return args[0], nil })
			srv.On("none", func(context.Context, *Socket, []jsontext.Value) (any, error) { return nil, nil })
			srv.On("several", func(context.Context, *Socket, []jsontext.Value) (any, error) { return Ack{1, "two"}, nil })
			srv.On("ask", func(ctx context.Context, s *Socket, _ []jsontext.Value) (any, error) {
				args, err := s.Call(ctx, "question", 42)
				if err != nil {
					return nil, err
				}
				return args, nil
			})
			srv.On("burst", Bind(func(_ context.Context, s *Socket, n int) (any, error) {
				for i := range n {
					srv.Emit("user:1", "n", i)
				}
				return nil, s.Emit("last", "ü")
			}))
			srv.On("bye", func(_ context.Context, s *Socket, _ []jsontext.Value) (any, error) {
				s.Disconnect()
				return nil, nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, python, "-c", pythonClient, ts.URL, transports)
			cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := strings.Join([]string{
				"transport " + transports[strings.LastIndex(transports, ",")+1:],
				"ack {'é': [1, None, 1.5]}",
				"none None",
				"several (1, 'two')",
				"binary {'u': [0, 255], 'v': [[]]}",
				"ask ['seen question']",
				"events 302 ['n', 0] ['last', 'ü']",
				"refused One or more namespaces failed to connect: /admin",
				"gone",
			}, "\n") + "\n"
			if string(out) != want {
				t.Errorf("the client printed\n%s\nwant\n%s", out, want)
			}
		})
	}
}
