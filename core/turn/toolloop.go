package turn

import (
	"context"
	"fmt"
	"slices"

	"github.com/galleychat/galley/core/jsondoc"
)

// runTools runs the tools that the model has called and asks it again with their results, until it answers without a
// call or the operator's limit of rounds is reached. A failure on the way ends the answer, which keeps what there is.
func (e *Engine) runTools(ctx context.Context, t *Turn, a *answer) error {
	history := openMessages(t.form.Get("messages"))
	for round := 0; ; round++ {
		calls := a.endRound()
		if len(calls) == 0 || a.failed != nil { // a filter that ends an answer may do so for its calls
			return nil
		}
		if limit := e.Env.Chat.MaxToolCalls; limit >= 0 && round >= limit {
			return e.note(ctx, t, errText(fmt.Sprintf("The limit on rounds of tool calls is reached (%d).", limit)))
		}
		if err := e.runRound(ctx, t, a, calls); err != nil {
			return err
		}
		history = append(history, a.roundMessages(t.reasoningFormat())...)
		a.beginRound()
		if err := e.askAgain(ctx, t, a, history); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return e.note(ctx, t, err)
		}
	}
}

// runRound runs the calls of one round. They are shown and stored before they run, and with their results.
func (e *Engine) runRound(ctx context.Context, t *Turn, a *answer, calls []*item) error {
	saved := savedChat(t.chatID)
	calls, asks := a.stageQuestions(t.tools, calls, saved)
	if asks || saved && t.askFirst && len(calls) > 0 {
		return e.pause(ctx, t, a)
	}
	a.showRound()
	e.saveProgress(ctx, t, a)
	requests := make([]request, len(calls))
	for i, c := range calls {
		requests[i] = t.tools.newRequest(c.callID, c.name, string(c.text))
	}
	outcomes, err := e.runCalls(ctx, t, requests)
	if err != nil {
		return err
	}
	a.addOutcomes(calls, requests, outcomes)
	a.showRound()
	e.saveProgress(ctx, t, a)
	return nil
}

// askAgain has the model go on with the results of its calls.
func (e *Engine) askAgain(ctx context.Context, t *Turn, a *answer, history []message) error {
	form := t.form.Clone()
	form.Set("stream", jsondoc.Doc("true"))
	e.inlineAll(ctx, t, history)
	form.Set("messages", closeMessages(history))
	resp, err := e.send(ctx, t, form)
	if err != nil {
		return err
	}
	return e.read(ctx, t, resp, a)
}

// note stores and shows a failure in the midst of an answer, which then ends with what there is.
func (e *Engine) note(ctx context.Context, t *Turn, err error) error {
	e.Log.WarnContext(ctx, "chat turn cut short", "chat", t.chatID, "model", t.modelID, "error", err)
	fields := jsondoc.Object("error", jsondoc.Object("content", jsondoc.Text(failureText(err))))
	if savedChat(t.chatID) {
		if err := e.Store.Update(ctx, t.chatID, t.messageID, fields, true); err != nil {
			return err
		}
	}
	t.em.emit("chat:message:error", fields)
	return nil
}

// endRound ends what the model said in one go and gives the calls in it, in order. Each call is complete now.
func (a *answer) endRound() []*item {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
	a.tidy()
	var calls []*item
	for i, it := range a.items {
		it.settle()
		if call := it.callOf(); call != nil { // which the provider has said is complete
			a.items[i] = call
			calls = append(calls, call)
			continue
		}
		if it.kind != "function_call" {
			continue
		}
		it.status = "completed"
		a.argumentsDone(i, it)
		a.event("response.output_item.done", i, it.doc())
		calls = append(calls, it)
	}
	return a.splitCalls(calls)
}

// argumentsDone says that the arguments of a call have come to their end.
func (a *answer) argumentsDone(index int, it *item) {
	if a.continuing {
		a.em.own("chat:completion", a.wholeWithout())
		return
	}
	var b jsondoc.Builder
	b.Raw("type", jsondoc.Doc(`"response.function_call_arguments.done"`))
	b.Raw("item_id", jsondoc.Text(it.id))
	b.Add("output_index", index+len(a.prior))
	b.Raw("arguments", jsondoc.Text(string(it.text)))
	a.em.own("response:completion", b.Done())
}

// splitCalls makes several calls of those whose arguments are several objects, one behind the other.
func (a *answer) splitCalls(calls []*item) []*item {
	var out []*item
	for _, c := range calls {
		out = append(out, c)
		parts := splitArguments(string(c.text))
		for i, part := range parts {
			if i == 0 {
				c.text = []byte(part)
				continue
			}
			more := newCall(outputID("call"), c.name)
			more.text, more.status = []byte(part), "in_progress"
			a.items = append(a.items, more)
			out = append(out, more)
		}
	}
	return out
}

// showRound sends all items of the round as they are now.
func (a *answer) showRound() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
	if a.continuing {
		a.em.own("chat:completion", a.wholeShown().Set(jsondoc.Doc("true"), "flush"))
	} else {
		for i, it := range a.items {
			a.event("response.output_item.done", i, it.shown())
		}
	}
	a.showOthers(true)
}

// wholeShown is {"output": …} as pages see it.
func (a *answer) wholeShown() jsondoc.Doc {
	items := a.output()
	docs := make([]jsondoc.Doc, len(items))
	for i, it := range items {
		docs[i] = it.shown()
	}
	return jsondoc.Object("output", jsondoc.Array(docs...))
}

// shown is the item as pages see it: without the images of tool results, which are for the model.
func (i *item) shown() jsondoc.Doc {
	d := i.doc()
	if i.kind != "" || d.Text("type") != "function_call_output" {
		return d
	}
	parts := slices.DeleteFunc(d.Get("output").List(), func(p jsondoc.Doc) bool { return p.Text("type") == "input_image" })
	return d.Set(jsondoc.Array(parts...), "output")
}

// addOutcomes puts the outcomes of calls behind them.
func (a *answer) addOutcomes(calls []*item, requests []request, outcomes []outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, c := range calls {
		result := outcomes[i].item(c.callID)
		c.status = result.status
		if requests[i].arguments != nil {
			c.text = []byte(requests[i].arguments)
		}
		a.items = append(a.items, result)
	}
}

// roundMessages is the round in the form in which the model reads it back.
func (a *answer) roundMessages(reasoning string) []message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return messagesOfOutput(outputDoc(a.items), reasoning, true)
}

// beginRound makes room for what the model says next.
func (a *answer) beginRound() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prior = a.output()
	a.items, a.calls, a.finish = nil, nil, ""
}
