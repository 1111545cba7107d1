package turn

import (
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/realtime"
)

// Realtime is how events reach browsers: core/realtime's Server.
type Realtime interface {
	EmitRaw(room string, p realtime.Packet, except ...string)
	// SendLocal is EmitRaw for the browsers that are connected to this process.
	SendLocal(room string, p realtime.Packet, except ...string)
	RoomSize(room string) int
}

// nearby is a Realtime for the browsers that are connected to this process alone.
type nearby struct{ Realtime }

// EmitRaw implements Realtime.
func (n nearby) EmitRaw(room string, p realtime.Packet, except ...string) {
	n.SendLocal(room, p, except...)
}

// emitter sends the events of one message of a chat to its author's sockets, and what other readers of the chat may
// see to those who have it open.
type emitter struct {
	rt      Realtime
	user    string // room of the author
	chat    string // room of the chat's other readers
	session string // the socket that started the turn, which needs no second copy
	shared  bool   // the chat is saved, so that others can have it open
	head    []byte // {"chat_id":…,"message_id":…,"data":{"type":
	sharedH []byte
}

// sharedKinds are events that other readers of a chat get as they are; of the answer's text they get snapshots.
var sharedKinds = map[string]bool{
	"chat:active": true, "status": true, "source": true, "citation": true, "files": true, "embeds": true,
	"chat:message:error": true, "chat:tasks:cancel": true, "chat:message:follow_ups": true,
}

func newEmitter(rt Realtime, userID, chatID, messageID, session string) *emitter {
	e := &emitter{rt: rt, user: "user:" + userID, chat: "chat:" + chatID, session: session, shared: savedChat(chatID)}
	ids := append(jsondoc.AppendString([]byte(`{"chat_id":`), chatID), `,"message_id":`...)
	ids = appendID(ids, messageID)
	e.head = append(append([]byte(nil), ids...), `,"data":{"type":"`...)
	e.sharedH = append(jsondoc.AppendString(append(ids, `,"user_id":`...), userID), `,"shared":true,"data":{"type":"`...)
	return e
}

// appendID adds an id, null for none.
func appendID(b []byte, id string) []byte {
	if id == "" {
		return append(b, "null"...)
	}
	return jsondoc.AppendString(b, id)
}

// EncodeEvent is an event that the server itself sends, in the form of those that turns send: of a message, of a chat
// (without messageID), or of none. kind is its type, of letters, digits and _.:- only; data is nil for none.
func EncodeEvent(chatID, messageID, kind string, data jsondoc.Doc) realtime.Packet {
	head := append(appendID([]byte(`{"chat_id":`), chatID), `,"message_id":`...)
	head = append(appendID(head, messageID), `,"data":{"type":"`...)
	return realtime.EncodeEvent("events", payload(head, kind, data))
}

// payload is an event's payload; without data the event has no such member.
func payload(head []byte, kind string, data jsondoc.Doc) []byte {
	b := make([]byte, 0, len(head)+len(kind)+len(data)+16)
	b = append(append(append(b, head...), kind...), '"')
	if data != nil {
		b = append(append(b, `,"data":`...), data...)
	}
	return append(b, '}', '}')
}

// own sends to the author only.
func (e *emitter) own(kind string, data jsondoc.Doc) {
	e.rt.EmitRaw(e.user, realtime.EncodeEvent("events", payload(e.head, kind, data)))
}

// emit sends to the author and, where it concerns them, to the chat's other readers.
func (e *emitter) emit(kind string, data jsondoc.Doc) {
	e.own(kind, data)
	if sharedKinds[kind] {
		e.others(kind, data)
	}
}

// others sends to the chat's other readers only.
func (e *emitter) others(kind string, data jsondoc.Doc) {
	if e.watched() {
		e.rt.EmitRaw(e.chat, realtime.EncodeEvent("events", payload(e.sharedH, kind, data)), e.session)
	}
}

// watched says whether anybody else may have the chat open.
func (e *emitter) watched() bool { return e.shared && e.rt.RoomSize(e.chat) > 0 }
