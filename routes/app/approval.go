package app

import (
	"net/http"
	"slices"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
)

// decision is what a person decided on a tool call, and what comes of it.
type decision struct {
	form          *resolveIn
	caller, owner string

	output  jsondoc.Doc // of the message, once decided
	message jsondoc.Doc // as stored then
	resume  bool        // nothing waits any more
}

// apply changes the message; it runs under the chat's lock.
func (d *decision) apply(message jsondoc.Doc) (jsondoc.Doc, error) {
	f := &d.form.Body
	if authorOf(message, d.owner) != d.caller {
		return nil, web.Fail(http.StatusForbidden, web.TextProhibited)
	}
	output := message.Get("output")
	if output.Truthy() && output.Kind() != '[' {
		return nil, web.Fail(http.StatusBadRequest, "Message has no resolvable output.")
	}
	items := output.List()
	at := slices.IndexFunc(items, func(item jsondoc.Doc) bool {
		return item.Text("type") == "function_call" && turn.CallID(item) == f.CallID
	})
	if at < 0 {
		return nil, web.Fail(http.StatusNotFound, "Tool call not found.")
	}
	call := items[at]
	if call.Get("call_id") == nil {
		call = call.Set(jsondoc.Text(f.CallID), "call_id")
	}
	if !turn.AwaitsDecision(call.Text("status")) || call.Bool("approved") || slices.ContainsFunc(items, func(item jsondoc.Doc) bool {
		return item.Text("type") == "function_call_output" && item.Text("call_id") == f.CallID
	}) {
		return nil, web.Fail(http.StatusConflict, "Tool call has already been resolved.")
	}
	active := slices.ContainsFunc(turn.OpenCalls(items), func(i int) bool { return items[i].Bool("approved") || items[i].Text("status") == "in_progress" })
	call, result, err := d.decide(call)
	if err != nil {
		return nil, err
	}
	items[at] = call
	if result != nil {
		items = append(items, result)
	}
	if !active {
		items = d.goOn(items)
	}
	d.output = jsondoc.Array(items...)
	d.message = message.Set(d.output, "output").Set(jsondoc.Doc("false"), "done").Set(jsondoc.Text(d.form.MessageID), "id")
	return d.message, nil
}

// decide gives the call as decided, and its result where the decision is one.
func (d *decision) decide(call jsondoc.Doc) (decided, result jsondoc.Doc, err error) {
	f := &d.form.Body
	asks := call.Text("name") == "ask_user"
	switch {
	case f.Action == "approve" && asks:
		return nil, nil, web.Fail(http.StatusBadRequest, "ask_user requires an answer or deny.")
	case f.Action == "approve":
		return call.Set(jsondoc.Doc(`"queued"`), "status").Set(jsondoc.Doc("true"), "approved"), nil, nil
	case f.Action == "reject":
		return call.Set(jsondoc.Doc(`"rejected"`), "status"), d.result("rejected", "Error: tool call rejected by user."), nil
	case !asks:
		return nil, nil, web.Fail(http.StatusBadRequest, "Tool call does not accept answers.")
	case f.Answers.V.IsNull() && !f.TimedOut:
		return nil, nil, web.Fail(http.StatusBadRequest, "Answers are required for ask_user.")
	}
	text := `{"status":"cancelled","answers":{},"timed_out":true}`
	if !f.TimedOut {
		answers := f.Answers.V
		if !answers.Truthy() {
			answers = jsondoc.Doc("{}")
		}
		text = string(jsondoc.Object("status", jsondoc.Doc(`"answered"`)).Set(turn.Compact(answers), "answers"))
	}
	return call.Set(jsondoc.Doc(`"completed"`), "status"), d.result("completed", text), nil
}

func (d *decision) result(status, text string) jsondoc.Doc {
	id := d.form.Body.CallID
	var b jsondoc.Builder
	b.Raw("type", jsondoc.Doc(`"function_call_output"`))
	b.Raw("id", jsondoc.Text("fco_"+id))
	b.Raw("call_id", jsondoc.Text(id))
	b.Raw("output", jsondoc.Array(jsondoc.Object("type", jsondoc.Doc(`"input_text"`)).Set(jsondoc.Text(text), "text")))
	b.Raw("status", jsondoc.Text(status))
	return b.Done()
}

// goOn says what is next while no call runs: the approved call, the model, or the next question.
func (d *decision) goOn(items []jsondoc.Doc) []jsondoc.Doc {
	waiting := turn.OpenCalls(items)
	switch {
	case d.form.Body.Action == "approve":
		d.resume = true
	case len(waiting) == 0:
		d.resume = true
		items = append(items, turn.Continuation())
	default:
		items[waiting[0]] = items[waiting[0]].Set(jsondoc.Doc(`"pending"`), "status")
	}
	return items
}
