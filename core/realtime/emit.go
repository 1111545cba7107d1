package realtime

// Emit sends an event to the sockets of a room, except those with the given
// session ids. The payload is marshalled once; nil sends the event without an
// argument. Use a jsontext.Value for a payload that is JSON already. The error
// is that of marshalling.
func (s *Server) Emit(room, event string, payload any, except ...string) error {
	p, err := encodePayload(event, payload)
	if err != nil {
		return err
	}
	s.EmitRaw(room, p, except...)
	return nil
}

// EmitMany sends an event to the sockets of several rooms. A socket that is in
// more than one of them gets it once.
func (s *Server) EmitMany(rooms []string, event string, payload any, except ...string) error {
	p, err := encodePayload(event, payload)
	if err != nil {
		return err
	}
	if len(rooms) == 0 {
		return nil
	}
	s.sendRooms(rooms, p.frame, except)
	if s.opts.Replicas != nil {
		s.forward(rooms, p, except)
	}
	return nil
}

// EmitRaw sends an encoded packet to a room. It is the hot path: with
// [EncodeEvent] a streamed delta costs one allocation and no decoding.
func (s *Server) EmitRaw(room string, p Packet, except ...string) {
	if len(p.frame) == 0 {
		return
	}
	s.rooms.send(room, p.frame, except)
	if s.opts.Replicas != nil {
		s.forward([]string{room}, p, except)
	}
}

// Broadcast sends an event to every socket.
func (s *Server) Broadcast(event string, payload any, except ...string) error {
	p, err := encodePayload(event, payload)
	if err != nil {
		return err
	}
	s.sendAll(p.frame, except)
	s.opts.Replicas.Tell("", emitMethod, emitBody(nil, p, except))
	return nil
}

// EmitLocal is Emit for the sockets of this process alone.
func (s *Server) EmitLocal(room, event string, payload any, except ...string) error {
	p, err := encodePayload(event, payload)
	if err != nil {
		return err
	}
	s.SendLocal(room, p, except...)
	return nil
}

// SendLocal is EmitRaw for the sockets of this process alone.
func (s *Server) SendLocal(room string, p Packet, except ...string) {
	if len(p.frame) > 0 {
		s.rooms.send(room, p.frame, except)
	}
}

func (s *Server) sendRooms(rooms []string, frame []byte, except []string) {
	if len(rooms) == 1 {
		s.rooms.send(rooms[0], frame, except)
		return
	}
	seen := make(map[*Socket]struct{})
	skip := make(map[string]struct{}, len(except))
	for _, sid := range except {
		skip[sid] = struct{}{}
	}
	for _, room := range rooms {
		for _, sock := range s.rooms.members(room) {
			_, done := seen[sock]
			_, out := skip[sock.sid]
			if !done && !out {
				seen[sock] = struct{}{}
				sock.conn.enqueue(frame)
			}
		}
	}
}

func (s *Server) sendAll(frame []byte, except []string) {
	skip := make(map[string]struct{}, len(except))
	for _, sid := range except {
		skip[sid] = struct{}{}
	}
	for _, sock := range s.Sockets() {
		if _, out := skip[sock.sid]; !out {
			sock.conn.enqueue(frame)
		}
	}
}

func encodePayload(event string, payload any) (Packet, error) {
	if payload == nil {
		return EncodeEvent(event, nil), nil
	}
	return Encode(event, payload)
}

// RoomSize is the number of sockets in a room. Another process that has some counts as one.
func (s *Server) RoomSize(room string) int {
	return s.rooms.size(room) + len(s.opts.Replicas.Holders(roomKind, room))
}

// RoomSockets returns this server's sockets in a room in the order of joining.
func (s *Server) RoomSockets(room string) []*Socket { return s.rooms.members(room) }

// RoomUsers returns the distinct users of a room in the order of joining.
// Sockets without a user don't count.
func (s *Server) RoomUsers(room string) []User {
	out := []User{}
	seen := make(map[string]struct{})
	for _, sock := range s.rooms.members(room) {
		u := sock.User()
		if _, ok := seen[u.ID]; ok || u.ID == "" {
			continue
		}
		seen[u.ID] = struct{}{}
		out = append(out, u)
	}
	return out
}

// UserSockets returns the sockets of a user.
func (s *Server) UserSockets(userID string) []*Socket { return s.rooms.members(UserRoom(userID)) }

// SocketByID returns the socket with a session id, or nil.
func (s *Server) SocketByID(sid string) *Socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.sockets[sid]
}

// Sockets returns all sockets.
func (s *Server) Sockets() []*Socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Socket, 0, len(s.sockets))
	for _, sock := range s.sockets {
		out = append(out, sock)
	}
	return out
}

// Count is the number of sockets.
func (s *Server) Count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.sockets)
}

// DisconnectUser ends all sessions of a user and returns how many there were, those at other processes not counted.
func (s *Server) DisconnectUser(userID string) int {
	for _, id := range s.opts.Replicas.Holders(roomKind, UserRoom(userID)) {
		s.opts.Replicas.Tell(id, disconnectMethod, []byte(userID))
	}
	return s.disconnectHere(userID)
}

func (s *Server) disconnectHere(userID string) int {
	socks := s.UserSockets(userID)
	for _, sock := range socks {
		sock.Disconnect()
	}
	return len(socks)
}
