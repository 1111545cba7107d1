package scim

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type userResource struct {
	Schemas     []string     `json:"schemas"`
	ID          string       `json:"id"`
	ExternalID  *string      `json:"externalId"`
	UserName    string       `json:"userName"`
	Name        nameResource `json:"name"`
	DisplayName string       `json:"displayName"`
	Emails      []valued     `json:"emails"`
	Active      bool         `json:"active"`
	Photos      []valued     `json:"photos"`
	Groups      *[]groupOf   `json:"groups"`
	Meta        meta         `json:"meta"`
}

// nameResource has members that nobody has a value for: the reference's have them too.
type nameResource struct {
	Formatted       string  `json:"formatted"`
	FamilyName      string  `json:"familyName"`
	GivenName       string  `json:"givenName"`
	MiddleName      *string `json:"middleName"`
	HonorificPrefix *string `json:"honorificPrefix"`
	HonorificSuffix *string `json:"honorificSuffix"`
}

type valued struct {
	Value   string  `json:"value"`
	Type    string  `json:"type"`
	Primary bool    `json:"primary"`
	Display *string `json:"display"`
}

type groupOf struct {
	Value   string `json:"value"`
	Display string `json:"display"`
	Ref     string `json:"$ref"`
	Type    string `json:"type"`
}

type meta struct {
	Type         string  `json:"resourceType"`
	Created      string  `json:"created"`
	LastModified string  `json:"lastModified"`
	Location     string  `json:"location"`
	Version      *string `json:"version"`
}

type groupResource struct {
	Schemas     []string  `json:"schemas"`
	ID          string    `json:"id"`
	ExternalID  *string   `json:"externalId,omitzero"` // the reference knows none
	DisplayName string    `json:"displayName"`
	Members     *[]member `json:"members"`
	Meta        meta      `json:"meta"`
}

type member struct {
	Value   string `json:"value"`
	Ref     string `json:"$ref"`
	Type    string `json:"type"`
	Display string `json:"display"`
}

type listResource struct {
	Schemas   []string      `json:"schemas"`
	Total     int           `json:"totalResults"`
	Count     int           `json:"itemsPerPage"`
	Start     int           `json:"startIndex"`
	Resources []jsondoc.Doc `json:"Resources"`
}

