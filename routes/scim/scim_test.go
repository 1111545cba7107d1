package scim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/routes/scim"
)

const token = "scim-secret"

// server is the module over a database. seen are the events that it published, as NAME DATA.
type server struct {
	*sessiontest.Server
	t    *testing.T
	ids  map[string]string // by name, for <name> in calls
	seen []string
}

func newServer(t *testing.T, db *store.DB, vars ...string) *server {
	t.Helper()
	s := &server{Server: sessiontest.New(t, db, append([]string{"ENABLE_SCIM", "true", "SCIM_TOKEN", token, "SCIM_AUTH_PROVIDER", "oidc"}, vars...)...),
		t: t, ids: map[string]string{}}
	bus := &events.Bus{}
	bus.Subscribe(func(_ context.Context, e events.Event) {
		if e.Source != "scim" || e.Actor != nil {
			t.Errorf("event %+v", e)
		}
		var data any
		if err := jsondoc.Of(e.Data).Decode(&data); err != nil {
			t.Error(err)
		}
		sorted, _ := json.Marshal(data)
		s.seen = append(s.seen, s.named(e.Name+" "+string(sorted)))
	})
	s.Router.Mount(scim.Prefix, scim.New(scim.Deps{Users: s.Users, Access: s.Access, Sessions: s.Sessions, Env: s.Env, Events: bus, Log: s.Log}))
	s.Router.Mount("/api/v1", accounts{})
	s.Router.Finish()
	return s
}

// accounts has an operation for people, to see whether their sessions are good.
type accounts struct{}

func (accounts) Name() string { return "accounts" }

func (accounts) Routes(g *web.Group) {
	g.Add("GET /me", web.JSON(auth.Verified, func(c *web.Call, _ web.None) (web.M, error) { return web.M{"id": c.UserID()}, nil }))
}

func (s *server) named(text string) string {
	for name, id := range s.ids {
		text = strings.ReplaceAll(text, id, "<"+name+">")
	}
	return text
}

func (s *server) full(text string) string {
	for name, id := range s.ids {
		text = strings.ReplaceAll(text, "<"+name+">", id)
	}
	return text
}

// call sends a request with the token; <name> stands for an id.
func (s *server) call(call, body string, headers ...string) *sessiontest.Answer {
	s.t.Helper()
	method, path, _ := strings.Cut(s.full(call), " ")
	path, query, _ := strings.Cut(path, "?")
	if query != "" {
		query = "?" + strings.NewReplacer(" ", "%20", `"`, "%22", "[", "%5B", "]", "%5D").Replace(query)
	}
	return s.Call(token, method+" "+scim.Prefix+path+query, s.full(body), append([]string{"Content-Type", "application/scim+json; charset=utf-8"}, headers...)...)
}

// step is a request and what is to come of it: a status and members of the answer by path.
type step struct {
	call, body string
	status     int
	want       map[string]string // path to JSON, "-" for none
	save       string            // the answer's id goes by this name
	events     []string          // all of them; nil does not look
}

func (s *server) play(steps []step) {
	s.t.Helper()
	for _, p := range steps {
		s.seen = nil
		a := s.call(p.call, p.body)
		if a.Code != p.status {
			s.t.Errorf("%s %s: %d %s", p.call, p.body, a.Code, a.Body)
			continue
		}
		if p.save != "" {
			s.ids[p.save] = a.Doc().Text("id")
		}
		for path, want := range p.want {
			if got := s.named(at(s.t, a.Body.Bytes(), path)); got != want {
				s.t.Errorf("%s %s: %s is %s, want %s", p.call, p.body, path, got, want)
			}
		}
		if p.events != nil && !slices.Equal(s.seen, p.events) {
			s.t.Errorf("%s %s: events %q, want %q", p.call, p.body, s.seen, p.events)
		}
	}
}

