package evaluations

import (
	"testing"

	"github.com/galleychat/galley/core/relay/relaytest"
)

// step is a call and what it is answered with.
type step struct {
	Who, Call, Body string
	Status          int
	Want            string
}

func TestConfig(t *testing.T) {
	b := relaytest.New(t)
	b.Router.Mount("/evaluations", New(Deps{Settings: b.Settings}))
	b.Router.Finish()
	relaytest.Run(b, []step{
		{"ann", "GET /evaluations/config", "", 401, ""},
		{"admin", "POST /evaluations/config", `{"EVALUATION_ARENA_MODELS":"x"}`, 422, "list_type"},
		{"admin", "POST /evaluations/config", `{"ENABLE_EVALUATION_ARENA_MODELS":true,"EVALUATION_ARENA_MODELS":[{"id":"a","name":"A","meta":{"x":1}}]}`, 200,
			`{"ENABLE_EVALUATION_ARENA_MODELS":true,"EVALUATION_ARENA_MODELS":[{"id":"a","name":"A","meta":{"x":1}}]}`},
		{"admin", "POST /evaluations/config", `{"ENABLE_EVALUATION_ARENA_MODELS":null}`, 200, `"id":"a"`},
		{"admin", "GET /evaluations/config", "", 200, `"ENABLE_EVALUATION_ARENA_MODELS":true`},
	})
}
