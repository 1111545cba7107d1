// Package control is the way from the command line to a server on the same machine: HTTP over a unix socket that only the
// account the server runs as may open. Who may is the operator and needs no other proof.
package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxPath is how long a socket's path may be, in bytes: systems allow little more.
const maxPath = 100

// Path is where the socket of the server of a data folder is: in that folder, or where that is too long in a private
// folder below the one for temporary files. dataDir is absolute.
func Path(dataDir string) string {
	path := filepath.Join(dataDir, "galley.sock")
	if len(path) <= maxPath {
		return path
	}
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	return filepath.Join(os.TempDir(), "galley-"+hex.EncodeToString(sum[:8]), "galley.sock")
}

// Server answers on a control socket.
type Server struct {
	path, dataDir string
	handler       http.Handler
	log           *slog.Logger
	server        *http.Server
	abort         context.CancelFunc
	done          chan struct{}
}

// New makes the server of a data folder's socket; Start has it listen.
func New(dataDir string, handler http.Handler, log *slog.Logger) *Server {
	return &Server{path: Path(dataDir), dataDir: dataDir, handler: handler, log: log}
}

// Start listens. A server can do without its socket, so that a failure is a warning.
func (s *Server) Start(ctx context.Context) error {
	l, err := s.listen(ctx)
	if err != nil {
		s.log.Warn("the command line will not find this server", "socket", s.path, "error", err)
		return nil
	}
	ctx, s.abort = context.WithCancel(context.WithoutCancel(ctx))
	s.server = &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.server.Serve(l) // it ends with Stop
	}()
	return nil
}

// errInUse says that another server answers.
var errInUse = errors.New("another server answers there")

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	if dir := filepath.Dir(s.path); dir != s.dataDir {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := private(dir, os.Getuid()); err != nil {
			return nil, err
		}
	}
	if info, err := os.Lstat(s.path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, errors.New("there is something else than a socket")
		}
		switch c, err := dial(ctx, s.path); {
		case err == nil:
			_ = c.Close()
			return nil, errInUse
		case !errors.Is(err, syscall.ECONNREFUSED):
			return nil, err
		}
		if err := os.Remove(s.path); err != nil {
			return nil, err
		}
	}
	// the mode is set before there is a name, so that nobody else gets in meanwhile
	conf := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := conf.Listen(ctx, "unix", s.path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(s.path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Stop ends what is being answered and removes the socket.
func (s *Server) Stop(context.Context) error {
	if s.server == nil {
		return nil
	}
	s.abort()
	last, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.server.Shutdown(last) != nil {
		_ = s.server.Close()
	}
	<-s.done
	if dir := filepath.Dir(s.path); dir != s.dataDir {
		_ = os.Remove(dir)
	}
	return nil
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
}

// ErrNoServer says that no server of a data folder runs on this machine.
var ErrNoServer = errors.New("not running")

// Connect gives a client of the server of a data folder; the host in its URLs is of no matter.
func Connect(ctx context.Context, dataDir string) (*http.Client, error) {
	path := Path(dataDir)
	if dir := filepath.Dir(path); dir != dataDir {
		// below a folder that all may write to somebody else could pretend to be the server
		if err := private(dir, os.Getuid(), 0, owner(dataDir)); errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNoServer
		} else if err != nil {
			return nil, err
		}
	}
	c, err := dial(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, ErrNoServer
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the server runs as another account: %w", err)
	case err != nil:
		return nil, err
	}
	_ = c.Close()
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
		DisableKeepAlives: true,
	}}, nil
}

// private checks that a folder belongs to one of the given users and nobody else gets in.
func private(dir string, owners ...int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	for _, uid := range owners {
		if uid == owner(dir) && info.IsDir() && info.Mode().Perm()&0o077 == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s is not the private folder it should be", dir)
}

// owner is the user that a file belongs to, -1 if that cannot be found out.
func owner(path string) int {
	info, err := os.Lstat(path)
	if err != nil {
		return -1
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
