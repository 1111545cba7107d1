package sdk

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Host is what Galley offers to a plugin. Each part but DataDir needs a grant in the plugin's manifest; without it, its
// calls fail with [ErrNotGranted].
type Host struct {
	KV     KV
	Users  Users
	Models Models
	Files  Files
	Events Events
	// DataDir is a folder that the plugin may keep files in; replicas do not share it.
	DataDir string
	grants  []string
}

// NewHost makes a Host that talks over a connection; for tests.
func NewHost(conn grpc.ClientConnInterface, grants []string, dataDir string) *Host {
	return &Host{
		KV: KV{pb.NewHostKvClient(conn)}, Users: Users{pb.NewHostUsersClient(conn)}, Models: Models{pb.NewHostModelsClient(conn)},
		Files: Files{pb.NewHostFilesClient(conn)}, Events: Events{pb.NewHostEventsClient(conn)}, DataDir: dataDir, grants: grants,
	}
}

// Granted says whether the operator granted something.
func (h *Host) Granted(name string) bool { return slices.Contains(h.grants, name) }

// KV is a store of the plugin's own, in Galley's database: it outlives the process, and all replicas share it. Grant "kv".
// Keys have 1 to 512 bytes of UTF-8, values at most 1 MiB. Errors: [ErrNotFound], [ErrConflict], [ErrQuota].
type KV struct{ c pb.HostKvClient }

// Entry is a value in the store.
type Entry struct {
	Key     string
	Value   []byte
	Version int64
	Expires time.Time // zero: never
}

// Get reads a value.
func (k KV) Get(ctx context.Context, key string) (Entry, error) {
	e, err := k.c.Get(ctx, &pb.KvGetRequest{Key: key})
	if err != nil {
		return Entry{}, hostError(err)
	}
	return entryOf(e), nil
}

// Put writes a value. ttl 0 keeps it for ever.
func (k KV) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	_, err := k.c.Put(ctx, &pb.KvPutRequest{Key: key, Value: value, TtlMs: ttlMillis(ttl)})
	return hostError(err)
}

// CompareAndSet writes a value if the entry still has the version, 0 meaning that there is none; else [ErrConflict].
func (k KV) CompareAndSet(ctx context.Context, key string, value []byte, version int64, ttl time.Duration) (int64, error) {
	v, err := k.c.CompareAndSet(ctx, &pb.KvCompareAndSetRequest{Key: key, Value: value, Version: version, TtlMs: ttlMillis(ttl)})
	return v.GetVersion(), hostError(err)
}

// Add adds to a counter in one step and gives its value; a missing one counts as 0 and gets ttl.
func (k KV) Add(ctx context.Context, key string, delta int64, ttl time.Duration) (value int64, expires time.Time, err error) {
	c, err := k.c.Add(ctx, &pb.KvAddRequest{Key: key, Delta: delta, TtlMs: ttlMillis(ttl)})
	return c.GetValue(), millis(c.GetExpiresAt()), hostError(err)
}

// Delete removes a value and says whether it was there.
func (k KV) Delete(ctx context.Context, key string) (bool, error) {
	r, err := k.c.Delete(ctx, &pb.KvDeleteRequest{Key: key})
	return r.GetDeleted(), hostError(err)
}

// List goes through the entries whose keys have a prefix, in order.
func (k KV) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for after, more := "", true; more; {
			page, err := k.c.List(ctx, &pb.KvListRequest{Prefix: prefix, After: after})
			if err != nil {
				yield(Entry{}, hostError(err))
				return
			}
			for _, e := range page.GetEntries() {
				after = e.GetKey()
				if !yield(entryOf(e), nil) {
					return
				}
			}
			more = page.GetMore() && len(page.GetEntries()) > 0
		}
	}
}

// ttlMillis rounds up, since 0 means for ever.
func ttlMillis(ttl time.Duration) int64 {
	return int64((ttl + time.Millisecond - 1) / time.Millisecond)
}

func entryOf(e *pb.KvEntry) Entry {
	return Entry{Key: e.GetKey(), Value: e.GetValue(), Version: e.GetVersion(), Expires: millis(e.GetExpiresAt())}
}

func millis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Users looks up accounts. Grant "users". Error: [ErrNotFound].
type Users struct{ c pb.HostUsersClient }

// Get finds an account with its groups.
func (u Users) Get(ctx context.Context, id string) (Caller, error) {
	c, err := u.c.Get(ctx, &pb.UserGetRequest{Id: id})
	return callerOf(c), hostError(err)
}

// ByEmail finds an account with its groups.
func (u Users) ByEmail(ctx context.Context, email string) (Caller, error) {
	c, err := u.c.Get(ctx, &pb.UserGetRequest{Email: email})
	return callerOf(c), hostError(err)
}

// List gives a page of accounts (from 1, 30 each) whose name or e-mail address has a part, and how many there are.
func (u Users) List(ctx context.Context, query string, page int) ([]Caller, int, error) {
	r, err := u.c.List(ctx, &pb.UserListRequest{Query: query, Page: int32(page)})
	if err != nil {
		return nil, 0, hostError(err)
	}
	out := make([]Caller, 0, len(r.GetUsers()))
	for _, c := range r.GetUsers() {
		out = append(out, callerOf(c))
	}
	return out, int(r.GetTotal()), nil
}

// Models asks models of Galley's, whoever serves them. Grant "models". With a user id, only models that the user may use
// are there; with "", all are.
type Models struct{ c pb.HostModelsClient }

