package ollama

import (
	"errors"
	"testing"

	"github.com/galleychat/galley/core/llm"
)

func TestEmbed(t *testing.T) {
	got, err := EmbedRequest("m", []byte(`{"model":"x.m","input":["a","b"],"truncate":true,"encoding_format":"float"}`))
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "request", string(got), `{"model":"m","input":["a","b"],"truncate":true}`)
	if _, err := EmbedRequest("m", []byte(`[]`)); !errors.Is(err, llm.ErrBadRequest) {
		t.Errorf("got %v", err)
	}
	for in, want := range map[string]string{
		`{"model":"m","embeddings":[[1,2],[3.5]]}`:                 `{"object":"list","model":"m","data":[{"object":"embedding","embedding":[1,2],"index":0},{"object":"embedding","embedding":[3.5],"index":1}]}`,
		`{"embedding":[1]}`:                                        `{"object":"list","model":null,"data":[{"object":"embedding","embedding":[1],"index":0}]}`,
		`{"embeddings":[{"embedding":[1],"index":4}],"model":"m"}`: `{"object":"list","model":"m","data":[{"object":"embedding","embedding":[1],"index":4}]}`,
		`{"object":"list","data":[]}`:                              `{"object":"list","data":[]}`,
		`[1]`:                                                      `[1]`,
	} {
		sameJSON(t, in, string(EmbedResponse([]byte(in))), want)
	}
}
