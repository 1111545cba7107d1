package plugin

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// backend speaks HTTP/1.1 with a plugin's server over a pool of connections. It does what http.Transport and
// httputil.ReverseProxy do together, on the goroutine of the request: those hand each request over between four
// goroutines, which costs more than the plugin's answer. A request body alone has a goroutine of its own.
type backend struct {
	dial    func(ctx context.Context) (net.Conn, error)
	timeout time.Duration // until an answer's header is there, from the end of the request

	mu     sync.Mutex
	idle   []*backendConn // the last used at the end
	closed bool
}

const (
	// maxIdle connections are kept, each for idleTime.
	maxIdle  = 256
	idleTime = time.Minute
	// maxAnswerHeader bounds the header of a plugin's answer, in bytes.
	maxAnswerHeader = 256 << 10
)

// backendConn is a connection to the plugin.
type backendConn struct {
	net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	room   int64 // bytes that may be read while a header is expected; negative: any
	reused bool
	since  time.Time // when it became idle
}

func (c *backendConn) Read(p []byte) (int, error) {
	if c.room == 0 {
		return 0, errHeaderSize
	}
	if c.room > 0 && int64(len(p)) > c.room {
		p = p[:c.room]
	}
	n, err := c.Conn.Read(p)
	if c.room > 0 {
		c.room -= int64(n)
	}
	return n, err
}

var (
	errHeaderSize = errors.New("the header of its answer is too large")
	errPlugin     = errors.New("its answer is no HTTP")
)

func newBackend(path string, conf *tls.Config, timeout time.Duration) *backend {
	conf.NextProtos = []string{"http/1.1"}
	dialer := tls.Dialer{Config: conf, NetDialer: &net.Dialer{Timeout: 5 * time.Second}}
	return &backend{timeout: timeout, dial: func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }}
}

// get gives an idle connection, or a new one if there is none or fresh is asked for.
func (b *backend) get(ctx context.Context, fresh bool) (*backendConn, error) {
	if !fresh {
		b.mu.Lock()
		for n := len(b.idle); n > 0; n = len(b.idle) {
			c := b.idle[n-1]
			b.idle = b.idle[:n-1]
			if time.Since(c.since) < idleTime && quiet(c.Conn) {
				b.mu.Unlock()
				c.reused = true
				return c, nil
			}
			_ = c.Close()
		}
		b.mu.Unlock()
	}
	conn, err := b.dial(ctx)
	if err != nil {
		return nil, &dialError{err}
	}
	c := &backendConn{Conn: conn, room: -1}
	c.in, c.out = bufio.NewReaderSize(c, 4<<10), bufio.NewWriterSize(conn, 4<<10)
	return c, nil
}

// quiet says that the plugin has neither closed an idle connection nor sent anything on it, which would be that it is
// about to: many servers close connections that are idle for some seconds.
func quiet(conn net.Conn) bool {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	is := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		is = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
		return true
	})
	return err == nil && is
}

// put keeps a connection for the next request.
func (b *backend) put(c *backendConn) {
	c.since = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.idle) >= maxIdle {
		_ = c.Close()
		return
	}
	b.idle = append(b.idle, c)
	if old := b.idle[0]; time.Since(old.since) > idleTime { // the longest idle of them
		b.idle = slices.Delete(b.idle, 0, 1)
		_ = old.Close()
	}
}

// close closes the idle connections; those in use are when their requests end.
func (b *backend) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, c := range b.idle {
		_ = c.Close()
	}
	b.idle = nil
}

