package toolserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/galleychat/galley/core/jsondoc"
)

// How long the description of a server is kept, and the failure to get it.
const (
	keepGood = 30 * time.Second
	keepBad  = 5 * time.Second
)

// maxDescription bounds what a server may say of itself, in bytes.
const maxDescription = 16 << 20

// description is what a server says of itself.
type description struct {
	title, about string
	operations   []*operation
}

// cache has the descriptions of servers, by their connections: one that is changed is another.
type cache struct {
	mu      sync.Mutex
	entries map[string]*entryOf
}

// entryOf is a description that is known once ready is closed.
type entryOf struct {
	ready chan struct{}
	until time.Time // zero while it is not ready; guarded by the cache's mutex
	d     *description
	err   error
}

// describe gives the description of a server, kept or new. Those that want it at the same time wait for one request.
func (s *Servers) describe(ctx context.Context, c *connection) (*description, error) {
	key := string(c.raw)
	s.cache.mu.Lock()
	now := time.Now()
	e := s.cache.entries[key]
	if e == nil || !e.until.IsZero() && now.After(e.until) {
		e = &entryOf{ready: make(chan struct{})}
		s.cache.put(key, e, now)
		go s.learn(context.WithoutCancel(ctx), c, e)
	}
	s.cache.mu.Unlock()
	select {
	case <-e.ready:
		return e.d, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// put keeps an entry, and drops those that are past their time.
func (c *cache) put(key string, e *entryOf, now time.Time) {
	if c.entries == nil {
		c.entries = map[string]*entryOf{}
	}
	for k, old := range c.entries {
		if !old.until.IsZero() && now.After(old.until) {
			delete(c.entries, k)
		}
	}
	c.entries[key] = e
}

func (s *Servers) learn(ctx context.Context, c *connection, e *entryOf) {
	keep := keepGood
	if e.d, e.err = s.ask(ctx, c); e.err != nil {
		s.Log.WarnContext(ctx, "a tool server is left out", "server", c.id, "url", c.url(), "error", e.err)
		keep = keepBad
	}
	s.cache.mu.Lock()
	e.until = time.Now().Add(keep)
	s.cache.mu.Unlock()
	close(e.ready)
}

// ask gets the description of a server: from its connection or from itself.
func (s *Servers) ask(ctx context.Context, c *connection) (d *description, err error) {
	defer func() {
		if p := recover(); p != nil { // whatever a document says, it must not end the process
			err = fmt.Errorf("the document cannot be read: %v", p)
		}
	}()
	var doc jsondoc.Doc
	switch kind := c.raw.Text("spec_type"); kind {
	case "", "url":
		path := "openapi.json"
		if p := c.raw.Get("path"); p != nil {
			path = p.Text()
		}
		if limit := s.Env.Client.ToolDataTimeout; limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		doc, err = Describe(ctx, s.HTTP, Address(c.url(), path), s.askHeader(ctx, c))
	case "json":
		doc, err = parse([]byte(c.raw.Text("spec")))
	default:
		err = fmt.Errorf("a description of the kind %q is not known", kind)
	}
	if err != nil {
		return nil, err
	}
	d = &description{title: doc.Text("info", "title"), about: doc.Text("info", "description")}
	d.operations, err = operations(doc)
	return d, err
}

// askHeader is that of the request for a description, which is the same for everyone: without what differs by caller.
func (s *Servers) askHeader(ctx context.Context, c *connection) http.Header {
	up := c.upstream()
	if t := c.authType(); t != "bearer" {
		up.Config.AuthType = "none"
	}
	up.Config.ForwardCookies = false
	kept := up.Config.Headers[:0]
	for _, h := range up.Config.Headers {
		if !strings.Contains(h.Value, "{{") {
			kept = append(kept, h)
		}
	}
	up.Config.Headers = kept
	h := s.Headers.Build(ctx, up, nil)
	h.Set("Accept", "application/json")
	return h
}

// Address is where a server describes itself: a path below its own address, or an address of its own.
func Address(base, path string) string {
	if strings.Contains(path, "://") {
		return path
	}
	return strings.TrimRight(base, "/") + "/" + strings.TrimPrefix(path, "/")
}

// Describe fetches a document in JSON or YAML.
func Describe(ctx context.Context, client *http.Client, address string, header http.Header) (jsondoc.Doc, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDescription+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answered %d", resp.StatusCode)
	case len(body) > maxDescription:
		return nil, errors.New("the description is too long")
	}
	return parse(body)
}

func parse(text []byte) (jsondoc.Doc, error) {
	if doc, bad := jsondoc.Check(text); bad == nil && len(doc) > 0 {
		return doc, nil
	}
	out, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	doc, bad := jsondoc.Check(bytes.TrimSpace(out))
	if bad != nil {
		return nil, bad
	}
	return doc, nil
}
