package plugintest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// testHeader marks calls of the test's own.
const testHeader = "plugintest"

// asTest is a connection whose calls are the test's.
type asTest struct{ grpc.ClientConnInterface }

func mark(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, testHeader, "1")
}

func (c asTest) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	return c.ClientConnInterface.Invoke(mark(ctx), method, in, out, opts...)
}

func (c asTest) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConnInterface.NewStream(mark(ctx), d, method, opts...)
}

// fakeHost is the host's services in memory.
type fakeHost struct {
	mu      sync.Mutex
	grants  []string
	calls   map[string]int
	failing map[string]error
	kv      kvStore
	users   []sdk.Caller
	models  []fakeModel
	files   map[string]fakeFile
	events  []sdk.Event
}

type fakeModel struct {
	sdk.Model
	answer func(*sdk.ChatRequest) ([]sdk.Chunk, error)
}

type fakeFile struct {
	info    *pb.FileInfo
	content []byte
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		calls: map[string]int{}, failing: map[string]error{}, files: map[string]fakeFile{}, users: []sdk.Caller{User, Admin, Pending},
		kv: kvStore{entries: map[string]kvEntry{}, quota: 16 << 20},
	}
}

func (f *fakeHost) register(r grpc.ServiceRegistrar) {
	pb.RegisterHostKvServer(r, &kvService{f: f})
	pb.RegisterHostUsersServer(r, &usersService{f: f})
	pb.RegisterHostModelsServer(r, &modelsService{f: f})
	pb.RegisterHostFilesServer(r, &filesService{f: f})
	pb.RegisterHostEventsServer(r, &eventsService{f: f})
}

func (f *fakeHost) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(1 << 30), grpc.MaxSendMsgSize(1 << 30),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := f.admit(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return h(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := f.admit(ss.Context(), info.FullMethod); err != nil {
				return err
			}
			return h(srv, ss)
		}),
	}
}

// admit counts a call of the plugin's and checks its grant: "kv" for /plugin.v1.HostKv/Get.
func (f *fakeHost) admit(ctx context.Context, method string) error {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get(testHeader)) > 0 {
		return nil
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/plugin.v1.Host"), "/")
	part := strings.ToLower(service)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[part]++
	if err := f.failing[part]; err != nil {
		return err
	}
	if !slices.Contains(f.grants, part) {
		return status.Errorf(codes.PermissionDenied, "%s is not granted", part)
	}
	return nil
}

type usersService struct {
	pb.UnimplementedHostUsersServer
	f *fakeHost
}

