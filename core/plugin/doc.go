// Package plugin runs plugins: programs of their own that add endpoints, models, filters and tools.
//
// A [Manager] watches the plugins folder. Each plugin found there has a unit, which is supervised by one goroutine; starts,
// health checks and configurations run beside it, so that none of them keeps it from stopping or from something newer:
//
//	found → starting → ready → (crash) backoff → starting …
//	                        → failed    three crashes in ten minutes; an administrator or a new version helps
//	        refused   what the folder holds cannot be run: bad manifest, wrong checksum, taken id, conflicting route. The last
//	                  two are tried again when another plugin gives something up
//	        disabled  by an administrator
//
// While a plugin is down its routes answer 503, its models are gone, and a filter of its that is required refuses chats.
//
// A ready unit has one instance, which is one process and the connections to it: gRPC by hashicorp/go-plugin, and beside
// it HTTP/1.1 to the plugin's own server and gRPC from the plugin to Galley's host services. All of them run over unix
// sockets in a private folder, with TLS and certificates that both sides made for this one process. HTTP is not carried in
// gRPC messages: net/http's reverse proxy gives streaming, trailers, upgrades, back pressure and cancellation as they
// are, any ASGI or net/http server can be behind it, and a request costs half of what a gRPC stream does.
//
// An upgrade starts the new instance, describes, configures and checks it, switches new calls over, and lets the old one
// end its calls. What is called goes to an instance that is counted in for as long as the call lasts.
//
// What plugins may ask of Galley (hostServer, [Services]) is checked against the operator's grants before anything is read,
// bounded in size and number, and answered with statuses that the protocol names. A plugin that asks models says how deep
// it was itself asked, so that one which asks itself comes to an end.
package plugin
