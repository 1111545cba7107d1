package scim

import (
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/web"
)

type supported struct {
	Supported bool `json:"supported"`
}

type providerConfig struct {
	Schemas []string  `json:"schemas"`
	Patch   supported `json:"patch"`
	Bulk    struct {
		Supported     bool `json:"supported"`
		MaxOperations int  `json:"maxOperations"`
		MaxPayload    int  `json:"maxPayloadSize"`
	} `json:"bulk"`
	Filter struct {
		Supported  bool `json:"supported"`
		MaxResults int  `json:"maxResults"`
	} `json:"filter"`
	ChangePassword supported    `json:"changePassword"`
	Sort           supported    `json:"sort"`
	ETag           supported    `json:"etag"`
	Schemes        []authScheme `json:"authenticationSchemes"`
}

type authScheme struct {
	Type        string `json:"type"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

func serviceProviderConfig(_ *web.Call, _ web.None) (*providerConfig, error) {
	out := &providerConfig{Schemas: []string{schemaConfig}, Patch: supported{true}, Sort: supported{true}, ETag: supported{true},
		Schemes: []authScheme{{"oauthbearertoken", "OAuth Bearer Token", "Authentication using OAuth 2.0 Bearer Token"}}}
	out.Bulk.MaxOperations, out.Bulk.MaxPayload = 1000, 1<<20
	out.Filter.Supported, out.Filter.MaxResults = true, 200
	return out, nil
}

type typeResource struct {
	Schemas  []string `json:"schemas"`
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Endpoint string   `json:"endpoint"`
	Schema   string   `json:"schema"`
	Meta     struct {
		Location string `json:"location"`
		Type     string `json:"resourceType"`
	} `json:"meta"`
}

func resourceTypes(c *web.Call, _ web.None) ([]typeResource, error) {
	out := []typeResource{
		{ID: "User", Name: "User", Endpoint: "/Users", Schema: schemaUser},
		{ID: "Group", Name: "Group", Endpoint: "/Groups", Schema: schemaGroup},
	}
	for i := range out {
		out[i].Schemas = []string{schemaType}
		out[i].Meta.Location, out[i].Meta.Type = c.Origin()+Prefix+"/ResourceTypes/"+out[i].ID, "ResourceType"
	}
	return out, nil
}

type nameIn struct {
	Name string `path:"name"`
}

func resourceType(c *web.Call, in nameIn) (*typeResource, error) {
	all, err := resourceTypes(c, web.None{})
	for i := range all {
		if strings.EqualFold(all[i].ID, in.Name) {
			return &all[i], nil
		}
	}
	if err == nil {
		err = web.Fail(http.StatusNotFound, "Resource type "+in.Name+" not found")
	}
	return nil, err
}

type schemaResource struct {
	Schemas     []string    `json:"schemas"`
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Attributes  []attribute `json:"attributes"`
}

type attribute struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	MultiValued bool   `json:"multiValued,omitzero"`
	Required    bool   `json:"required"`
	Uniqueness  string `json:"uniqueness,omitzero"`
}

func schemas(_ *web.Call, _ web.None) ([]schemaResource, error) {
	return []schemaResource{
		{[]string{schemaSchema}, schemaUser, "User", "User Account", []attribute{
			{Name: "userName", Type: "string", Required: true, Uniqueness: "server"},
			{Name: "displayName", Type: "string", Required: true},
			{Name: "emails", Type: "complex", MultiValued: true, Required: true},
			{Name: "active", Type: "boolean"},
		}},
		{[]string{schemaSchema}, schemaGroup, "Group", "Group", []attribute{
			{Name: "displayName", Type: "string", Required: true},
			{Name: "members", Type: "complex", MultiValued: true},
		}},
	}, nil
}

func schema(c *web.Call, in nameIn) (*schemaResource, error) {
	all, err := schemas(c, web.None{})
	for i := range all {
		if strings.EqualFold(all[i].ID, in.Name) {
			return &all[i], nil
		}
	}
	if err == nil {
		err = web.Fail(http.StatusNotFound, "Schema "+in.Name+" not found")
	}
	return nil, err
}
