package turn

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store/chats"
	"github.com/galleychat/galley/core/web"
)

// answer reads the model's answer, stores it and tells of it. For a whole answer it returns its document.
func (e *Engine) answer(ctx context.Context, t *Turn, resp *llm.Response, tk *task) (jsondoc.Doc, error) {
	if !resp.Stream {
		defer resp.Close()
		return e.wholeAnswer(ctx, t, jsondoc.Doc(resp.JSON()))
	}
	a := e.newAnswer(t)
	if tk != nil {
		e.running.setAnswer(tk, a)
	}
	if err := e.tellPicked(ctx, t); err != nil {
		return nil, err
	}
	if err := e.tellSources(ctx, t); err != nil {
		return nil, err
	}
	err := e.read(ctx, t, resp, a)
	if err == nil {
		err = e.runTools(ctx, t, a)
	}
	if err != nil {
		switch {
		case errors.Is(err, errWaiting):
		case errors.Is(context.Cause(ctx), errStopped):
			e.stopped(t, a)
		case a.read():
			e.brokenOff(t, a)
		}
		return nil, err
	}
	output := a.close("completed")
	t.finishReason = a.finish
	return nil, e.finish(ctx, t, output, a.usage, a.failed)
}

func (e *Engine) newAnswer(t *Turn) *answer {
	a := &answer{em: t.em, size: t.deltaSize, continuing: t.assistantID != ""}
	switch tags := t.reasoningTags; {
	case string(tags) == "false":
	case tags.Kind() == '[' && tags.Len() == 2:
		pair := tags.Texts()
		if len(pair) == 2 && pair[0] != "" && pair[1] != "" {
			a.tags = []tag{{pair[0], pair[1]}}
		}
	default:
		a.tags = reasoningTags
	}
	if a.continuing {
		a.prior = priorOutput(t.continued)
	}
	return a
}

// priorOutput is the output of an answer that goes on; one that has only text gets an item for it.
func priorOutput(m jsondoc.Doc) []*item {
	items := carried(m.Get("output"))
	if len(items) == 0 {
		if text := m.Text("content"); text != "" {
			it := newText()
			it.append(text)
			items = carried(jsondoc.Array(it.doc()))
		}
		return items
	}
	last := items[len(items)-1]
	if last.raw.Text("type") == "message" && last.status == "in_progress" && chats.OutputText(jsondoc.Array(last.raw)) == "" {
		items = items[:len(items)-1]
	}
	return items
}

// read takes in the stream. While it goes on the answer is stored from time to time, so that little is lost if the
// server dies.
func (e *Engine) read(ctx context.Context, t *Turn, resp *llm.Response, a *answer) error {
	saved := time.Now()
	for c, err := range resp.Chunks() {
		if err != nil {
			return err
		}
		failedBefore := a.failed != nil
		a.add(c)
		e.storeTold(ctx, t, a)
		if c.Images != nil {
			e.showImages(ctx, t, jsondoc.Doc(c.Images))
		}
		if c.SelectedModelID != "" && savedChat(t.chatID) {
			if err := e.Store.Update(ctx, t.chatID, t.messageID, jsondoc.Object("selectedModelId", jsondoc.Text(c.SelectedModelID)), false); err != nil {
				return err
			}
		}
		if a.failed != nil && !failedBefore && savedChat(t.chatID) {
			if err := e.Store.Update(ctx, t.chatID, t.messageID, jsondoc.Object("error", jsondoc.Object("content", a.failed)), true); err != nil {
				return err
			}
		}
		if time.Since(saved) > e.SaveEvery {
			saved = time.Now()
			e.saveProgress(ctx, t, a)
		}
	}
	return context.Cause(ctx)
}

// storeTold stores what the provider has told of its answer, such as the pages it cites.
func (e *Engine) storeTold(ctx context.Context, t *Turn, a *answer) {
	for _, ev := range a.toStore() {
		if !savedChat(t.chatID) {
			continue
		}
		if err := e.Store.SaveEvent(ctx, t.chatID, t.messageID, ev.kind, ev.data); err != nil {
			e.Log.WarnContext(ctx, "an event of an answer was not stored", "chat", t.chatID, "event", ev.kind, "error", err)
		}
	}
}

// saveProgress stores an answer as far as it has come.
func (e *Engine) saveProgress(ctx context.Context, t *Turn, a *answer) {
	if !savedChat(t.chatID) {
		return
	}
	output, text := a.snapshot()
	if err := e.Store.Progress(ctx, t.chatID, t.messageID, jsondoc.Object("output", output).Set(jsondoc.Text(text), "content")); err != nil {
		e.Log.WarnContext(ctx, "an answer in progress was not stored", "chat", t.chatID, "error", err)
	}
}

