package plugin

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"google.golang.org/grpc"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// maxWritePart is how much a plugin may send of a file in one message.
const maxWritePart = 1 << 20

// hostFiles implements reading and writing files.
type hostFiles struct {
	pb.UnimplementedHostFilesServer
	files FileService
}

// Get implements pb.HostFilesServer.
func (s *hostFiles) Get(ctx context.Context, req *pb.FileGetRequest) (*pb.FileInfo, error) {
	if err := checkID("id", req.GetId()); err != nil {
		return nil, err
	}
	return s.files.Get(ctx, req.GetId())
}

// Read implements pb.HostFilesServer.
func (s *hostFiles) Read(req *pb.FileGetRequest, out grpc.ServerStreamingServer[pb.FilePart]) error {
	if err := checkID("id", req.GetId()); err != nil {
		return err
	}
	return s.files.Read(out.Context(), req.GetId(), func(part []byte) error { return out.Send(&pb.FilePart{Data: part}) })
}

// Write implements pb.HostFilesServer.
func (s *hostFiles) Write(in grpc.ClientStreamingServer[pb.FileWriteRequest, pb.FileInfo]) error {
	first, err := in.Recv()
	if errors.Is(err, io.EOF) || err == nil && first.GetInfo() == nil {
		return invalid("what the file is has to come first")
	}
	if err != nil {
		return err
	}
	info := first.GetInfo()
	if err := checkFile(info); err != nil {
		return err
	}
	made, err := s.files.Write(in.Context(), &pb.FileInfo{UserId: info.GetUserId(), Name: info.GetName(), ContentType: info.GetContentType()}, func() ([]byte, error) {
		msg, err := in.Recv()
		switch {
		case err != nil:
			return nil, err
		case msg.GetInfo() != nil:
			return nil, invalid("what the file is comes once")
		case len(msg.GetData()) > maxWritePart:
			return nil, invalid("a part of a file is larger than %d bytes", maxWritePart)
		}
		return msg.GetData(), nil
	})
	if err != nil {
		return err
	}
	return in.SendAndClose(made)
}

func checkFile(info *pb.FileInfo) error {
	if err := checkID("user_id", info.GetUserId()); err != nil {
		return err
	}
	name := info.GetName()
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return invalid("name is not the name of a file")
	}
	if err := checkLine("name", name, maxLine); err != nil {
		return err
	}
	return checkLine("content_type", info.GetContentType(), maxID)
}
