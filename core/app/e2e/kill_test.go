package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/galleychat/galley/core/store/storetest"
)

const (
	killWriters = 8
	killWrites  = 1000 // acknowledged ones in all
	perChat     = 5    // a chat is made, then changed so many times less one
	killEvery   = 90   // acknowledged writes between two kills, give or take half
)

// TestKill writes chats while the process is killed again and again: what was acknowledged is there afterwards.
func TestKill(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { testKill(t) })
	t.Run("postgres", func(t *testing.T) { testKill(t, "DATABASE_URL="+storetest.PostgresURL(t)) })
}

// kept is what the server has acknowledged of a chat.
type kept struct {
	title  string
	number int // of the last change
}

// ordeal is a server that is killed, and those who write to it.
type ordeal struct {
	t       *testing.T
	vars    []string
	client  *http.Client
	token   string
	current atomic.Pointer[server]
	acked   atomic.Int64
	kill    chan struct{} // asks for the next kill

	mu    sync.Mutex
	chats map[string]kept
}

func testKill(t *testing.T, vars ...string) {
	o := &ordeal{
		t: t, vars: append(vars, "DATA_DIR="+t.TempDir(), "ENABLE_OPENAI_API=false", "ENABLE_OLLAMA_API=false"),
		client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: killWriters}},
		kill:   make(chan struct{}, 1), chats: map[string]kept{},
	}
	o.current.Store(start(t, o.vars...))
	o.signUp()

	done := make(chan struct{})
	kills := make(chan int, 1)
	go func() { kills <- o.killer(done) }()
	var writers sync.WaitGroup
	for w := range killWriters {
		writers.Go(func() { o.write(w) })
	}
	writers.Wait()
	close(done)
	n := <-kills
	if t.Failed() {
		return
	}
	t.Logf("%d acknowledged writes to %d chats, %d kills", o.acked.Load(), len(o.chats), n)
	if n < 3 {
		t.Errorf("only %d kills", n)
	}
	last := o.current.Load()
	_ = last.cmd.Process.Kill()
	<-last.exited
	o.current.Store(start(t, o.vars...))
	o.check()
}

func (o *ordeal) signUp() {
	o.t.Helper()
	body := map[string]any{"name": "Admin", "email": "admin@kill.test", "password": "kill-admin-1"}
	var out struct {
		Token string `json:"token"`
	}
	if status, err := o.call("POST", "/api/v1/auths/signup", body, &out); err != nil || status != http.StatusOK {
		o.t.Fatalf("sign up: %d %v\n%s", status, err, o.current.Load().logged())
	}
	o.token = out.Token
}

// call sends a request to the process that is there now. An error says that it gave no answer.
func (o *ordeal) call(method, path string, body, out any) (status int, err error) {
	text := []byte(nil)
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, o.current.Load().url+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if o.token != "" {
		req.Header.Set("Authorization", "Bearer "+o.token)
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, fmt.Errorf("%s %s: %d %.200s", method, path, resp.StatusCode, raw)
	}
	return resp.StatusCode, json.Unmarshal(raw, out)
}

// killer kills the process whenever it is asked to and starts another, until done; it gives the number of kills.
func (o *ordeal) killer(done <-chan struct{}) (n int) {
	for {
		select {
		case <-done:
			return n
		case <-o.kill:
		}
		// The writer who asked has its answer; the others are anywhere in theirs, the more so a moment later.
		<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
		old := o.current.Load()
		if err := old.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			o.t.Error(err)
			return n
		}
		<-old.exited
		n++
		next, err := launch(o.t, o.vars...)
		if err != nil {
			o.t.Errorf("after kill %d: %v", n, err)
			return n
		}
		o.current.Store(next)
	}
}

// write makes and changes chats until enough writes are acknowledged.
func (o *ordeal) write(writer int) {
	next := int64(killEvery/2 + rand.IntN(killEvery))
	id, number := "", 0
	for round := 0; o.acked.Load() < killWrites && !o.t.Failed(); round++ {
		served := o.current.Load()
		title := fmt.Sprintf("chat %d of writer %d", round, writer)
		var err error
		var status int
		switch {
		case id == "" || number >= perChat:
			var made struct {
				ID string `json:"id"`
			}
			status, err = o.call("POST", "/api/v1/chats/new", map[string]any{"chat": document(title, 1)}, &made)
			if err == nil {
				id, number = made.ID, 1
				o.keep(id, kept{title, 1})
			}
		default:
			status, err = o.call("POST", "/api/v1/chats/"+id, map[string]any{"chat": document(title, number+1)}, new(map[string]any))
			if err == nil {
				number++
				o.keep(id, kept{title, number})
			} else {
				id = "" // it may or may not have been written; leave this chat alone
			}
		}
		switch {
		case err == nil:
			n := o.acked.Add(1)
			if writer == 0 && n >= next {
				next = n + int64(killEvery/2+rand.IntN(killEvery))
				select {
				case o.kill <- struct{}{}:
				default:
				}
			}
		case status != 0:
			o.t.Error(err) // an answer, but not this one
			return
		default:
			if err := o.awaitNext(served); err != nil {
				o.t.Error(err)
				return
			}
		}
	}
}

func (o *ordeal) keep(id string, k kept) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.chats[id] = k
}

// awaitNext waits until another process serves than the one that gave no answer.
func (o *ordeal) awaitNext(old *server) error {
	deadline := time.Now().Add(patience)
	for o.current.Load() == old {
		if time.Now().After(deadline) {
			return errors.New("a write got no answer, and no kill explains it:\n" + old.logged())
		}
		<-time.After(time.Millisecond)
	}
	return nil
}

// document is a chat with some weight, so that a write takes time.
func document(title string, number int) map[string]any {
	messages := map[string]any{}
	for i := range 20 {
		id := fmt.Sprintf("m%02d", i)
		messages[id] = map[string]any{"id": id, "parentId": nil, "childrenIds": []string{}, "role": "user", "content": fmt.Sprintf("%s, change %d", title, number), "timestamp": 1700000000}
	}
	return map[string]any{"title": title, "models": []string{"echo-small"}, "number": number,
		"history": map[string]any{"messages": messages, "currentId": "m19"}, "messages": []any{}}
}

// check reads every chat that was acknowledged. A change that was not acknowledged may have been written all the same.
func (o *ordeal) check() {
	o.t.Helper()
	for id, want := range o.chats {
		var got struct {
			Title string `json:"title"`
			Chat  struct {
				Number int `json:"number"`
			} `json:"chat"`
		}
		if _, err := o.call("GET", "/api/v1/chats/"+id, nil, &got); err != nil {
			o.t.Errorf("%s is lost: %v", want.title, err)
			continue
		}
		switch {
		case got.Chat.Number < want.number:
			o.t.Errorf("%s: change %d is lost, %d is there", want.title, want.number, got.Chat.Number)
		case got.Chat.Number == want.number && got.Title != want.title, got.Chat.Number > want.number+1:
			o.t.Errorf("want %q with change %d, got %q with %d", want.title, want.number, got.Title, got.Chat.Number)
		}
	}
}
