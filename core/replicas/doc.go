// Package replicas has the processes that serve one installation know of one another.
//
// Each process is a [Node] and tells the others what it has, as entries of a kind, a key and a value: rooms in which it has
// sockets, chats that it writes answers in. Every node keeps those of the others in memory, so that a question such as "is
// somebody else at work in this chat?" costs a look into a map. What one process wants of another goes by [Node.Tell] and
// [Node.Call].
//
// Entries travel as numbered changes. A node that misses one, or meets another node for the first time, asks for all; the
// number of the last change is in every heartbeat. A node that is not heard of for a while is taken for gone with all that
// it had, also if it is the [Bus] that has broken down: each process is then on its own until it is back.
package replicas

import "context"

// Bus carries messages between processes. core/redis has one.
type Bus interface {
	// Send queues a message for the process with an id, or for all others with "". It does not wait; what there is no room
	// for is lost.
	Send(to string, message []byte)
	// Run carries messages until ctx ends, as the process with an id. It calls up when others can reach it, at first and
	// again after each time they could not, and says when they no longer can; it calls receive for each message, one after
	// the other. Those of one process arrive in the order in which they were sent; some may not arrive.
	Run(ctx context.Context, id string, up func(bool), receive func(from string, message []byte))
	// Forget drops what waits for a process that is gone.
	Forget(id string)
}