// at is the JSON at a path of names and indexes; "-" for none.
func at(t *testing.T, body []byte, path string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for part := range strings.SplitSeq(path, "/") {
		switch c := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = c[part]; !ok {
				return "-"
			}
		case []any:
			var i int
			if part == "#" {
				v = len(c)
				continue
			}
			if _, err := fmt.Sscan(part, &i); err != nil || i >= len(c) {
				return "-"
			}
			v = c[i]
		default:
			return "-"
		}
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestOkta plays what Okta sends for a person and a group from first to last.
func TestOkta(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.User("Boss", "admin")
		s.play([]step{
			{call: `GET /Users?startIndex=1&count=2`, status: 200, want: map[string]string{"totalResults": "0", "Resources": "[]"}},
			{call: `GET /Users?filter=userName eq "ann@okta.test"&startIndex=1&count=100`, status: 200, want: map[string]string{
				"schemas": `["urn:ietf:params:scim:api:messages:2.0:ListResponse"]`, "totalResults": "0", "startIndex": "1", "itemsPerPage": "0", "Resources": "[]"}},
			{call: `POST /Users`, body: `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ann@okta.test","name":{"givenName":"Ann","familyName":"van Lee"},
				"emails":[{"primary":true,"value":"ann@okta.test","type":"work"}],"displayName":"Ann van Lee","locale":"en-US","externalId":"00u1","groups":[],"password":"x","active":true}`,
				status: 201, save: "ann", want: map[string]string{"userName": `"ann@okta.test"`, "externalId": `"00u1"`, "active": "true", "name/givenName": `"Ann"`, "name/familyName": `"van Lee"`,
					"emails/0/value": `"ann@okta.test"`, "groups": "null", "meta/resourceType": `"User"`, "meta/location": `"http://example.com/api/v1/scim/v2/Users/<ann>"`},
				events: []string{`user.created {"email":"ann@okta.test","external_id":"00u1","role":"user"}`}},
			{call: `POST /Users`, body: `{"userName":"ann@okta.test","displayName":"Ann","emails":[{"value":"ann@okta.test"}]}`, status: 409, events: []string{},
				want: map[string]string{"schemas": `["urn:ietf:params:scim:api:messages:2.0:Error"]`, "status": `"409"`, "scimType": `"uniqueness"`, "detail": `"User with email ann@okta.test already exists"`}},
			{call: `GET /Users?filter=userName eq "ann@okta.test"`, status: 200, want: map[string]string{"totalResults": "1", "Resources/0/id": `"<ann>"`}},
			{call: `GET /Users/<ann>`, status: 200, want: map[string]string{"id": `"<ann>"`}},
			{call: `PUT /Users/<ann>`, body: `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"<ann>","userName":"Annie@okta.test","name":{"givenName":"Annie","familyName":"Lee"},
				"emails":[{"primary":true,"value":"Annie@okta.test","type":"work","display":"x"}],"displayName":"Annie Lee","externalId":"00u1","active":true,"meta":{"resourceType":"User"}}`,
				status: 200, want: map[string]string{"userName": `"annie@okta.test"`, "displayName": `"Annie Lee"`, "name/familyName": `"Lee"`},
				events: []string{`user.updated {"updated_fields":["email","name","externalId"]}`}},
			{call: `POST /Groups`, body: `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Staff","members":[]}`, status: 201, save: "staff",
				want: map[string]string{"displayName": `"Staff"`, "members": "[]", "externalId": "-"}, events: []string{`group.created {"member_count":0,"member_ids":[],"name":"Staff"}`}},
			{call: `PATCH /Groups/<staff>`, body: `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","value":{"id":"<staff>","displayName":"Crew"}}]}`, status: 200,
				want: map[string]string{"displayName": `"Crew"`}, events: []string{`group.updated {"operation_count":1}`}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"add","path":"members","value":[{"value":"<ann>","display":"annie@okta.test"}]}]}`, status: 200,
				want:   map[string]string{"members/0/value": `"<ann>"`, "members/0/display": `"Annie Lee"`, "members/0/type": `"User"`, "members/0/$ref": `"http://example.com/api/v1/scim/v2/Users/<ann>"`},
				events: []string{`group.updated {"operation_count":1}`, `group.member_added {"count":1,"member_ids":["<ann>"]}`}},
			{call: `GET /Groups/<staff>?attributes=members`, status: 200, want: map[string]string{"members/#": "1", "displayName": "-", "id": `"<staff>"`, "meta": "-"}},
			{call: `GET /Users/<ann>`, status: 200, want: map[string]string{"groups/0/value": `"<staff>"`, "groups/0/display": `"Crew"`, "groups/0/type": `"direct"`}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"remove","path":"members[value eq \"<ann>\"]"}]}`, status: 200, want: map[string]string{"members": "[]"},
				events: []string{`group.updated {"operation_count":1}`, `group.member_removed {"count":1,"member_ids":["<ann>"]}`}},
			{call: `PUT /Groups/<staff>`, body: `{"displayName":"Staff","members":[{"value":"<ann>"}]}`, status: 200, want: map[string]string{"displayName": `"Staff"`, "members/#": "1"},
				events: []string{`group.updated {"updated_fields":["name","members"]}`, `group.member_added {"count":1,"member_ids":["<ann>"]}`}},
			{call: `PATCH /Users/<ann>`, body: `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","value":{"active":false}}]}`, status: 200,
				want: map[string]string{"active": "false"}, events: []string{`user.role_updated {"role":"pending"}`}},
			{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"replace","value":{"active":false}}]}`, status: 200, events: []string{}},
			{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"replace","value":{"active":true}}]}`, status: 200, want: map[string]string{"active": "true"}, events: []string{`user.role_updated {"role":"user"}`}},
			{call: `DELETE /Groups/<staff>`, status: 204, events: []string{`group.deleted {"name":"Staff","parent_group_id":null,"promoted_child_ids":[]}`}},
			{call: `GET /Groups/<staff>`, status: 404, want: map[string]string{"detail": `"Group <staff> not found"`, "scimType": `"invalidValue"`, "status": `"404"`}},
			{call: `DELETE /Users/<ann>`, status: 204, events: []string{`user.deleted {"email":"annie@okta.test"}`}},
			{call: `DELETE /Users/<ann>`, status: 404, events: []string{}},
		})
	})
}

