package turn

import (
	"context"
	"fmt"
	"sync"

	"github.com/galleychat/galley/core/jsondoc"
)

// running are the turns in flight, by the id of their task.
type running struct {
	mu     sync.Mutex
	tasks  map[string]*task
	chats  map[string][]string // ids of tasks by chat, oldest first
	closed bool
	wg     sync.WaitGroup
}

// task is one turn in flight.
type task struct {
	id, chatID, messageID string
	cancel                context.CancelCauseFunc
	done                  chan struct{}
	answer                *answer // nil until the model has begun; guarded by running.mu
}

func newRunning() *running {
	return &running{tasks: map[string]*task{}, chats: map[string][]string{}}
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
	r.wg.Add(1)
	return true
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
	return len(ids) == 0
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
	return out
}

func (r *running) ofChat(chatID string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.chats[chatID]...)
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
	if !e.running.stop(ctx, taskID) {
		return StopResult{false, "Task with ID " + taskID + " not found."}
	}
	return StopResult{true, "Task " + taskID + " successfully stopped."}
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
		if len(e.running.chats[id]) > 0 {
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
func (e *Engine) Partials(chatID string) []Partial {
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
