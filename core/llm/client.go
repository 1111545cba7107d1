package llm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MaxBodySize bounds a whole (not streamed) answer of a provider, in bytes.
const MaxBodySize = 256 << 20

// ClientOptions configure the HTTP client that all connections share. Zero durations mean no limit, except
// ConnectTimeout.
type ClientOptions struct {
	Timeout        time.Duration // a whole call, also a streamed one (AIOHTTP_CLIENT_TIMEOUT; unset: none)
	StreamIdle     time.Duration // between two pieces of a stream (AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT)
	ListTimeout    time.Duration // a model list (AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST; unset: 10 s)
	ConnectTimeout time.Duration // TCP connect, and again TLS handshake; 0: 10 s
	ConnsPerHost   int           // AIOHTTP_POOL_CONNECTIONS_PER_HOST; 0: no limit
	TLS            *tls.Config   // nil: system roots (AIOHTTP_CLIENT_SESSION_SSL, AIOHTTP_CLIENT_SSL_CERT_FILE)
	Headers        HeaderOptions

	// Refused, if set, is told of requests for a model that a provider answered with an error. It must be quick.
	Refused func(ctx context.Context, r Refusal)
	// Transport, if set, is given the shared transport and returns what to use, e.g. one that traces.
	Transport func(http.RoundTripper) http.RoundTripper
}

// ClientOptionsFromEnv reads the AIOHTTP_* variables and those of [HeaderOptionsFromEnv]. Values that are no
// numbers give the reference's fallbacks; the error is about an unreadable CA file, the options are usable still.
func ClientOptionsFromEnv(getenv func(string) string) (ClientOptions, error) {
	o := ClientOptions{
		Timeout:     seconds(getenv("AIOHTTP_CLIENT_TIMEOUT"), 0, 300*time.Second),
		StreamIdle:  seconds(getenv("AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT"), 0, 0),
		ListTimeout: 10 * time.Second,
		Headers:     HeaderOptionsFromEnv(getenv),
	}
	for _, name := range []string{"AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST", "AIOHTTP_CLIENT_TIMEOUT_OPENAI_MODEL_LIST"} {
		if v := getenv(name); v != "" {
			o.ListTimeout = seconds(v, 0, 10*time.Second)
			break
		}
	}
	if n, err := strconv.Atoi(getenv("AIOHTTP_POOL_CONNECTIONS_PER_HOST")); err == nil && n > 0 {
		o.ConnsPerHost = n
	}
	var err error
	o.TLS, err = tlsFromEnv(getenv("AIOHTTP_CLIENT_SESSION_SSL"), getenv("AIOHTTP_CLIENT_SSL_CERT_FILE"))
	return o, err
}

func seconds(v string, empty, invalid time.Duration) time.Duration {
	if v == "" {
		return empty
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		return invalid
	}
	return time.Duration(max(n, 0)) * time.Second
}

func tlsFromEnv(mode, caFile string) (*tls.Config, error) {
	mode, caFile = strings.TrimSpace(mode), strings.TrimSpace(caFile)
	switch strings.ToLower(mode) {
	case "false":
		return &tls.Config{InsecureSkipVerify: true}, nil // what the administrator asked for
	case "", "true":
	default:
		caFile = mode
	}
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("llm: CA bundle: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("llm: CA bundle %q has no certificates", caFile)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// Client sends requests on connections. It is safe for concurrent use.
type Client struct {
	opts ClientOptions
	http *http.Client
	base *http.Transport
}

// NewClient returns a client with one pool of connections of its own.
func NewClient(o ClientOptions) *Client {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second}
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       o.TLS,
		TLSHandshakeTimeout:   o.ConnectTimeout,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   512,
		MaxConnsPerHost:       o.ConnsPerHost,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        16 << 10,
		WriteBufferSize:       16 << 10,
	}
	var rt http.RoundTripper = base
	if o.Transport != nil {
		rt = o.Transport(rt)
	}
	return &Client{opts: o, http: &http.Client{Transport: rt}, base: base}
}

