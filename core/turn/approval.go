package turn

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// errWaiting ends a turn that waits for a person's decision on a tool call. The answer goes on with a later request.
var errWaiting = errors.New("a tool call waits for approval")

// refusedUnasked is what models are told of calls that nobody approved of, or could be asked about.
const refusedUnasked = "Error: tool call was not approved."

// AwaitsDecision says whether nobody has decided on a tool call of this status yet.
func AwaitsDecision(status string) bool {
	return status == "pending" || status == "queued" || status == "requires_approval"
}

// CallID is the id of a tool call in an output.
func CallID(item jsondoc.Doc) string {
	if id := item.Text("call_id"); id != "" {
		return id
	}
	return item.Text("id")
}

// OpenCalls are the places of the tool calls in an output that have no result and may still get one: those that run, and
// those that wait for a decision or, decided, for their turn.
func OpenCalls(items []jsondoc.Doc) (at []int) {
	done := map[string]bool{}
	for _, item := range items {
		if item.Text("type") == "function_call_output" {
			done[item.Text("call_id")] = true
		}
	}
	for i, item := range items {
		status := item.Text("status")
		if item.Text("type") == "function_call" && !done[CallID(item)] && (status == "in_progress" || AwaitsDecision(status)) {
			at = append(at, i)
		}
	}
	return at
}

// Continuation is the empty text that stands at the end of an output whose tool calls are all done and that the model is
// to go on with.
func Continuation() jsondoc.Doc { return newText().doc() }

// parseApproval reads whether the user wants to be asked before tools run.
func (e *Engine) parseApproval(t *Turn, mode string) {
	t.askFirst = mode == "ask" && config.ChatToolPermissionsEnable.Get(e.Settings.Snapshot())
}

// pause stores an answer whose calls wait for approval, with all that a later request needs to go on.
func (e *Engine) pause(ctx context.Context, t *Turn, a *answer) error {
	output := a.hold()
	fields := jsondoc.Object("done", jsondoc.Doc("false")).Set(output, "output").Set(t.remembered(), "meta")
	if err := e.Store.Update(ctx, t.chatID, t.messageID, fields, false); err != nil {
		return err
	}
	event := jsondoc.Object("output", output)
	t.em.own("chat:completion", event)
	if t.em.watched() {
		t.em.others("chat:completion", event)
	}
	return errWaiting
}

// hold marks the round's calls that have no result as waiting, the first as the one to be asked about, and gives the output.
func (a *answer) hold() jsondoc.Doc {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
	status := "pending"
	done := map[string]bool{}
	for _, it := range a.items {
		if it.kind == "" {
			done[it.raw.Text("call_id")] = true
		}
	}
	for _, it := range a.items {
		if it.kind == "function_call" && !done[it.callID] {
			it.status, status = status, "queued"
		}
	}
	return outputDoc(a.output())
}

// remembered is what a message keeps of its request until it goes on.
func (t *Turn) remembered() jsondoc.Doc {
	var params jsondoc.Builder
	for _, name := range []string{"stream_delta_chunk_size", "reasoning_tags", "compact_token_threshold"} {
		params.Raw(name, t.params.Get(name))
	}
	params.Raw("function_calling", t.params.Get("function_calling").Or(jsondoc.Doc(`"native"`)))
	mode := "full" // it waits for an answer to ask_user only
	if t.askFirst {
		mode = "ask"
	}
	params.Raw("tool_approval_mode", jsondoc.Text(mode))
	params.Raw("model_controls", t.controls.Or(jsondoc.Doc("{}")))
	session := jsondoc.Doc("null")
	if t.session != "" {
		session = jsondoc.Text(t.session)
	}
	var b jsondoc.Builder
	b.Raw("session_id", session)
	for _, name := range []string{"tool_ids", "skill_ids", "filter_ids", "files"} {
		b.Raw(name, t.asked.Get(name).Or(jsondoc.Doc("[]")))
	}
	b.Raw("terminal_id", t.asked.Get("terminal_id"))
	if len(t.directServers) > 0 {
		b.Raw("tool_servers", jsondoc.Array(t.directServers...))
	} else {
		b.Raw("tool_servers", nil)
	}
	for _, name := range []string{"features", "variables"} {
		b.Raw(name, t.asked.Get(name).Or(jsondoc.Doc("{}")))
	}
	b.Raw("params", params.Done())
	return b.Done()
}

// continuedAtLeast is how long a turn takes that goes on with an answer. Pages show one as running for ever whose end they
// are told of before their request, or decision, is answered, as can be where both take a few milliseconds.
const continuedAtLeast = 250 * time.Millisecond

