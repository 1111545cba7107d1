package toolserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/turn"
)

// maxResult bounds what a tool may answer, in bytes.
const maxResult = 32 << 20

// request makes the request of a call.
func (o *operation) request(ctx context.Context, base string, arguments jsondoc.Doc, header http.Header) (*http.Request, error) {
	args := jsondoc.Open(arguments)
	path, query := o.path, url.Values{}
	var cookies []*http.Cookie
	declared := map[string]bool{}
	for _, p := range o.parameters {
		declared[p.name] = true
		v := args.Get(p.name)
		if p.in == "path" {
			if v.IsNull() {
				return nil, fmt.Errorf("the argument %q is missing", p.name)
			}
			path = strings.ReplaceAll(path, "{"+p.name+"}", url.PathEscape(plain(v)))
			continue
		}
		// Models give "" for what they mean to leave out.
		if v.IsNull() || plain(v) == "" && !p.required {
			continue
		}
		switch p.in {
		case "query":
			p.query(query, v)
		case "header":
			header.Set(p.name, strings.NewReplacer("\r", " ", "\n", " ").Replace(plain(v)))
		case "cookie":
			cookies = append(cookies, &http.Cookie{Name: p.name, Value: plain(v)})
		}
	}
	address := strings.TrimRight(base, "/") + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	content, kind, err := o.content(args, declared)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, o.method, address, content)
	if err != nil {
		return nil, err
	}
	req.Header = header
	if kind != "" {
		header.Set("Content-Type", kind)
	}
	for _, c := range cookies {
		req.AddCookie(c)
	}
	return req, nil
}

// query writes a parameter of a query.
func (p *parameter) query(q url.Values, v jsondoc.Doc) {
	switch {
	case p.style == "deepObject" && v.Kind() == '{':
		v.Each(func(name string, v jsondoc.Doc) bool {
			q.Add(p.name+"["+name+"]", plain(v))
			return true
		})
	case v.Kind() == '[' && p.explode:
		for _, item := range v.List() {
			q.Add(p.name, plain(item))
		}
	case v.Kind() == '[':
		q.Add(p.name, listed(v))
	default:
		q.Add(p.name, plain(v))
	}
}

func listed(v jsondoc.Doc) string {
	var out []string
	for _, item := range v.List() {
		out = append(out, plain(item))
	}
	return strings.Join(out, ",")
}

// plain is a value as it stands in an address: a string as it is, anything else as JSON.
func plain(v jsondoc.Doc) string {
	if s, ok := v.AsText(); ok {
		return s
	}
	return string(v)
}

// content is the body of a call. Methods that may have one get an object, be it empty.
func (o *operation) content(args *jsondoc.Obj, declared map[string]bool) (io.Reader, string, error) {
	if !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, o.method) {
		return nil, "", nil
	}
	if o.body.whole != "" {
		v := args.Get(o.body.whole)
		switch {
		case v == nil:
			return nil, "", nil
		case isJSON(baseType(o.body.kind)):
			return bytes.NewReader(v), o.body.kind, nil
		}
		return strings.NewReader(plain(v)), o.body.kind, nil
	}
	fields := &jsondoc.Obj{}
	if o.body.kind != "" {
		args.Each(func(name string, v jsondoc.Doc) bool {
			if len(o.body.properties) == 0 || slices.Contains(o.body.properties, name) || !declared[name] {
				fields.Set(name, v)
			}
			return true
		})
	}
	switch baseType(o.body.kind) {
	case formType:
		form := url.Values{}
		fields.Each(func(name string, v jsondoc.Doc) bool {
			(&parameter{name: name, explode: true}).query(form, v)
			return true
		})
		return strings.NewReader(form.Encode()), formType, nil
	case multipartType:
		return multiparts(fields)
	}
	kind := "application/json"
	if isJSON(baseType(o.body.kind)) {
		kind = o.body.kind
	}
	return bytes.NewReader(fields.Doc()), kind, nil
}

func multiparts(fields *jsondoc.Obj) (io.Reader, string, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	var err error
	fields.Each(func(name string, v jsondoc.Doc) bool {
		err = w.WriteField(name, plain(v))
		return err == nil
	})
	if err == nil {
		err = w.Close()
	}
	return &b, w.FormDataContentType(), err
}

// send sends a call and reads its answer, which may be any content.
func send(client *http.Client, req *http.Request, name string) (turn.ToolResult, error) {
	resp, err := client.Do(req)
	if err != nil {
		return turn.ToolResult{}, unwrapped(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxResult+1))
	if err != nil {
		return turn.ToolResult{}, fmt.Errorf("the answer broke off: %w", unwrapped(err))
	}
	if len(raw) > maxResult {
		return turn.ToolResult{}, fmt.Errorf("the answer has more than %d MB", maxResult>>20)
	}
	if resp.StatusCode >= 400 {
		return turn.ToolResult{}, &statusError{resp.StatusCode, strings.ToValidUTF8(string(raw), "\uFFFD")}
	}
	return turn.WebResult(name, decoded(resp.Header.Get("Content-Type"), raw), resp.Header.Get), nil
}

// statusError is an answer that tells of a failure.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP error %d: %s", e.status, e.body) }

// decoded is a content as JSON: JSON as it is, text as a string, anything else as a data URI.
func decoded(contentType string, raw []byte) jsondoc.Doc {
	kind := baseType(contentType)
	if isJSON(kind) {
		if len(bytes.TrimSpace(raw)) == 0 {
			return jsondoc.Doc("null")
		}
		if d, bad := jsondoc.Check(raw); bad == nil {
			return d
		}
	}
	if kind == "" || strings.HasPrefix(kind, "text/") {
		return jsondoc.Text(strings.ToValidUTF8(string(raw), "\uFFFD"))
	}
	return jsondoc.Text(dataURI(kind, raw))
}

func dataURI(kind string, raw []byte) string {
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(raw)
}

// unwrapped is an error of a request without its address, which may tell models more than they need, and in words.
func unwrapped(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return errors.New("the tool server did not answer in time")
		}
		return u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the tool server did not answer in time")
	}
	return err
}
