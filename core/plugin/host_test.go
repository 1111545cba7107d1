package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/embedding"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/web"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// fakeUsers are two accounts, and ids that fail in their own ways.
type fakeUsers struct{}

var ann = &pb.Caller{Id: "a1", Name: "Ann", Email: "ann@example.test", Role: "user", Groups: []*pb.Group{{Id: "g", Name: "Group"}}}

func (fakeUsers) Get(_ context.Context, id string) (*pb.Caller, error) {
	switch id {
	case "a1":
		return ann, nil
	case "panic":
		panic("secret of the panic")
	case "broken":
		return nil, errors.New("secret of the database")
	}
	return nil, fmt.Errorf("user: %w", store.ErrNotFound)
}

func (fakeUsers) ByEmail(_ context.Context, email string) (*pb.Caller, error) {
	if email == ann.GetEmail() {
		return ann, nil
	}
	return nil, store.ErrNotFound
}

func (fakeUsers) List(_ context.Context, query string, page int) ([]*pb.Caller, int64, error) {
	return []*pb.Caller{{Id: "a1", Name: query}}, int64(30 + page), nil
}

// fakeModels answers with words; some models fail, wait, or are those of a registry.
type fakeModels struct {
	registry func() *llm.Registry
	asked    atomic.Int64
	waiting  atomic.Int64 // answers that wait for the end of their context
}

func (f *fakeModels) List(_ context.Context, userID string) ([]*pb.Model, error) {
	return []*pb.Model{{Id: "m", Name: "for " + userID, Tags: []string{"x"}}}, nil
}

