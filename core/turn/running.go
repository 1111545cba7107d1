package turn

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/replicas"
)

// What processes tell one another: the tasks in their chats. They stop each other's tasks, and give what answers have come
// to.
const (
	turnsKind      = "turns"
	stopMethod     = "stop"
	partialsMethod = "partials"
)

// partialsPatience is how long other processes may take to say what answers have come to.
const partialsPatience = time.Second

// running are the turns in flight, by the id of their task.
type running struct {
	others *replicas.Node
	mu     sync.Mutex
	tasks  map[string]*task
	chats  map[string][]string // ids of tasks by chat, oldest first
	closed bool
	wg     sync.WaitGroup
}

// task is one turn in flight.
type task struct {
	id, chatID, messageID string
	userID                string
	cancel                context.CancelCauseFunc
	done                  chan struct{}
	answer                *answer // nil until the model has begun; guarded by running.mu
}

func newRunning(others *replicas.Node) *running {
	return &running{others: others, tasks: map[string]*task{}, chats: map[string][]string{}}
}

// add registers a task, unless the server is stopping.
func (r *running) add(t *task) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.tasks[t.id] = t
	r.chats[t.chatID] = append(r.chats[t.chatID], t.id)
	r.tellLocked(t.chatID)
	r.wg.Add(1)
	return true
}

// tellLocked tells other processes of a chat's tasks.
func (r *running) tellLocked(chatID string) {
	ids := r.chats[chatID]
	switch {
	case r.others == nil:
	case len(ids) == 0:
		r.others.Delete(turnsKind, chatID)
	default:
		var parts []string
		for _, id := range ids {
			t := r.tasks[id]
			parts = append(parts, t.id, t.messageID, t.userID)
		}
		r.others.Set(turnsKind, chatID, replicas.Join(parts...))
	}
}

// tasksOf are the tasks that another process has told of.
func tasksOf(chatID string, told []byte) (out []task) {
	parts := replicas.Split(told)
	for i := 0; i+2 < len(parts); i += 3 {
		out = append(out, task{id: string(parts[i]), chatID: chatID, messageID: string(parts[i+1]), userID: string(parts[i+2])})
	}
	return out
}

// remove takes a task out and says whether its chat has no other.
func (r *running) remove(t *task) (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tasks, t.id)
	ids := r.chats[t.chatID]
	for i, id := range ids {
		if id == t.id {
			ids = append(ids[:i:i], ids[i+1:]...)
			break
		}
	}
	if len(ids) == 0 {
		delete(r.chats, t.chatID)
	} else {
		r.chats[t.chatID] = ids
	}
	r.tellLocked(t.chatID)
	return len(ids) == 0 && !r.others.Has(turnsKind, t.chatID)
}

// aside runs f beside the turns: the server waits for it when it stops, but no chat counts as active by it.
func (r *running) aside(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wg.Go(f)
}

// finished says that nothing of the task runs any more.
func (r *running) finished(t *task) {
	close(t.done)
	r.wg.Done()
}

func (r *running) setAnswer(t *task, a *answer) {
	r.mu.Lock()
	t.answer = a
	r.mu.Unlock()
}

func (r *running) get(id string) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tasks[id]
}

func (r *running) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.tasks))
	for id := range r.tasks {
		out = append(out, id)
	}
	r.others.Each(turnsKind, func(_, chatID string, value []byte) {
		for _, t := range tasksOf(chatID, value) {
			out = append(out, t.id)
		}
	})
	return out
}

// elsewhere is the id of the process that a task runs in, "" where it runs in none other.
func (r *running) elsewhere(id string) (process string) {
	r.others.Each(turnsKind, func(from, chatID string, value []byte) {
		if slices.ContainsFunc(tasksOf(chatID, value), func(t task) bool { return t.id == id }) {
			process = from
		}
	})
	return process
}

func (r *running) ofChat(chatID string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := append([]string{}, r.chats[chatID]...)
	for _, v := range r.others.Values(turnsKind, chatID) {
		for _, t := range tasksOf(chatID, v) {
			out = append(out, t.id)
		}
	}
	return out
}

// stop cancels a task and waits until what it has said so far is stored.
func (r *running) stop(ctx context.Context, id string) bool {
	t := r.get(id)
	if t == nil {
		return false
	}
	t.cancel(errStopped)
	select {
	case <-t.done:
	case <-ctx.Done():
	}
	return true
}

// drain refuses new turns, waits for those in flight, and stops what is left when ctx ends.
func (r *running) drain(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	all := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(all)
	}()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	n := len(r.tasks)
	for _, t := range r.tasks {
		t.cancel(errStopped)
	}
	r.mu.Unlock()
	<-all
	return fmt.Errorf("%d turns were stopped", n)
}

// StopResult is the answer to stopping a task.
type StopResult struct {
	Status  bool   `json:"status"`
	Message string `json:"message"`
}