// TestEntra plays what Microsoft Entra ID sends: other spellings of the same, and attributes in paths.
func TestEntra(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.User("Boss", "admin")
		s.play([]step{
			{call: `GET /Users?filter=externalId eq "guid-1"`, status: 200, want: map[string]string{"totalResults": "0"}},
			{call: `GET /Users?filter=emails[type eq "work"].value eq "eva@entra.test"`, status: 200, want: map[string]string{"totalResults": "0"}},
			{call: `POST /Users`, body: `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"externalId":"guid-1",
				"userName":"Eva@entra.test","active":true,"displayName":"Eva Lang","emails":[{"primary":true,"type":"work","value":"Eva@entra.test"}],"meta":{"resourceType":"User"},
				"name":{"formatted":"Eva Lang","familyName":"Lang","givenName":"Eva"},"roles":[],"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"x"}}`, status: 201, save: "eva"},
			{call: `GET /Users?filter=userName eq "EVA@ENTRA.TEST"`, status: 200, want: map[string]string{"totalResults": "1", "Resources/0/id": `"<eva>"`}},
			{call: `GET /Users?filter=externalId eq "guid-1"`, status: 200, want: map[string]string{"totalResults": "1"}},
			{call: `POST /Users`, body: `{"userName":"other@entra.test","displayName":"x","emails":[],"externalId":"guid-1"}`, status: 409, want: map[string]string{"detail": `"User with externalId guid-1 already exists"`}},
			{call: `PATCH /Users/<eva>`, body: `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"Replace","path":"emails[type eq \"work\"].value","value":"Eva.Lang@entra.test"},
				{"op":"Replace","path":"name.familyName","value":"Lang-Klein"}]}`, status: 200,
				want:   map[string]string{"userName": `"eva.lang@entra.test"`, "name/formatted": `"Eva Lang-Klein"`, "displayName": `"Eva Lang-Klein"`},
				events: []string{`user.updated {"updated_fields":["email","name"]}`}},
			{call: `PATCH /Users/<eva>`, body: `{"Operations":[{"op":"Add","value":{"name.givenName":"Evi","displayName":"Evi L","externalId":"guid-2"}}]}`, status: 200,
				want: map[string]string{"displayName": `"Evi L"`, "externalId": `"guid-2"`}},
			{call: `PATCH /Users/<eva>`, body: `{"Operations":[{"op":"Replace","path":"active","value":"False"}]}`, status: 200, want: map[string]string{"active": "false"}},
			{call: `PATCH /Users/<eva>`, body: `{"Operations":[{"op":"Replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":"True"}]}`, status: 200, want: map[string]string{"active": "true"}},
			{call: `GET /Groups?excludedAttributes=members&filter=displayName eq "Team"`, status: 200, want: map[string]string{"totalResults": "0"}},
			{call: `POST /Groups`, body: `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group","http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
				"externalId":"group-guid","displayName":"Team","meta":{"resourceType":"Group"}}`, status: 201, save: "team", want: map[string]string{"externalId": `"group-guid"`, "members": "[]"}},
			{call: `GET /Groups?excludedAttributes=members&filter=externalId eq "group-guid"`, status: 200, want: map[string]string{"totalResults": "1", "Resources/0/id": `"<team>"`, "Resources/0/members": "-"}},
			{call: `GET /Groups/<team>?excludedAttributes=members`, status: 200, want: map[string]string{"members": "-", "displayName": `"Team"`}},
			{call: `PATCH /Groups/<team>`, body: `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"Add","path":"members","value":[{"$ref":null,"value":"<eva>"}]}]}`,
				status: 200, want: map[string]string{"members/0/value": `"<eva>"`}},
			{call: `GET /Groups?filter=id eq "<team>" and members eq "<eva>"&excludedAttributes=members`, status: 200, want: map[string]string{"totalResults": "1"}},
			{call: `PATCH /Groups/<team>`, body: `{"Operations":[{"op":"Replace","path":"displayName","value":"Team 2"},{"op":"Remove","path":"members","value":[{"$ref":null,"value":"<eva>"}]}]}`, status: 200,
				want:   map[string]string{"displayName": `"Team 2"`, "members": "[]"},
				events: []string{`group.updated {"operation_count":2}`, `group.member_removed {"count":1,"member_ids":["<eva>"]}`}},
			{call: `DELETE /Groups/<team>`, status: 204},
			{call: `DELETE /Users/<eva>`, status: 204},
		})
	})
}

