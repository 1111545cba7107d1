package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/store"
)

// Browsers asks people by way of the pages that they have open.
type Browsers interface {
	// Ask sends the event "events" to a session of a user and gives what its page acknowledges it with. It is ErrGone
	// where the user has no such session, or it ends before.
	Ask(ctx context.Context, userID, sessionID string, payload jsondoc.Doc) (jsondoc.Doc, error)
	// Listen gives f what a user's pages send by the event of a name, in order, until stop is called. f must be quick.
	Listen(userID, event string, f func(jsondoc.Doc)) (stop func())
}

// Why there is no answer of a page; the texts are what tools and models are told.
var (
	ErrGone     = errors.New("Client session disconnected.")                                     //nolint:staticcheck // shown to models
	errNoAnswer = errors.New("Event call timed out. The browser tab may be inactive or closed.") //nolint:staticcheck // shown to models
)

// How long people may take to answer.
const (
	answerTime    = 2 * time.Minute
	minAnswerTime = time.Minute
	maxAnswerTime = 4 * time.Minute
)

// askBrowser asks the person at the page of the turn's session and waits for the answer.
func (e *Engine) askBrowser(ctx context.Context, t *Turn, kind string, data jsondoc.Doc) (jsondoc.Doc, error) {
	limit := askTime(kind, data, e.Env.WebSocket.CallTimeout)
	id := jsondoc.Text(store.NewID())
	answer, err := e.callBrowser(ctx, t, kind, data.Or(jsondoc.Doc("{}")).Set(id, "interaction_id"), limit)
	if t.session != "" {
		e.Realtime.EmitRaw(t.session, realtime.EncodeEvent("events", payloadOf(t.em.head, "request:interaction:done", "interaction_id", id)))
	}
	return answer, err
}

// callBrowser sends an event to the page of the turn's session and waits for what it gives back, for some time; 0 is any.
func (e *Engine) callBrowser(ctx context.Context, t *Turn, kind string, data jsondoc.Doc, limit time.Duration) (jsondoc.Doc, error) {
	if e.Browsers == nil || t.session == "" || t.chatID == "" || t.messageID == "" {
		return nil, ErrGone
	}
	asking, cancel := context.WithCancel(ctx)
	if limit > 0 {
		asking, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	answer, err := e.Browsers.Ask(asking, t.p.ID, t.session, payload(t.em.head, kind, data))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case asking.Err() != nil:
		return nil, errNoAnswer
	}
	return answer, err
}

// askTime is how long an answer may take; 0 is for ever. What tools ask by themselves is bound by the operator alone.
func askTime(kind string, data jsondoc.Doc, most time.Duration) time.Duration {
	switch {
	case kind == "request:user_input", kind == "request:elicitation", kind == "confirmation" && data.Get("tool_call").Truthy():
	default:
		return most
	}
	limit := answerTime
	if ms, ok := data.Int("timeout_ms"); ok {
		limit = min(max(time.Duration(ms)*time.Millisecond, minAnswerTime), maxAnswerTime)
	}
	if most > 0 {
		limit = min(limit, most)
	}
	return limit
}

// payloadOf is an event's payload with data of one member.
func payloadOf(head []byte, kind, name string, v jsondoc.Doc) []byte {
	return payload(head, kind, jsondoc.Object(name, v))
}

// askUser is the name of the tool by which models ask people. In a chat that is saved the turn ends with the question,
// and goes on with the answer.
const askUser = "ask_user"

// asksUser says whether a call asks the user, so that nobody need be asked whether it may run.
func (r *request) asksUser() bool { return r.tool.Builtin && r.tool.Name == askUser }

// confirmed asks the person whether a call may run, in a chat that cannot wait for it.
func (e *Engine) confirmed(ctx context.Context, t *Turn, r request) bool {
	call := jsondoc.Object("id", jsondoc.Text(r.id)).Set(jsondoc.Text(r.name), "name").Set(r.tool.known(r.arguments), "arguments")
	answer, err := e.askBrowser(ctx, t, "confirmation", jsondoc.Object("tool_call", call))
	return err == nil && string(answer) == "true"
}

