package plugin

import (
	"context"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Services are those parts of Galley that plugins can be granted. A nil one is not there.
type Services struct {
	// APIKeyHeader is the header in which programs send keys, beside Authorization.
	APIKeyHeader string
	// Groups gives the groups of a user, inherited ones too. It is asked for each request of a known caller.
	Groups func(ctx context.Context, userID string) ([]sdk.Group, error)
	Users  UserService
	Models ModelService
	Files  FileService
	// Emit sends an event to the browsers of a user and gives how many connections there are. The request has been
	// checked.
	Emit func(ctx context.Context, e *pb.EmitRequest) (sockets int, err error)
}

// UserService looks up accounts. Those found alone have their groups. Errors: store.ErrNotFound.
type UserService interface {
	Get(ctx context.Context, id string) (*pb.Caller, error)
	ByEmail(ctx context.Context, email string) (*pb.Caller, error)
	// List gives a page (from 1) of 30 accounts.
	List(ctx context.Context, query string, page int) (users []*pb.Caller, total int64, err error)
}

// ModelService asks models. With a user's id only the models that the user may use are there. Errors: store.ErrNotFound
// for an unknown user, *web.Error, *llm.UpstreamError.
type ModelService interface {
	List(ctx context.Context, userID string) ([]*pb.Model, error)
	// Chat asks a model. The answer is whole where the body says "stream": false, or where the provider gives no stream.
	Chat(ctx context.Context, userID string, body []byte) (*llm.Response, error)
	Embed(ctx context.Context, userID, model string, input []string) (*pb.EmbedResponse, error)
}

// FileService reads and writes files. Errors: store.ErrNotFound, *web.Error.
type FileService interface {
	Get(ctx context.Context, id string) (*pb.FileInfo, error)
	// Read gives the content in parts of at most 256 KiB, each valid until part returns.
	Read(ctx context.Context, id string, part func([]byte) error) error
	// Write makes a file of what next gives until io.EOF. info has the owner, the name and the content type.
	Write(ctx context.Context, info *pb.FileInfo, next func() ([]byte, error)) (*pb.FileInfo, error)
}

// groups gives a user's groups.
func (m *Manager) groups(ctx context.Context, userID string) ([]sdk.Group, error) {
	if m.o.Host.Groups == nil {
		return nil, nil
	}
	return m.o.Host.Groups(ctx, userID)
}

// meta describes a caller to a plugin.
func (m *Manager) meta(ctx context.Context, p *auth.Principal) (*pb.Meta, error) {
	meta := &pb.Meta{RequestId: web.RequestID(ctx)}
	if p == nil || p.User == nil || p.System {
		return meta, nil
	}
	meta.Caller = &pb.Caller{Id: p.ID, Name: p.Name, Email: p.Email, Role: p.Role}
	groups, err := m.groups(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		meta.Caller.Groups = append(meta.Caller.Groups, &pb.Group{Id: g.ID, Name: g.Name})
	}
	return meta, nil
}