func TestUsers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		local, _ := s.User("Local", "admin")
		s.ids["local"] = local.ID
		body := `{"userName":"Ann@x.test","displayName":"Ann Lee","emails":[{"value":"home@x.test","primary":false},{"value":"Work@x.test"}],"photos":[{"value":"https://x.test/a.png"}],"externalId":"1"}`
		s.play([]step{
			{call: `POST /Users`, body: body, status: 201, save: "ann", want: map[string]string{"userName": `"work@x.test"`, "photos/0/value": `"https://x.test/a.png"`}},
			{call: `POST /Users`, body: `{"userName":"ben@x.test","displayName":"Ben","emails":[],"active":false,"photos":[{"value":"javascript:alert(1)"}]}`, status: 201, save: "ben",
				want:   map[string]string{"active": "false", "externalId": "null", "photos/0/value": `"/user.png"`},
				events: []string{`user.created {"email":"ben@x.test","external_id":null,"role":"pending"}`}},
			{call: `POST /Users`, body: `{}`, status: 422, want: map[string]string{"schemas": `["urn:ietf:params:scim:api:messages:2.0:Error"]`, "status": `"422"`, "scimType": `"invalidValue"`,
				"detail": `"body userName: Field required; body displayName: Field required; body emails: Field required"`}},
			{call: `POST /Users`, body: `{bad`, status: 422, want: map[string]string{"scimType": `"invalidSyntax"`}},

			// accounts of this server's own are not a directory's business
			{call: `GET /Users/<local>`, status: 404, want: map[string]string{"detail": `"User <local> not found"`, "scimType": `"invalidValue"`}},
			{call: `PUT /Users/<local>`, body: `{"active":false}`, status: 404},
			{call: `PATCH /Users/<local>`, body: `{"Operations":[{"op":"replace","path":"active","value":false}]}`, status: 404},
			{call: `DELETE /Users/<local>`, status: 404},
			{call: `GET /Users`, status: 200, want: map[string]string{"totalResults": "2", "itemsPerPage": "2"}},
			{call: `GET /Users?count=0`, status: 200, want: map[string]string{"totalResults": "2", "itemsPerPage": "0", "Resources": "[]"}},
			{call: `GET /Users?count=-1&startIndex=-4`, status: 200, want: map[string]string{"startIndex": "1", "itemsPerPage": "0"}},
			{call: `GET /Users?count=1&startIndex=2&sortBy=userName&sortOrder=descending`, status: 200, want: map[string]string{"totalResults": "2", "startIndex": "2", "Resources/0/id": `"<ben>"`}},
			{call: `GET /Users?count=x`, status: 422},
			{call: `GET /Users?filter=userName is "x"`, status: 400, want: map[string]string{"scimType": `"invalidFilter"`, "status": `"400"`}},
			{call: `GET /Users?filter=password eq "x"`, status: 400, want: map[string]string{"scimType": `"invalidFilter"`}},
			{call: `GET /Users?sortBy=nothing`, status: 400},
			{call: `GET /Users?attributes=userName,name.givenName&filter=externalId pr`, status: 200, want: map[string]string{"Resources/0/userName": `"work@x.test"`, "Resources/0/name": `{"givenName":"Ann"}`, "Resources/0/emails": "-", "Resources/0/id": `"<ann>"`}},
			{call: `GET /Users/<ann>?excludedAttributes=emails.display,photos,schemas,id`, status: 200, want: map[string]string{"emails/0": `{"primary":true,"type":"work","value":"work@x.test"}`, "photos": "-", "id": `"<ann>"`}},

			{call: `PUT /Users/<ann>`, body: `{"emails":[{"value":"ben@x.test"}]}`, status: 409, want: map[string]string{"scimType": `"uniqueness"`}, events: []string{}},
			{call: `PUT /Users/<ann>`, body: `{}`, status: 200, events: []string{}},
			{call: `PUT /Users/<ann>`, body: `{"name":{"givenName":"Anna"},"active":false}`, status: 200, want: map[string]string{"displayName": `"Anna"`, "active": "false", "externalId": `"1"`},
				events: []string{`user.updated {"updated_fields":["name"]}`, `user.role_updated {"role":"pending"}`}},
			{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"replace","path":"emails[type eq \"work\"]","value":{"value":"b@x.test"}},{"op":"replace","path":"photos","value":[{"value":"/user.png"}]}]}`, status: 200,
				want: map[string]string{"emails/0/value": `"b@x.test"`, "photos/0/value": `"/user.png"`}},
			{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"add","path":"emails","value":[{"value":"c@x.test"},{"value":"D@x.test","primary":true}]},{"op":"replace","path":"name","value":{"givenName":"A","familyName":"B"}}]}`, status: 200,
				want: map[string]string{"userName": `"d@x.test"`, "displayName": `"A B"`}},
			{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"remove","path":"externalId"}]}`, status: 200, want: map[string]string{"externalId": "null"}, events: []string{`user.updated {"updated_fields":["externalId"]}`}},
		})
		for body, want := range map[string][2]string{
			`{"op":"remove"}`:                                                      {"noTarget", "Remove requires a path"},
			`{"op":"remove","path":"displayName"}`:                                 {"mutability", "Removing displayName is not supported"},
			`{"op":"move","path":"displayName"}`:                                   {"invalidSyntax", "Unsupported PATCH operation: move"},
			`{"op":"replace"}`:                                                     {"invalidValue", "A pathless operation requires an attribute object"},
			`{"op":"replace","value":{}}`:                                          {"invalidValue", "A pathless operation requires an attribute object"},
			`{"op":"replace","path":"title","value":"x"}`:                          {"invalidPath", "Unsupported PATCH path: title"},
			`{"op":"replace","path":"name.nick","value":"x"}`:                      {"invalidPath", "Unsupported PATCH path: name.nick"},
			`{"op":"replace","path":"emails[type eq","value":"x"}`:                 {"invalidPath", "Unsupported PATCH path: emails[type eq"},
			`{"op":"replace","path":"emails[type eq \"home\"].value","value":"x"}`: {"noTarget", `No value is at emails[type eq "home"].value`},
			`{"op":"replace","path":"active","value":1}`:                           {"invalidValue", "active must be a boolean"},
			`{"op":"replace","path":"displayName","value":null}`:                   {"invalidValue", "displayName must be a string"},
			`{"op":"replace","path":"userName","value":""}`:                        {"invalidValue", "userName must be an address"},
			`{"op":"replace","path":"externalId","value":5}`:                       {"invalidValue", "externalId must be a string or null"},
			`{"op":"replace","path":"id","value":"x"}`:                             {"mutability", "id cannot be changed"},
			`{"op":"replace","path":"photos","value":"javascript:alert(1)"}`:       {"invalidValue", ""},
			`{"op":"replace","path":"userName","value":"ben@x.test"}`:              {"uniqueness", "User with email ben@x.test already exists"},
			`{"op":"replace","value":{"displayName":"half","nope":1}}`:             {"invalidPath", "Unsupported PATCH path: nope"},
		} {
			a := s.call("PATCH /Users/<ann>", `{"Operations":[{"op":"replace","path":"displayName","value":"half"},`+body+`]}`)
			if a.Code/100 != 4 || a.Doc().Text("scimType") != want[0] || want[1] != "" && a.Detail() != want[1] {
				t.Errorf("%s: %d %s", body, a.Code, a.Body)
			}
		}
		if u, err := s.Users.ByID(t.Context(), s.ids["ann"]); err != nil || u.Name != "A B" {
			t.Errorf("half of a change was kept: %v %v", u.Name, err)
		}

		// an administrator stays one, and stays
		if _, err := db.Exec(t.Context(), `UPDATE "user" SET role = 'admin' WHERE id = $1`, s.ids["ann"]); err != nil {
			t.Fatal(err)
		}
		s.play([]step{
			{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"replace","path":"active","value":false}]}`, status: 200, want: map[string]string{"active": "true"}, events: []string{}},
			{call: `PUT /Users/<ann>`, body: `{"active":false}`, status: 200, want: map[string]string{"active": "true"}},
			{call: `DELETE /Users/<ann>`, status: 403, want: map[string]string{"detail": `"The requested action has been restricted as a security measure."`}},
		})
	})
}