// Stop ends a turn by the id of its task. What it has said so far is stored.
func (e *Engine) Stop(ctx context.Context, taskID string) StopResult {
	if e.running.stop(ctx, taskID) || e.stopElsewhere(ctx, taskID) {
		return StopResult{true, "Task " + taskID + " successfully stopped."}
	}
	return StopResult{false, "Task with ID " + taskID + " not found."}
}

// stopElsewhere ends a turn of another process.
func (e *Engine) stopElsewhere(ctx context.Context, taskID string) bool {
	process := e.running.elsewhere(taskID)
	if process == "" {
		return false
	}
	answer, err := e.Replicas.Call(ctx, process, stopMethod, []byte(taskID))
	if err != nil {
		e.Log.WarnContext(ctx, "a turn of another process was not stopped", "task", taskID, "error", err)
	}
	return string(answer) == "stopped"
}

// serveReplicas does what other processes ask for.
func (e *Engine) serveReplicas() {
	e.Replicas.Handle(stopMethod, func(ctx context.Context, _ string, taskID []byte) ([]byte, error) {
		if !e.running.stop(ctx, string(taskID)) {
			return nil, nil
		}
		return []byte("stopped"), nil
	})
	e.Replicas.Handle(partialsMethod, func(_ context.Context, _ string, chatID []byte) ([]byte, error) {
		var out [][]byte
		for _, p := range e.partialsHere(string(chatID)) {
			out = append(out, []byte(p.MessageID), p.Output, []byte(p.Content))
		}
		return replicas.Join(out...), nil
	})
	e.Replicas.Lost(turnsKind, func(chatID string, told []byte) {
		for _, t := range tasksOf(chatID, told) { // pages would wait for ever
			em := newEmitter(nearby{e.Realtime}, t.userID, chatID, t.messageID, "")
			em.emit("chat:tasks:cancel", nil)
			em.emit("chat:active", jsondoc.Object("active", jsondoc.Doc("false")).Set(jsondoc.Doc("null"), "folder_id"))
		}
	})
}

// TaskIDs are the ids of all turns in flight.
func (e *Engine) TaskIDs() []string { return e.running.ids() }

// ChatTaskIDs are the ids of the turns in flight in a chat.
func (e *Engine) ChatTaskIDs(chatID string) []string { return e.running.ofChat(chatID) }

// Active says of each chat whether a turn is in flight in it.
func (e *Engine) Active(chatIDs []string) map[string]bool {
	e.running.mu.Lock()
	defer e.running.mu.Unlock()
	out := make(map[string]bool, len(chatIDs))
	for _, id := range chatIDs {
		if len(e.running.chats[id]) > 0 || e.Replicas.Has(turnsKind, id) {
			out[id] = true
		}
	}
	return out
}

// Partial is an answer that is being written.
type Partial struct {
	MessageID string
	Output    jsondoc.Doc
	Content   string
}

// Partials are the answers that are being written in a chat, as far as they have come: what a page shows that is
// loaded in mid-stream.
func (e *Engine) Partials(ctx context.Context, chatID string) []Partial {
	out := e.partialsHere(chatID)
	for _, process := range e.Replicas.Holders(turnsKind, chatID) {
		asking, cancel := context.WithTimeout(ctx, partialsPatience)
		answer, err := e.Replicas.Call(asking, process, partialsMethod, []byte(chatID))
		cancel()
		if err != nil { // the chat has what was stored last
			e.Log.WarnContext(ctx, "another process did not say what an answer has come to", "chat", chatID, "error", err)
		}
		parts := replicas.Split(answer)
		for i := 0; i+2 < len(parts); i += 3 {
			out = append(out, Partial{string(parts[i]), jsondoc.Doc(parts[i+1]), string(parts[i+2])})
		}
	}
	return out
}

// partialsHere are the Partials of this process.
func (e *Engine) partialsHere(chatID string) []Partial {
	e.running.mu.Lock()
	var tasks []*task
	for _, id := range e.running.chats[chatID] {
		if t := e.running.tasks[id]; t != nil && t.answer != nil {
			tasks = append(tasks, t)
		}
	}
	answers := make([]*answer, len(tasks))
	for i, t := range tasks {
		answers[i] = t.answer
	}
	e.running.mu.Unlock()
	var out []Partial
	for i, t := range tasks {
		output, text := answers[i].snapshot()
		if string(output) != "[]" {
			out = append(out, Partial{t.messageID, output, text})
		}
	}
	return out
}

// InFlight is the number of turns in flight.
func (e *Engine) InFlight() int {
	e.running.mu.Lock()
	defer e.running.mu.Unlock()
	return len(e.running.tasks)
}

// Drain refuses new turns and waits for those in flight; when ctx ends, the rest are stopped and stored as far as they
// have come. The error says how many.
func (e *Engine) Drain(ctx context.Context) error { return e.running.drain(ctx) }