// dialError says that the plugin could not be reached.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// serve sends a request on and its answer back. header is what the plugin gets, in place of the request's own; uri is the
// path and query. An error means that nothing was answered yet. It panics with http.ErrAbortHandler when an answer
// breaks off.
func (b *backend) serve(w http.ResponseWriter, r *http.Request, uri string, header http.Header) error {
	var x *exchange
	if hasBody(r) {
		defer func() {
			switch {
			case x == nil:
				drain(w, r, 0)
			case !x.ended.Load() && !x.switched:
				drain(w, r, x.read)
			}
		}()
	}
	for attempt := 0; ; attempt++ {
		conn, err := b.get(r.Context(), attempt > 0)
		if err != nil {
			return err
		}
		x = &exchange{b: b, conn: conn, w: w, r: r}
		err = x.run(uri, header)
		if err == nil {
			return nil
		}
		// an idle connection may have been closed by the plugin in the same moment: nothing was done then
		if attempt == 0 && conn.reused && x.untouched && !x.hasBody() && repeatable(r.Method) && r.Context().Err() == nil {
			continue
		}
		return err
	}
}

// repeatable says that a request may be sent twice, should the plugin have acted on it before it closed the connection.
func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return false
}

// exchange is one request and its answer on a connection.
type exchange struct {
	b         *backend
	conn      *backendConn
	w         http.ResponseWriter
	r         *http.Request
	sent      chan error // of the body; nil without one
	begun     atomic.Bool
	stalled   atomic.Bool // the plugin did not read the body
	ended     atomic.Bool // the client has sent all of the body
	read      int64       // bytes of the body; of whoever sends it
	switched  bool        // the connection may be the client's and the plugin's own now
	untouched bool        // the plugin closed the connection without a byte of an answer
}

func (x *exchange) hasBody() bool { return hasBody(x.r) }

func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

const (
	drainBytes = 256 << 10 // as much as net/http reads for a handler that does not
	drainTime  = 250 * time.Millisecond
)

// drain reads the rest of a body that the plugin did not want, of which so many bytes were read. With both directions open
// at once, net/http may else come to its end after the handler has returned, at which the connection and the client's next
// request on it break. Where too much is left, net/http closes the connection in an orderly way.
func drain(w http.ResponseWriter, r *http.Request, read int64) {
	if r.ContentLength-read > drainBytes {
		return
	}
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(drainTime))
	if _, err := io.CopyN(io.Discard, r.Body, drainBytes); err == nil {
		_ = ctl.SetReadDeadline(time.Now().Add(drainTime)) // for net/http, which looks a little further
	}
}

func (x *exchange) run(uri string, header http.Header) (err error) {
	stop := context.AfterFunc(x.r.Context(), func() { _ = x.conn.Close() })
	keep := false
	defer func() {
		if !stop() {
			keep = false // it was closed meanwhile
		}
		if keep {
			x.b.put(x.conn)
		} else {
			_ = x.conn.Close()
			x.endBody()
		}
	}()
	upgrade := upgradeOf(x.r.Header)
	if err := x.send(uri, header, upgrade); err != nil {
		x.untouched = true
		return err
	}
	res, err := x.head()
	if err != nil {
		if x.stalled.Load() {
			return os.ErrDeadlineExceeded
		}
		return err
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.switched = true
		return x.upgraded(res, upgrade)
	}
	x.begun.Store(true)
	if err := x.answer(res); err != nil {
		panic(http.ErrAbortHandler)
	}
	keep = !res.Close && x.conn.in.Buffered() == 0 && x.bodySent() // what more there is belongs to no request
	return nil
}