// TestSessions deactivates and deletes people who are signed in.
func TestSessions(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	s.User("Boss", "admin")
	s.play([]step{{call: `POST /Users`, body: `{"userName":"ann@x.test","displayName":"Ann","emails":[]}`, status: 201, save: "ann"}})
	id := s.ids["ann"]
	session := s.Token(id)
	check := func(what string, status int, told ...string) {
		t.Helper()
		if a := s.Call(session, "GET /api/v1/me", ""); a.Code != status {
			t.Errorf("%s: session %d", what, a.Code)
		}
		if got := s.Realtime.Take(); !slices.Equal(got, told) {
			t.Errorf("%s: told %q", what, got)
		}
	}
	refreshed := []string{"emit user:" + id + " access:updated {}", "disconnect " + id}
	s.Realtime.Take()
	check("active", 200)
	s.play([]step{{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"replace","path":"active","value":false}]}`, status: 200}})
	check("not active", 401, refreshed...)
	s.play([]step{{call: `PATCH /Users/<ann>`, body: `{"Operations":[{"op":"replace","path":"active","value":true}]}`, status: 200}})
	check("active again", 200, refreshed...)
	s.play([]step{{call: `POST /Groups`, body: `{"displayName":"G","members":[{"value":"<ann>"}]}`, status: 201, save: "g"}})
	check("member", 200, refreshed...)
	s.play([]step{{call: `PATCH /Groups/<g>`, body: `{"Operations":[{"op":"remove","path":"members"}]}`, status: 200}})
	check("no member", 200, refreshed...)
	s.play([]step{{call: `DELETE /Users/<ann>`, status: 204}})
	check("deleted", 401, refreshed...)
}

func TestGroups(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.play([]step{{call: `POST /Groups`, body: `{"displayName":"x"}`, status: 500, want: map[string]string{"detail": `"No admin user found"`}}})
		for _, name := range []string{"ann", "ben", "cid"} {
			role := map[bool]string{true: "admin", false: "user"}[name == "ann"]
			u, _ := s.User(name, role)
			s.ids[name] = u.ID
		}
		s.play([]step{
			{call: `POST /Groups`, body: `{"displayName":"Staff","members":[{"value":"<ann>"},{"value":"<ben>","type":"User"},{"value":"<ben>"}]}`, status: 201, save: "staff", want: map[string]string{"members/#": "2"}},
			{call: `POST /Groups`, body: `{"displayName":"Below"}`, status: 201, save: "below"},
			{call: `POST /Groups`, body: `{"displayName":"x","members":[{"value":"nobody"}]}`, status: 400, want: map[string]string{"detail": `"One or more member users were not found."`, "scimType": `"invalidValue"`}},
			{call: `POST /Groups`, body: `{"displayName":"x","members":[{"value":"<ann>","type":"Group"}]}`, status: 400, want: map[string]string{"detail": `"Only direct User members are supported by SCIM."`}},
			{call: `POST /Groups`, body: `{"displayName":"x","members":[{"value":"<ann>","$ref":"https://h/v2/Groups/1"}]}`, status: 400},
			{call: `POST /Groups`, body: `{"displayName":"x","members":[{"value":""}]}`, status: 400, want: map[string]string{"detail": `"A member user ID is required."`}},
			{call: `POST /Groups`, body: `{"members":[]}`, status: 422},
			{call: `GET /Groups?sortBy=displayName`, status: 200, want: map[string]string{"totalResults": "2", "Resources/0/displayName": `"Below"`, "Resources/1/members/#": "2"}},
			{call: `GET /Groups?filter=members[value eq "<ben>"]`, status: 200, want: map[string]string{"totalResults": "1"}},
			{call: `GET /Groups?filter=nothing pr`, status: 400},
			{call: `PUT /Groups/nope`, body: `{"displayName":"x"}`, status: 404},
			{call: `PUT /Groups/<staff>`, body: `{"members":[{"value":"<cid>"}]}`, status: 200, want: map[string]string{"displayName": `"Staff"`, "members/#": "1"}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"add","path":"members","value":[{"value":"<ann>"},{"value":"<cid>"}]},{"op":"add","value":{"members":[{"value":"<ben>"}],"displayName":"All"}}]}`, status: 200,
				want: map[string]string{"members/#": "3", "displayName": `"All"`}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"remove","path":"members[value eq \"<ann>\" or value eq \"<ben>\"]"}]}`, status: 200, want: map[string]string{"members/#": "1", "members/0/value": `"<cid>"`}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"replace","path":"members","value":[{"value":"<ann>"}]},{"op":"replace","path":"nickName","value":"x"}]}`, status: 200, want: map[string]string{"members/0/value": `"<ann>"`}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"replace","path":"displayName","value":"half"},{"op":"add","path":"members","value":[{"value":"nobody"}]}]}`, status: 400, events: []string{}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"replace","path":"members","value":[]},{"op":"replace","path":"displayName","value":5}]}`, status: 400, events: []string{}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"add","path":"members","value":"<ann>"}]}`, status: 400, want: map[string]string{"detail": `"Members must be a list of users."`}},
			{call: `PATCH /Groups/<staff>`, body: `{"Operations":[{"op":"add","path":"members[value eq \"<ann>\"]","value":[]}]}`, status: 400, want: map[string]string{"scimType": `"invalidPath"`}},
			{call: `GET /Groups/<staff>`, status: 200, want: map[string]string{"displayName": `"All"`, "members/#": "1"}},
		})
		if _, err := db.Exec(t.Context(), `UPDATE "group" SET parent_group_id = $1 WHERE id = $2`, s.ids["staff"], s.ids["below"]); err != nil {
			t.Fatal(err)
		}
		s.play([]step{{call: `DELETE /Groups/<staff>`, status: 204, events: []string{
			`group.deleted {"name":"All","parent_group_id":null,"promoted_child_ids":["<below>"]}`,
			`group.updated {"old_parent_group_id":"<staff>","parent_group_id":null}`,
		}}})
	})
}

func TestVersions(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	s.User("Boss", "admin")
	s.play([]step{
		{call: `POST /Users`, body: `{"userName":"ann@x.test","displayName":"Ann","emails":[]}`, status: 201, save: "ann"},
		{call: `POST /Groups`, body: `{"displayName":"G"}`, status: 201, save: "g"},
	})
	for _, resource := range []string{"/Users/<ann>", "/Groups/<g>"} {
		a := s.call("GET "+resource, "")
		version := a.Header().Get("ETag")
		if !strings.HasPrefix(version, `W/"`) || a.Doc().Text("meta", "version") != version {
			t.Fatalf("%s: ETag %s, %s", resource, version, a.Body)
		}
		if a := s.call("GET "+resource, "", "If-None-Match", version); a.Code != http.StatusNotModified || a.Body.Len() != 0 {
			t.Errorf("%s: known: %d %s", resource, a.Code, a.Body)
		}
		rename := `{"Operations":[{"op":"replace","path":"displayName","value":"New"}]}`
		if a := s.call("PATCH "+resource, rename, "If-Match", `W/"other"`); a.Code != http.StatusPreconditionFailed || a.Doc().Text("status") != "412" {
			t.Errorf("%s: another version: %d %s", resource, a.Code, a.Body)
		}
		a = s.call("PATCH "+resource, rename, "If-Match", version)
		if a.Code != 200 || a.Header().Get("ETag") == version {
			t.Errorf("%s: %d %s", resource, a.Code, a.Header())
		}
		for _, call := range []string{"PUT", "DELETE"} {
			if a := s.call(call+" "+resource, `{}`, "If-Match", version); a.Code != http.StatusPreconditionFailed {
				t.Errorf("%s: %s of an old version: %d %s", resource, call, a.Code, a.Body)
			}
		}
		if a := s.call("DELETE "+resource, "", "If-Match", a.Header().Get("ETag")); a.Code != http.StatusNoContent {
			t.Errorf("%s: %d %s", resource, a.Code, a.Body)
		}
	}
}