// tellPicked says which model an arena has picked.
func (e *Engine) tellPicked(ctx context.Context, t *Turn) error {
	picked := t.picked()
	if picked == nil {
		return nil
	}
	t.em.own("chat:completion", picked)
	return e.keepPicked(ctx, t)
}

func (e *Engine) keepPicked(ctx context.Context, t *Turn) error {
	if !savedChat(t.chatID) {
		return nil
	}
	return e.Store.Update(ctx, t.chatID, t.messageID, jsondoc.Object("selectedModelId", jsondoc.Text(t.selectedModelID)), false)
}

// stopped stores an answer that was stopped, as far as it has come.
func (e *Engine) stopped(t *Turn, a *answer) {
	output := a.close("incomplete")
	t.em.emit("chat:tasks:cancel", jsondoc.Object("output", output))
	if !savedChat(t.chatID) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := e.Store.Update(ctx, t.chatID, t.messageID, doneFields(output, nil), true); err != nil {
		e.Log.Error("a stopped answer was not stored", "chat", t.chatID, "error", err)
	}
}

// brokenOff stores what people have read of an answer that will not be ended; the reason follows.
func (e *Engine) brokenOff(t *Turn, a *answer) {
	output := a.close("incomplete")
	if !savedChat(t.chatID) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	fields := jsondoc.Object("output", output).Set(jsondoc.Text(chats.OutputText(output)), "content")
	if err := e.Store.Update(ctx, t.chatID, t.messageID, fields, false); err != nil {
		e.Log.Error("an answer that broke off was not stored", "chat", t.chatID, "error", err)
	}
}

// doneFields are the members of a message whose answer has ended.
func doneFields(output, usage jsondoc.Doc) jsondoc.Doc {
	var b jsondoc.Builder
	b.Raw("done", jsondoc.Doc("true"))
	b.Raw("output", output)
	if text := chats.OutputText(output); text != "" {
		b.Raw("content", jsondoc.Text(text))
	}
	if usage != nil {
		b.Raw("usage", usage)
	}
	return b.Done()
}

// finish stores an answer, tells of it, and does what follows an answer.
func (e *Engine) finish(ctx context.Context, t *Turn, output, usage, failed jsondoc.Doc) error {
	title, err := e.storeAnswer(ctx, t, doneFields(output, usage))
	if err != nil {
		return err
	}
	e.publishEnd(ctx, t, title, output, "")
	var b jsondoc.Builder
	b.Raw("done", jsondoc.Doc("true"))
	b.Raw("output", output)
	b.Raw("title", jsondoc.Text(title))
	if usage != nil {
		b.Raw("usage", usage)
	}
	done := b.Done()
	t.em.own("chat:completion", done)
	if t.em.watched() {
		t.em.others("chat:completion", done.Delete("title"))
	}
	e.follow(ctx, t, e.outlet(ctx, t, output, usage))
	return nil
}

// storeAnswer writes an answer's last state and gives the chat's title.
func (e *Engine) storeAnswer(ctx context.Context, t *Turn, fields jsondoc.Doc) (title string, err error) {
	if !savedChat(t.chatID) {
		return "", nil
	}
	if t.titled != nil && t.session != "" && e.Tasks != nil && t.background.Get(string(TaskTitle)).Truthy() {
		select {
		case <-t.titled:
		case <-time.After(titlePatience):
		}
	}
	if title, err = e.Store.Title(ctx, t.chatID); err != nil {
		return "", err
	}
	if err = e.Store.Update(ctx, t.chatID, t.messageID, fields, true); err != nil {
		return "", err
	}
	t.em.own("chat:list", t.listData())
	return title, nil
}