func (u *usersService) Get(_ context.Context, req *pb.UserGetRequest) (*pb.Caller, error) {
	for _, c := range u.f.users {
		if req.GetId() != "" && c.ID == req.GetId() || req.GetEmail() != "" && strings.EqualFold(c.Email, req.GetEmail()) {
			return pbCaller(c), nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such user")
}

func (u *usersService) List(_ context.Context, req *pb.UserListRequest) (*pb.UserListResponse, error) {
	const size = 30
	out := &pb.UserListResponse{}
	part := strings.ToLower(req.GetQuery())
	for _, c := range u.f.users {
		if !strings.Contains(strings.ToLower(c.Name), part) && !strings.Contains(strings.ToLower(c.Email), part) {
			continue
		}
		if int(out.GetTotal())/size == max(int(req.GetPage()), 1)-1 {
			c.Groups = nil
			out.Users = append(out.Users, pbCaller(c))
		}
		out.Total++
	}
	return out, nil
}

type modelsService struct {
	pb.UnimplementedHostModelsServer
	f *fakeHost
}

func (m *modelsService) List(context.Context, *pb.HostModelsRequest) (*pb.ModelsResponse, error) {
	out := &pb.ModelsResponse{}
	for _, x := range m.f.models {
		out.Models = append(out.Models, &pb.Model{Id: x.ID, Name: cmp.Or(x.Name, x.ID), Description: x.Description, OwnedBy: x.OwnedBy, Tags: x.Tags, Created: x.Created, Info: x.Info})
	}
	return out, nil
}

func (m *modelsService) Chat(req *pb.HostChatRequest, out grpc.ServerStreamingServer[pb.ChatResponse]) error {
	body := sdk.NewBody(req.GetBody())
	var id string
	body.Get("model", &id)
	for _, x := range m.f.models {
		if x.ID != id {
			continue
		}
		chunks, err := x.answer(&sdk.ChatRequest{Body: body, Model: id, Stream: true})
		for _, c := range chunks {
			raw, err := json.Marshal(c)
			if err != nil {
				return err
			}
			if err := out.Send(&pb.ChatResponse{Chunks: [][]byte{raw}}); err != nil {
				return err
			}
		}
		if r := sdk.RefusalFrom(err); r != nil {
			return r.GRPCStatus().Err()
		}
		return err
	}
	return status.Errorf(codes.NotFound, "no model %q", id)
}

// Embed gives vectors made of the lengths of the texts.
func (m *modelsService) Embed(_ context.Context, req *pb.EmbedRequest) (*pb.EmbedResponse, error) {
	out := &pb.EmbedResponse{}
	for _, s := range req.GetInput() {
		out.Embeddings = append(out.Embeddings, &pb.Embedding{Values: []float32{float32(len(s)), 1}})
	}
	return out, nil
}

type filesService struct {
	pb.UnimplementedHostFilesServer
	f *fakeHost
}

func (f *fakeHost) addFile(file sdk.File, content []byte) *pb.FileInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file.ID == "" {
		file.ID = "file-" + strconv.Itoa(len(f.files)+1)
	}
	if file.Created.IsZero() {
		file.Created = time.Now()
	}
	info := &pb.FileInfo{Id: file.ID, UserId: file.UserID, Name: file.Name, ContentType: file.ContentType, Size: int64(len(content)), CreatedAt: file.Created.Unix()}
	f.files[file.ID] = fakeFile{info, content}
	return info
}

func (s *filesService) find(id string) (fakeFile, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	file, ok := s.f.files[id]
	if !ok {
		return file, status.Errorf(codes.NotFound, "no file %q", id)
	}
	return file, nil
}

func (s *filesService) Get(_ context.Context, req *pb.FileGetRequest) (*pb.FileInfo, error) {
	file, err := s.find(req.GetId())
	return file.info, err
}

func (s *filesService) Read(req *pb.FileGetRequest, out grpc.ServerStreamingServer[pb.FilePart]) error {
	file, err := s.find(req.GetId())
	if err != nil {
		return err
	}
	for part := range slices.Chunk(file.content, 256<<10) {
		if err := out.Send(&pb.FilePart{Data: part}); err != nil {
			return err
		}
	}
	return nil
}

func (s *filesService) Write(in grpc.ClientStreamingServer[pb.FileWriteRequest, pb.FileInfo]) error {
	first, err := in.Recv()
	if err != nil {
		return err
	}
	info := first.GetInfo()
	if info == nil {
		return status.Error(codes.InvalidArgument, "the first message has no info")
	}
	var content bytes.Buffer
	for {
		part, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(part.GetData()) > 256<<10 {
			return status.Error(codes.InvalidArgument, "a part is larger than 256 KiB")
		}
		content.Write(part.GetData())
	}
	return in.SendAndClose(s.f.addFile(sdk.File{UserID: info.GetUserId(), Name: info.GetName(), ContentType: info.GetContentType()}, content.Bytes()))
}

type eventsService struct {
	pb.UnimplementedHostEventsServer
	f *fakeHost
}

func (e *eventsService) Emit(_ context.Context, req *pb.EmitRequest) (*pb.EmitResponse, error) {
	if !json.Valid(req.GetData()) {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("the data of event %q is not JSON", req.GetType()))
	}
	e.f.mu.Lock()
	defer e.f.mu.Unlock()
	e.f.events = append(e.f.events, sdk.Event{UserID: req.GetUserId(), ChatID: req.GetChatId(), MessageID: req.GetMessageId(), Type: req.GetType(), Data: json.RawMessage(req.GetData())})
	return &pb.EmitResponse{Sockets: 1}, nil
}
