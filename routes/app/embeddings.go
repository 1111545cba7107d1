package app

import (
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/embedding"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/web"
)

// embeddings has a model's provider embed texts. The request is OpenAI's; for Ollama it is translated.
func (m *Module) embeddings(c *web.Call, in bodyIn) (any, error) {
	ctx, caller := c.Context(), m.caller(c)
	body := in.Body.Doc()
	t, err := models.Usable(ctx, m.Models, c.Principal, caller, body.Text("model"))
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, models.ErrNotFound.Error(), err)
	}
	answer, err := embedding.Create(ctx, t, body, caller)
	switch {
	case errors.Is(err, llm.ErrBadRequest):
		return nil, web.Because(http.StatusBadRequest, "There was an error parsing the body", err)
	case err != nil:
		return providerAnswer(err)
	}
	return answer, nil
}
