package ollama

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/web"
)

type downloadForm struct {
	URL string `json:"url"`
}

// download fetches a model's file from one of two hosts and gives it to a server; the answer tells how far it is.
func (m *Module) download(c *web.Call, f downloadForm, index *int) (web.Done, error) {
	if !strings.HasPrefix(f.URL, "https://huggingface.co/") && !strings.HasPrefix(f.URL, "https://github.com/") {
		return web.Done{}, web.Fail(http.StatusBadRequest, "Invalid file_url. Only URLs from allowed hosts are permitted.")
	}
	p, err := m.connection(at(index))
	if err != nil {
		return web.Done{}, err
	}
	name := ""
	if u, err := url.Parse(f.URL); err == nil {
		name = path.Base(u.Path)
	}
	if name == "" || name == "." || name == "/" || name == ".." {
		return web.Done{}, web.WriteJSON(c.W, http.StatusOK, nil)
	}
	file, err := m.temporary(name)
	if err != nil {
		return web.Done{}, err
	}
	defer remove(file)
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, f.URL, nil)
	if err != nil {
		return web.Done{}, web.Because(http.StatusBadRequest, err.Error(), err)
	}
	w := newProgress(c)
	resp, err := m.HTTP.Do(req)
	if err != nil {
		return w.failed(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return w.failed(fmt.Errorf("the file's host answered %s", resp.Status))
	}
	total := max(resp.ContentLength, 0)
	size, err := w.copy(file, resp.Body, func(n int64) string {
		return fmt.Sprintf(`{"progress": %s, "completed": %d, "total": %d}`, percent(n, max(total, n)), n, total)
	})
	if err != nil {
		return w.failed(err)
	}
	return m.giveModel(c, w, p, file, name, size)
}

// upload takes a model's file from the request and gives it to a server; the answer tells how far it is.
func (m *Module) upload(c *web.Call, index *int) (web.Done, error) {
	missing := web.Invalid(web.Problem{Type: "missing", Loc: web.Loc{"body", "file"}, Msg: "Field required"})
	parts, err := c.R.MultipartReader()
	if err != nil {
		return web.Done{}, missing
	}
	p, err := m.connection(at(index))
	if err != nil {
		return web.Done{}, err
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return web.Done{}, missing
		}
		if part.FormName() != "file" || part.FileName() == "" {
			continue
		}
		name := filepath.Base(part.FileName())
		file, err := m.temporary(name)
		if err != nil {
			return web.Done{}, err
		}
		defer remove(file)
		size, err := io.Copy(file, part)
		if err != nil {
			return web.Done{}, web.Because(http.StatusBadRequest, "There was an error parsing the body", err)
		}
		w := newProgress(c)
		if err := w.event(fmt.Sprintf(`{"progress": %s, "total": %d, "completed": %d}`, percent(size, size), size, size)); err != nil {
			return web.Done{}, err
		}
		return m.giveModel(c, w, p, file, name, size)
	}
}

// temporary makes a file for a model beside the uploads. Its name is its own, so that two uploads never meet.
func (m *Module) temporary(name string) (*os.File, error) {
	dir := m.Env.UploadDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, "model-*-"+strings.ReplaceAll(name, "*", ""))
}

func remove(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// percent is a share with at most two decimals, as Python writes it.
func percent(n, of int64) string {
	if of == 0 {
		return "100.0"
	}
	p := math.Round(float64(n)/float64(of)*1e4) / 1e2
	if p == math.Trunc(p) {
		return fmt.Sprintf("%.1f", p)
	}
	return fmt.Sprintf("%g", p)
}

// giveModel sends a file to a server as a blob and has a model made of it.
func (m *Module) giveModel(c *web.Call, w *progress, p llm.Connected, file *os.File, name string, size int64) (web.Done, error) {
	digest, err := hash(file)
	if err != nil {
		return w.failed(err)
	}
	if err := m.sendBlob(c.Context(), p, models.CallerOf(c.Principal), file, digest, size); err != nil {
		return w.failed(err)
	}
	model := strings.TrimSuffix(name, filepath.Ext(name))
	var body jsondoc.Builder
	body.Add("model", model)
	body.Raw("files", jsondoc.Object(name, jsondoc.Text(digest)))
	body.Add("stream", false)
	resp, err := p.Do(c.Context(), http.MethodPost, "/api/create", body.Done(), false, models.CallerOf(c.Principal))
	if err != nil {
		return w.failed(err)
	}
	answer, err := llm.ReadBody(resp)
	if err != nil {
		return w.failed(err)
	}
	if resp.StatusCode >= 400 {
		return w.failed(errors.New("Failed to create model in Ollama. " + string(answer))) //nolint:staticcheck // as clients see it
	}
	m.Registry.Refresh()
	var done jsondoc.Builder
	done.Add("done", true)
	done.Add("blob", digest)
	done.Add("name", name)
	done.Add("model_created", model)
	return web.Done{}, w.event(string(done.Done()))
}

func hash(file *os.File) (string, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

func (m *Module) sendBlob(ctx context.Context, p llm.Connected, caller *llm.Caller, file *os.File, digest string, size int64) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	conn := p.Connection()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, conn.URL+"/api/blobs/"+digest, bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return err
	}
	req.Header = m.Registry.Client().Headers().Build(ctx, &conn, caller)
	req.Header.Set("Content-Type", "application/octet-stream")
	req.ContentLength = size
	resp, err := m.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return errors.New("Ollama: Could not create blob, Please try again.") //nolint:staticcheck // as clients see it
	}
	return nil
}

// progress writes Server-Sent Events, each at once.
type progress struct {
	c  *web.Call
	rc *http.ResponseController
}

func newProgress(c *web.Call) *progress {
	c.Header().Set("Content-Type", "text/event-stream")
	return &progress{c: c, rc: http.NewResponseController(c.W)}
}

func (p *progress) event(data string) error {
	if _, err := io.WriteString(p.c.W, "data: "+data+"\n\n"); err != nil {
		return err
	}
	if err := p.rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// failed tells an error as the last event.
func (p *progress) failed(err error) (web.Done, error) {
	if ctxErr := p.c.Context().Err(); ctxErr != nil {
		return web.Done{}, ctxErr
	}
	return web.Done{}, p.event(string(jsondoc.Object("error", jsondoc.Text(err.Error()))))
}

// copy writes a body into a file and tells how far it is for each megabyte.
func (p *progress) copy(file io.Writer, body io.Reader, tell func(n int64) string) (int64, error) {
	var total int64
	for {
		n, err := io.CopyN(file, body, 1<<20)
		total += n
		if n > 0 {
			if err := p.event(tell(total)); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
