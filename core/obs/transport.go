package obs

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Transport wraps base (nil means [http.DefaultTransport]) so that each
// request runs in a client span and carries its trace context in the headers.
// The span ends when the response body has been read or closed, so it covers a
// stream. The URL is recorded without its query; for URLs whose path is a
// secret (incoming webhooks of chat services) use an unwrapped transport.
// When tracing is off base is returned as it is.
func (t *Tracer) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	if t == nil {
		return base
	}
	return &transport{base: base, t: t}
}

type transport struct {
	base http.RoundTripper
	t    *Tracer
}

// RoundTrip implements [http.RoundTripper].
func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	k := &tr.t.keys
	attrs := make([]attribute.KeyValue, 0, 6)
	attrs = k.method.add(attrs, r.Method)
	attrs = k.url.add(attrs, bareURL(r.URL))
	attrs = k.host.add(attrs, r.URL.Hostname())
	ctx, span := tr.t.start(r.Context(), r.Method, trace.SpanKindClient, attrs)

	r = r.Clone(ctx) // a RoundTripper must leave the caller's headers alone
	tr.t.prop.Inject(ctx, propagation.HeaderCarrier(r.Header))
	res, err := tr.base.RoundTrip(r)
	if err != nil {
		span.Fail(err)
		span.End()
		return res, err
	}
	if span.Recording() {
		span.span.SetAttributes(k.status.ints(res.StatusCode)...)
		if res.StatusCode >= 400 {
			span.span.SetStatus(codes.Error, "")
		}
	}
	// An upgraded connection must stay an io.ReadWriteCloser.
	if res.StatusCode == http.StatusSwitchingProtocols || res.Body == nil {
		span.End()
		return res, nil
	}
	res.Body = &spanBody{ReadCloser: res.Body, span: span}
	return res, nil
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] reach base.
func (tr *transport) CloseIdleConnections() {
	if c, ok := tr.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// bareURL is the URL without user info, query and fragment, which may hold
// API keys.
func bareURL(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return bare.String()
}

type spanBody struct {
	io.ReadCloser
	span Span
	done atomic.Bool // Close may come from another goroutine than Read
}

func (b *spanBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if errors.Is(err, io.EOF) {
			b.end(nil)
		} else {
			b.end(err)
		}
	}
	return n, err
}

func (b *spanBody) Close() error {
	err := b.ReadCloser.Close()
	b.end(nil)
	return err
}

func (b *spanBody) end(err error) {
	if b.done.CompareAndSwap(false, true) {
		b.span.Fail(err)
		b.span.End()
	}
}
