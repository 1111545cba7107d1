// Package cli is what "galley plugin" does: by way of a running server, or on the plugins folder alone.
package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/plugin"
)

// Client administers the plugins of a running server.
type Client struct {
	// URL is the server's address, e.g. "http://127.0.0.1:8080".
	URL string
	// Token is an API key or a session's token of an administrator; "" on a control socket.
	Token string
	HTTP  *http.Client
	// Local says that the server sees the same files.
	Local bool
}

// do sends a request and decodes the answer into out, which may be nil.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, kind string, out any) error {
	resp, err := c.send(ctx, method, path, body, kind)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s does not answer as Galley does: %w", c.URL, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader, kind string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+"/api/v1/plugins"+path, body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp, nil
}

// refusal is the error of an answer.
func refusal(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var e struct {
		Detail any `json:"detail"`
	}
	if json.Unmarshal(raw, &e) != nil || e.Detail == nil {
		return fmt.Errorf("the server answered %s", resp.Status)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return errNotFound
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the server does not accept GALLEY_TOKEN: %v", e.Detail)
	case resp.StatusCode == http.StatusConflict:
		return fmt.Errorf("%v; --replace takes its place", e.Detail)
	}
	return fmt.Errorf("%v", e.Detail)
}

var errNotFound = errors.New("there is no such plugin")

// named adds to an error which plugin it is about.
func named(id string, err error) error {
	if errors.Is(err, errNotFound) {
		return fmt.Errorf("there is no plugin %q; galley plugin list shows all", id)
	}
	return err
}

func at(id string) string { return "/" + url.PathEscape(id) }

// List implements Plugins.
func (c *Client) List(ctx context.Context) (list []plugin.Info, err error) {
	return list, c.do(ctx, http.MethodGet, "/", nil, "", &list)
}

func (c *Client) change(ctx context.Context, id, what string) (i plugin.Info, err error) {
	return i, named(id, c.do(ctx, http.MethodPost, at(id)+"/"+what, nil, "", &i))
}

// SetEnabled implements Plugins.
func (c *Client) SetEnabled(ctx context.Context, id string, enabled bool) (plugin.Info, error) {
	if enabled {
		return c.change(ctx, id, "enable")
	}
	return c.change(ctx, id, "disable")
}

// Restart implements Plugins.
func (c *Client) Restart(ctx context.Context, id string) (plugin.Info, error) {
	return c.change(ctx, id, "restart")
}

// Verify implements Plugins.
func (c *Client) Verify(ctx context.Context, id string) (v plugin.Verification, err error) {
	return v, named(id, c.do(ctx, http.MethodGet, at(id)+"/verify", nil, "", &v))
}

// Remove implements Plugins.
func (c *Client) Remove(ctx context.Context, id string) error {
	return named(id, c.do(ctx, http.MethodDelete, at(id), nil, "", nil))
}

// Logs implements Plugins.
func (c *Client) Logs(ctx context.Context, id string, n int, follow bool, each func(plugin.Line) error) error {
	path := at(id) + "/logs?lines=" + strconv.Itoa(n)
	if !follow {
		var lines []plugin.Line
		if err := c.do(ctx, http.MethodGet, path, nil, "", &lines); err != nil {
			return named(id, err)
		}
		for _, line := range lines {
			if err := each(line); err != nil {
				return err
			}
		}
		return nil
	}
	resp, err := c.send(ctx, http.MethodGet, path+"&follow=true", nil, "")
	if err != nil {
		return named(id, err)
	}
	defer resp.Body.Close()
	err = eachEvent(resp.Body, each)
	if ctx.Err() != nil { // that is how following ends
		return nil
	}
	return err
}

func eachEvent(r io.Reader, each func(plugin.Line) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		data, ok := strings.CutPrefix(s.Text(), "data: ")
		if !ok {
			continue
		}
		var line plugin.Line
		if err := json.Unmarshal([]byte(data), &line); err != nil {
			return err
		}
		if err := each(line); err != nil {
			return err
		}
	}
	return s.Err()
}

// Install implements Plugins.
func (c *Client) Install(ctx context.Context, path string, o plugin.Installation) (i plugin.Info, err error) {
	if c.Local {
		body, err := json.Marshal(map[string]any{"path": path, "sha256": o.SHA256, "replace": o.Replace, "id": o.ID, "grants": append([]string{}, o.Grants...)})
		if err != nil {
			return i, err
		}
		return i, c.do(ctx, http.MethodPost, "/install/path", bytes.NewReader(body), "application/json", &i)
	}
	r, w := io.Pipe()
	defer r.Close() // ends the writer, should the server not read to the end
	form := multipart.NewWriter(w)
	go func() { w.CloseWithError(writeForm(ctx, form, path, o)) }()
	return i, c.do(ctx, http.MethodPost, "/install", r, form.FormDataContentType(), &i)
}

// writeForm writes the form that installs: a folder goes as an archive.
func writeForm(ctx context.Context, form *multipart.Writer, path string, o plugin.Installation) error {
	fields := [][2]string{{"sha256", o.SHA256}, {"id", o.ID}, {"replace", strconv.FormatBool(o.Replace)}}
	for _, g := range o.Grants {
		fields = append(fields, [2]string{"grants", g})
	}
	for _, f := range fields {
		if f[1] == "" {
			continue
		}
		if err := form.WriteField(f[0], f[1]); err != nil {
			return err
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	if info.IsDir() {
		name += ".tar.gz"
	}
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = plugin.Pack(ctx, path, part)
	} else {
		err = copyFile(part, path)
	}
	if err != nil {
		return err
	}
	return form.Close()
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
