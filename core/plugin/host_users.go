package plugin

import (
	"context"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// hostUsers implements the look-up of accounts.
type hostUsers struct {
	pb.UnimplementedHostUsersServer
	users UserService
}

// Get implements pb.HostUsersServer.
func (s *hostUsers) Get(ctx context.Context, req *pb.UserGetRequest) (*pb.Caller, error) {
	switch id, email := req.GetId(), req.GetEmail(); {
	case (id == "") == (email == ""):
		return nil, invalid("either id or email is needed")
	case id != "":
		if err := checkID("id", id); err != nil {
			return nil, err
		}
		return s.users.Get(ctx, id)
	default:
		if err := checkLine("email", email, maxLine); err != nil {
			return nil, err
		}
		return s.users.ByEmail(ctx, email)
	}
}

// maxLine is how long texts that are looked for, and names, may be, in bytes.
const maxLine = 1024

// List implements pb.HostUsersServer. Pages before the first are the first.
func (s *hostUsers) List(ctx context.Context, req *pb.UserListRequest) (*pb.UserListResponse, error) {
	if err := checkLine("query", req.GetQuery(), maxLine); err != nil {
		return nil, err
	}
	users, total, err := s.users.List(ctx, req.GetQuery(), max(int(req.GetPage()), 1))
	if err != nil {
		return nil, err
	}
	return &pb.UserListResponse{Users: users, Total: total}, nil
}