// wait waits, or until the context ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// resumeCalls runs the calls of an answer that goes on, one after the other, as far as they are approved. It gives
// errWaiting where another still waits for a decision, or already runs.
func (e *Engine) resumeCalls(ctx context.Context, t *Turn) error {
	if t.continued == nil || len(OpenCalls(t.continued.Get("output").List())) == 0 {
		return nil
	}
	for {
		call, err := e.claimCall(ctx, t)
		if err != nil {
			return err
		}
		r := t.tools.newRequest(CallID(call), call.Text("name"), call.Text("arguments"))
		outcomes, err := e.runCalls(ctx, t, []request{r})
		if err != nil {
			e.interruptCall(t, call)
			return err
		}
		more, err := e.settleCall(ctx, t, call, r, outcomes[0].item(r.id))
		if err != nil || !more {
			return err
		}
	}
}

// claimCall marks the next approved call as running and gives it.
func (e *Engine) claimCall(ctx context.Context, t *Turn) (call jsondoc.Doc, err error) {
	err = e.Store.EditMessage(ctx, t.chatID, t.messageID, func(m jsondoc.Doc) (jsondoc.Doc, error) {
		call = nil
		items := m.Get("output").List()
		open := OpenCalls(items)
		if slices.ContainsFunc(open, func(i int) bool { return items[i].Text("status") == "in_progress" }) {
			return nil, errWaiting
		}
		next := slices.IndexFunc(open, func(i int) bool {
			return items[i].Text("name") != askUser && (!t.askFirst || items[i].Bool("approved"))
		})
		switch {
		case next >= 0:
			at := open[next]
			call = items[at].Set(jsondoc.Doc(`"in_progress"`), "status").Set(jsondoc.Text(CallID(items[at])), "call_id")
			items[at] = call
		case len(open) > 0:
			items[open[0]] = items[open[0]].Set(jsondoc.Doc(`"pending"`), "status")
		default:
			return nil, errWaiting // another request has been quicker
		}
		return m.Set(jsondoc.Array(items...), "output").Set(jsondoc.Doc("false"), "done"), nil
	})
	if err == nil && call == nil {
		err = errWaiting
	}
	return call, err
}

// settleCall puts the result of a call behind it. more says that another is to run now; without one the model goes on, or
// errWaiting has the turn end.
func (e *Engine) settleCall(ctx context.Context, t *Turn, call jsondoc.Doc, r request, result *item) (more bool, err error) {
	call = call.Set(jsondoc.Text(result.status), "status")
	if r.arguments != nil {
		call = call.Set(jsondoc.Text(string(r.arguments)), "arguments")
	}
	var waits bool
	err = e.Store.EditMessage(ctx, t.chatID, t.messageID, func(m jsondoc.Doc) (jsondoc.Doc, error) {
		items := settled(m.Get("output").List(), call, result)
		if items == nil {
			return nil, errWaiting
		}
		open := OpenCalls(items)
		undecided := slices.IndexFunc(open, func(i int) bool { return !items[i].Bool("approved") })
		switch {
		case len(open) == 0:
			items = append(items, Continuation())
		case undecided >= 0:
			items[open[undecided]] = items[open[undecided]].Set(jsondoc.Doc(`"pending"`), "status")
		}
		more = len(open) > 0
		waits = more && t.askFirst && !slices.ContainsFunc(open, func(i int) bool { return items[i].Bool("approved") })
		t.continued = m.Set(jsondoc.Array(items...), "output")
		return t.continued, nil
	})
	if err != nil {
		return false, err
	}
	t.em.own("chat:completion", jsondoc.Object("done", jsondoc.Doc("false")).Set(t.continued.Get("output"), "output"))
	if waits {
		return false, errWaiting
	}
	return more, nil
}

// settled are the items with a running call's last state and its result; nil where the call does not run any more.
func settled(items []jsondoc.Doc, call jsondoc.Doc, result *item) []jsondoc.Doc {
	for _, i := range OpenCalls(items) {
		if CallID(items[i]) == CallID(call) && items[i].Text("status") == "in_progress" {
			items[i] = call
			return append(items, result.doc())
		}
	}
	return nil
}

// interruptCall stores that a call was stopped, which ends the answer.
func (e *Engine) interruptCall(t *Turn, call jsondoc.Doc) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	out := outcome{text: "Error: The tool was stopped before it was done. What it has done until then is not known."}
	result := out.item(CallID(call))
	result.raw = result.raw.Set(jsondoc.Doc(`"incomplete"`), "status")
	err := e.Store.EditMessage(ctx, t.chatID, t.messageID, func(m jsondoc.Doc) (jsondoc.Doc, error) {
		items := settled(m.Get("output").List(), call.Set(jsondoc.Doc(`"incomplete"`), "status"), result)
		if items == nil {
			return nil, nil
		}
		return m.Set(jsondoc.Array(items...), "output").Set(jsondoc.Doc("true"), "done"), nil
	})
	if err != nil {
		e.Log.Error("a stopped tool call was not stored", "chat", t.chatID, "error", err)
	}
}