func (f *fakeModels) Chat(ctx context.Context, userID string, body []byte) (*llm.Response, error) {
	f.asked.Add(1)
	var in struct {
		Model string
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	switch in.Model {
	case "words":
		return llm.NewStream(http.Header{}, &words{rest: []string{"to ", userID}}), nil
	case "whole":
		return llm.NewBody(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"choices":[{"message":{"content":"all of it"},"finish_reason":"stop"}]}`)), nil
	case "endless":
		f.waiting.Add(1)
		return llm.NewStream(http.Header{}, &words{rest: []string{"first"}, then: func() error {
			<-ctx.Done()
			f.waiting.Add(-1)
			return ctx.Err()
		}}), nil
	case "busy":
		e := llm.DetailError(429, "too many", nil)
		e.RetryAfter = "7"
		return nil, e
	case "error":
		return llm.NewStream(http.Header{}, &words{raw: []string{`{"error":{"message":"it burns"}}`}}), nil
	case "none":
		return nil, web.Fail(400, "Model not found")
	}
	t, err := f.registry().Resolve(ctx, nil, in.Model)
	if err != nil {
		return nil, err
	}
	return t.Chat(ctx, &llm.Request{Body: body, Stream: true})
}

func (f *fakeModels) Embed(_ context.Context, userID, model string, input []string) (*pb.EmbedResponse, error) {
	if model != "m" || userID != "a1" {
		return nil, web.Fail(400, "Model not found")
	}
	out := &pb.EmbedResponse{}
	for _, text := range input {
		out.Embeddings = append(out.Embeddings, &pb.Embedding{Values: []float32{float32(len(text)), 0.5}})
	}
	return out, nil
}

// words is a stream of words, then of raw events; those of raw are there at once.
type words struct {
	rest, raw []string
	then      func() error
}

func (w *words) Next() ([]byte, error) {
	if len(w.rest) > 0 {
		word := w.rest[0]
		w.rest = w.rest[1:]
		return fmt.Appendf(nil, `{"choices":[{"index":0,"delta":{"content":%q}}]}`, word), nil
	}
	if len(w.raw) > 0 {
		e := w.raw[0]
		w.raw = w.raw[1:]
		return []byte(e), nil
	}
	if w.then != nil {
		return nil, w.then()
	}
	return nil, io.EOF
}

func (w *words) More() bool   { return len(w.rest) == 0 && len(w.raw) > 0 }
func (w *words) Close() error { return nil }

// diskFiles keeps one file on the disk, and the most memory that was in use meanwhile.
type diskFiles struct {
	dir  string
	mu   sync.Mutex
	info *pb.FileInfo
	peak uint64
}

func (d *diskFiles) measure() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	d.peak = max(d.peak, m.HeapAlloc)
}

func (d *diskFiles) path() string { return filepath.Join(d.dir, "content") }

func (d *diskFiles) Get(_ context.Context, id string) (*pb.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.info == nil || d.info.GetId() != id {
		return nil, store.ErrNotFound
	}
	return d.info, nil
}

func (d *diskFiles) Read(ctx context.Context, id string, part func([]byte) error) error {
	if _, err := d.Get(ctx, id); err != nil {
		return err
	}
	f, err := os.Open(d.path())
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	for i := 0; ; i++ {
		n, err := f.Read(buf)
		if n > 0 {
			if err := part(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if i%50 == 0 {
			d.measure()
		}
	}
}

func (d *diskFiles) Write(_ context.Context, info *pb.FileInfo, next func() ([]byte, error)) (*pb.FileInfo, error) {
	f, err := os.Create(d.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	made := &pb.FileInfo{Id: "f1", UserId: info.GetUserId(), Name: info.GetName(), ContentType: info.GetContentType(), CreatedAt: 5}
	for i := 0; ; i++ {
		part, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(part); err != nil {
			return nil, err
		}
		made.Size += int64(len(part))
		if i%50 == 0 {
			d.measure()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.info = made
	return made, nil
}

// hostBench is a manager whose plugin "host" does what tests tell it to.
type hostBench struct {
	*bench
	models *fakeModels
	files  *diskFiles
	events chan *pb.EmitRequest
}

func newHostBench(t *testing.T, db *store.DB, grants ...string) *hostBench {
	t.Helper()
	h := &hostBench{models: &fakeModels{}, files: &diskFiles{dir: t.TempDir()}, events: make(chan *pb.EmitRequest, 10)}
	h.models.registry = func() *llm.Registry { return h.llm }
	h.bench = newBench(t, Options{DB: db, Host: Services{
		Users: fakeUsers{}, Models: h.models, Files: h.files,
		Emit: func(_ context.Context, e *pb.EmitRequest) (int, error) {
			h.events <- e
			return 3, nil
		},
	}})
	h.put(t, Manifest{ID: "host", Grants: grants, Limits: Limits{KVMB: 5}}, "host")
	h.start(t)
	u, err := h.find("host")
	if err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != StateReady {
		t.Fatalf("%s: %s", u.state, u.problem)
	}
	return h
}

// do has the plugin do something and checks what it says.
func (h *hostBench) do(t *testing.T, in order, want string) {
	t.Helper()
	if got := h.say(t, in); got != want {
		t.Errorf("%+v\n got %.600s\nwant %s", in, got, want)
	}
}

func (h *hostBench) say(t *testing.T, in order) string {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/api/v1/plugins/host/do", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s %v", resp.StatusCode, body, err)
	}
	return string(body)
}

func TestHostKV(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := newHostBench(t, db, "kv")
		h.do(t, order{Op: "get", Key: "k"}, "not found")
		h.do(t, order{Op: "put", Key: "k", Value: "v\x00ö"}, "ok")
		h.do(t, order{Op: "get", Key: "k"}, "v\x00ö never")
		h.do(t, order{Op: "put", Key: "short", Value: "v", TTL: time.Nanosecond}, "ok")
		h.do(t, order{Op: "put", Key: "timed", Value: "v", TTL: time.Hour}, "ok")
		h.do(t, order{Op: "get", Key: "timed"}, "v 1h0m0s")
		h.do(t, order{Op: "cas", Key: "c", Value: "1"}, "ok")
		h.do(t, order{Op: "cas", Key: "c", Value: "2"}, "conflict")
		h.do(t, order{Op: "cas again", Key: "c", Value: "3"}, "ok")
		h.do(t, order{Op: "get", Key: "c"}, "3 never")
		h.do(t, order{Op: "add", Key: "n", Delta: 5, TTL: time.Hour}, "5 1h0m0s")
		h.do(t, order{Op: "add", Key: "n", Delta: -7}, "-2 1h0m0s")
		h.do(t, order{Op: "add", Key: "k", Delta: 1}, "galley: FailedPrecondition: the value is not a decimal integer of 64 bits")
		h.do(t, order{Op: "add", Key: "n", Delta: math.MinInt64}, "galley: FailedPrecondition: the sum is beyond 64 bits")
		h.do(t, order{Op: "put", Key: "k", Value: "v", TTL: -time.Second}, "galley: InvalidArgument: ttl_ms is negative")
		h.do(t, order{Op: "get", Key: ""}, "galley: InvalidArgument: a key is UTF-8 text that is not empty and has no NUL")
		h.do(t, order{Op: "get", Key: strings.Repeat("k", 513)}, "galley: InvalidArgument: the key is longer than 512 bytes or the value than 1 MiB")
		h.do(t, order{Op: "fill", Key: "k", Size: 1<<20 + 1}, "galley: InvalidArgument: the key is longer than 512 bytes or the value than 1 MiB")
		h.do(t, order{Op: "list", Key: ""}, "c k n timed ")
		h.do(t, order{Op: "delete", Key: "k"}, "true")
		h.do(t, order{Op: "delete", Key: "k"}, "false")
		h.do(t, order{Op: "many", Key: "many/", N: 250}, "ok")
		if got := strings.Fields(h.say(t, order{Op: "list", Key: "many/"})); len(got) != 250 || !slices.IsSorted(got) {
			t.Errorf("%d keys: %v", len(got), got)
		}
		// five MiB are the quota; the pages of four entries of a MiB have to be several
		for i := range 4 {
			h.do(t, order{Op: "fill", Key: fmt.Sprintf("big/%d", i), Size: 1 << 20}, "ok")
		}
		h.do(t, order{Op: "list", Key: "big/"}, "big/0 big/1 big/2 big/3 ")
		h.do(t, order{Op: "fill", Key: "big/4", Size: 1 << 20}, "quota")
		u, err := h.find("host")
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := u.kv.Load().Usage(t.Context(), "host"); err != nil || n < 4<<20 || n > 5<<20 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// TestHostKVWhileStarting has a plugin use its store before it is ready.
func TestHostKVWhileStarting(t *testing.T) {
	h := newHostBench(t, nil, "kv")
	h.do(t, order{Op: "get", Key: "started"}, "yes never")
}

func TestHostGrants(t *testing.T) {
	h := newHostBench(t, nil, "kv")
	for op, grant := range map[string]string{"user": "users", "models": "models", "chat": "models", "file": "files", "emit": "events"} {
		got := h.say(t, order{Op: op, ID: "x", Model: "words"})
		if want := fmt.Sprintf(`not granted: the plugin host is not granted %q: the operator adds it to "grants" in its plugin.json`, grant); got != want {
			t.Errorf("%s: %s", op, got)
		}
	}
	if h.models.asked.Load() > 0 {
		t.Error("a model was asked")
	}
}

func TestHostUsers(t *testing.T) {
	h := newHostBench(t, nil, "users")
	h.do(t, order{Op: "user", ID: "a1"}, `{"id":"a1","name":"Ann","email":"ann@example.test","role":"user","groups":[{"id":"g","name":"Group"}]}`)
	h.do(t, order{Op: "user", Email: "ann@example.test"}, `{"id":"a1","name":"Ann","email":"ann@example.test","role":"user","groups":[{"id":"g","name":"Group"}]}`)
	h.do(t, order{Op: "user", ID: "nobody"}, "not found")
	h.do(t, order{Op: "user", Email: "nobody@example.test"}, "not found")
	h.do(t, order{Op: "user"}, "galley: InvalidArgument: either id or email is needed")
	h.do(t, order{Op: "user", ID: "a\x00"}, "galley: InvalidArgument: id is not a line of text")
	h.do(t, order{Op: "users", Key: "an", N: 2}, `an 32`)
	h.do(t, order{Op: "users", Key: "an", N: -5}, `an 31`)
	for _, id := range []string{"panic", "broken"} { // told without its text, and the server goes on
		h.do(t, order{Op: "user", ID: id}, "galley: Internal: Galley could not do this; its log says why")
	}
	h.do(t, order{Op: "user", ID: "nobody"}, "not found")
}

func TestHostModels(t *testing.T) {
	h := newHostBench(t, nil, "models")
	h.do(t, order{Op: "models", ID: "a1"}, "m for a1 [x]")
	h.do(t, order{Op: "chat", ID: "a1", Model: "words"}, "to a1")
	h.do(t, order{Op: "chat", Model: "whole"}, "all of it")
	h.do(t, order{Op: "chat", Model: "busy"}, "refused: 429 too many, Retry-After 7")
	h.do(t, order{Op: "chat", Model: "error"}, "refused: 502 it burns, Retry-After ")
	h.do(t, order{Op: "chat", Model: "none"}, "refused: 400 Model not found, Retry-After ")
	h.do(t, order{Op: "chat", Model: "unheard of"}, "refused: 404 Model not found, Retry-After ")
	h.do(t, order{Op: "chat"}, "galley: InvalidArgument: body names no model")
	h.do(t, order{Op: "embed", ID: "a1", Model: "m", Key: "four"}, "[[4 0.5] [4 0.5]]")
	h.do(t, order{Op: "embed", Model: "m", Key: "four"}, "refused: 400 Model not found, Retry-After ")
}

// TestHostChatIsCancelled has a plugin leave an answer that goes on.
func TestHostChatIsCancelled(t *testing.T) {
	h := newHostBench(t, nil, "models")
	h.do(t, order{Op: "chat", Model: "endless", N: 1}, "first")
	eventually(t, func() bool { return h.models.waiting.Load() == 0 })
}

// TestHostCallsAreBounded has a plugin ask more at a time than it may.
func TestHostCallsAreBounded(t *testing.T) {
	h := newHostBench(t, nil, "models")
	h.do(t, order{Op: "flood", Model: "endless", N: maxAsking + 40}, fmt.Sprintf("%d answered, 40 refused", maxAsking))
	eventually(t, func() bool { return h.models.waiting.Load() == 0 })
	h.do(t, order{Op: "chat", ID: "a1", Model: "words"}, "to a1")
}

// TestHostModelThatAsksItself ends after a few rounds.
func TestHostModelThatAsksItself(t *testing.T) {
	h := newHostBench(t, nil, "models")
	h.do(t, order{Op: "chat", Model: "narcissus"}, "refused: 508 Models are asked by way of plugins more than four calls deep: "+
		"a plugin seems to ask for its own model, or to be a filter of what it asks, Retry-After ")
	if n := h.models.asked.Load(); n != maxDepth {
		t.Errorf("it was asked %d times", n)
	}
}

// TestEmbeddingsOfPlugins asks a plugin's model as the API does.
func TestEmbeddingsOfPlugins(t *testing.T) {
	h := newHostBench(t, nil)
	target, err := h.llm.Resolve(t.Context(), nil, "narcissus")
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		`{"input":["one","three"]}`: `{"object":"list","data":[{"object":"embedding","embedding":[3,0.25],"index":0},{"object":"embedding","embedding":[5,0.25],"index":1}],` +
			`"model":"narcissus","usage":{"prompt_tokens":0,"total_tokens":0}}`,
		`{"input":"four"}`: `{"object":"list","data":[{"object":"embedding","embedding":[4,0.25],"index":0}],"model":"narcissus","usage":{"prompt_tokens":0,"total_tokens":0}}`,
	} {
		got, err := embedding.Create(t.Context(), target, []byte(request), &llm.Caller{ID: "u"})
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", request, got, err)
		}
	}
	for _, request := range []string{`{}`, `{"input":[]}`, `{"input":["a",1]}`, `{"input":{}}`} {
		if _, err := embedding.Create(t.Context(), target, []byte(request), nil); !errors.Is(err, llm.ErrBadRequest) {
			t.Errorf("%s: %v", request, err)
		}
	}
	var u *llm.UpstreamError
	target.Upstream = "other"
	if _, err := embedding.Create(t.Context(), target, []byte(`{"input":"x"}`), nil); !errors.As(err, &u) || u.Status != 404 || u.Message() != "no such mirror" {
		t.Error(err)
	}
	h.put(t, Manifest{ID: "basic"}, "basic") // its models make none
	eventually(t, func() bool {
		target, err = h.llm.Resolve(t.Context(), nil, "parrot")
		return err == nil
	})
	if _, err := embedding.Create(t.Context(), target, []byte(`{"input":"x"}`), nil); !errors.As(err, &u) || u.Status != 400 {
		t.Error(err)
	}
}

func TestHostEvents(t *testing.T) {
	h := newHostBench(t, nil, "events")
	h.do(t, order{Op: "emit", ID: "a1", Chat: "c", Message: "m", Key: "status", Value: `{"done":true}`}, "3")
	e := <-h.events
	if e.GetUserId() != "a1" || e.GetChatId() != "c" || e.GetMessageId() != "m" || e.GetType() != "status" || string(e.GetData()) != `{"done":true}` {
		t.Error(e)
	}
	for _, c := range []struct {
		order
		want string
	}{
		{order{Key: "status"}, "user_id is missing"},
		{order{ID: "a1"}, "type is not of letters, digits and _.:-, at most 128"},
		{order{ID: "a1", Key: `x"y`}, "type is not of letters, digits and _.:-, at most 128"},
		{order{ID: "a1", Key: "status", Message: "m"}, "message_id is given without chat_id"},
		{order{ID: "a1", Key: "status", Chat: strings.Repeat("c", 256)}, "chat_id is longer than 255 bytes"},
		{order{ID: "a1", Key: "status", Chat: "c\n"}, "chat_id is not a line of text"},
		{order{ID: "a1", Key: "status", Size: maxEvent}, "data is larger than 1048576 bytes"},
	} {
		c.order.Op = "emit"
		h.do(t, c.order, "galley: InvalidArgument: "+c.want)
	}
	if err := checkEvent(&pb.EmitRequest{UserId: "a", Type: "t", Data: []byte(`{"a":NaN}`)}); err == nil {
		t.Error("NaN is taken for JSON")
	}
}

func TestHostFiles(t *testing.T) {
	h := newHostBench(t, nil, "files")
	h.do(t, order{Op: "file", ID: "f1"}, "not found")
	h.do(t, order{Op: "read", ID: "f1"}, "not found")
	const size = 50 << 20
	runtime.GC()
	h.files.measure()
	before := h.files.peak
	sum := sha256.New()
	if _, err := io.CopyN(sum, &pattern{}, size); err != nil {
		t.Fatal(err)
	}
	h.do(t, order{Op: "write", ID: "a1", Key: "big file.bin", Value: "application/x-big", Size: size}, "f1 a1 big file.bin application/x-big 52428800")
	h.do(t, order{Op: "file", ID: "f1"}, "f1 a1 big file.bin application/x-big 52428800")
	h.do(t, order{Op: "read", ID: "f1"}, hex.EncodeToString(sum.Sum(nil)))
	if grown := int64(h.files.peak) - int64(before); grown > size/2 {
		t.Errorf("%d MiB of memory for a file of 50", grown>>20)
	}
	h.do(t, order{Op: "memory"}, "ok")
	for name, want := range map[string]string{"": "name is not the name of a file", "a/b": "name is not the name of a file", "..": "name is not the name of a file", "a\tb": "name is not a line of text"} {
		h.do(t, order{Op: "write", ID: "a1", Key: name, Size: 1}, "galley: InvalidArgument: "+want)
	}
	h.do(t, order{Op: "write", Key: "a", Size: 1}, "galley: InvalidArgument: user_id is missing")
}

// eventually waits for a condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
	}
}

// sent collects the messages of a stream.
type sent struct {
	grpc.ServerStreamingServer[pb.ChatResponse]
	batches [][]string
}

func (s *sent) Send(r *pb.ChatResponse) error {
	var texts []string
	for _, c := range r.GetChunks() {
		texts = append(texts, string(c))
	}
	s.batches = append(s.batches, texts)
	return nil
}

// TestChunksThatAreThereGoTogether batches what is ready and holds back nothing.
func TestChunksThatAreThereGoTogether(t *testing.T) {
	large := `{"x":"` + strings.Repeat("x", maxBatch) + `"}`
	s := &sent{}
	src := &words{rest: []string{"a"}, raw: []string{`{"n":1}`, `{"n":2}`, `{"n":3}`, large, `{"n":4}`}}
	if err := sendChunks(llm.NewStream(http.Header{}, src), s); err != nil {
		t.Fatal(err)
	}
	got := make([]int, len(s.batches))
	for i, b := range s.batches {
		got[i] = len(b)
	}
	if !slices.Equal(got, []int{5, 1}) || s.batches[0][1] != `{"n":1}` || s.batches[0][3] != `{"n":3}` || s.batches[1][0] != `{"n":4}` {
		t.Errorf("batches of %v", got)
	}
}