func TestBearer(t *testing.T) {
	s := newServer(t, storetest.SQLite(t))
	boss, session := s.User("Boss", "admin")
	for header, want := range map[string]string{
		"":                      "Authorization header required",
		"Bearer":                "Invalid authorization format. Expected: Bearer <token>",
		token:                   "Invalid authorization format. Expected: Bearer <token>",
		"Bearer a b":            "Invalid authorization format. Expected: Bearer <token>",
		"Basic " + token:        "Invalid authentication scheme",
		"Bearer x":              "Invalid SCIM token",
		"Bearer " + token + "x": "Invalid SCIM token",
		"Bearer " + session:     "Invalid SCIM token",
		"bearer   " + token:     "",
		"BEARER " + token:       "",
	} {
		var headers []string
		if header != "" {
			headers = []string{"Authorization", header}
		}
		a := s.Call("", "GET "+scim.Prefix+"/Users", "", headers...)
		if want == "" {
			if a.Code != 200 {
				t.Errorf("%q: %d %s", header, a.Code, a.Body)
			}
			continue
		}
		if a.Code != 401 || a.Detail() != want || a.Doc().Text("status") != "401" || (header == "") != (a.Header().Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%q: %d %s %v", header, a.Code, a.Body, a.Header())
		}
	}
	// who has no token learns nothing of the form, and the token is none for people's operations
	if a := s.Call("x", "POST "+scim.Prefix+"/Users", `{}`); a.Code != 401 {
		t.Errorf("form of a stranger: %d", a.Code)
	}
	if a := s.Call(token, "GET /api/v1/me", ""); a.Code != 401 {
		t.Errorf("the token signs in: %d", a.Code)
	}
	if a := s.Call(session, "GET /api/v1/me", ""); a.Code != 200 || a.Doc().Text("id") != boss.ID {
		t.Errorf("sessions beside: %d", a.Code)
	}
	for _, path := range []string{"/ServiceProviderConfig", "/ResourceTypes", "/ResourceTypes/User", "/Schemas", "/Schemas/urn:ietf:params:scim:schemas:core:2.0:Group"} {
		if a := s.Call("", "GET "+scim.Prefix+path, ""); a.Code != 200 || a.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, a.Code, a.Body)
		}
	}
	if a := s.Call("", "GET "+scim.Prefix+"/Schemas/none", ""); a.Code != 404 || a.Doc().Text("scimType") != "invalidValue" {
		t.Errorf("no schema: %d %s", a.Code, a.Body)
	}

}

