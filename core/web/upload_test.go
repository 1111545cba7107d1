package web

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

type fileIn struct {
	File Upload      `form:"file"`
	Note Opt[string] `form:"note"`
	N    int         `form:"n" default:"7"`
}

type optFileIn struct {
	File Opt[Upload] `form:"file"`
	N    int         `form:"n"`
}

type filesIn struct {
	Files []Upload `form:"files"`
}

type textFormIn struct {
	N    int    `form:"n"`
	Note string `form:"note" default:"d"`
}

func shown(u *Upload) any {
	if u == nil {
		return nil
	}
	b, err := u.Bytes()
	if err != nil {
		return err.Error()
	}
	var kind any
	if u.ContentType != "" {
		kind = u.ContentType
	}
	return M{"name": u.Filename, "type": kind, "size": u.Size, "text": string(b)}
}

type formModule struct {
	saved string
	seen  []string // paths of files on the disk
}

func (*formModule) Name() string { return "forms" }

func (m *formModule) Routes(g *Group) {
	g.Add("POST /file", JSON(auth.Public, func(_ *Call, in fileIn) (M, error) {
		return M{"file": shown(&in.File), "note": in.Note, "n": in.N}, nil
	}))
	g.Add("POST /opt", JSON(auth.Public, func(_ *Call, in optFileIn) (M, error) {
		return M{"file": shown(in.File.Ptr()), "n": in.N}, nil
	}))
	g.Add("POST /list", JSON(auth.Public, func(_ *Call, in filesIn) (M, error) {
		out := []any{}
		for i := range in.Files {
			out = append(out, shown(&in.Files[i]))
		}
		return M{"files": out}, nil
	}))
	g.Add("POST /text", JSON(auth.Public, func(_ *Call, in textFormIn) (M, error) {
		return M{"n": in.N, "note": in.Note}, nil
	}))
	g.Add("POST /save", JSON(auth.Verified, func(_ *Call, in fileIn) (int64, error) {
		if in.File.file != nil {
			m.seen = append(m.seen, in.File.file.Name())
		}
		if err := in.File.SaveTo(m.saved); err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, in.File.Open())
		return n, err
	}))
	g.Add("POST /panic", JSON(auth.Public, func(_ *Call, in fileIn) (int64, error) {
		m.seen = append(m.seen, in.File.file.Name())
		panic("boom")
	}))
}

func TestFormsAsFastAPI(t *testing.T) {
	tb := loadTable[[2]*string](t, "forms.json")
	r := New(Options{})
	r.Mount("/m", &formModule{})
	for name, row := range tb.Rows {
		for i, o := range row {
			want := tb.Outcomes[o]
			body := strings.ReplaceAll(*tb.Inputs[i][1], "<1MiB>", strings.Repeat("y", 1<<20))
			req := httptest.NewRequest("POST", "/m/"+name, strings.NewReader(body))
			if tb.Inputs[i][0] != nil {
				req.Header.Set("Content-Type", *tb.Inputs[i][0])
			}
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			checkAnswer(t, name, *tb.Inputs[i][1], want, w)
		}
	}
}

func checkAnswer(t *testing.T, name, input string, want outcome, w *httptest.ResponseRecorder) {
	t.Helper()
	got := jsondoc.Doc(w.Body.Bytes())
	switch {
	case want.OK != nil:
		if w.Code != 200 || !sameJSON(got, want.OK) {
			t.Errorf("%s %q: %d %s, want %s", name, input, w.Code, got, want.OK)
		}
	case want.Status != 0:
		if w.Code != want.Status || got.Text("detail") != want.Detail {
			t.Errorf("%s %q: %d %s, want %d %s", name, input, w.Code, got, want.Status, want.Detail)
		}
	default:
		var problems [][]any
		got.Get("detail").Items(func(i int, p jsondoc.Doc) bool {
			row := []any{p.Get("type"), p.Get("loc"), p.Get("msg"), p.Get("ctx")}
			if i < len(want.Errors) && len(want.Errors[i]) == 5 {
				if _, isFile := want.Errors[i][4].(map[string]any); isFile {
					want.Errors[i] = want.Errors[i][:4] // the insides of Python's object
				} else {
					row = append(row, p.Get("input"))
				}
			}
			problems = append(problems, row)
			return true
		})
		if w.Code != 422 || !sameJSON(jsondoc.Of(problems), jsondoc.Of(want.Errors)) {
			t.Errorf("%s %q: %d %s, want %v", name, input, w.Code, got, want.Errors)
		}
	}
}

func multipartBody(t *testing.T, size int) (string, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	f, err := m.CreateFormFile("file", "big.bin")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(bytes.Repeat([]byte("0123456789abcdef"), size/16))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return m.FormDataContentType(), &b
}

func TestUploads(t *testing.T) {
	dir := t.TempDir()
	m := &formModule{saved: filepath.Join(t.TempDir(), "kept")}
	r := New(Options{Auth: door{}, UploadDir: dir, MaxUpload: 1 << 20, Logger: quiet()})
	r.Mount("/m", m)
	srv := httptest.NewServer(r)
	defer srv.Close()
	empty := func(t *testing.T) {
		t.Helper()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
	for _, c := range []struct {
		name, path string
		size, cut  int
		stranger   bool
		status     int
		disk       bool
	}{
		{name: "memory", path: "/m/save", size: 1 << 10, status: 200},
		{name: "disk", path: "/m/save", size: 1 << 19, status: 200, disk: true},
		{name: "too large", path: "/m/save", size: 1 << 21, status: 413},
		{name: "cut off", path: "/m/save", size: 1 << 19, cut: 1 << 18, status: 400},
		{name: "stranger", path: "/m/save", size: 1 << 10, stranger: true, status: 401},
		{name: "panic", path: "/m/panic", size: 1 << 19, status: 500, disk: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.seen = nil
			kind, body := multipartBody(t, c.size)
			body.Truncate(body.Len() - c.cut)
			req, _ := http.NewRequest("POST", srv.URL+c.path, body)
			req.Header.Set("Content-Type", kind)
			if !c.stranger {
				req.Header.Set("Authorization", "Bearer x")
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.status {
				t.Fatalf("%d %s", res.StatusCode, got)
			}
			if c.disk != (len(m.seen) == 1) {
				t.Errorf("files on the disk: %v", m.seen)
			}
			if c.status == 200 {
				if info, err := os.Stat(m.saved); err != nil || info.Size() != int64(c.size) || info.Mode().Perm() != 0o644 {
					t.Errorf("saved: %v %v", info, err)
				}
			}
			empty(t)
		})
	}
}
