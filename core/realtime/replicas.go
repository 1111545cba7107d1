package realtime

import (
	"context"
	"errors"
	"slices"

	"github.com/galleychat/galley/core/replicas"
)

// What processes tell one another: the rooms that they have sockets in, so that each event goes once to each process that
// has somebody to give it to, and to none other.
const (
	roomKind         = "room"
	emitMethod       = "emit"
	disconnectMethod = "disconnect"
)

var errMessage = errors.New("realtime: a message of another process that is none")

// join has the server take part in what goes on between processes.
func (s *Server) join(n *replicas.Node) {
	s.rooms.changed = func(room string, used bool) {
		if used {
			n.Set(roomKind, room, nil)
		} else {
			n.Delete(roomKind, room)
		}
	}
	n.Handle(emitMethod, func(_ context.Context, _ string, body []byte) ([]byte, error) {
		parts := replicas.Split(body)
		if len(parts) != 3 {
			return nil, errMessage
		}
		rooms, except := texts(parts[0]), texts(parts[1])
		frame := RawPacket(parts[2]).frame
		if len(rooms) == 0 {
			s.sendAll(frame, except)
		} else {
			s.sendRooms(rooms, frame, except)
		}
		return nil, nil
	})
	n.Handle(disconnectMethod, func(_ context.Context, _ string, body []byte) ([]byte, error) {
		s.disconnectHere(string(body))
		return nil, nil
	})
}

func texts(joined []byte) (out []string) {
	for _, t := range replicas.Split(joined) {
		out = append(out, string(t))
	}
	return out
}

// forward sends an event to the other processes that have sockets in one of some rooms.
func (s *Server) forward(rooms []string, p Packet, except []string) {
	var to []string
	for _, room := range rooms {
		ids := s.opts.Replicas.Holders(roomKind, room)
		if len(rooms) == 1 {
			to = ids
			break
		}
		for _, id := range ids {
			if !slices.Contains(to, id) {
				to = append(to, id)
			}
		}
	}
	if len(to) == 0 {
		return
	}
	body := emitBody(rooms, p, except)
	for _, id := range to {
		s.opts.Replicas.Tell(id, emitMethod, body)
	}
}

func emitBody(rooms []string, p Packet, except []string) []byte {
	return replicas.Join(replicas.Join(rooms...), replicas.Join(except...), p.Bytes())
}

// SocketHolder is the id of another process that has the socket with a session id, "" for none.
func (s *Server) SocketHolder(sid string) string {
	if ids := s.opts.Replicas.Holders(roomKind, sid); len(ids) > 0 {
		return ids[0]
	}
	return ""
}
