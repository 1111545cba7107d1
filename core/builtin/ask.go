package builtin

import (
	"context"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/turn"
)

// Ask is the tool by which models ask people. Chats that are saved wait with the question (see core/turn); here it is
// asked of the page, for those that cannot.
func Ask() Group {
	return Group{Name: "user_input", Tools: []turn.Tool{
		New("ask_user", "Asks the user up to three questions with options to choose from, and waits for the answers. "+
			"Use it where you cannot go on well without knowing what the user wants or prefers. It must be the only tool you call at a time.", ask),
	}}
}

type askIn struct {
	Questions []jsondoc.Doc `json:"questions" about:"one to three objects with id, header, question and options: two or three objects with label and description each, the one you would choose first"`
	Other     bool          `json:"allow_other" default:"true" about:"whether the user may answer in own words instead"`
	Timeout   int           `json:"timeout_ms" default:"120000" about:"how many milliseconds the user has to answer"`
}

func ask(ctx context.Context, c turn.ToolCall, _ askIn) (any, error) {
	asked, err := turn.NewQuestions(c.Arguments)
	if err != nil {
		return failedAsk{"error", err.Error()}, nil
	}
	answer, err := c.Ask(ctx, "request:user_input", asked.Doc())
	switch {
	case err != nil:
		return failedAsk{"error", err.Error()}, nil
	case answer.Kind() != '{':
		return failedAsk{"error", "Invalid user input response."}, nil
	case answer.Get("error").Truthy():
		return failedAsk{"error", answer.Text("error")}, nil
	case answer.Text("status") == "cancelled":
		return answered{"cancelled", jsondoc.Doc("{}")}, nil
	}
	answers := answer.Get("answers")
	if answers == nil {
		answers = jsondoc.Doc("{}")
	}
	return answered{"answered", answers}, nil
}

type failedAsk struct {
	Status string `json:"status"`
	Error  string `json:"error"`
}

type answered struct {
	Status  string      `json:"status"`
	Answers jsondoc.Doc `json:"answers"`
}
