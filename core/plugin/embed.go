package plugin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

var _ llm.Embedder = (*provider)(nil)

// Embed implements llm.Embedder.
func (p *provider) Embed(ctx context.Context, model string, request jsontext.Value, caller *llm.Caller) (answer jsontext.Value, err error) {
	texts, err := inputs(jsondoc.Doc(request).Get("input"))
	if err != nil {
		return nil, err
	}
	inst, err := p.u.call()
	if err != nil {
		return nil, p.absent()
	}
	defer inst.release()
	done := inst.series.call("embed")
	defer func() { done(err) }()
	asked := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, inst.limits().response(), errSlow)
	defer cancel()
	resp, err := inst.llm.Embed(ctx, &pb.EmbedRequest{Meta: metaOf(caller), Model: model, Input: texts})
	if err != nil {
		switch {
		case context.Cause(ctx) == errSlow:
			err = errSlow
		case status.Code(err) == codes.Unimplemented:
			return nil, llm.DetailError(http.StatusBadRequest, "The provider of this model makes no embeddings", err)
		}
		return nil, p.failure(asked, err)
	}
	if got := len(resp.GetEmbeddings()); got != len(texts) {
		return nil, p.failure(asked, fmt.Errorf("the plugin %s made %d embeddings of %d texts", p.id, got, len(texts)))
	}
	return embeddingList(model, resp), nil
}

// inputs are the texts of an embeddings request: one, or a list.
func inputs(d jsondoc.Doc) ([]string, error) {
	if text, ok := d.AsText(); ok {
		return []string{text}, nil
	}
	var out []string
	if d.Kind() == '[' {
		for _, item := range d.List() {
			text, ok := item.AsText()
			if !ok {
				out = nil
				break
			}
			out = append(out, text)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: input is neither a text nor a list of texts", llm.ErrBadRequest)
	}
	return out, nil
}

// embeddingList is an answer in OpenAI's form.
func embeddingList(model string, resp *pb.EmbedResponse) jsontext.Value {
	type item struct {
		Object    string    `json:"object"`
		Embedding []float32 `json:"embedding"`
		Index     int       `json:"index"`
	}
	type usage struct {
		Prompt int64 `json:"prompt_tokens"`
		Total  int64 `json:"total_tokens"`
	}
	list := make([]item, len(resp.GetEmbeddings()))
	for i, e := range resp.GetEmbeddings() {
		list[i] = item{"embedding", e.GetValues(), i}
	}
	var b jsondoc.Builder
	b.Add("object", "list")
	b.Add("data", list)
	b.Add("model", model)
	b.Add("usage", usage{resp.GetPromptTokens(), resp.GetPromptTokens()})
	return jsontext.Value(b.Done())
}
