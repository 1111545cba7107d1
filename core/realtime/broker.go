package realtime

import "context"

// A Message is one emit on its way to the other nodes of a cluster.
type Message struct {
	// Rooms are the target rooms; empty means every socket.
	Rooms []string
	// Except lists session ids that must not get the packet.
	Except []string
	// Packet is the Engine.IO text of the event, see [Packet.Bytes].
	Packet []byte
}

// A Broker carries emits between nodes. Without one a server is on its own.
type Broker interface {
	// Publish hands a message to the other nodes. It is called on the emitting
	// goroutine and must queue rather than wait for the network. It must not
	// keep or change the slices after it returns unless it copies them.
	Publish(Message)
	// Subscribe calls deliver for each message another node published, until
	// ctx is done. It returns once the subscription is active.
	Subscribe(ctx context.Context, deliver func(Message)) error
}
