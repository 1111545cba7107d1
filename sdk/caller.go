package sdk

import (
	"context"
	"encoding/json"
	"net/http"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// CallerHeader is the header in which Galley tells a plugin's HTTP server who calls: a JSON object of ASCII. Galley
// removes it from what clients send.
const CallerHeader = "Galley-Caller"

// Caller is the account a call is made for. The zero value is a stranger, or the server itself.
type Caller struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Email  string  `json:"email"`
	Role   string  `json:"role"` // "admin", "user" or "pending"
	Groups []Group `json:"groups,omitempty"`
}

// Group is a group that the caller is in.
type Group struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Anonymous says that there is no account.
func (c Caller) Anonymous() bool { return c.ID == "" }

// IsAdmin says whether the caller is an administrator.
func (c Caller) IsAdmin() bool { return c.Role == "admin" }

// Meta is what a call belongs to; every field may be empty.
type Meta struct {
	Caller    Caller
	RequestID string
	ChatID    string
	MessageID string
	SessionID string // of the browser
	Model     string // as clients name it
	Kind      string // "chat", "task" or "proxy"
	Task      string // "title_generation" and the like
}

type contextKey int

const (
	metaKey contextKey = iota
	hostKey
)

// MetaFrom gives what a call belongs to.
func MetaFrom(ctx context.Context) Meta {
	m, _ := ctx.Value(metaKey).(*Meta)
	if m == nil {
		return Meta{}
	}
	return *m
}

// CallerFrom gives who a call is made for.
func CallerFrom(ctx context.Context) Caller { return MetaFrom(ctx).Caller }

// WithMeta is a context with a meta, for tests of handlers.
func WithMeta(ctx context.Context, m Meta) context.Context {
	return context.WithValue(ctx, metaKey, &m)
}

// WithHost is a context with the services of a host, for tests of handlers.
func WithHost(ctx context.Context, h *Host) context.Context {
	return context.WithValue(ctx, hostKey, h)
}

// HostFrom gives the services that Galley offers to the plugin; nil outside of calls.
func HostFrom(ctx context.Context) *Host {
	h, _ := ctx.Value(hostKey).(*Host)
	return h
}

func callerOf(c *pb.Caller) Caller {
	out := Caller{ID: c.GetId(), Name: c.GetName(), Email: c.GetEmail(), Role: c.GetRole()}
	for _, g := range c.GetGroups() {
		out.Groups = append(out.Groups, Group{ID: g.GetId(), Name: g.GetName()})
	}
	return out
}

func metaOf(m *pb.Meta) Meta {
	return Meta{
		Caller: callerOf(m.GetCaller()), RequestID: m.GetRequestId(), ChatID: m.GetChatId(), MessageID: m.GetMessageId(),
		SessionID: m.GetSessionId(), Model: m.GetModel(), Kind: m.GetKind(), Task: m.GetTask(),
	}
}

// requestMeta reads what Galley says of an HTTP request.
func requestMeta(r *http.Request) Meta {
	m := Meta{RequestID: r.Header.Get("X-Request-Id")}
	if text := r.Header.Get(CallerHeader); text != "" {
		_ = json.Unmarshal([]byte(text), &m.Caller) // Galley wrote it; what cannot be read is a stranger
	}
	return m
}
