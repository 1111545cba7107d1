package web

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
)

type fuzzForm struct {
	deepForm
	S    string              `json:"s" minlen:"1" pattern:"^.+$"`
	N    Opt[int]            `json:"n" ge:"1"`
	F    Null[float64]       `json:"f" le:"2"`
	B    bool                `json:"b" default:"false"`
	L    []string            `json:"l" default:"[]" maxitems:"2"`
	M    Opt[map[string]int] `json:"m"`
	E    Opt[string]         `json:"e" enum:"a,b"`
	Sub  *fuzzForm           `json:"sub"`
	Doc  jsondoc.Doc         `json:"doc" default:"null"`
	More Extra               `json:"-"`
}

type fuzzModule struct{}

func (fuzzModule) Name() string { return "fuzz" }

func (fuzzModule) Routes(g *Group) {
	g.Add("POST /form", JSON(auth.Public, func(_ *Call, in struct {
		Q    Opt[int]    `query:"q"`
		T    []string    `query:"t" default:"[]"`
		C    Opt[string] `cookie:"c"`
		Body fuzzForm
	}) (jsondoc.Doc, error) {
		return in.Body.Doc, nil
	}))
	g.Add("POST /parts", JSON(auth.Public, func(_ *Call, in struct {
		Body embedForm `body:"embed"`
	}) (M, error) {
		return M{"form": in.Body}, nil
	}))
	g.Add("POST /list", JSON(auth.Public, func(_ *Call, in struct{ Body []Null[fuzzForm] }) (int, error) { return len(in.Body), nil }))
	g.Add("POST /file", JSON(auth.Public, func(_ *Call, in fileIn) (string, error) { return in.File.Filename, nil }))
}

// FuzzBind: no request makes the server panic, and each answer is JSON.
func FuzzBind(f *testing.F) {
	for _, body := range []string{`{"s":"a","f":1,"point":{"x":1}}`, `{"s":"\ud800","sub":{"s":""},"m":{"a":"x","a":1},"l":[1,null]}`, `[null,{}]`, `[`, `"x`, "\xff", "\ufeff{}", `{"form":{"a":1},"n":1e400}`,
		"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n", `n=1&note=%`} {
		f.Add(body, "application/json", "q=1&t=%zz", "c=\"\\101\"")
	}
	f.Add("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", "", "")
	f.Add("n=1&note=%", "application/x-www-form-urlencoded", "q=_1", "")
	r := New(Options{Logger: quiet(), MaxBody: 1 << 16, UploadDir: f.TempDir()})
	r.Mount("/f", fuzzModule{})
	r.Finish()
	f.Fuzz(func(t *testing.T, body, kind, query, cookie string) {
		for _, path := range []string{"/f/form", "/f/parts", "/f/list", "/f/file"} {
			req := httptest.NewRequest("POST", path, strings.NewReader(body))
			req.URL.RawQuery = query
			req.Header.Set("Content-Type", kind)
			req.Header.Set("Cookie", cookie)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			got := w.Body.Bytes()
			if w.Code >= 500 {
				t.Fatalf("%s: %d %s", path, w.Code, got)
			}
			if err := jsondoc.Valid(got); err != nil {
				t.Fatalf("%s: %d %q: %v", path, w.Code, got, err)
			}
			if w.Code == 422 && jsondoc.Doc(got).Get("detail", "0", "type") == nil {
				t.Fatalf("%s: no problem in %s", path, got)
			}
		}
	})
}
