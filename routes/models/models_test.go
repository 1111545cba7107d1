package models

import (
	"bytes"
	"testing"

	"github.com/galleychat/galley/core/relay/relaytest"
)

// step is a call and what it is answered with.
type step struct {
	Who, Call, Body string
	Status          int
	Want            string
}

func bench(t *testing.T, env ...string) *relaytest.Bench {
	b := relaytest.New(t, env...)
	b.Router.Mount("/api/v1/models", New(Deps{DB: b.DB, Catalog: b.Catalog, Access: b.Access, Settings: b.Settings, Env: b.Env}))
	b.Router.Finish()
	return b
}

const at = "/api/v1/models"

func TestLife(t *testing.T) {
	b := bench(t)
	relaytest.Run(b, []step{
		{"", "GET " + at + "/list", "", 401, ""},
		{"ann", "POST " + at + "/create", `{"id":"a","base_model_id":"echo","name":"A","meta":{},"params":{}}`, 401, "401 Unauthorized"},
		{"admin", "POST " + at + "/create", `{"id":"two words","base_model_id":"echo","name":"A","meta":{},"params":{}}`, 422, "string_pattern_mismatch"},
		{"admin", "POST " + at + "/create", `{"id":"a","base_model_id":"a","name":"A","meta":{"tags":["x",{"name":" y "}],"own":1,"profile_image_url":"javascript:x"},"params":{"system":"s"},
			"access_grants":[{"principal_type":"user","principal_id":"ann","permission":"read"},{"principal_type":"anyone","principal_id":"*","permission":"read"}]}`, 200,
			`"base_model_id":null,"name":"A","params":{"system":"s"},"meta":{"profile_image_url":null,"background_image_url":null,"description":null,"i18n":null,` +
				`"capabilities":null,"knowledge":null,"voice":null,"voice_avatar":null,"tags":[{"name":"x"},{"name":"y"}],"own":1}`},
		{"admin", "POST " + at + "/create", `{"id":"a","name":"A","meta":{},"params":{}}`, 401, "already registered"},
		{"ann", "GET " + at + "/model?id=a", "", 200, `"params":{}`},
		{"ann", "GET " + at + "/model?id=a", "", 200, `"write_access":false`},
		{"bob", "GET " + at + "/model?id=a", "", 401, ""},
		{"bob", "GET " + at + "/model?id=b", "", 404, ""},
		{"admin", "POST " + at + "/model/update", `{"id":"a","base_model_id":"echo","name":"B","meta":{"description":"d"},"params":{},"commit_message":"second"}`, 200, `"name":"B"`},
		{"ann", "POST " + at + "/model/update", `{"id":"a","name":"B","meta":{},"params":{}}`, 400, ""},
		{"admin", "GET " + at + "/list?query=b", "", 200, `"total":1`},
		{"ann", "GET " + at + "/list?view_option=created", "", 200, `"total":0`},
		{"ann", "GET " + at + "/list?tag=z", "", 200, `"total":0`},
		{"admin", "POST " + at + "/model/access/update", `{"id":"a","access_grants":[{"principal_type":"anyone","principal_id":"*","permission":"read"}]}`, 403, "audience"},
		{"admin", "POST " + at + "/model/access/update", `{"id":"a","access_grants":[{"principal_type":"user","principal_id":"ann","permission":"write"}]}`, 200, `"permission":"write"`},
		{"ann", "POST " + at + "/model/toggle?id=a", "", 200, `"is_active":false`},
		{"ann", "POST " + at + "/model/update", `{"id":"a","base_model_id":null,"name":"B","meta":{},"params":{}}`, 401, ""},
		{"ann", "POST " + at + "/model/delete", `{"id":"a"}`, 200, "true"},
		{"ann", "POST " + at + "/model/delete", `{"id":"a"}`, 401, "could not find"},
		{"ann", "POST " + at + "/model/access/update", `{"id":"echo","access_grants":[]}`, 403, ""},
		{"admin", "POST " + at + "/model/access/update", `{"id":"echo","access_grants":[]}`, 200, `"base_model_id":null,"name":"echo"`},
		{"admin", "GET " + at + "/base", "", 200, `"id":"echo"`},
		{"admin", "DELETE " + at + "/delete/all", "", 200, "true"},
		{"admin", "GET " + at + "/all", "", 200, "[]"},
	})
}

func TestVersions(t *testing.T) {
	b := bench(t)
	version := func(call, body string) string {
		t.Helper()
		got := b.Call("admin", call, body)
		if got.Status != 200 {
			t.Fatalf("%s: %d %s", call, got.Status, got.Body)
		}
		return got.Body.Text("version_id")
	}
	v1 := version("POST "+at+"/create", `{"id":"a","base_model_id":"echo","name":"One","meta":{"hidden":true},"params":{"temperature":1}}`)
	same := version("POST "+at+"/model/update", `{"id":"a","name":"One","meta":{},"params":{"temperature":1.0}}`)
	v2 := version("POST "+at+"/model/update", `{"id":"a","name":"Two","meta":{},"params":{"temperature":1}}`)
	v3 := version("POST "+at+"/model/update", `{"id":"a","name":"Three","meta":{"hidden":true},"params":{}}`)
	if same != v1 || v2 == v1 || v3 == v2 {
		t.Fatalf("versions %s %s %s %s", v1, same, v2, v3)
	}
	relaytest.Run(b, []step{
		{"bob", "GET " + at + "/model/history?id=a", "", 403, ""},
		{"admin", "GET " + at + "/model/history?id=a&page=2", "", 200, "[]"},
		{"admin", "GET " + at + "/model/history/" + v2 + "?id=a", "", 200, `"snapshot":{"name":"Two"`},
		{"admin", "DELETE " + at + "/model/history/" + v3 + "?id=a", "", 400, "current version"},
		{"admin", "DELETE " + at + "/model/history/" + v2 + "?id=a", "", 200, "true"},
		{"admin", "GET " + at + "/model/history/" + v3 + "?id=a", "", 200, `"parent_id":"` + v1 + `"`},
		{"admin", "GET " + at + "/model/history/" + v2 + "?id=a", "", 404, "Model version not found"},
		{"admin", "POST " + at + "/model/update/version?id=a", `{"version_id":"` + v1 + `"}`, 200, `"version_id":"` + v1 + `"`},
		{"admin", "GET " + at + "/model?id=a", "", 200, `"hidden":true`},
		{"admin", "POST " + at + "/model/update/version?id=a", `{"version_id":"` + v2 + `"}`, 404, ""},
	})
}

