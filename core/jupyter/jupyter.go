// Package jupyter runs Python code on a Jupyter server: a kernel is started for each run and ended after it.
package jupyter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/net/publicsuffix"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Server is where code is run.
type Server struct {
	URL      string
	Token    string // of the server; wins over Password
	Password string
	// Timeout is how long the kernel may say nothing while it runs; 0 means for ever.
	Timeout time.Duration
}

// Result is what code has written and given. Pictures are in Result as data: addresses.
type Result struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Result string `json:"result"`
}

const (
	callTimeout = 30 * time.Second // of each request beside the code's own time
	maxMessage  = 64 << 20         // bytes of one message of a kernel
	maxOutput   = 64 << 20         // bytes of all that a run may say
)

// Run runs code. It does not fail: what keeps the code from running is told in Stderr, as clients show that.
func Run(ctx context.Context, s Server, code string) Result {
	out := &output{}
	if err := run(ctx, s, code, out); err != nil {
		return Result{Stdout: "", Stderr: "Error: " + err.Error()}
	}
	return Result{Stdout: strings.TrimSpace(out.stdout.String()), Stderr: strings.TrimSpace(out.stderr.String()),
		Result: strings.TrimSpace(strings.Join(out.results, "\n"))}
}

// session is a client that has signed in.
type session struct {
	base *url.URL // with a slash at the end
	http *http.Client
	xsrf string
	auth url.Values // of each address
}

func run(ctx context.Context, s Server, code string, out *output) error {
	c, err := signIn(ctx, s)
	if err != nil {
		return err
	}
	var kernel struct {
		ID string `json:"id"`
	}
	if err := c.call(ctx, http.MethodPost, "api/kernels", nil, &kernel); err != nil {
		return err
	}
	if kernel.ID == "" {
		return errors.New("the server started no kernel")
	}
	path := "api/kernels/" + url.PathEscape(kernel.ID)
	// The kernel ends with the run, also where the caller has gone.
	defer func() { _ = c.call(context.WithoutCancel(ctx), http.MethodDelete, path, nil, nil) }()
	return c.execute(ctx, path+"/channels", code, s.Timeout, out)
}

func signIn(ctx context.Context, s Server) (*session, error) {
	base, err := url.Parse(strings.TrimRight(s.URL, "/") + "/")
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, errors.New("the address of the Jupyter server is not set, or is none")
	}
	jar, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	if err != nil {
		return nil, err
	}
	c := &session{base: base, auth: url.Values{}, http: &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.Method != http.MethodGet || r.Response.Request.Method != http.MethodGet {
			return http.ErrUseLastResponse // a sign-in's answer; its cookies are what counts
		}
		return nil
	}}}
	switch {
	case s.Token != "":
		c.auth.Set("token", s.Token)
	case s.Password != "":
		if err := c.call(ctx, http.MethodGet, "login", nil, nil); err != nil {
			return nil, err
		}
		for _, cookie := range jar.Cookies(base.JoinPath("login")) {
			if cookie.Name == "_xsrf" {
				c.xsrf = cookie.Value
			}
		}
		if c.xsrf == "" {
			return nil, errors.New("_xsrf token not found")
		}
		if err := c.call(ctx, http.MethodPost, "login", url.Values{"_xsrf": {c.xsrf}, "password": {s.Password}}, nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// address is that of a path, with the token.
func (c *session) address(path string) *url.URL {
	u := c.base.JoinPath(path)
	u.RawQuery = c.auth.Encode()
	return u
}

// call sends a request, with a form if there is one, and reads the answer's JSON into out, if that is not nil.
func (c *session) call(ctx context.Context, method, path string, form url.Values, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, c.address(path).String(), body)
	if err != nil {
		return err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.xsrf != "" {
		r.Header.Set("X-XSRFToken", c.xsrf)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return c.plain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%d, message='%s', url='%s'", resp.StatusCode, http.StatusText(resp.StatusCode), c.base.JoinPath(path))
	}
	if out == nil {
		return nil
	}
	if err := json.UnmarshalRead(io.LimitReader(resp.Body, maxMessage), out); err != nil {
		return fmt.Errorf("the answer to %s is not what was expected: %w", path, err)
	}
	return nil
}

// plain takes the address, which may hold the token, out of an error.
func (c *session) plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("cannot connect to %s: %w", c.base.Host, u.Err)
	}
	return err
}