// wholeAnswer is the answer of a provider that did not stream.
func (e *Engine) wholeAnswer(ctx context.Context, t *Turn, body jsondoc.Doc) (jsondoc.Doc, error) {
	if body.Kind() != '{' {
		return body, nil
	}
	if failure := body.Get("error"); failure.Truthy() {
		return body, e.wholeFailure(ctx, t, failure)
	}
	if picked := t.picked(); picked != nil { // which the answer itself says
		if err := e.keepPicked(ctx, t); err != nil {
			return nil, err
		}
		body = body.Merge(picked)
	}
	msg := body.Get("choices", "0", "message")
	text := msg.Text("content")
	continuing := t.assistantID != ""
	if !continuing && (body.Get("choices").Len() == 0 || text == "" && !body.Get("output").Truthy() && !msg.Get("tool_calls").Truthy()) {
		return body, nil
	}
	if !continuing {
		t.em.own("chat:completion", body)
	}
	output := body.Get("output")
	if !output.Truthy() {
		output = outputDoc(wholeItems(msg, text))
	}
	if continuing {
		output = joinOutputs(priorOutput(t.continued), output)
	}
	usage := chats.NormalizeUsage(body.Get("usage"))
	title, err := e.storeAnswer(ctx, t, doneFields(output, usage))
	if err != nil {
		return nil, err
	}
	e.publishEnd(ctx, t, title, output, "")
	done := jsondoc.Doc("{}")
	if continuing {
		done = body
	}
	t.em.own("chat:completion", done.Merge(jsondoc.Of(web.M{"done": true, "output": output, "title": title})))
	t.finishReason = body.Text("choices", "0", "finish_reason")
	shown := e.outlet(ctx, t, output, usage)
	e.follow(ctx, t, shown)
	return withContent(body, text, shown), nil
}

func wholeItems(msg jsondoc.Doc, text string) []*item {
	var items []*item
	thought := msg.Text("reasoning_content")
	if thought == "" {
		thought = msg.Text("reasoning")
	}
	if thought != "" {
		r := newReasoning("<think>", "</think>", jsondoc.Doc(`{"type":"reasoning_content"}`))
		r.append(thought)
		r.started, r.status = time.Time{}, "completed"
		items = append(items, r)
	}
	m := newText()
	m.append(text)
	m.status = "completed"
	return append(items, m)
}

// joinOutputs puts a whole answer behind the one it continues.
func joinOutputs(prior []*item, output jsondoc.Doc) jsondoc.Doc {
	next := carried(output)
	if len(prior) == 0 || len(next) == 0 {
		return outputDoc(append(prior, next...))
	}
	last, first := prior[len(prior)-1].raw, next[0].raw
	if last.Text("type") != "message" || first.Text("type") != "message" {
		return outputDoc(append(prior, next...))
	}
	parts := append(last.Get("content").List(), first.Get("content").List()...)
	joined := last.Merge(first).Set(last.Get("id"), "id").Set(jsondoc.Array(parts...), "content")
	out := append(prior[:len(prior)-1:len(prior)-1], &item{raw: joined})
	return outputDoc(append(out, next[1:]...))
}

func (e *Engine) wholeFailure(ctx context.Context, t *Turn, failure jsondoc.Doc) error {
	if failure.Kind() == '{' {
		failure = failure.Get("detail").Or(failure)
	} else if failure.Kind() != '"' {
		failure = jsondoc.Text(string(failure))
	}
	fields := jsondoc.Object("error", jsondoc.Object("content", failure)).Set(jsondoc.Doc("true"), "done")
	if savedChat(t.chatID) {
		if err := e.Store.Update(ctx, t.chatID, t.messageID, fields, true); err != nil {
			return err
		}
	}
	t.em.emit("chat:message:error", fields)
	return nil
}

// follow does what follows an answer: follow-up questions, a title, tags, and from time to time a look at memories. Failures are not the answer's.
func (e *Engine) follow(ctx context.Context, t *Turn, text string) {
	review := e.reviews(t)
	if e.Tasks == nil || !t.background.Truthy() && !review {
		return
	}
	wants := func(task Task) bool { return t.background.Get(string(task)).Truthy() }
	listed := t.background.Get(string(TaskTitle)) != nil && !t.isNew
	if !review && !wants(TaskFollowUps) && (t.onlyFollowUps || !listed && !wants(TaskTags)) {
		return
	}
	ms, total, err := e.conversation(ctx, t, text)
	if err != nil || len(ms) == 0 {
		if err != nil {
			e.Log.DebugContext(ctx, "no background tasks", "chat", t.chatID, "error", err)
		}
		return
	}
	if review {
		e.reviewMemories(ctx, t, ms)
	}
	if wants(TaskFollowUps) {
		e.followUps(ctx, t, ms)
	}
	if !savedChat(t.chatID) || t.onlyFollowUps {
		return
	}
	if listed {
		e.title(ctx, t, ms, total, wants(TaskTitle))
	}
	if wants(TaskTags) {
		e.tags(ctx, t, ms)
	}
}