// Headers returns the header options.
func (c *Client) Headers() *HeaderOptions { return &c.opts.Headers }

// CloseIdle closes connections that are not in use.
func (c *Client) CloseIdle() { c.base.CloseIdleConnections() }

// Outgoing is one request of [Client.Send].
type Outgoing struct {
	Method string
	URL    string
	Header http.Header
	Body   []byte // nil: none
	Stream bool   // the answer is read piece by piece: the idle limit applies

	// Content, if set, is the body instead of Body, Size bytes that are read as they are sent. It may be called more than
	// once, for a request that is sent again.
	Content func() io.Reader
	Size    int64
}

var errIdle = errors.New("llm: the provider has sent nothing for too long")

// Send sends a request. The answer's body ends the call when it is closed; the context, the total and the idle
// limit end it too.
func (c *Client) Send(ctx context.Context, out Outgoing) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var total *time.Timer
	if c.opts.Timeout > 0 {
		total = time.AfterFunc(c.opts.Timeout, func() { cancel(context.DeadlineExceeded) })
	}
	stop := func(cause error) {
		if total != nil {
			total.Stop()
		}
		cancel(cause)
	}
	var body io.Reader
	switch {
	case out.Content != nil:
		body = out.Content()
	case out.Body != nil:
		body = bytes.NewReader(out.Body)
	}
	req, err := http.NewRequestWithContext(ctx, out.Method, out.URL, body)
	if err != nil {
		stop(nil)
		return nil, err
	}
	if out.Content != nil {
		req.ContentLength = out.Size
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(out.Content()), nil }
	}
	if out.Header != nil {
		req.Header = out.Header
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "Galley")
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "*/*")
	}
	var idle *time.Timer
	if out.Stream && c.opts.StreamIdle > 0 {
		idle = time.AfterFunc(c.opts.StreamIdle, func() { cancel(errIdle) })
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if idle != nil {
			idle.Stop()
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		stop(nil)
		return nil, err
	}
	resp.Body = &callBody{ReadCloser: resp.Body, ctx: ctx, stop: stop, idle: idle, limit: c.opts.StreamIdle}
	return resp, nil
}

// callBody is the body of an answer; closing it ends the call.
type callBody struct {
	io.ReadCloser
	ctx   context.Context
	stop  func(error)
	idle  *time.Timer
	limit time.Duration
	once  sync.Once
}

// Read reads and restarts the idle limit. An error of an ended context is told by its cause.
func (b *callBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.idle != nil && n > 0 {
		b.idle.Reset(b.limit)
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

// Close ends the call.
func (b *callBody) Close() error {
	var err error
	b.once.Do(func() {
		if b.idle != nil {
			b.idle.Stop()
		}
		err = b.ReadCloser.Close()
		b.stop(nil)
	})
	return err
}

// ReadBody reads a whole answer of at most [MaxBodySize] and closes it.
func ReadBody(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	var buf bytes.Buffer
	if resp.ContentLength > 0 && resp.ContentLength < MaxBodySize {
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, MaxBodySize+1))
	if err == nil && n > MaxBodySize {
		err = fmt.Errorf("llm: answer is larger than %d MiB", MaxBodySize>>20)
	}
	return buf.Bytes(), err
}

// RelayHeader returns the headers of an answer that may be passed on: without those that describe the transfer,
// without Server and Date, which the own server adds, and without what would act on this server's own origin
// (Set-Cookie, Alt-Svc, Strict-Transport-Security).
func RelayHeader(h http.Header) http.Header {
	out := h.Clone()
	for _, name := range []string{"Content-Encoding", "Content-Length", "Transfer-Encoding", "Server", "Date",
		"Connection", "Keep-Alive", "Trailer", "Upgrade", "Alt-Svc", "Strict-Transport-Security", "Set-Cookie"} {
		out.Del(name)
	}
	return out
}

// TransportError makes the error for a request that got no answer. Ends of the caller's own context stay what
// they are.
func TransportError(ctx context.Context, err error, detail string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return DetailError(http.StatusInternalServerError, detail, err)
}
