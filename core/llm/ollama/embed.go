package ollama

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// EmbedRequest turns an OpenAI embeddings request into the body of POST /api/embed.
func EmbedRequest(model string, body jsontext.Value) ([]byte, error) {
	in, err := rawjson.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", llm.ErrBadRequest, err)
	}
	out := rawjson.Object{{Name: "model", Value: rawjson.Quote(model)}, {Name: "input", Value: orJSON(in.Get("input"), "null")}}
	for _, name := range []string{"truncate", "options", "keep_alive"} {
		if v := in.Get(name); v != nil {
			out.Set(name, v)
		}
	}
	return out.JSON(), nil
}

// EmbedResponse turns the answer of /api/embed or /api/embeddings into OpenAI's list; anything else is returned
// as it is.
func EmbedResponse(raw []byte) []byte {
	in, err := rawjson.Parse(raw)
	if err != nil {
		return raw
	}
	var vectors []jsontext.Value
	switch {
	case in.Has("embeddings"):
		vectors, _ = rawjson.Elems(in.Get("embeddings")) // null: none
	case in.Has("embedding"):
		vectors = []jsontext.Value{in.Get("embedding")}
	default:
		return raw
	}
	data := make([]jsontext.Value, len(vectors))
	for i, v := range vectors {
		index := jsontext.Value(strconv.Itoa(i))
		if o, err := rawjson.Parse(v); err == nil { // some servers wrap each vector in an object
			v, index = orJSON(o.Get("embedding"), "null"), orJSON(o.Get("index"), strconv.Itoa(i))
		}
		data[i] = rawjson.Object{
			{Name: "object", Value: jsontext.Value(`"embedding"`)}, {Name: "embedding", Value: v}, {Name: "index", Value: index},
		}.JSON()
	}
	return rawjson.Object{
		{Name: "object", Value: jsontext.Value(`"list"`)}, {Name: "data", Value: rawjson.Array(data)},
		{Name: "model", Value: orJSON(in.Get("model"), "null")},
	}.JSON()
}
