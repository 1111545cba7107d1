// Package scim serves /api/v1/scim/v2: SCIM 2.0 (RFC 7643 and 7644), by which an identity provider keeps accounts and
// groups as its directory has them. It is mounted where ENABLE_SCIM is on, and its only caller is whoever has SCIM_TOKEN.
//
// Texts and statuses are the reference's. What it leaves out of the standard is here: filters over all attributes,
// sorting, attributes and excludedAttributes, versions, and changes of all that can be changed. Lists of resource types
// and schemas are bare arrays, as there.
package scim

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/auth/session"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// Prefix is where the module is mounted.
const Prefix = "/api/v1/scim/v2"

// Addresses of schemas.
const (
	schemaUser   = "urn:ietf:params:scim:schemas:core:2.0:User"
	schemaGroup  = "urn:ietf:params:scim:schemas:core:2.0:Group"
	schemaList   = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	schemaError  = "urn:ietf:params:scim:api:messages:2.0:Error"
	schemaConfig = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	schemaType   = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
	schemaSchema = "urn:ietf:params:scim:schemas:core:2.0:Schema"
)

// Kinds of errors, scimType in their bodies.
const (
	invalidFilter = "invalidFilter"
	invalidPath   = "invalidPath"
	invalidSyntax = "invalidSyntax"
	invalidValue  = "invalidValue"
	mutability    = "mutability"
	noTarget      = "noTarget"
	uniqueness    = "uniqueness"
)

// Deps are what the module uses. Log and Events may be nil.
type Deps struct {
	Users    *users.Store
	Access   *access.Access
	Sessions *session.Sessions
	Env      *config.Env
	Events   *events.Bus
	Log      *slog.Logger
}

// Module is the web.Module of tag scim.
type Module struct {
	Deps
	groups *groups.Store
}

// New makes the module.
func New(d Deps) *Module {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Env.SCIM.Token == "" {
		d.Log.Warn("SCIM is on, but SCIM_TOKEN is not set: nobody can call it")
	}
	if d.Env.SCIM.Provider == "" {
		d.Log.Warn("SCIM is on, but SCIM_AUTH_PROVIDER is not set: no accounts can be made by it")
	}
	return &Module{Deps: d, groups: d.Access.Groups()}
}

// Name implements web.Module.
func (m *Module) Name() string { return "scim" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Errors(envelope)
	g.Auth(bearer(sha256.Sum256([]byte(m.Env.SCIM.Token))))
	g.Add("GET /ServiceProviderConfig", web.JSON(auth.Public, serviceProviderConfig))
	g.Add("GET /ResourceTypes", web.JSON(auth.Public, resourceTypes))
	g.Add("GET /ResourceTypes/{name}", web.JSON(auth.Public, resourceType))
	g.Add("GET /Schemas", web.JSON(auth.Public, schemas))
	g.Add("GET /Schemas/{name}", web.JSON(auth.Public, schema))
	g.Add("GET /Users", web.JSON(auth.Any, m.listUsers))
	g.Add("POST /Users", web.JSON(auth.Any, m.createUser))
	g.Add("GET /Users/{user_id}", web.JSON(auth.Any, m.user))
	g.Add("PUT /Users/{user_id}", web.JSON(auth.Any, m.putUser))
	g.Add("PATCH /Users/{user_id}", web.JSON(auth.Any, m.patchUser))
	g.Add("DELETE /Users/{user_id}", web.JSON(auth.Any, m.deleteUser))
	g.Add("GET /Groups", web.JSON(auth.Any, m.listGroups))
	g.Add("POST /Groups", web.JSON(auth.Any, m.createGroup))
	g.Add("GET /Groups/{group_id}", web.JSON(auth.Any, m.group))
	g.Add("PUT /Groups/{group_id}", web.JSON(auth.Any, m.putGroup))
	g.Add("PATCH /Groups/{group_id}", web.JSON(auth.Any, m.patchGroup))
	g.Add("DELETE /Groups/{group_id}", web.JSON(auth.Any, m.deleteGroup))
}

// bearer lets in who has the token, of which it is the hash. No token lets nobody in.
type bearer [sha256.Size]byte