func TestTransfer(t *testing.T) {
	b := bench(t)
	relaytest.Run(b, []step{
		{"admin", "POST " + at + "/import", `{"models":[{"id":"a","base_model_id":"echo","name":"A","meta":{"description":"d"}},{"name":"no id"},{"id":"b b","name":"x"}]}`, 200, "true"},
		{"admin", "POST " + at + "/import", `{"models":[{"id":"a","name":"Again","meta":{"tags":["t"]},"access_grants":[]}]}`, 200, "true"},
		{"admin", "GET " + at + "/model?id=a", "", 200, `"description":"d"`},
		{"admin", "POST " + at + "/import", `{"models":[{"id":"c"}]}`, 400, "name"},
		{"admin", "GET " + at + "/export?ids=a", "", 200, `"background_image_data":null`},
		{"admin", "GET " + at + "/export?ids=a&ids=zz", "", 403, ""},
		{"ann", "GET " + at + "/export", "", 401, ""},
		{"admin", "GET " + at + "/tags", "", 200, `["t"]`},
		{"admin", "POST " + at + "/sync", `{"models":[{"id":"n","user_id":"x","base_model_id":"echo","name":"N","params":{},"meta":{},"is_active":true,"updated_at":1,"created_at":1,
			"access_grants":[{"id":"i","resource_type":"model","resource_id":"n","principal_type":"user","principal_id":"*","permission":"read","created_at":1}]}]}`, 200, `"principal_id":"*"`},
		{"admin", "GET " + at + "/model?id=a", "", 404, ""},
		{"ann", "GET " + at + "/list", "", 200, `"total":1`},
		{"admin", "POST " + at + "/sync", `{}`, 200, "[]"},
	})
}

func TestProfileImage(t *testing.T) {
	b := bench(t)
	set := func(url string) {
		b.Exec(`DELETE FROM model`)
		b.Exec(`INSERT INTO model (id, user_id, name, params, meta, is_active, updated_at, created_at) VALUES ('m','ann','M','{}',$1,TRUE,1,1)`, `{"profile_image_url":"`+url+`"}`)
	}
	for _, c := range []struct {
		url, who, location string
		status             int
		body               string
	}{
		{"data:image/png;base64,aGVsbG8=", "ann", "", 200, "hello"},
		{"data:image/png;base64,aGVsbG8=", "bob", "/static/favicon.png", 302, ""},
		{"data:image/svg+xml;base64,aGVsbG8=", "ann", "/static/favicon.png", 302, ""},
		{"/static/a/../b.png?x", "ann", "/static/b.png", 302, ""},
		{"/static/%2e%2e/secret", "ann", "/static/favicon.png", 302, ""},
		{"https://example.org/x.png", "ann", "https://example.org/x.png", 302, ""},
		{"javascript:x", "ann", "/static/favicon.png", 302, ""},
	} {
		set(c.url)
		got := b.Call(c.who, "GET "+at+"/model/profile/image?id=m", "")
		if got.Status != c.status || got.Header.Get("Location") != c.location || !bytes.Equal(got.Body, []byte(c.body)) {
			t.Errorf("%s by %s: %d %q %s", c.url, c.who, got.Status, got.Header.Get("Location"), got.Body)
		}
	}
}

func TestControls(t *testing.T) {
	b := bench(t)
	create := func(params string) step {
		return step{Who: "admin", Call: "POST " + at + "/create", Body: `{"id":"c","base_model_id":"echo","name":"C","meta":{},"params":` + params + `}`, Status: 422}
	}
	bad := []step{
		create(`{"model_controls":{"x":{"label":"L","options":{}}}}`),
		create(`{"model_controls":{"x":{"label":"L","default":"z","options":{"a":{"label":"A","params":{}}}}}}`),
		create(`{"model_controls":{"1x":{"label":"L","options":{"a":{"label":"A","params":{}}}}}}`),
		create(`{"model_controls":{"x":{"display":"slider","label":"L","options":{"a":{"label":"A","params":{}}}}}}`),
	}
	for i, want := range []string{"too_short", "Default must name", "string_pattern_mismatch", "A slider needs"} {
		bad[i].Want = want
	}
	relaytest.Run(b, bad)
	good := create(`{"model_controls":{"x":{"display":"menu","label":"L","options":{"a":{"label":"A","params":{"temperature":1}}}}},"top_p":1}`)
	good.Status, good.Want = 200, `"params":{"model_controls":{"x":{"label":"L","options":{"a":{"label":"A","params":{"temperature":1}}}}},"top_p":1}`
	relaytest.Run(b, []step{good,
		{"admin", "POST " + at + "/model/update", `{"id":"c","name":"C","meta":{},"params":{}}`, 200, `"params":{"model_controls":{`},
		{"admin", "POST " + at + "/model/update", `{"id":"c","name":"C","meta":{},"params":{"model_controls":{}}}`, 200, `"params":{},`},
	})
}