// conversation is what the background tasks look at: the messages' texts, without collapsed details and images.
func (e *Engine) conversation(ctx context.Context, t *Turn, text string) ([]jsondoc.Doc, int, error) {
	if !savedChat(t.chatID) {
		out := append([]jsondoc.Doc(nil), t.form.Get("messages").List()...)
		return append(out, newMessage("assistant", text).Doc()), len(out) + 1, nil
	}
	chain, total, err := e.Store.Chain(ctx, t.chatID, t.messageID)
	if err != nil {
		return nil, 0, err
	}
	for i, m := range chain {
		content, _ := m.Get("content").AsText()
		if m.Get("content").Kind() == '[' {
			content = textOf(jsondoc.Open(m))
		}
		chain[i] = m.Set(jsondoc.Text(withoutDetails(content)), "content")
	}
	return chain, total, nil
}

// completionText is the text of a task model's completion.
func completionText(answer jsondoc.Doc) string {
	msg := answer.Get("choices", "0", "message")
	if s := msg.Text("content"); s != "" {
		return s
	}
	return msg.Text("reasoning_content")
}

// inBraces is the part of a text from its first to its last brace: models like to talk around the JSON they are
// asked for.
func inBraces(s string) jsondoc.Doc {
	from, to := strings.IndexByte(s, '{'), strings.LastIndexByte(s, '}')
	if from < 0 || to < from {
		return nil
	}
	d, bad := jsondoc.Check([]byte(s[from : to+1]))
	if bad != nil {
		return nil
	}
	return d
}

func (e *Engine) runTask(ctx context.Context, t *Turn, task Task, ms []jsondoc.Doc) jsondoc.Doc {
	answer, err := e.Tasks.Run(ctx, t.p, task, t.modelID, ms, t.chatID, t.messageID)
	if err != nil {
		e.Log.DebugContext(ctx, "background task failed", "task", task, "chat", t.chatID, "error", err)
		return nil
	}
	return answer
}

func (e *Engine) followUps(ctx context.Context, t *Turn, ms []jsondoc.Doc) {
	answer := e.runTask(ctx, t, TaskFollowUps, ms)
	if answer == nil {
		return
	}
	questions := inBraces(completionText(answer)).Get("follow_ups")
	if questions.Kind() != '[' {
		questions = jsondoc.Doc("[]")
	}
	t.em.emit("chat:message:follow_ups", jsondoc.Object("follow_ups", questions))
	if savedChat(t.chatID) {
		if err := e.Store.Update(ctx, t.chatID, t.messageID, jsondoc.Object("followUps", questions), false); err != nil {
			e.Log.WarnContext(ctx, "follow-ups were not stored", "chat", t.chatID, "error", err)
		}
	}
}

// title names the chat: by a model, or after the first question.
func (e *Engine) title(ctx context.Context, t *Turn, ms []jsondoc.Doc, total int, ask bool) {
	first := ms[0].Text("content")
	name, named := "", false
	if ask {
		if answer := e.runTask(ctx, t, TaskTitle, ms); answer != nil {
			name, named = inBraces(completionText(answer)).Text("title"), true
			if name == "" {
				name = first
			}
		}
	}
	if !named {
		if len(ms) != 2 || total > 2 {
			return
		}
		name = first
	}
	if err := e.Store.SetTitle(ctx, t.chatID, name); err != nil {
		e.Log.WarnContext(ctx, "the title was not stored", "chat", t.chatID, "error", err)
		return
	}
	t.em.own("chat:title", jsondoc.Text(name))
}

func (e *Engine) tags(ctx context.Context, t *Turn, ms []jsondoc.Doc) {
	answer := e.runTask(ctx, t, TaskTags, ms)
	found := inBraces(completionText(answer)).Get("tags")
	if found.Kind() != '[' {
		return
	}
	if err := e.Store.SetTags(ctx, t.chatID, t.p.ID, found.Texts()); err != nil {
		e.Log.WarnContext(ctx, "the tags were not stored", "chat", t.chatID, "error", err)
		return
	}
	t.em.own("chat:tags", found)
}

// firstTitle names a new chat while the answer is still being written.
func (e *Engine) firstTitle(ctx context.Context, t *Turn) {
	if e.Tasks == nil || !savedChat(t.chatID) || !t.isNew || t.onlyFollowUps || t.background.Get(string(TaskTitle)) == nil {
		return
	}
	chain, total, err := e.Store.Chain(ctx, t.chatID, t.messageID)
	if err != nil || len(chain) == 0 {
		return
	}
	e.title(ctx, t, chain, total, t.background.Get(string(TaskTitle)).Truthy())
}

// withoutDetails takes collapsed blocks and images out of a message's text.
func withoutDetails(s string) string {
	if !strings.ContainsAny(s, "<!") {
		return strings.TrimSpace(s)
	}
	return strings.TrimSpace(detailsOrImage.ReplaceAllString(s, ""))
}
