// Package core holds no code; this is the map of the packages below it, and of where they differ from the first design.
//
// # Layers
//
//	cmd/galley            parses the command line, nothing else
//	core/app              composition root: opens everything in order, lists the modules, serves, stops in reverse
//	routes/<tag>          one package for each tag of the API: a table of declared endpoints and a function for each
//	core/turn             the chat engine: one question on its way to one model and back, as a list of steps
//	core/models, tasks, prompt, compact, access, auth, auth/session, auth/factor
//	                      what several modules share: the list of models and who may use which, work given to models besides
//	                      answering, variables of prompts, long conversations, permissions and grants, accounts, sessions and
//	                      second factors
//	core/auth/oauth       signing in at identity providers; their tokens, and those of tool servers
//	core/builtin          the tools that the server itself offers to models; parts of the server add theirs as groups
//	core/memory           what the server remembers of its users from one chat to the next
//	core/embed, vector    vectors of texts, as embedding models make them, and how those nearest to another are found
//	core/llm              providers: OpenAI-compatible servers, Ollama; their lists, streams and errors; relay, the
//	                      part that /openai and /ollama share; llm/anthropic translates Messages requests
//	core/toolserver       tools of other servers, for models: by OpenAPI documents and by the Model Context Protocol
//	core/store            the database: pools, dialects, transactions, schema; store/<aggregate> has the SQL of each. Galley's
//	                      own tables (galley_*, of plugins) stand beside the reference's. What a database is, is looked at
//	                      before anything is written; store/check looks the data over, store/transfer copies them
//	core/backup           database and data folder in one file, made while serving, and put back
//	core/pytools, pyhost, python
//	                      tools that are Python source edited in the web interface: who may use them, the process in which
//	                      their code runs, and packages that pip puts into the data folder
//	core/filter           filters over what models are asked and what they answer; plugins are such
//	core/plugin           programs beside this one that add endpoints, models, filters and tools; sdk is how they are made
//	core/plugin/cli, dev  what "galley plugin" does with plugins, and with one that is being written
//	core/control          the socket by which the command line finds a running server
//	core/auth/ldap        sign-in by a directory
//	core/scim             expressions of SCIM: filters, as SQL too, and paths of changes
//	core/realtime         Socket.IO; realtime/presence: who is there, and looks at which chat
//	core/events           what happens, as modules publish it, in the form in which it leaves the server
//	core/webhook, notifications, outbound
//	                      who is told of events: administrators' webhooks and people who are away, by a sender with a queue for
//	                      each address; which addresses the server calls because somebody entered them
//	core/web              declared endpoints over http.ServeMux: binding, validation, authorisation, description
//	core/jsondoc          documents that pass through undecoded
//	core/audit            the log of who asked for what
//	core/replicas         how processes that serve one installation know of one another's sockets and turns
//	core/redis            what several processes share: revoked tokens, counts of rate limits; and the bus of core/replicas
//	core/jupyter          runs code on a Jupyter server
//	core/textdiff         versions of a text compared as Python's difflib does
//	core/config           settings: of the process (environment) and live ones (the table config)
//	core/obs, frontend, fernet
//
// routes imports core and never another routes package; core never imports routes. sdk imports neither; plugins import sdk.
//
// # A chat turn
//
// routes/app takes the request; turn.Engine reads it (parse), stores the question and an empty answer in one transaction
// (begin), and answers the browser at once. The turn goes on by itself: prepareSteps shape the request, the provider is
// called, answer turns its stream into output items and events, runTools runs the tools that the model calls and asks it
// again with their results, finish stores the answer and follows up with questions, title and tags. While it runs the
// answer is stored every two seconds in its message's row, and pages that are loaded in between see it by way of
// Engine.Partials.
//
// # Where this differs from the design, and why
//
//   - store has concrete types for each aggregate (store/chats, store/users, …) in place of an interface for each: a real
//     SQLite database in a test's folder is as quick as a fake and cannot lie. Consumers declare the small interface they
//     need where that keeps two packages apart (turn.Store, presence.Chats).
//   - SQLite writes that wait share a commit, each in a savepoint of its own (store's batcher): with eight writers that is
//     twice the transactions a second, since most of a small commit is the pages that all of them touch.
//   - Data frames of sockets are framed once for each event and written in batches past the websocket library, which does
//     the handshake, reads and control frames: its one write for each message was most of a turn's cost.
//   - Deltas of an answer that arrive together, or within four milliseconds, reach the browser as one event. Models write
//     slower than that, so each word of theirs is sent at once; a fast stream no longer costs an event for each word.
//   - JSON is checked by a scanner of our own that speaks Python's dialect (NaN, duplicate names, the positions in its
//     error messages) and skimmed by another; go-json-experiment encodes and decodes what is really taken apart.
//   - Search reads few chats: a kilobyte for each (galley_chat_sieve) tells which cannot have the words. It is made when a chat
//     is first searched, or ahead for users with many, and counts while the chat is as it was, so that no write has to keep it
//     up. Texts that were read are kept, bounded. Large databases are given indexes, while the server serves (store/indexes.go).
//   - The session checker is core/auth/session, because web needs auth's types and the checker answers in web's errors.
//   - HTTP reaches plugins over a socket of their own and not in messages of gRPC, and on the goroutine of the request: half the
//     work of a gRPC stream or of httputil.ReverseProxy with http.Transport, and streams, trailers and upgrades as they are.
//     gRPC carries the rest. Host services have a socket too, in place of go-plugin's broker, which only Go speaks; so do
//     certificates of our own in place of AutoMTLS, whose curve other languages' TLS lacks. See core/plugin.
//   - Python tools run in a process of core/pyhost and not in a plugin: what it is asked while a tool is edited (specifications
//     from type hints, schemas and checks of valves) is no part of the plugins' protocol, and need not be kept stable for others.
//   - Connections that list the same model share its requests, and take over from one another; the reference knows this of
//     Ollama's only, and asks the first of the others.
//   - What a role may do is declared at the endpoint, and held against one table of all operations and callers (core/app/authz).
//   - The demo model is a plugin, echo, for which the program starts itself a second time.
//   - Tags that are not built yet are answered by routes/quiet from one table: what the reference says while a feature is
//     off or holds nothing. Features that are on by default stay on in /api/config, as the contract of that address has
//     them; their lists are empty.
package core
