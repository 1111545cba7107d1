package openai

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// NativeParams puts the parameters of a workspace model into a request in OpenAI's form, where it does not have them.
func NativeParams(body, params jsontext.Value) ([]byte, error) {
	out, err := rawjson.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", llm.ErrBadRequest, err)
	}
	applyParams(&out, params)
	return out.JSON(), nil
}
