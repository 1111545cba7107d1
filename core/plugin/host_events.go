package plugin

import (
	"context"
	"encoding/json"
	"math"
	"regexp"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// maxEvent bounds the data of an event, in bytes.
const maxEvent = 1 << 20

// eventType is how types of events are named: "status", "chat:message:files".
var eventType = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,128}$`)

// hostEvents implements telling browsers.
type hostEvents struct {
	pb.UnimplementedHostEventsServer
	emit func(ctx context.Context, e *pb.EmitRequest) (int, error)
}

// Emit implements pb.HostEventsServer.
func (s *hostEvents) Emit(ctx context.Context, req *pb.EmitRequest) (*pb.EmitResponse, error) {
	if err := checkEvent(req); err != nil {
		return nil, err
	}
	n, err := s.emit(ctx, req)
	if err != nil {
		return nil, err
	}
	return &pb.EmitResponse{Sockets: int32(min(n, math.MaxInt32))}, nil
}

func checkEvent(req *pb.EmitRequest) error {
	if err := checkID("user_id", req.GetUserId()); err != nil {
		return err
	}
	for name, id := range map[string]string{"chat_id": req.GetChatId(), "message_id": req.GetMessageId()} {
		if err := checkLine(name, id, maxID); err != nil {
			return err
		}
	}
	switch data := req.GetData(); {
	case req.GetMessageId() != "" && req.GetChatId() == "":
		return invalid("message_id is given without chat_id")
	case !eventType.MatchString(req.GetType()):
		return invalid("type is not of letters, digits and _.:-, at most 128")
	case len(data) > maxEvent:
		return invalid("data is larger than %d bytes", maxEvent)
	case len(data) > 0 && !json.Valid(data):
		return invalid("data is no JSON")
	}
	return nil
}
