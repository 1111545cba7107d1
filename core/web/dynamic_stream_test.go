package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/galleychat/galley/core/auth"
)

type handlerFunc = func(w http.ResponseWriter, r *http.Request, p *auth.Principal)

// dynamicServer serves one dynamic route at /x/{rest...}, on a router that compresses.
func dynamicServer(t *testing.T, d DynamicRoute, observe *recordedObserver) *httptest.Server {
	t.Helper()
	o := Options{Compress: true}
	if observe != nil {
		o.ObserveDynamic = func(string, string, string) Observer { return observe }
	}
	r := builtinRouter(o)
	d.Path = "/x/{rest...}"
	set(t, r, "o", []DynamicRoute{d})
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return srv
}

// proxied is a handler that hands requests on to another server, as a bridge to a plugin does.
func proxied(t *testing.T, h http.HandlerFunc) handlerFunc {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	return func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) { proxy.ServeHTTP(w, r) }
}

// both runs a test with a handler itself and behind a proxy.
func both(t *testing.T, h http.HandlerFunc, test func(t *testing.T, h handlerFunc)) {
	t.Run("itself", func(t *testing.T) {
		test(t, func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) { h(w, r) })
	})
	t.Run("proxied", func(t *testing.T) { test(t, proxied(t, h)) })
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func do(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func newRequest(t *testing.T, ctx context.Context, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func (o *recordedObserver) status() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.statuses) == 0 {
		return 0
	}
	return o.statuses[0]
}

func TestDynamicWebSocket(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, append([]byte("echo "), b...)) != nil {
				return
			}
		}
	}, func(t *testing.T, h handlerFunc) {
		o := &recordedObserver{}
		srv := dynamicServer(t, DynamicRoute{Handler: h}, o)
		ctx := soon(t)
		c, _, err := websocket.Dial(ctx, srv.URL+"/x/socket", nil)
		if err != nil {
			t.Fatal(err)
		}
		big := strings.Repeat("b", 20_000)
		for _, text := range []string{"one", "two", big} {
			if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := c.Read(ctx); err != nil || string(b) != "echo "+text {
				t.Fatalf("%.50s %v", b, err)
			}
		}
		_ = c.CloseNow()
		until(t, "the observer was not told 101", func() bool { return o.status() == 101 })
	})
}

func TestDynamicHijackPanics(t *testing.T) {
	o := &recordedObserver{}
	srv := dynamicServer(t, DynamicRoute{Handler: func(w http.ResponseWriter, _ *http.Request, _ *auth.Principal) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\nbegun")
		_ = rw.Flush()
		panic("boom")
	}}, o)
	res := do(t, newRequest(t, soon(t), "GET", srv.URL+"/x/y", nil))
	if res.StatusCode != 101 {
		t.Fatal(res.Status)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "begun" {
		t.Errorf("%q", b)
	}
	until(t, "the observer was not told", func() bool { return o.status() != 0 })
	if got := o.status(); got != 101 {
		t.Errorf("status %d", got)
	}
}

func TestDynamicEvents(t *testing.T) {
	next := make(chan string)
	gone := make(chan error, 1)
	both(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		ctl := http.NewResponseController(w)
		if err := ctl.Flush(); err != nil {
			t.Error(err)
		}
		for {
			select {
			case text := <-next:
				_, _ = fmt.Fprintf(w, "data: %s\n\n", text)
				if err := ctl.Flush(); err != nil {
					t.Error(err)
				}
			case <-r.Context().Done():
				gone <- context.Cause(r.Context())
				return
			}
		}
	}, func(t *testing.T, h handlerFunc) {
		srv := dynamicServer(t, DynamicRoute{Handler: h}, nil)
		ctx, leave := context.WithCancel(soon(t))
		res := do(t, newRequest(t, ctx, "POST", srv.URL+"/x/events", strings.NewReader("a body")))
		lines := bufio.NewScanner(res.Body)
		for _, text := range []string{"one", "two"} {
			next <- text
			if !lines.Scan() || lines.Text() != "data: "+text || !lines.Scan() {
				t.Fatalf("%q %v", lines.Text(), lines.Err())
			}
		}
		leave()
		select {
		case err := <-gone:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the handler was not told that the client has gone")
		}
	})
}

func TestDynamicTrailers(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Declared")
		_, _ = w.Write(body)
		w.Header().Set("X-Declared", fmt.Sprint(len(body)))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late-"+r.Trailer.Get("X-Sum"))
	}, func(t *testing.T, h handlerFunc) {
		srv := dynamicServer(t, DynamicRoute{Handler: h}, nil)
		req := newRequest(t, soon(t), "POST", srv.URL+"/x/y", io.MultiReader(strings.NewReader("text"))) // no length: chunked
		req.Trailer = http.Header{"X-Sum": {"4"}}
		res := do(t, req)
		b, err := io.ReadAll(res.Body)
		late := "late-4"
		if strings.HasSuffix(t.Name(), "proxied") {
			late = "late-" // ReverseProxy drops trailers of requests
		}
		if err != nil || string(b) != "text" || res.Trailer.Get("X-Declared") != "4" || res.Trailer.Get("X-Late") != late {
			t.Errorf("%q %v %v", b, err, res.Trailer)
		}
	})
}