func timeOf(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02T15:04:05+00:00") }

// splitName takes a name apart at its first space.
func splitName(name string) (given, family string) {
	given, family, _ = strings.Cut(name, " ")
	return given, family
}

// externalID is the first id that a provider gave an account.
func externalID(u *users.User) (id *string) {
	u.SCIM.Each(func(_ string, v jsondoc.Doc) bool {
		v.Each(func(name string, v jsondoc.Doc) bool {
			if text, ok := v.AsText(); ok && name == "external_id" {
				id = &text
			}
			return true
		})
		return id == nil
	})
	return id
}

// versionOf is the version of a resource with this content, whatever shape it is asked for in.
func versionOf(content ...any) string {
	sum := sha256.Sum256(jsondoc.Of(content))
	return `W/"` + hex.EncodeToString(sum[:12]) + `"`
}

func userVersion(u *users.User) string {
	return versionOf(u.ID, u.Email, u.Name, u.Role, u.ProfileImageURL, u.SCIM, u.UpdatedAt)
}

func groupVersion(g *groups.Group, members []string) string {
	members = slices.Clone(members)
	slices.Sort(members)
	return versionOf(g.ID, g.Name, g.Data, g.UpdatedAt, members)
}

func userDoc(base string, u *users.User, list []groups.Ref, s *shape) jsondoc.Doc {
	given, family := splitName(u.Name)
	version := userVersion(u)
	r := &userResource{Schemas: []string{schemaUser}, ID: u.ID, ExternalID: externalID(u), UserName: u.Email,
		Name: nameResource{Formatted: u.Name, GivenName: given, FamilyName: family}, DisplayName: u.Name,
		Emails: []valued{{Value: u.Email, Type: "work", Primary: true}}, Active: u.Role != users.RolePending,
		Photos: []valued{{Value: *u.ProfileImageURL, Type: "photo", Primary: true}},
		Meta:   meta{"User", timeOf(u.CreatedAt), timeOf(u.UpdatedAt), base + "/Users/" + u.ID, &version}}
	if len(list) > 0 {
		in := make([]groupOf, len(list))
		for i, g := range list {
			in[i] = groupOf{g.ID, g.Name, base + "/Groups/" + g.ID, "direct"}
		}
		r.Groups = &in
	}
	return s.apply(jsondoc.Of(r))
}

// groupDoc makes a group's document; known says whether its members were read.
func (m *Module) groupDoc(base string, g *groups.Group, list []groups.Ref, known bool, s *shape) jsondoc.Doc {
	r := &groupResource{Schemas: []string{schemaGroup}, ID: g.ID, ExternalID: g.ExternalID(m.Env.SCIM.Provider), DisplayName: g.Name,
		Meta: meta{"Group", timeOf(g.CreatedAt), timeOf(g.UpdatedAt), base + "/Groups/" + g.ID, nil}}
	if known {
		in, ids := make([]member, len(list)), make([]string, len(list))
		for i, u := range list {
			in[i], ids[i] = member{u.ID, base + "/Users/" + u.ID, "User", u.Name}, u.ID
		}
		version := groupVersion(g, ids)
		r.Members, r.Meta.Version = &in, &version
	}
	return s.apply(jsondoc.Of(r))
}

// shapeIn says which attributes an answer has.
type shapeIn struct {
	Attributes string `query:"attributes" default:""`
	Excluded   string `query:"excludedAttributes" default:""`
}

// shape is shapeIn, read. A nil one leaves everything.
type shape struct{ only, without []scim.Attr }

func (in shapeIn) shape() *shape {
	s := &shape{attrsOf(in.Attributes), attrsOf(in.Excluded)}
	if s.only == nil && s.without == nil {
		return nil
	}
	return s
}

func attrsOf(list string) (out []scim.Attr) {
	for name := range strings.SplitSeq(list, ",") {
		if p, err := scim.ParsePath(strings.TrimSpace(name)); err == nil {
			out = append(out, p.Attr)
		}
	}
	return out
}

// has says whether an attribute, or a part of it, is in an answer. A resource's schemas and id always are.
func (s *shape) has(name string) bool {
	if s == nil || name == "schemas" || name == "id" {
		return true
	}
	if s.only != nil {
		return slices.ContainsFunc(s.only, func(a scim.Attr) bool { return a.Name == name })
	}
	return !slices.ContainsFunc(s.without, func(a scim.Attr) bool { return a.Name == name && a.Sub == "" })
}

// hasPart says whether a part of an attribute that is in an answer is in it.
func (s *shape) hasPart(name, part string) bool {
	if s.only != nil {
		return slices.ContainsFunc(s.only, func(a scim.Attr) bool { return a.Name == name && (a.Sub == "" || a.Sub == part) })
	}
	return !slices.ContainsFunc(s.without, func(a scim.Attr) bool { return a.Name == name && a.Sub == part })
}

// apply takes out of a resource what the answer shall not have.
func (s *shape) apply(d jsondoc.Doc) jsondoc.Doc {
	if s == nil {
		return d
	}
	var b jsondoc.Builder
	d.Each(func(name string, v jsondoc.Doc) bool {
		if low := strings.ToLower(name); s.has(low) {
			b.Raw(name, s.parts(low, v))
		}
		return true
	})
	return b.Done()
}

func (s *shape) parts(name string, v jsondoc.Doc) jsondoc.Doc {
	switch v.Kind() {
	case '[':
		list := v.List()
		for i, item := range list {
			list[i] = s.parts(name, item)
		}
		return jsondoc.Array(list...)
	case '{':
		var b jsondoc.Builder
		v.Each(func(part string, v jsondoc.Doc) bool {
			if s.hasPart(name, strings.ToLower(part)) {
				b.Raw(part, v)
			}
			return true
		})
		return b.Done()
	}
	return v
}

// tag sets the header of a resource's version.
func tag(c *web.Call, version string) { c.Header().Set("ETag", version) }

// unchanged says whether the caller has this version already.
func unchanged(c *web.Call, version string) bool {
	return matches(c.R.Header.Get("If-None-Match"), version)
}

// ifMatch refuses a change of another version than the caller knows.
func ifMatch(c *web.Call, version string) error {
	if want := c.R.Header.Get("If-Match"); want != "" && !matches(want, version) {
		return web.Fail(http.StatusPreconditionFailed, "The resource has changed on the server")
	}
	return nil
}

func matches(header, version string) bool {
	for v := range strings.SplitSeq(header, ",") {
		if v = strings.TrimSpace(v); v == "*" || v != "" && strings.TrimPrefix(v, "W/") == strings.TrimPrefix(version, "W/") {
			return true
		}
	}
	return false
}