// message is one of the kernel's protocol.
type message struct {
	Type   string `json:"msg_type"`
	Parent struct {
		ID string `json:"msg_id"`
	} `json:"parent_header"`
	Content jsontext.Value `json:"content"` // of a form that depends on the type
}

// execute sends code to a kernel and reads what it says until it is idle again.
func (c *session) execute(ctx context.Context, path, code string, timeout time.Duration, out *output) error {
	h := http.Header{}
	if c.xsrf != "" {
		h.Set("X-XSRFToken", c.xsrf)
	}
	dial, cancel := context.WithTimeout(ctx, callTimeout)
	conn, resp, err := websocket.Dial(dial, c.address(path).String(), &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	cancel()
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest {
			return fmt.Errorf("server rejected WebSocket connection: HTTP %d", resp.StatusCode)
		}
		return c.plain(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	id := strings.ReplaceAll(store.NewID(), "-", "")
	request, err := json.Marshal(map[string]any{
		"header": map[string]any{"msg_id": id, "msg_type": "execute_request", "username": "user", "session": strings.ReplaceAll(store.NewID(), "-", ""),
			"date": "", "version": "5.3"},
		"parent_header": map[string]any{}, "metadata": map[string]any{}, "channel": "shell",
		"content": map[string]any{"code": code, "silent": false, "store_history": true, "user_expressions": map[string]any{}, "allow_stdin": false,
			"stop_on_error": true},
	})
	if err != nil {
		return err
	}
	if err := conn.Write(ctx, websocket.MessageText, request); err != nil {
		return err
	}
	for {
		kind, b, err := read(ctx, conn, timeout)
		switch {
		case err == nil && kind != websocket.MessageText:
			continue // buffers of widgets
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			out.stderr.WriteString("\nExecution timed out.")
			return nil
		default:
			return err
		}
		var m message
		if err := json.Unmarshal(b, &m, jsontext.AllowInvalidUTF8(true)); err != nil {
			return fmt.Errorf("a message of the kernel is not what was expected: %w", err)
		}
		if m.Parent.ID != id {
			continue
		}
		if out.add(&m) {
			return nil
		}
		if out.size += len(b); out.size > maxOutput {
			out.stderr.WriteString("\nThe output is too large.")
			return nil
		}
	}
}

func read(ctx context.Context, conn *websocket.Conn, timeout time.Duration) (websocket.MessageType, []byte, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return conn.Read(ctx)
}

// output is what was said so far.
type output struct {
	stdout, stderr strings.Builder
	results        []string
	size           int
}

// add takes a message in and says whether it is the last.
func (o *output) add(m *message) bool {
	content := jsondoc.Doc(m.Content)
	switch m.Type {
	case "stream":
		switch content.Text("name") {
		case "stdout":
			o.stdout.WriteString(content.Text("text"))
		case "stderr":
			o.stderr.WriteString(content.Text("text"))
		}
	case "execute_result", "display_data":
		if png, ok := content.Get("data", "image/png").AsText(); ok {
			o.results = append(o.results, "data:image/png;base64,"+png)
		} else if text, ok := content.Get("data", "text/plain").AsText(); ok {
			o.results = append(o.results, text)
		}
	case "error":
		o.stderr.WriteString(strings.Join(content.Get("traceback").Texts(), "\n"))
	case "status":
		return content.Text("execution_state") == "idle"
	}
	return false
}