func TestDynamicFullDuplex(t *testing.T) {
	srv := dynamicServer(t, DynamicRoute{ReadTimeout: 50 * time.Millisecond, Handler: func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) {
		ctl := http.NewResponseController(w)
		if err := ctl.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		in := bufio.NewScanner(r.Body)
		_ = ctl.Flush()
		for in.Scan() {
			_, _ = fmt.Fprintln(w, "echo", in.Text())
			_ = ctl.Flush()
		}
		if err := in.Err(); err != nil {
			t.Error(err)
		}
	}}, nil)
	pr, pw := io.Pipe()
	res := do(t, newRequest(t, soon(t), "POST", srv.URL+"/x/y", pr))
	out := bufio.NewScanner(res.Body)
	for i := range 3 {
		// a client that pauses for longer than ReadTimeout, which is for bodies that come before the answer
		<-time.After(120 * time.Millisecond)
		_, _ = fmt.Fprintln(pw, i)
		if !out.Scan() || out.Text() != fmt.Sprint("echo ", i) {
			t.Fatalf("%q %v", out.Text(), out.Err())
		}
	}
	_ = pw.Close()
	if out.Scan() || out.Err() != nil {
		t.Errorf("%q %v", out.Text(), out.Err())
	}
}

func TestDynamicInformational(t *testing.T) {
	both(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusProcessing)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "made")
	}, func(t *testing.T, h handlerFunc) {
		o := &recordedObserver{}
		srv := dynamicServer(t, DynamicRoute{Handler: h}, o)
		var got []string
		ctx := httptrace.WithClientTrace(soon(t), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			got = append(got, fmt.Sprint(code, header.Get("Link")))
			return nil
		}})
		res := do(t, newRequest(t, ctx, "GET", srv.URL+"/x/y", nil))
		b, _ := io.ReadAll(res.Body)
		if want := "[103</style.css>; rel=preload 102]"; fmt.Sprint(got) != want || res.StatusCode != 201 || string(b) != "made" {
			t.Errorf("%v %s %s", got, res.Status, b)
		}
		until(t, "the observer was not told 201", func() bool { return o.status() == 201 })
	})
}

