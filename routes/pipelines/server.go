package pipelines

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/web"
)

// textNotThere is the detail of whatever a server does not answer well. The reference gives no other, the server's own
// detail goes to the log.
const textNotThere = "Pipeline not found"

// patience bounds a request to a server, which may have packages to install before it answers.
const patience = 5 * time.Minute

// order is a request to a pipelines server.
type order struct {
	method  string
	path    []string    // segments below the connection's URL, as they are before escaping
	body    jsondoc.Doc // nil for none
	file    *web.Upload // in place of body
	changes bool        // the server's models may be others afterwards
}

// connection finds the address and the key with an index, whatever else the settings say of the connection. As in the
// reference an index below zero counts from the end, of either list.
func (m *Module) connection(index int) (address, key string, ok bool) {
	s := m.Settings.Snapshot()
	address, ok = at(config.OpenAIAPIBaseURLs.Get(s), index)
	key, has := at(config.OpenAIAPIKeys.Get(s), index)
	return address, key, ok && has
}

func at(list []string, i int) (string, bool) {
	if i < 0 {
		i += len(list)
	}
	if i < 0 || i >= len(list) {
		return "", false
	}
	return list[i], true
}

// ask sends an order to a connection's server; its answer, a JSON object, is that of the call. Of an error the client gets
// the status; a server that cannot be reached is not found.
func (m *Module) ask(c *web.Call, index int, o order) (jsondoc.Doc, error) {
	address, key, ok := m.connection(index)
	if !ok {
		return nil, errNotThere
	}
	for _, segment := range o.path {
		address += "/" + url.PathEscape(segment)
	}
	out := llm.Outgoing{Method: o.method, URL: address, Header: http.Header{"Authorization": {"Bearer " + key}}}
	switch {
	case o.file != nil:
		if err := attach(&out, o.file); err != nil {
			return nil, err
		}
	case o.body != nil:
		out.Body = o.body
		out.Header.Set("Content-Type", "application/json")
	}
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	status, doc, err := exchange(ctx, m.Registry.Client(), out)
	if c.Context().Err() != nil {
		return nil, c.Context().Err()
	}
	if o.changes && status != 0 {
		m.Registry.Refresh()
	}
	if err != nil {
		m.Log.WarnContext(ctx, "a pipelines server did not do what it was asked", "method", o.method, "index", index, "status", status, "error", err)
		if status == 0 {
			status = http.StatusNotFound
		}
		return nil, web.Because(status, textNotThere, err)
	}
	return doc, nil
}

// exchange sends a request and reads the object it is answered with. The status is 0 where there was no answer.
func exchange(ctx context.Context, client *llm.Client, out llm.Outgoing) (status int, doc jsondoc.Doc, err error) {
	resp, err := client.Send(ctx, out)
	if err != nil {
		return 0, nil, err
	}
	body, err := llm.ReadBody(resp)
	if err != nil {
		return resp.StatusCode, nil, err
	}
	doc, bad := jsondoc.Check(body)
	switch {
	case resp.StatusCode >= 400:
		return resp.StatusCode, nil, fmt.Errorf("status %d: %.500s", resp.StatusCode, body)
	case bad != nil || !llm.IsJSONType(resp.Header.Get("Content-Type")) || doc.Kind() != '{':
		return resp.StatusCode, nil, fmt.Errorf("no JSON object: %.500s", body)
	}
	return resp.StatusCode, doc, nil
}

// attach makes a file the body, as the field "file" of a form, to be read while it is sent.
func attach(out *llm.Outgoing, file *web.Upload) error {
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	if _, err := form.CreateFormFile("file", file.Filename); err != nil {
		return err
	}
	split := frame.Len()
	if err := form.Close(); err != nil {
		return err
	}
	head, tail := frame.Bytes()[:split], frame.Bytes()[split:]
	out.Header.Set("Content-Type", form.FormDataContentType())
	out.Size = int64(frame.Len()) + file.Size
	out.Content = func() io.Reader { return io.MultiReader(bytes.NewReader(head), file.Open(), bytes.NewReader(tail)) }
	return nil
}