// send writes the request. A body follows on a goroutine of its own.
func (x *exchange) send(uri string, header http.Header, upgrade string) error {
	out, r := x.conn.out, x.r
	line := func(parts ...string) {
		for _, p := range parts {
			_, _ = out.WriteString(p) // errors stay with the writer
		}
		_, _ = out.WriteString("\r\n")
	}
	line(r.Method, " ", uri, " HTTP/1.1")
	line("Host: ", hostLine(r.Host))
	for name, values := range header {
		for _, v := range values {
			line(name, ": ", lineBreaks.Replace(v))
		}
	}
	if upgrade != "" {
		line("Connection: Upgrade")
		line("Upgrade: ", upgrade)
	}
	chunked := false
	switch {
	case x.hasBody() && r.ContentLength > 0:
		line("Content-Length: ", strconv.FormatInt(r.ContentLength, 10))
	case x.hasBody():
		chunked = true
		line("Transfer-Encoding: chunked")
		for name := range r.Trailer {
			line("Trailer: ", name)
		}
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		line("Content-Length: 0")
	}
	line()
	if !x.hasBody() {
		_ = x.conn.SetReadDeadline(time.Now().Add(x.b.timeout))
		return out.Flush()
	}
	x.sent = make(chan error, 1)
	go func() {
		err := x.body(chunked)
		_ = x.conn.SetWriteDeadline(time.Time{})
		if err != nil {
			_ = x.conn.Close() // the plugin shall not take what came for the whole
		} else if !x.begun.Load() {
			_ = x.conn.SetReadDeadline(time.Now().Add(x.b.timeout))
			if x.begun.Load() {
				_ = x.conn.SetReadDeadline(time.Time{})
			}
		}
		x.sent <- err
	}()
	return nil
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func hostLine(host string) string {
	if host == "" {
		return "localhost"
	}
	return lineBreaks.Replace(host)
}

// body sends the request's body.
func (x *exchange) body(chunked bool) error {
	out, r := x.conn.out, x.r
	buf := copyPool.Get().(*[32 << 10]byte)
	defer copyPool.Put(buf)
	var to io.Writer = out
	var chunks io.WriteCloser
	if chunked {
		chunks = httputil.NewChunkedWriter(out)
		to = chunks
	}
	for {
		n, err := r.Body.Read(buf[:])
		x.read += int64(n)
		if err == io.EOF {
			x.ended.Store(true) // before the plugin can answer the last of it
		}
		if n > 0 {
			_ = x.conn.SetWriteDeadline(time.Now().Add(x.b.timeout)) // for a plugin that does not read
			_, err := to.Write(buf[:n])
			if err == nil {
				err = out.Flush() // a client that sends bit by bit is answered so
			}
			if err != nil {
				x.stalled.Store(isTimeout(err))
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if chunked {
		if err := chunks.Close(); err != nil {
			return err
		}
		if err := r.Trailer.Write(out); err != nil {
			return err
		}
		if _, err := out.WriteString("\r\n"); err != nil {
			return err
		}
	}
	return out.Flush()
}

// bodySent says whether the whole body has been sent. A plugin may answer its last byte before its sender can say so.
func (x *exchange) bodySent() bool {
	if x.sent == nil {
		return true
	}
	patience := time.Duration(0)
	if x.ended.Load() {
		patience = sentTime
	}
	select {
	case err := <-x.sent:
		x.sent = nil
		return err == nil
	case <-time.After(patience):
		return false
	}
}

// sentTime is how long a connection to a plugin is worth waiting for.
const sentTime = 10 * time.Millisecond

// endBody waits until nobody reads the request's body any more, which the handler must not outlive.
func (x *exchange) endBody() {
	if x.sent == nil {
		return
	}
	select {
	case <-x.sent:
		return
	default:
	}
	// It may wait for a client that sends nothing. After the end of the body net/http itself reads on, and takes the end of
	// its patience for the end of the connection: all requests that follow on it would be cancelled.
	if !x.ended.Load() {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now())
	}
	<-x.sent
}

// head reads the header of the answer. Those that only inform are passed on.
func (x *exchange) head() (*http.Response, error) {
	c := x.conn
	for informed := 0; informed < 10; informed++ {
		c.room = maxAnswerHeader
		if _, err := c.in.Peek(1); err != nil {
			x.untouched = errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isReset(err)
			return nil, err
		}
		res, err := http.ReadResponse(c.in, x.r)
		if err != nil {
			if errors.Is(err, errHeaderSize) || isTimeout(err) {
				return nil, err
			}
			return nil, errors.Join(errPlugin, err)
		}
		if res.StatusCode < 100 || res.StatusCode > 999 {
			return nil, errPlugin
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			c.room = -1
			x.begun.Store(true)
			_ = c.SetReadDeadline(time.Time{})
			return res, nil
		}
		if res.StatusCode != http.StatusContinue {
			h := x.w.Header()
			before := h.Clone()
			copyAnswerHeader(h, res.Header)
			x.w.WriteHeader(res.StatusCode)
			clear(h)
			for name, values := range before {
				h[name] = values
			}
		}
	}
	return nil, errPlugin
}

// isReset says that the other end closed the connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// answer passes the answer on.
func (x *exchange) answer(res *http.Response) error {
	h := x.w.Header()
	copyAnswerHeader(h, res.Header)
	if res.ContentLength >= 0 && h["Content-Length"] == nil && x.r.Method != http.MethodHead && bodyAllowed(res.StatusCode) {
		h["Content-Length"] = []string{strconv.FormatInt(res.ContentLength, 10)}
	}
	announced := len(res.Trailer)
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	if x.hasBody() && !x.ended.Load() {
		h.Set("Connection", "close") // the rest of the body may never be read
	}
	x.w.WriteHeader(res.StatusCode)
	if err := x.copy(res); err != nil {
		return err
	}
	prefix := http.TrailerPrefix
	if len(res.Trailer) == announced {
		prefix = ""
	}
	for name, values := range res.Trailer {
		h[prefix+name] = values
	}
	return nil
}

func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// copy passes the body on. What has arrived is sent at once, unless more of it is here already.
func (x *exchange) copy(res *http.Response) error {
	buf := copyPool.Get().(*[32 << 10]byte)
	defer copyPool.Put(buf)
	flush := http.NewResponseController(x.w).Flush
	if res.ContentLength < 0 && x.conn.in.Buffered() == 0 {
		if err := flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	left := res.ContentLength
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				return err
			}
			left -= int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if left != 0 && x.conn.in.Buffered() == 0 {
			if err := flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
	}
}

// upgraded joins the two connections once the plugin has switched to another protocol.
func (x *exchange) upgraded(res *http.Response, asked string) error {
	protocol := res.Header.Get("Upgrade")
	if asked == "" || !strings.EqualFold(protocol, asked) {
		return errors.Join(errPlugin, errors.New("it switched to a protocol that was not asked for"))
	}
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	_ = client.SetDeadline(time.Time{})
	h := http.Header{}
	copyAnswerHeader(h, res.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	for name, values := range x.w.Header() {
		if h[name] == nil {
			h[name] = values
		}
	}
	if _, err := buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\n"); err != nil {
		return nil // the client has gone
	}
	if h.Write(buffered) != nil {
		return nil
	}
	if _, err := buffered.WriteString("\r\n"); err != nil || buffered.Flush() != nil {
		return nil
	}
	ended := make(chan struct{}, 2)
	pass := func(dst io.Writer, src io.Reader) {
		// small buffers: there may be many such connections, and they are mostly silent
		_, _ = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 2<<10)) // either end's going ends both
		ended <- struct{}{}
	}
	go pass(x.conn, buffered.Reader)
	go pass(client, x.conn.in)
	<-ended
	_ = client.Close()
	_ = x.conn.Close()
	<-ended
	return nil
}

// hopHeaders are about one connection only (RFC 9110, 7.6.1).
var hopHeaders = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// dropHop removes the headers that are about one connection.
func dropHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopHeaders {
		delete(h, name)
	}
}

// copyAnswerHeader adds an answer's header to that for the client, but what Galley says itself: who may read it from
// elsewhere, and the request's id.
func copyAnswerHeader(dst, src http.Header) {
	dropHop(src)
	for name, values := range src {
		if name == "X-Request-Id" || strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		dst[name] = append(dst[name], values...)
	}
}

// upgradeOf is the protocol that a request asks to switch to, "" for none.
func upgradeOf(h http.Header) string {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(textproto.TrimString(name), "upgrade") {
				return lineBreaks.Replace(h.Get("Upgrade"))
			}
		}
	}
	return ""
}
