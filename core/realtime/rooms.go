package realtime

import (
	"hash/maphash"
	"slices"
	"sync"
)

// roomShards is the number of independently locked parts of the room table.
const roomShards = 64

// roomTable maps rooms to their sockets in the order of joining. Its locks are
// never held across I/O: under them packets are only put on queues.
type roomTable struct {
	seed    maphash.Seed
	shards  [roomShards]roomShard
	changed func(room string, used bool) // told of the first socket of a room and of the last that leaves, in order; nil for nobody
}

type roomShard struct {
	sync.RWMutex
	rooms map[string][]*Socket
	_     [32]byte // keeps neighbours off the same cache line
}

func (t *roomTable) init() {
	t.seed = maphash.MakeSeed()
	for i := range t.shards {
		t.shards[i].rooms = make(map[string][]*Socket)
	}
}

func (t *roomTable) shard(room string) *roomShard {
	return &t.shards[maphash.String(t.seed, room)%roomShards]
}

func (t *roomTable) add(room string, s *Socket) {
	sh := t.shard(room)
	sh.Lock()
	members := append(sh.rooms[room], s)
	sh.rooms[room] = members
	if t.changed != nil && len(members) == 1 {
		t.changed(room, true)
	}
	sh.Unlock()
}

func (t *roomTable) remove(room string, s *Socket) {
	sh := t.shard(room)
	sh.Lock()
	defer sh.Unlock()
	members := sh.rooms[room]
	i := slices.Index(members, s)
	switch {
	case i < 0:
	case len(members) == 1:
		delete(sh.rooms, room)
		if t.changed != nil {
			t.changed(room, false)
		}
	default:
		sh.rooms[room] = slices.Delete(members, i, i+1)
	}
}

// send queues a frame on the room's sockets.
func (t *roomTable) send(room string, frame []byte, except []string) {
	sh := t.shard(room)
	sh.RLock()
	for _, s := range sh.rooms[room] {
		if len(except) == 0 || !slices.Contains(except, s.sid) {
			s.conn.enqueue(frame)
		}
	}
	sh.RUnlock()
}

// members returns a copy of the room's sockets.
func (t *roomTable) members(room string) []*Socket {
	sh := t.shard(room)
	sh.RLock()
	defer sh.RUnlock()
	return slices.Clone(sh.rooms[room])
}

func (t *roomTable) size(room string) int {
	sh := t.shard(room)
	sh.RLock()
	defer sh.RUnlock()
	return len(sh.rooms[room])
}