// stageQuestions looks at the calls of a round that ask the user: asks says that one waits for an answer, which only a
// saved chat can. Those that
// cannot be asked get a result that says why; they are not among the calls that are given back.
func (a *answer) stageQuestions(tools toolset, calls []*item, saved bool) (rest []*item, asks bool) {
	if own := tools.find(askUser); own != nil && !own.Builtin {
		return calls, false // a plugin's
	}
	isQuestion := func(c *item) bool { return c.name == askUser }
	if !slices.ContainsFunc(calls, isQuestion) {
		return calls, false
	}
	problem := ""
	if len(calls) > 1 {
		problem = "Error: ask_user must be the only tool call, so it did not run. Call ask_user on its own."
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range calls {
		if !isQuestion(c) {
			rest = append(rest, c)
			continue
		}
		text := problem
		if text == "" {
			asked, err := readQuestions(string(c.text))
			if err == nil {
				if saved {
					c.text = asked.Doc()
				}
				return calls, saved
			}
			text = "Error: " + err.Error()
		}
		out := outcome{text: text}
		result := out.item(c.callID)
		result.raw, result.status = result.raw.Set(jsondoc.Doc(`"completed"`), "status"), "completed"
		a.items = append(a.items, result)
	}
	return rest, false
}

// Questions is what ask_user asks, in good order.
type Questions struct {
	Questions  []Question `json:"questions"`
	AllowOther bool       `json:"allow_other"`
	TimeoutMS  int64      `json:"timeout_ms"`
}

// Question is one question with its options.
type Question struct {
	ID         string   `json:"id"`
	Header     string   `json:"header"`
	Question   string   `json:"question"`
	Options    []Option `json:"options"`
	AllowOther bool     `json:"allow_other"`
}

// Option is an answer that people can choose.
type Option struct {
	Label       string `json:"label"`
	Description string `json:"description"`
}

// Doc is the questions as arguments of a call.
func (q *Questions) Doc() jsondoc.Doc { return jsondoc.Of(q) }

func readQuestions(arguments string) (*Questions, error) {
	if strings.TrimSpace(arguments) == "" {
		arguments = "{}"
	}
	d, bad := jsondoc.Check([]byte(arguments))
	if bad != nil {
		line, column := 1, 1
		for _, r := range []rune(arguments)[:bad.Pos] {
			if column++; r == '\n' {
				line, column = line+1, 1
			}
		}
		return nil, fmt.Errorf("%s: line %d column %d (char %d)", bad.Msg, line, column, bad.Pos)
	}
	if d.Kind() != '{' {
		return nil, errors.New("ask_user arguments must be an object.") //nolint:staticcheck // shown to models
	}
	return NewQuestions(d)
}

// NewQuestions reads the arguments of a call of ask_user, and cuts what is too long. Its errors are for models.
func NewQuestions(arguments jsondoc.Doc) (*Questions, error) {
	out := &Questions{AllowOther: Unless(arguments, "allow_other"), TimeoutMS: answerTime.Milliseconds()}
	list := arguments.Get("questions")
	if list.Kind() != '[' {
		return nil, errors.New("ask_user questions must be an array of question objects.") //nolint:staticcheck // shown to models
	}
	if n := list.Len(); n < 1 || n > 3 {
		return nil, errors.New("ask_user requires 1-3 questions.") //nolint:staticcheck // shown to models
	}
	for i, d := range list.List() {
		q, err := newQuestion(d, i, out.AllowOther)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out.Questions, func(o Question) bool { return o.ID == q.ID }) {
			return nil, fmt.Errorf("Duplicate question id: %s", q.ID) //nolint:staticcheck // shown to models
		}
		out.Questions = append(out.Questions, q)
	}
	if ms, ok := arguments.Int("timeout_ms"); ok && ms >= minAnswerTime.Milliseconds() && ms <= maxAnswerTime.Milliseconds() {
		out.TimeoutMS = ms
	}
	return out, nil
}

func newQuestion(d jsondoc.Doc, index int, allowOther bool) (q Question, err error) {
	fail := func(text string) (Question, error) { return q, errors.New(text) }
	if d.Kind() != '{' {
		return fail("Each question must be an object.")
	}
	if q.ID = cut(d.Get("id"), 64); q.ID == "" {
		return fail("Each question requires a non-empty id.")
	}
	options := d.Get("options")
	if n := options.Len(); options.Kind() != '[' || n < 2 || n > 3 {
		return fail("Each question requires 2-3 options.")
	}
	for _, o := range options.List() {
		if o.Kind() != '{' {
			return fail("Each option must be an object.")
		}
		option := Option{cut(o.Get("label"), 80), cut(o.Get("description"), 240)}
		if option.Label == "" || option.Description == "" {
			return fail("Each option requires a label and description.")
		}
		q.Options = append(q.Options, option)
	}
	if q.Question = cut(d.Get("question"), 500); q.Question == "" {
		return fail("Each question requires question text.")
	}
	if q.Header = cut(d.Get("header"), 48); q.Header == "" {
		q.Header = fmt.Sprintf("Question %d", index+1)
	}
	if q.AllowOther = allowOther; d.Get("allow_other") != nil {
		q.AllowOther = d.Get("allow_other").Truthy()
	}
	return q, nil
}

// cut is a value as a text without white space around it, of at most n characters.
func cut(v jsondoc.Doc, n int) string {
	s, ok := v.AsText()
	if !ok {
		if !v.Truthy() {
			return ""
		}
		s = string(v)
	}
	if r := []rune(strings.TrimSpace(s)); len(r) > n {
		return string(r[:n])
	}
	return strings.TrimSpace(s)
}
