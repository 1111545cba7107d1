// Package models is the list of models that people see: what the providers serve, workspace models on top of them, and
// arenas; and who may use which.
package models

import (
	"context"
	"errors"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
)

// ErrNotFound is the answer for models that are unknown, and for those the caller may not use: nobody learns which.
var ErrNotFound = errors.New("Model not found") //nolint:staticcheck // the text is what clients see

// Row is a row of the table "model": a workspace model, or the settings of a provider's model (no base). Times are Unix
// seconds.
type Row struct {
	ID          string
	UserID      string
	BaseModelID *string
	Name        string
	Params      jsondoc.Doc
	Meta        jsondoc.Doc
	IsActive    bool
	UpdatedAt   int64
	CreatedAt   int64
	VersionID   *string
}

// Model is an entry of the list.
type Model struct {
	ID      string
	Name    string
	OwnedBy string      // "openai", "ollama", "arena" or a plugin's choice
	Entry   jsondoc.Doc // the object in GET /api/models
	Row     *Row        // nil where the table has none
	Arena   *Arena      // of OwnedBy "arena"
	Base    *llm.Model  // the provider's model behind it; nil for arenas and where the base is missing
}

// Arena is a blind comparison: a chat with it goes to one of its models, chosen at random.
type Arena struct {
	ModelIDs []string // none means all
	Exclude  bool     // all but ModelIDs
}

// Meta is the meta object of the model's row, or of its entry's info.
func (m *Model) Meta() jsondoc.Doc {
	if m.Row != nil {
		return m.Row.Meta
	}
	return m.Entry.Get("info", "meta")
}

// Params are the params of the model's row.
func (m *Model) Params() jsondoc.Doc {
	if m.Row != nil {
		return m.Row.Params
	}
	return nil
}

// BaseID is the id of the base model of a workspace model, "" for others.
func (m *Model) BaseID() string {
	if m.Row == nil || m.Row.BaseModelID == nil {
		return ""
	}
	return *m.Row.BaseModelID
}

// Finder is how a chat turn sees the list.
type Finder interface {
	// Find gives a model of the kept list; if there is no list yet the providers are asked.
	Find(ctx context.Context, caller *llm.Caller, id string) (*Model, bool)
	// All is the kept list, in order.
	All(ctx context.Context, caller *llm.Caller) []*Model
	// Access says whether the user may chat with a model: nil or ErrNotFound. Administrators may, unless the operator
	// says otherwise.
	Access(ctx context.Context, p *auth.Principal, m *Model) error
	// Target resolves what a model's requests go to: its base model's provider.
	Target(ctx context.Context, caller *llm.Caller, m *Model) (llm.Target, error)
}
