package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Plugin is what a program offers. ID and Version are needed, the rest as wanted; do not change it once it is served.
type Plugin struct {
	// ID names the plugin in addresses and settings: lower case letters, digits, "-" and "_", at most 64.
	ID string
	// Version is the plugin's own release, e.g. "1.2.0".
	Version string
	// Name and Description are for people. Name "" means the ID.
	Name, Description string

	// HTTP answers requests below /api/v1/plugins/ID and other prefixes that the operator grants. It sees paths with the
	// prefix taken off (the header X-Forwarded-Prefix has it) and may stream, flush, send trailers and upgrade to
	// WebSockets.
	HTTP http.Handler
	// Routes says which paths of HTTP there are and who may call them. None: every path, for all accounts.
	Routes []Route

	// LLM serves models. If it is an [Embedder] too, they can make embeddings.
	LLM LLM
	// Filter looks at chats on their way to a model and back.
	Filter *Filter
	// Tools are for models to call.
	Tools []Tool

	// Config is what operators and administrators may set: a [*Config], made by [NewConfig].
	Config Configurable
	// Wants names the grants without which the plugin is of no use: "kv", "users", "models", "files", "events".
	Wants []string

	// Start is called once the plugin is connected and configured, before any other call. ctx ends when the plugin is to
	// stop; work in the background goes on until then. An error refuses the plugin.
	Start func(ctx context.Context) error
	// Stop is called at the end of the process, which comes two seconds later at most.
	Stop func()
	// Check tells the plugin's health: nil is healthy; an error made by [Degraded] is shown to administrators; any other
	// has the process started anew.
	Check func(ctx context.Context) error
	// Metrics answers with Prometheus' text format, as promhttp.Handler does. Galley adds the label plugin.
	Metrics http.Handler
}

// Access says who may call a route.
type Access int

// Who may call a route.
const (
	Verified Access = iota // accounts that are not pending
	Public                 // anybody; the caller is told where credentials are sent
	Admin                  // administrators
)

// Route is one address of a plugin.
type Route struct {
	// Pattern is "GET /items/{id}" as in http.ServeMux, the method being optional.
	Pattern string
	Access  Access
	// Permission is a permission of Galley's, such as "features.notes", that callers need besides; "" for none.
	Permission string
	// Summary is one line for the description of the API.
	Summary string
	// OpenAPI is an OpenAPI operation object with parameters, requestBody and responses; nil for none.
	OpenAPI []byte
}

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// ValidID says whether a text can be the ID of a plugin.
func ValidID(id string) bool { return idPattern.MatchString(id) }

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// check says what is wrong with a declaration.
func (p *Plugin) check() error {
	switch {
	case !ValidID(p.ID):
		return fmt.Errorf("sdk: ID %q is not of lower case letters, digits, - and _, at most 64", p.ID)
	case p.Version == "":
		return errors.New("sdk: Version is empty")
	case p.HTTP == nil && len(p.Routes) > 0:
		return errors.New("sdk: Routes without HTTP")
	}
	if err := checkRoutes(p.Routes); err != nil {
		return err
	}
	for i, t := range p.Tools {
		switch {
		case !toolName.MatchString(t.Name):
			return fmt.Errorf("sdk: tool name %q is not of letters, digits, - and _, at most 64", t.Name)
		case t.Call == nil:
			return fmt.Errorf("sdk: tool %q has no Call", t.Name)
		case t.Parameters != nil && !json.Valid(t.Parameters):
			return fmt.Errorf("sdk: the parameters of tool %q are not JSON", t.Name)
		case slices.ContainsFunc(p.Tools[:i], func(o Tool) bool { return o.Name == t.Name }):
			return fmt.Errorf("sdk: two tools are named %q", t.Name)
		}
	}
	return nil
}

// checkRoutes says what ServeMux would of the patterns: which it cannot read, and which are for the same requests.
func checkRoutes(routes []Route) error {
	mux := http.NewServeMux()
	for _, r := range routes {
		method, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			method, path = "", r.Pattern
		}
		if path = strings.TrimSpace(path); !strings.HasPrefix(path, "/") {
			return fmt.Errorf("sdk: the path of route %q does not begin with /", r.Pattern)
		}
		if err := handle(mux, strings.TrimSpace(method+" "+path)); err != nil {
			return fmt.Errorf("sdk: route %q: %w", r.Pattern, err)
		}
		if r.OpenAPI != nil && !json.Valid(r.OpenAPI) {
			return fmt.Errorf("sdk: the OpenAPI of route %q is not JSON", r.Pattern)
		}
	}
	return nil
}

// handle adds a pattern to a mux, which panics where it cannot.
func handle(mux *http.ServeMux, pattern string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return nil
}

// Degraded makes an error for [Plugin.Check] that says: it works, but this is wrong.
func Degraded(text string) error { return &degraded{text} }

type degraded struct{ text string }

func (d *degraded) Error() string { return d.text }