// List gives the models.
func (m Models) List(ctx context.Context, userID string) ([]Model, error) {
	r, err := m.c.List(ctx, &pb.HostModelsRequest{UserId: userID})
	if err != nil {
		return nil, hostError(err)
	}
	out := make([]Model, 0, len(r.GetModels()))
	for _, x := range r.GetModels() {
		out = append(out, Model{ID: x.GetId(), Name: x.GetName(), Description: x.GetDescription(), OwnedBy: x.GetOwnedBy(), Tags: x.GetTags(), Created: x.GetCreated(), Info: x.GetInfo()})
	}
	return out, nil
}

// Chat asks a model; body is a chat completion request with "model": a map, a struct or a [*Body]. Ending the loop ends the call.
func (m Models) Chat(ctx context.Context, userID string, body any) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		raw, err := marshal(body)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := m.c.Chat(ctx, &pb.HostChatRequest{UserId: userID, Body: raw})
		for err == nil {
			var part *pb.ChatResponse
			if part, err = stream.Recv(); err != nil {
				break
			}
			for _, raw := range part.GetChunks() {
				c, _ := decodeChunk(raw) // of an unknown form: Raw says it all
				if !yield(c, nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(Chunk{}, hostError(err))
		}
	}
}

// Ask asks a model one question and gives the text of the answer.
func (m Models) Ask(ctx context.Context, userID, model string, messages ...Message) (string, error) {
	var text []byte
	for c, err := range m.Chat(ctx, userID, map[string]any{"model": model, "messages": messages, "stream": true}) {
		if err != nil {
			return "", err
		}
		text = append(text, c.Text...)
	}
	return string(text), nil
}

// Embed makes embeddings with a model.
func (m Models) Embed(ctx context.Context, userID, model string, input ...string) ([][]float32, error) {
	r, err := m.c.Embed(ctx, &pb.EmbedRequest{Meta: &pb.Meta{Caller: &pb.Caller{Id: userID}}, Model: model, Input: input})
	if err != nil {
		return nil, hostError(err)
	}
	var out [][]float32
	for _, e := range r.GetEmbeddings() {
		out = append(out, e.GetValues())
	}
	return out, nil
}

// Files reads and writes files of users. Grant "files". Error: [ErrNotFound].
type Files struct{ c pb.HostFilesClient }

// File describes a file.
type File struct {
	ID, UserID, Name, ContentType string
	Size                          int64
	Created                       time.Time
}

// Get describes a file.
func (f Files) Get(ctx context.Context, id string) (File, error) {
	i, err := f.c.Get(ctx, &pb.FileGetRequest{Id: id})
	return fileOf(i), hostError(err)
}

func fileOf(i *pb.FileInfo) File {
	return File{ID: i.GetId(), UserID: i.GetUserId(), Name: i.GetName(), ContentType: i.GetContentType(), Size: i.GetSize(), Created: time.Unix(i.GetCreatedAt(), 0)}
}

// Read opens a file; close it.
func (f Files) Read(ctx context.Context, id string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := f.c.Read(ctx, &pb.FileGetRequest{Id: id})
	if err != nil {
		cancel()
		return nil, hostError(err)
	}
	r := &fileReader{s: s, cancel: cancel}
	// the first part tells whether there is such a file
	if r.fill(); r.err != nil && r.err != io.EOF {
		cancel()
		return nil, r.err
	}
	return r, nil
}

type fileReader struct {
	s      grpc.ServerStreamingClient[pb.FilePart]
	cancel context.CancelFunc
	rest   []byte
	err    error
}

func (r *fileReader) fill() {
	part, err := r.s.Recv()
	switch {
	case err == io.EOF:
		r.err = io.EOF
	case err != nil:
		r.err = hostError(err)
	default:
		r.rest = part.GetData()
	}
}

func (r *fileReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *fileReader) Close() error {
	r.cancel()
	return nil
}

// Write makes a file of a user's of what src gives.
func (f Files) Write(ctx context.Context, file File, src io.Reader) (File, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := f.c.Write(ctx)
	if err != nil {
		return File{}, hostError(err)
	}
	err = s.Send(&pb.FileWriteRequest{Item: &pb.FileWriteRequest_Info{Info: &pb.FileInfo{UserId: file.UserID, Name: file.Name, ContentType: file.ContentType}}})
	for buf := make([]byte, 128<<10); err == nil; {
		n, rerr := io.ReadFull(src, buf)
		if n > 0 {
			err = s.Send(&pb.FileWriteRequest{Item: &pb.FileWriteRequest_Data{Data: buf[:n]}})
		}
		if rerr == io.EOF || rerr == io.ErrUnexpectedEOF {
			break
		}
		if rerr != nil {
			return File{}, rerr
		}
	}
	if err != nil && err != io.EOF { // EOF: the answer says why
		return File{}, hostError(err)
	}
	info, err := s.CloseAndRecv()
	return fileOf(info), hostError(err)
}

// Events sends events to people's browsers. Grant "events".
type Events struct{ c pb.HostEventsClient }

// Event is something to tell a user's browsers.
type Event struct {
	UserID    string
	ChatID    string // with MessageID: the event belongs to that message
	MessageID string
	Type      string // "notification", "status", …
	Data      any
}

// Emit sends an event and gives the number of connections it went to.
func (e Events) Emit(ctx context.Context, ev Event) (int, error) {
	data, err := marshal(ev.Data)
	if err != nil {
		return 0, err
	}
	r, err := e.c.Emit(ctx, &pb.EmitRequest{UserId: ev.UserID, ChatId: ev.ChatID, MessageId: ev.MessageID, Type: ev.Type, Data: data})
	return int(r.GetSockets()), hostError(err)
}

// Notify shows a notification ("info", "success", "warning", "error") to a user.
func (e Events) Notify(ctx context.Context, userID, kind, text string) error {
	_, err := e.Emit(ctx, Event{UserID: userID, Type: "notification", Data: map[string]string{"type": kind, "content": text}})
	return err
}
