// Package evaluations serves /api/v1/evaluations: so far the settings of arenas, in which models are compared blindly.
package evaluations

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Settings *config.Settings
	Events   *events.Bus
}

// Module is the tag evaluations of the API.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "evaluations" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /config", web.JSON(auth.Admin, m.config))
	g.Add("POST /config", web.JSON(auth.Admin, m.update))
}

type settings struct {
	Enable jsondoc.Doc `json:"ENABLE_EVALUATION_ARENA_MODELS"`
	Models jsondoc.Doc `json:"EVALUATION_ARENA_MODELS"`
}

func (m *Module) config(*web.Call, web.None) (settings, error) {
	s := m.Settings.Snapshot()
	return settings{jsondoc.Doc(config.EvaluationArenaEnable.Raw(s)), jsondoc.Doc(config.EvaluationArenaModels.Raw(s))}, nil
}

type updateIn struct {
	Body struct {
		Enable web.Opt[bool]       `json:"ENABLE_EVALUATION_ARENA_MODELS"`
		Models web.Opt[[]web.Dict] `json:"EVALUATION_ARENA_MODELS"`
	}
}

func (m *Module) update(c *web.Call, in updateIn) (settings, error) {
	changes, keys := config.Changes{}, []string{}
	if in.Body.Enable.Has() {
		changes[config.EvaluationArenaEnable.Key()] = in.Body.Enable.V
		keys = append(keys, config.EvaluationArenaEnable.Key())
	}
	if in.Body.Models.Has() {
		changes[config.EvaluationArenaModels.Key()] = jsontext.Value(jsondoc.Of(in.Body.Models.V))
		keys = append(keys, config.EvaluationArenaModels.Key())
	}
	if err := m.Settings.Set(c.Context(), changes); err != nil {
		return settings{}, err
	}
	out, err := m.config(c, web.None{})
	m.Events.Publish(c.Context(), events.Event{Name: "config.updated", Actor: c.Principal.User, SubjectID: "evaluation",
		Data: events.Pairs{"keys", keys, "arena_enabled", out.Enable, "arena_model_count", out.Models.Len()}})
	return out, err
}
