package ollama

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// NativeParams puts the parameters of a workspace model into a body of POST /api/chat: as options, under those that are
// there, but for the few that stand beside them.
func NativeParams(body, params jsontext.Value) ([]byte, error) {
	out, err := rawjson.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", llm.ErrBadRequest, err)
	}
	if len(params) == 0 {
		return body, nil
	}
	options, _ := rawjson.Parse(out.Get("options")) // absent or null: none
	applyParams(params, &options, &out)
	if len(options) > 0 {
		out.Set("options", options.JSON())
	}
	return out.JSON(), nil
}
