package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store/users"
)

func TestInlineImages(t *testing.T) {
	a, _, _ := filteredApp(t, nil)
	ctx := t.Context()
	person := func(id, role string) *auth.Principal { return &auth.Principal{User: &users.User{ID: id, Role: role}} }
	ann, eve, admin := person("ann", "user"), person("eve", "user"), person("root", "admin")
	i := a.inlineImages()
	const image = "data:image/png;base64,QUJD"
	address, id, err := i.Keep(ctx, ann, image)
	if err != nil || address != "/api/v1/files/"+id+"/content" {
		t.Fatal(address, id, err)
	}
	if _, _, err := i.Keep(ctx, ann, "data:image/png;base64,no"); err == nil {
		t.Error("no image was kept")
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a.png":
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write([]byte("ABC"))
		case "/moved":
			http.Redirect(w, r, "/a.png", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	local := a.inlineImages()
	local.guard = outbound.Guard{Local: true}
	local.http = local.guard.Client(nil, false)
	for name, c := range map[string]struct {
		images  inlineImages
		who     *auth.Principal
		address string
		ok      bool
	}{
		"by its id":                  {i, ann, id, true},
		"by its address":             {i, ann, address, true},
		"by its address and a query": {i, ann, address + "?attachment=true", true},
		"another's":                  {i, eve, id, false},
		"another's, by its address":  {i, eve, address, false},
		"an administrator":           {i, admin, id, true},
		"unknown":                    {i, ann, "nope", false},
		"a path":                     {i, ann, "/etc/passwd", false},
		"within the own network":     {i, ann, web.URL + "/a.png", false},
		"on the internet":            {local, ann, web.URL + "/a.png", true},
		"not found":                  {local, ann, web.URL + "/b.png", false},
		"moved":                      {local, ann, web.URL + "/moved", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := c.images.Inline(ctx, c.who, c.address)
			if ok != c.ok || ok && got != image {
				t.Errorf("%q, %t", got, ok)
			}
		})
	}
	if _, body := get(t, a, address); !strings.Contains(body, "detail") {
		t.Errorf("somebody may read the image: %s", body)
	}
}
