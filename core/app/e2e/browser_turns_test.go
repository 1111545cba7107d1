package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/go-json-experiment/json"
)

// actors is an OpenAI-compatible server with two models that do what they are told by words of the question, so that a
// turn can be had in each of its shapes. They write one word after another.
type actors struct {
	*httptest.Server
	mu    sync.Mutex
	takes map[string]int // how often each question was put
	held  chan struct{}  // closed: answers that are held back go on
}

// line is one message of a request.
type line struct {
	Role    string `json:"role"`
	Content any    `json:"content"`
}

func newActors(t *testing.T) *actors {
	t.Helper()
	a := &actors{takes: map[string]int{}, held: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, map[string]any{"object": "list", "data": []any{
			map[string]any{"id": "actor-ann", "object": "model", "created": 1700000000, "owned_by": "stage"},
			map[string]any{"id": "actor-bob", "object": "model", "created": 1700000000, "owned_by": "stage"}}})
	})
	mux.HandleFunc("POST /v1/chat/completions", a.perform)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

// scene is an answer that is being written.
type scene struct {
	ctx   context.Context
	w     http.ResponseWriter
	model string
}

// send sends one delta; a string is text.
func (s *scene) send(delta any, finish any) {
	if text, ok := delta.(string); ok {
		delta = map[string]any{"content": text}
	}
	event, _ := json.Marshal(map[string]any{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": s.model,
		"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}})
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", event)
	_ = http.NewResponseController(s.w).Flush()
}

func (s *scene) say(text string) {
	for word := range strings.SplitAfterSeq(text, " ") {
		s.send(word, nil)
	}
}

func (s *scene) think(text string) {
	for word := range strings.SplitAfterSeq(text, " ") {
		s.send(map[string]any{"reasoning_content": word}, nil)
	}
}

// call calls a tool.
func (s *scene) call(name string, arguments any) {
	raw, _ := json.Marshal(arguments)
	s.send(map[string]any{"tool_calls": []any{map[string]any{"index": 0, "id": fmt.Sprintf("call_%d", time.Now().UnixNano()), "type": "function",
		"function": map[string]any{"name": name, "arguments": string(raw)}}}}, nil)
	s.send(map[string]any{}, "tool_calls")
}

func (a *actors) perform(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []line `json:"messages"`
	}
	if err := json.UnmarshalRead(r.Body, &in); err != nil || len(in.Messages) == 0 {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	last := in.Messages[len(in.Messages)-1]
	text := fmt.Sprint(last.Content)
	if !in.Stream {
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, map[string]any{"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": in.Model,
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": echo(text)}}}})
		return
	}
	a.mu.Lock()
	a.takes[text]++
	take := a.takes[text]
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	s := &scene{ctx: r.Context(), w: w, model: in.Model}
	switch {
	case last.Role == "tool":
		pause(s.ctx, 300*time.Millisecond) // as a model would: on a busy machine the page may be slow to take the answer to its decision
		s.say("The tool says " + text)
	case last.Role == "assistant":
		s.say(" and it goes on")
	case strings.Contains(text, "remember"):
		s.call("add_memory", map[string]any{"content": "likes plums"})
		return
	case strings.Contains(text, "ask me"):
		s.call("ask_user", map[string]any{"questions": []any{map[string]any{"id": "colour", "header": "Colour", "question": "Which colour do you want?", "options": []any{
			map[string]any{"label": "Red", "description": "like a rose"}, map[string]any{"label": "Blue", "description": "like the sea"}}}}})
		return
	case strings.Contains(text, "think"):
		s.think("Let me weigh this with care.")
		pause(s.ctx, 1200*time.Millisecond) // so that there is a duration to be shown
		s.say(in.Model + " has thought")
	case strings.Contains(text, "endless"):
		for pause(s.ctx, 20*time.Millisecond) {
			s.say("on and on ")
		}
		return
	case strings.Contains(text, "break off"):
		s.say("It was a dark and stormy night when ")
		pause(s.ctx, 300*time.Millisecond)
		panic(http.ErrAbortHandler)
	case strings.Contains(text, "wait for it"):
		s.say("It begins ")
		select {
		case <-a.held:
		case <-s.ctx.Done():
			return
		}
		s.say("and it ends")
	case strings.Contains(text, "who are you"):
		var system []string
		for _, m := range in.Messages {
			if m.Role == "system" {
				system = append(system, fmt.Sprint(m.Content))
			}
		}
		s.say("I was told: " + strings.Join(system, " "))
	default:
		s.say(fmt.Sprintf("%s take %d: %s", in.Model, take, text))
	}
	s.send(map[string]any{}, "stop")
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// TestBrowserTurns has turns of each kind in the unmodified frontend; each is there still when the page is loaded again.
func TestBrowserTurns(t *testing.T) {
	a := newActors(t)
	d := newDesk(t, "OPENAI_API_BASE_URL="+a.URL+"/v1", "ENABLE_TOOL_PERMISSIONS=true", "DEFAULT_MODELS=actor-ann")
	d.run("approval", d.testApproval)
	d.run("question", d.testQuestion)
	d.run("reasoning", d.testReasoning)
	d.run("two models", d.testTwoModels)
	d.run("branches", d.testBranches)
	d.run("stop", d.testStop)
	d.run("broken off", d.testBrokenOff)
	d.run("queue", func(t *testing.T) { d.testQueue(t, a) })
	d.run("temporary", d.testTemporary)
	d.run("prompt", d.testPrompt)
	d.run("workspace model", d.testWorkspaceModel)
	d.run("memory", d.testMemory)
}

// freshChat opens a new chat with the default model chosen.
func (d *desk) freshChat() {
	d.t.Helper()
	d.newChat()
	d.until("a model is chosen", `document.querySelector('#model-selector-model-button')?.ariaLabel.includes('actor-ann')`)
}

// reload loads the chat anew, once it has an address.
func (d *desk) reload() {
	d.t.Helper()
	d.until("the chat has an address", "location.pathname.startsWith('/c/')")
	d.do("reload", chromedp.Reload(), visible("#chat-input"))
	d.settle()
}

// lacks fails where the last answer has a text.
func (d *desk) lacks(text string) {
	d.t.Helper()
	if got := d.evaluate(answer); strings.Contains(got, text) {
		d.t.Errorf("the answer has %q: %s", text, got)
	}
}

// permit chooses whether tools run unasked.
func (d *desk) permit(mode string) {
	d.t.Helper()
	d.click("#input-menu-button", "More")
	d.click("button", "Tool Permissions")
	d.click("button", mode)
	d.do("close the menu", chromedp.Click(chromedp.CSS("#chat-input")))
	d.until("the menu is closed", fmt.Sprintf(`![...document.querySelectorAll('button')].some(b => b.innerText.includes(%q))`, mode))
}

// testApproval has the model call a built-in tool, which runs when the person allows it and not when it is denied.
func (d *desk) testApproval(t *testing.T) {
	d.freshChat()
	d.permit("Ask for approval")
	d.say("remember the plums")
	d.waitText("Allow add_memory?")
	if n := len(d.memories()); n != 0 {
		t.Errorf("%d memories before anybody allowed it", n)
	}
	d.reload() // the question waits as long as it takes
	d.waitText("Allow add_memory?")
	d.shotStill("tool-approval")
	d.clickText("Allow")
	d.awaitAnswer("The tool says")
	if got := d.memories(); len(got) != 1 || got[0] != "likes plums" {
		t.Errorf("memories: %q", got)
	}
	d.reload()
	d.awaitAnswer("The tool says")
	d.until("the call is shown", fmt.Sprintf(`(%s).includes('add_memory')`, answer))

	d.say("remember it once more")
	d.waitText("Allow add_memory?")
	d.clickText("Deny")
	for range 2 {
		d.awaitAnswer("Denied add_memory")
		d.awaitAnswer("The tool says Error: tool call rejected by user.")
		d.reload()
	}
	d.awaitAnswer("Denied add_memory")
	if got := d.memories(); len(got) != 1 {
		t.Errorf("memories: %q", got)
	}
	d.freshChat()
	d.permit("Full access")
}

// memories are the administrator's.
func (d *desk) memories() []string {
	d.t.Helper()
	text := d.evaluate(d.fetched("/api/v1/memories/", `x.map(m => m.content).join('\n')`))
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// testQuestion has the model ask the person.
func (d *desk) testQuestion(t *testing.T) {
	d.freshChat()
	d.say("please ask me")
	d.waitText("Which colour do you want?")
	d.reload()
	d.waitText("Which colour do you want?")
	d.shotStill("question")
	d.click("button", "like the sea")
	d.awaitAnswer("The tool says")
	d.awaitAnswer("Blue")
	d.reload()
	d.awaitAnswer("Blue")
}

// testReasoning has what the model thought folded away, with how long it took.
func (d *desk) testReasoning(t *testing.T) {
	const thought = "Let me weigh this with care."
	d.freshChat()
	d.say("please think")
	d.awaitAnswer("actor-ann has thought")
	for range 2 {
		d.awaitAnswer("Thought for 1 second")
		d.lacks(thought)
		d.click("[role=log] button", "Thought for")
		d.awaitAnswer(thought)
		d.reload()
		d.awaitAnswer("actor-ann has thought")
	}
}

// testTwoModels asks two models at once.
func (d *desk) testTwoModels(t *testing.T) {
	d.freshChat()
	defer d.evaluate("sessionStorage.clear(), ''") // which knows the models of the last chat
	d.click("#model-selector-model-button", "actor-ann")
	d.click("button", "Compare")
	d.click("#model-selector-list [role=option], [id^=model-option]", "actor-bob")
	d.do("close the menu", chromedp.Click(chromedp.CSS("#chat-input")))
	d.say("who wins")
	for i := range 2 {
		d.waitText("actor-ann take")
		d.waitText("actor-bob take")
		d.waitGone("Thinking")
		d.until("they are side by side", `(() => {
			const boxes = ['actor-ann take', 'actor-bob take'].map(text => [...document.querySelectorAll('[role=log] p')].find(e => e.innerText.includes(text))?.getBoundingClientRect());
			return boxes.every(Boolean) && Math.abs(boxes[0].top - boxes[1].top) < 20 && Math.abs(boxes[0].left - boxes[1].left) > 100;
		})()`)
		if i == 0 {
			d.shotStill("two-models")
			d.reload()
		}
	}
}

// position waits until the last answer, or the question, is the nth of its siblings.
func (d *desk) position(item, where string) {
	d.t.Helper()
	d.until(item+" is "+where, fmt.Sprintf(`([...document.querySelectorAll('[role=log] [role=listitem]')].at(%s)?.innerText ?? '').replace(/\s/g, '').includes(%q)`, item, where))
}

// messageButton presses a button of one of the chat's messages.
func (d *desk) messageButton(item, label string) {
	d.t.Helper()
	d.until("press "+label, fmt.Sprintf(`(b => { b?.click(); return !!b; })([...[...document.querySelectorAll('[role=log] [role=listitem]')].at(%s)?.querySelectorAll('button') ?? []].find(b => b.ariaLabel === %q))`, item, label))
}

// testBranches asks for another answer, puts another question in place of one, and has an answer go on.
func (d *desk) testBranches(t *testing.T) {
	d.freshChat()
	d.say("good day")
	d.awaitAnswer("take 1: good day")
	d.messageButton("-1", "Regenerate")
	d.clickText("Try Again")
	d.awaitAnswer("take 2: good day")
	d.position("-1", "2/2")
	d.messageButton("-1", "Previous message")
	d.awaitAnswer("take 1: good day")
	d.position("-1", "1/2")
	d.messageButton("-1", "Next message")
	d.awaitAnswer("take 2: good day")
	d.reload()
	d.awaitAnswer("take 2: good day")
	d.position("-1", "2/2")

	d.messageButton("0", "Edit")
	d.until("type another question", `(e => { if (!e) return false; e.value = 'good night'; e.dispatchEvent(new Event('input', {bubbles: true})); return true; })(document.querySelector('[role=log] textarea'))`)
	d.clickText("Send")
	d.awaitAnswer("take 1: good night")
	d.position("0", "2/2")
	d.reload()
	d.awaitAnswer("take 1: good night")
	d.messageButton("0", "Previous message")
	d.awaitAnswer("good day")
	d.messageButton("0", "Next message")
	d.awaitAnswer("take 1: good night")

	d.messageButton("-1", "Continue Response")
	d.awaitAnswer("take 1: good night and it goes on")
	d.reload()
	d.awaitAnswer("take 1: good night and it goes on")
}

// testStop stops an answer while it is written.
func (d *desk) testStop(t *testing.T) {
	d.freshChat()
	d.say("an endless tale")
	d.until("the first words", fmt.Sprintf(`(%s).includes('on and on on and on')`, answer))
	d.click("button", "Stop")
	d.awaitAnswer("on and on")
	d.reload()
	d.awaitAnswer("on and on on and on")
	d.say("and now this")
	d.awaitAnswer("take 1: and now this")
}

// testBrokenOff has the provider's connection break while the answer is written.
func (d *desk) testBrokenOff(t *testing.T) {
	d.freshChat()
	d.say("please break off")
	d.awaitAnswer("a dark and stormy night when")
	d.awaitAnswer("The provider broke off its answer")
	d.reload()
	d.awaitAnswer("a dark and stormy night when")
	d.awaitAnswer("The provider broke off its answer")
	d.say("good evening")
	d.awaitAnswer("take 1: good evening")
}

// testQueue puts a second question while the first is answered.
func (d *desk) testQueue(t *testing.T, a *actors) {
	d.freshChat()
	d.say("please wait for it")
	d.until("the first words", fmt.Sprintf(`(%s).includes('It begins')`, answer))
	d.say("what came of it")
	d.until("it waits", `!!document.querySelector('button[aria-label="Send now"]')`)
	d.lacks("what came of it")
	close(a.held)
	d.awaitAnswer("take 1: what came of it")
	d.reload()
	d.awaitAnswer("take 1: what came of it")
	d.waitText("It begins and it ends")
}

// testTemporary has a chat that nothing is kept of.
func (d *desk) testTemporary(t *testing.T) {
	const count = `String(x.length)`
	before := d.evaluate(d.fetched("/api/v1/chats/", count))
	d.freshChat()
	d.click("#temporary-chat-button", "Temporary Chat")
	d.say("between us")
	d.awaitAnswer("take 1: between us")
	d.say("that too")
	d.awaitAnswer("take 1: that too")
	d.do("reload", chromedp.Reload(), visible("#chat-input"))
	d.settle()
	d.waitGone("between us")
	if after := d.evaluate(d.fetched("/api/v1/chats/", count)); after != before {
		t.Errorf("%s chats, then %s", before, after)
	}
}

// testPrompt makes a prompt with a variable in the workspace and uses it by its command.
func (d *desk) testPrompt(t *testing.T) {
	d.open("/workspace/prompts/create")
	d.fill("Prompt Name", "Praise")
	d.fill("Command", "praise")
	d.fill("Prompt Content", "Sing the praise of {{fruit}}.")
	d.press("Save & Create")
	d.waitText("Praise")
	d.open("/workspace/prompts")
	d.waitText("/praise")
	d.freshChat()
	d.do("type the command", chromedp.Click(chromedp.CSS("#chat-input")), typeInto("#chat-input", "/praise"))
	d.click("button", "praise")
	d.dialog("fruit")
	d.fill("fruit", "plums")
	d.press("Save")
	d.noDialog()
	d.until("the prompt is filled in", `document.querySelector('#chat-input').innerText.includes('Sing the praise of plums.')`)
	d.do("send it", typeInto("#chat-input", kb.Enter))
	d.awaitAnswer("take 1: Sing the praise of plums.")
	d.reload()
	d.awaitAnswer("take 1: Sing the praise of plums.")
}

// testWorkspaceModel makes a model with a system prompt and a suggestion, and chats with it.
func (d *desk) testWorkspaceModel(t *testing.T) {
	d.open("/workspace/models/create")
	d.fill("Model Name", "Pirate")
	d.shows("Model ID", "pirate")
	d.click("#model-selector-workspace-base-model-button", "Select a base model")
	d.click("[id^=model-option]", "actor-bob")
	d.fill("System Prompt", "You are a pirate.")
	d.click("summary", "Prompts")
	d.press("Customize")
	d.fill("Prompt", "Tell me who are you")
	d.fill("Title", "Ask the pirate")
	d.fill("Subtitle", "for a name")
	d.press("Save & Create")
	d.until("it is made", d.fetched("/api/models", `x.data.some(m => m.id === 'pirate')`))
	d.open("/?models=pirate")
	d.until("it is chosen", `document.querySelector('#model-selector-model-button')?.ariaLabel.includes('Pirate')`)
	d.waitGone("Tell me a fun fact") // of the suggestions for everybody
	d.click("button", "Ask the pirate")
	d.awaitAnswer("I was told: You are a pirate.")
	d.reload()
	d.awaitAnswer("I was told: You are a pirate.")
}

// testMemory keeps something about the person by the form of the settings; models are told of it.
func (d *desk) testMemory(t *testing.T) {
	d.settings("personalization", "Personalization")
	d.fillBeside("Memory", "true")
	d.press("Save")
	d.settings("personalization", "Personalization")
	d.showsBeside("Memory", "true")
	d.press("Actions")
	d.choose("Add Memory")
	d.eventually("type it", `fill(all(top(), 'textarea').at(-1), 'lives in Utrecht')`)
	d.press("Add")
	d.waitText("lives in Utrecht")
	d.freshChat()
	d.say("who are you")
	d.awaitAnswer("lives in Utrecht")
	d.reload()
	d.awaitAnswer("lives in Utrecht")
	d.settings("personalization", "Personalization")
	d.waitText("lives in Utrecht")
}
