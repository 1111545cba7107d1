package llm

import (
	"bytes"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// Kind is the protocol that a connection speaks.
type Kind string

// The kinds of connections that the settings know.
const (
	KindOpenAI Kind = "openai"
	KindOllama Kind = "ollama"
)

// Connection is one server in the settings.
type Connection struct {
	Kind   Kind
	Index  int    // position in the list of its kind; clients name connections by it (urlIdx, url_idx)
	URL    string // base URL as configured
	Key    string
	Config Config
}

// Config is the object that the settings keep for a connection, at its index or (older databases) its URL.
type Config struct {
	Enable         bool
	PrefixID       string         // put before every model id, with a dot
	Tags           jsontext.Value // given to every model; nil if none
	ModelIDs       []string       // the models to offer; empty: ask the server
	ConnectionType string         // "external" or "local"
	AuthType       string         // "", "bearer", "none", "session", "system_oauth", "azure_ad", "microsoft_entra_id"
	Provider       string         // "", "azure", "llama.cpp", "lmstudio", "litellm", …
	Azure          bool           // azure: true, or Provider "azure"
	APIVersion     string         // Azure api-version
	HasAPIVersion  bool           // api_version is present, perhaps empty
	APIType        string         // "responses" for the Responses API
	ForwardCookies bool
	Headers        []Header // custom headers, with placeholders
	Raw            jsontext.Value
}

// Header is a custom header of a connection; Value may have placeholders such as {{USER_ID}}.
type Header struct{ Name, Value string }

// Settings are the values of the configuration that describe connections. The configs are JSON objects keyed by
// index ("0") or, in older databases, by URL; nil counts as {}.
type Settings struct {
	OpenAIEnable  bool           // openai.enable
	OpenAIURLs    []string       // openai.api_base_urls
	OpenAIKeys    []string       // openai.api_keys; may be shorter or longer than the URLs
	OpenAIConfigs jsontext.Value // openai.api_configs
	OllamaEnable  bool           // ollama.enable
	OllamaURLs    []string       // ollama.base_urls
	OllamaConfigs jsontext.Value // ollama.api_configs
}

// Connections returns the connections of the enabled kinds, also those that are off one by one.
func (s Settings) Connections() []Connection {
	var conns []Connection
	if s.OpenAIEnable {
		configs, _ := rawjson.Parse(s.OpenAIConfigs) // not an object: no configs
		for i, u := range s.OpenAIURLs {
			c := Connection{Kind: KindOpenAI, Index: i, URL: u, Config: ParseConfig(KindOpenAI, lookup(configs, i, u))}
			if i < len(s.OpenAIKeys) {
				c.Key = s.OpenAIKeys[i]
			}
			conns = append(conns, c)
		}
	}
	if s.OllamaEnable {
		configs, _ := rawjson.Parse(s.OllamaConfigs)
		for i, u := range s.OllamaURLs {
			c := Connection{Kind: KindOllama, Index: i, URL: u, Config: ParseConfig(KindOllama, lookup(configs, i, u))}
			c.Key = ollamaKey(configs, i, u)
			conns = append(conns, c)
		}
	}
	return conns
}

func lookup(configs rawjson.Object, i int, key string) jsontext.Value {
	if v := configs.Get(strconv.Itoa(i)); v != nil {
		return v
	}
	return configs.Get(key)
}

// ollamaKey finds the key, which lives in the config object; older databases have it under scheme://host.
func ollamaKey(configs rawjson.Object, i int, raw string) string {
	base := raw
	if u, err := url.Parse(raw); err == nil {
		base = u.Scheme + "://" + u.Host
	}
	for _, v := range []jsontext.Value{lookup(configs, i, base), lookup(configs, i, raw)} {
		if o, err := rawjson.Parse(v); err == nil {
			if key, ok := rawjson.String(o.Get("key")); ok {
				return key
			}
		}
	}
	return ""
}

// ParseConfig reads a connection's config object. Anything but an object gives the defaults; members of a wrong
// type are ignored.
func ParseConfig(kind Kind, raw jsontext.Value) Config {
	c := Config{Enable: true, ConnectionType: "external", Raw: jsontext.Value("{}")}
	if kind == KindOllama {
		c.ConnectionType = "local"
	}
	o, err := rawjson.Parse(raw)
	if err != nil {
		return c
	}
	c.Raw = slices.Clone(raw) // the settings may reuse their buffer
	if v := o.Get("enable"); v != nil {
		c.Enable = rawjson.Truthy(v)
	}
	str := func(dst *string, name string) {
		if s, ok := rawjson.String(o.Get(name)); ok {
			*dst = s
		}
	}
	str(&c.PrefixID, "prefix_id")
	str(&c.ConnectionType, "connection_type")
	str(&c.AuthType, "auth_type")
	str(&c.Provider, "provider")
	str(&c.APIVersion, "api_version")
	str(&c.APIType, "api_type")
	c.HasAPIVersion = o.Has("api_version")
	c.Azure = rawjson.Truthy(o.Get("azure")) || c.Provider == "azure"
	c.ForwardCookies = rawjson.Truthy(o.Get("forward_cookies"))
	if tags := o.Get("tags"); rawjson.Truthy(tags) {
		c.Tags = slices.Clone(tags)
	}
	ids, _ := rawjson.Elems(o.Get("model_ids")) // absent or no array: none
	for _, v := range ids {
		if id, ok := rawjson.String(v); ok {
			c.ModelIDs = append(c.ModelIDs, id)
		}
	}
	headers, _ := rawjson.Parse(o.Get("headers"))
	for _, m := range headers {
		c.Headers = append(c.Headers, Header{m.Name, rawjson.Text(m.Value)})
	}
	return c
}

// ID returns the connection's name in logs and metrics, e.g. "ollama/1".
func (c *Connection) ID() string { return string(c.Kind) + "/" + strconv.Itoa(c.Index) }

// Public returns the id that clients see for one of the connection's models.
func (c *Connection) Public(upstream string) string {
	if c.Config.PrefixID == "" {
		return upstream
	}
	return c.Config.PrefixID + "." + upstream
}

// Upstream returns the server's own name of a model id that clients use.
func (c *Connection) Upstream(id string) string {
	if c.Config.PrefixID == "" {
		return id
	}
	return strings.TrimPrefix(id, c.Config.PrefixID+".")
}

// same reports whether two connections would behave the same.
func (c *Connection) same(d *Connection) bool {
	return c.Kind == d.Kind && c.Index == d.Index && c.URL == d.URL && c.Key == d.Key && bytes.Equal(c.Config.Raw, d.Config.Raw)
}