// TestDynamicAsIs holds that the router changes nothing of an answer that it could compress.
func TestDynamicAsIs(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"v1"`)
		if r.URL.Path == "/x/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(bigText)))
		}
		_, _ = io.Copy(w, strings.NewReader(bigText))
	}, func(t *testing.T, h handlerFunc) {
		srv := dynamicServer(t, DynamicRoute{Handler: h}, nil)
		for _, path := range []string{"/x/y", "/x/length"} {
			for _, method := range []string{"GET", "HEAD"} {
				req := newRequest(t, soon(t), method, srv.URL+path, nil)
				req.Header.Set("Accept-Encoding", "gzip")
				req.Header.Set("X-Forwarded-For", "192.0.2.1")
				res := do(t, req)
				b, err := io.ReadAll(res.Body)
				want := bigText
				if method == "HEAD" {
					want = ""
				}
				if err != nil || string(b) != want || res.Header.Get("Content-Encoding") != "" || res.Header.Get("Vary") != "" || res.Header.Get("Etag") != `"v1"` {
					t.Errorf("%s %s: %d bytes, %v %v", method, path, len(b), res.Header, err)
				}
				if path == "/x/length" && res.ContentLength != int64(len(bigText)) {
					t.Errorf("length %d", res.ContentLength)
				}
			}
		}
	})
}

// TestDynamicUpload sends more than any limit of the router, and holds that the handler gets it unread.
func TestDynamicUpload(t *testing.T) {
	const size = 96 << 20 // the router's limit is 64 MiB
	both(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err, r.ContentLength)
	}, func(t *testing.T, h handlerFunc) {
		srv := dynamicServer(t, DynamicRoute{Handler: h}, nil)
		for _, length := range []int64{size, -1} {
			req := newRequest(t, soon(t), "PUT", srv.URL+"/x/y", io.LimitReader(zeros{}, size))
			req.ContentLength = length
			b, err := io.ReadAll(do(t, req).Body)
			if want := fmt.Sprint(size, nil, length); err != nil || string(b) != want {
				t.Errorf("%s %v, want %s", b, err, want)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDynamicReadTimeout has clients pause within their bodies.
func TestDynamicReadTimeout(t *testing.T) {
	read := make(chan error, 1)
	goOn := make(chan struct{})
	for _, c := range []struct {
		name    string
		timeout time.Duration
		handler handlerFunc
		want    error
	}{
		{"stuck", 30 * time.Millisecond, func(_ http.ResponseWriter, r *http.Request, _ *auth.Principal) {
			_, err := io.ReadAll(r.Body)
			read <- err
		}, os.ErrDeadlineExceeded},
		{"own deadline is sooner", time.Hour, func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			_, err := io.ReadAll(r.Body)
			read <- err
		}, os.ErrDeadlineExceeded},
		{"own deadline is none", 30 * time.Millisecond, func(w http.ResponseWriter, r *http.Request, _ *auth.Principal) {
			if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
			time.AfterFunc(150*time.Millisecond, func() { goOn <- struct{}{} })
			_, err := io.ReadAll(r.Body)
			read <- err
		}, nil},
		{"busy handler", 30 * time.Millisecond, func(_ http.ResponseWriter, r *http.Request, _ *auth.Principal) {
			<-time.After(100 * time.Millisecond) // the client is not to blame
			go func() { goOn <- struct{}{} }()
			_, err := io.ReadAll(r.Body)
			<-time.After(100 * time.Millisecond)
			if r.Context().Err() != nil {
				t.Error("a deadline was left on the connection")
			}
			read <- err
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := dynamicServer(t, DynamicRoute{ReadTimeout: c.timeout, Handler: c.handler}, nil)
			pr, pw := io.Pipe()
			req := newRequest(t, soon(t), "POST", srv.URL+"/x/y", pr)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := http.DefaultClient.Do(req); err == nil {
					_ = res.Body.Close()
				}
			}()
			_, _ = io.WriteString(pw, "begin")
			if c.want == nil {
				<-goOn
				_ = pw.Close()
			}
			if err := <-read; !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			_ = pw.Close()
			<-done
		})
	}
}

// TestDynamicBodyLeft has a handler that leaves some of the body unread, and comes to its end later than ReadTimeout: the
// connection is good for more.
func TestDynamicBodyLeft(t *testing.T) {
	returned := make(chan struct{})
	srv := dynamicServer(t, DynamicRoute{ReadTimeout: 20 * time.Millisecond, Handler: func(_ http.ResponseWriter, r *http.Request, _ *auth.Principal) {
		_, _ = io.ReadFull(r.Body, make([]byte, 5))
		<-time.After(60 * time.Millisecond)
		close(returned)
	}}, nil)
	pr, pw := io.Pipe()
	req := newRequest(t, soon(t), "POST", srv.URL+"/x/y", pr)
	req.ContentLength = 8
	go func() {
		_, _ = io.WriteString(pw, "begin")
		<-returned
		_, _ = io.WriteString(pw, "end")
		_ = pw.Close()
	}()
	if res := do(t, req); res.StatusCode != 200 || res.Close {
		t.Errorf("%s, closed %v", res.Status, res.Close)
	}
}

// TestDynamicWriteDeadline has a client that reads nothing.
func TestDynamicWriteDeadline(t *testing.T) {
	failed := make(chan error, 1)
	srv := dynamicServer(t, DynamicRoute{Handler: func(w http.ResponseWriter, _ *http.Request, _ *auth.Principal) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		_, err := io.Copy(w, zeros{})
		failed <- err
	}}, nil)
	_ = do(t, newRequest(t, soon(t), "GET", srv.URL+"/x/y", nil))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// readerFrom is a connection's writer that takes whole readers.
type readerFrom struct {
	*httptest.ResponseRecorder
	took int64
}

func (w *readerFrom) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseRecorder, r)
	w.took += n
	return n, err
}

func TestDynamicReadFrom(t *testing.T) {
	o := &recordedObserver{}
	r := builtinRouter(Options{Compress: true, ObserveDynamic: func(string, string, string) Observer { return o }})
	set(t, r, "o", []DynamicRoute{{Path: "/x", Handler: func(w http.ResponseWriter, _ *http.Request, _ *auth.Principal) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader(bigText)})
	}}})
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	req := request("GET", "/x", "Accept-Encoding", "gzip", "X-Forwarded-For", "192.0.2.1")
	r.ServeHTTP(w, req)
	if w.took != int64(len(bigText)) || !bytes.Equal(w.Body.Bytes(), []byte(bigText)) || o.written[0] != w.took {
		t.Errorf("%d of %d bytes, observed %v", w.took, len(bigText), o.written)
	}
}

// TestDynamicAborted has a proxy's server break off, which must break the client's connection too.
func TestDynamicAborted(t *testing.T) {
	both(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, h handlerFunc) {
		srv := dynamicServer(t, DynamicRoute{Handler: h}, nil)
		b, err := io.ReadAll(do(t, newRequest(t, soon(t), "GET", srv.URL+"/x/y", nil)).Body)
		if err == nil {
			t.Errorf("%q was taken for whole", b)
		}
	})
}