// Authorize implements web.Authenticator.
func (b bearer) Authorize(r *http.Request, _ auth.Level) (*auth.Principal, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		e := web.Fail(http.StatusUnauthorized, "Authorization header required")
		e.Header = http.Header{"Www-Authenticate": {"Bearer"}}
		return nil, e
	}
	parts := strings.Fields(header)
	switch {
	case len(parts) != 2:
		return nil, web.Fail(http.StatusUnauthorized, "Invalid authorization format. Expected: Bearer <token>")
	case !strings.EqualFold(parts[0], "bearer"):
		return nil, web.Fail(http.StatusUnauthorized, "Invalid authentication scheme")
	}
	sent := sha256.Sum256([]byte(parts[1]))
	if subtle.ConstantTimeCompare(sent[:], b[:]) != 1 {
		return nil, web.Fail(http.StatusUnauthorized, "Invalid SCIM token")
	}
	return nil, nil
}

// problem is the detail of an error that says its kind.
type problem struct{ kind, text string }

func refuse(status int, kind, text string) error {
	return &web.Error{Status: status, Detail: problem{kind, text}}
}

func notFound(what, id string) error {
	return web.Fail(http.StatusNotFound, what+" "+id+" not found")
}

// errorBody is how errors are told.
type errorBody struct {
	Schemas []string `json:"schemas"`
	Status  string   `json:"status"`
	Detail  string   `json:"detail"`
	Kind    string   `json:"scimType,omitzero"`
}

var kinds = map[int]string{http.StatusBadRequest: invalidSyntax, http.StatusNotFound: invalidValue, http.StatusConflict: uniqueness,
	http.StatusUnprocessableEntity: invalidValue}

// envelope is the form of this module's errors.
func envelope(e *web.Error) *web.Error {
	out := *e
	body := &errorBody{Schemas: []string{schemaError}, Status: strconv.Itoa(e.Status), Kind: kinds[e.Status]}
	switch d := e.Detail.(type) {
	case problem:
		body.Kind, body.Detail = d.kind, d.text
	case web.Problems:
		var texts []string
		for _, p := range d {
			if p.Type == "json_invalid" {
				body.Kind = invalidSyntax
			}
			texts = append(texts, strings.Trim(fmt.Sprint([]any(p.Loc)), "[]")+": "+p.Msg)
		}
		body.Detail = strings.Join(texts, "; ")
	default:
		body.Detail = fmt.Sprint(d)
	}
	out.Body = body
	return &out
}

// provider is the name by which external ids are kept; it has to be set.
func (m *Module) provider() (string, error) {
	if m.Env.SCIM.Provider == "" {
		return "", web.Fail(http.StatusInternalServerError, "SCIM_AUTH_PROVIDER environment variable is required when SCIM is enabled")
	}
	return m.Env.SCIM.Provider, nil
}

func (m *Module) publish(ctx context.Context, name, id string, data web.M) {
	m.Events.Publish(ctx, events.Event{Name: name, SubjectID: id, Source: "scim", Data: data})
}

// listIn is what a list is asked with.
type listIn struct {
	Start  int     `query:"startIndex" default:"1"`
	Count  int     `query:"count" default:"20"`
	Filter *string `query:"filter"`
	SortBy string  `query:"sortBy" default:""`
	Order  string  `query:"sortOrder" default:""`
	shapeIn
}

// maxCount is how many resources a page has at most.
const maxCount = 100

// query reads what a list is asked with.
func (in *listIn) query() (scim.Query, error) {
	in.Start = max(1, in.Start)
	q := scim.Query{SortBy: in.SortBy, Descending: strings.EqualFold(in.Order, "descending"), Skip: in.Start - 1, Limit: max(0, min(maxCount, in.Count))}
	if in.Filter == nil || strings.TrimSpace(*in.Filter) == "" {
		return q, nil
	}
	var err error
	q.Filter, err = scim.ParseFilter(*in.Filter)
	return q, listError(err)
}

// listError is the answer to a list that cannot be made.
func listError(err error) error {
	if errors.Is(err, scim.ErrSyntax) {
		return refuse(http.StatusBadRequest, invalidFilter, strings.TrimPrefix(err.Error(), "scim: syntax: "))
	}
	return err
}