// TestIncomplete serves with a part of the variables.
func TestIncomplete(t *testing.T) {
	s := &server{Server: sessiontest.New(t, storetest.SQLite(t), "ENABLE_SCIM", "true", "SCIM_TOKEN", token), t: t, ids: map[string]string{}}
	s.Router.Mount(scim.Prefix, scim.New(scim.Deps{Users: s.Users, Access: s.Access, Sessions: s.Sessions, Env: s.Env, Log: s.Log}))
	s.Router.Finish()
	s.play([]step{{call: `POST /Users`, body: `{"userName":"ann@x.test","displayName":"Ann","emails":[]}`, status: 500,
		want: map[string]string{"detail": `"SCIM_AUTH_PROVIDER environment variable is required when SCIM is enabled"`}}})
	if there, err := s.Users.Any(t.Context()); err != nil || there {
		t.Errorf("an account was made: %v %v", there, err)
	}
	s = &server{Server: sessiontest.New(t, storetest.SQLite(t), "ENABLE_SCIM", "true"), t: t}
	s.Router.Mount(scim.Prefix, scim.New(scim.Deps{Users: s.Users, Access: s.Access, Sessions: s.Sessions, Env: s.Env, Log: s.Log}))
	for _, header := range []string{"Bearer ", "Bearer x"} {
		if a := s.Call("", "GET "+scim.Prefix+"/Users", "", "Authorization", header); a.Code != 401 {
			t.Errorf("no token set, %q: %d", header, a.Code)
		}
	}
}
