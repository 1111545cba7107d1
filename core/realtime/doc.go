// Package realtime is the Socket.IO 5 / Engine.IO 4 server that the Open WebUI
// frontend (socket.io-client) and python-socketio talk to.
//
// A [Server] is an http.Handler for /ws/socket.io/. Each client has one engine
// connection (WebSocket, or HTTP long polling where allowed) that carries at
// most one [Socket], its session on the default namespace. Sockets join rooms;
// [Server.Emit] encodes an event once, frames it once and hands the same bytes
// to the send queue of every socket in the room. A socket whose queue
// overflows is dropped, so that a slow reader costs nobody else anything.
//
// With [Options.Replicas] an event goes to the sockets of other processes too,
// once to each process that has some in the room.
//
// Subpackage presence holds the handlers every Open WebUI session needs
// (user-join, heartbeat, usage, events:chat). Further handlers are added with
// [Server.On]:
//
//	srv.On("events:channel", realtime.Bind(func(ctx context.Context, s *realtime.Socket, in channelEvent) (any, error) {
//		srv.Emit("channel:"+in.ID, "events:channel", in.Out())
//		return nil, nil
//	}))
package realtime
