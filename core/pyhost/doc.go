// Package pyhost runs Python that people wrote for Galley, in one process beside it.
//
// The process is a CPython with an embedded script, host.py. It starts with the first use and ends after a while without;
// with it ends all that it started (see core/plugin/process). If it crashes, the calls that run fail and the next one
// starts another, after a pause that grows.
//
// # Protocol
//
// Lines of JSON go over the standard input and output of the process; what the code prints goes to standard error and
// from there to the log. Galley sends requests, which have a number and are served at the same time, each in a thread:
//
//	{"id": 1, "op": "load", "kind": "tool", "module": "sums", "hash": "…", "source": "…"}
//	{"id": 2, "op": "call", "kind": …, "module": …, "hash": …, "function": "add", "arguments": {…}, "extra": {…}, …}
//	{"id": 3, "op": "schema" | "valves" | "check", …}
//	{"op": "stop", "call": 2}
//	{"id": 4, "op": "ping"}
//
// and gets {"id": 1, "value": …} or {"id": 1, "error": {"kind": …, "text": …}}. While it is called, code sends events and
// asks questions, which Galley answers:
//
//	{"ask": 7, "call": 2, "emit": {"type": "status", "data": {…}}}        → {"answer": 7}
//	{"ask": 8, "call": 2, "question": {"type": "confirmation", …}}        → {"answer": 8, "value": true}
//
// A module is known by its kind, id and the hash of its source. Galley does not keep account of what is loaded: a request
// for another module is refused with the kind "unloaded", and is sent again once the source is loaded.
package pyhost
