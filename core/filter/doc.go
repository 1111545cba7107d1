// Package filter is where filters take part in what models are asked and what they answer. The package declares what
// filters are ([Set], [Chain], [StreamFilter], which the host of plugins implements) and runs them ([Filters]) for the
// parts of the server that ask models.
//
// # Stages
//
// The inlet sees a request before its model does, once: it may change the request or refuse it. The stream filter sees
// each chunk of a streamed answer on its way to whoever reads it. The outlet sees an answer once it is whole.
//
// # Where filters act
//
//	chat turns, /api/chat/completions, /api/v1/messages   inlet, stream, outlet        KindChat
//	/openai/chat/completions, /openai/…/chat/completions  inlet, stream, outlet        KindProxy
//	/ollama/v1/chat/completions                           inlet, stream, outlet        KindProxy
//	requests in another form than OpenAI's (below)        inlet, which can but refuse  KindProxy
//	work besides answering: titles, tags, queries, …      inlet, stream                KindTask
//
// The outlet of a task would get a form that only the server reads, so there is none. Embeddings, speech and the counting
// of tokens that a client asks for are not filtered; a Messages request with filters is not counted on the side.
//
// # Order in a chat turn
//
// The inlet runs after the model's parameters, the stored history, the caller's system prompt and that of the folder
// have been put in, and before the model's own system prompt and what tools add. Each model that answers a question has
// an inlet run of its own; the rounds of one answer that calls tools have one together. A request whose "model" was
// changed goes to that model, if the caller may use it.
//
// # Requests in other forms
//
// Ollama's /api/chat and /api/generate, /v1/completions, the Responses API, and Messages requests that go to a
// connection that speaks them keep their form from end to end. The inlet is given what can be told in OpenAI's form (see
// [Common]): the model, the messages, whether a stream is asked for. What it changes is not used; that it refuses is. So
// limits and bans hold on every way to a model, while filters that rewrite texts act on OpenAI's form.
//
// # Answers
//
// In a chat turn with a browser the answer has been shown when the outlet runs: what it changes is stored (with the
// answer before it as "originalContent") and sent as the event "chat:outlet". Of a whole answer to a program the outlet
// may change choices[].message.content. The outlet of an answer that was streamed to a program is told of it and changes
// nothing. With ENABLE_API_OUTLET_FILTERS=false programs' answers, other than those kept in chats, have no outlet.
//
// # Failures
//
// An inlet refuses with a *web.Error: its status, detail and headers (such as Retry-After) are the answer, in a chat turn
// its text is shown at the message. Any other error of an inlet is 400 with its text. A stream filter that fails ends the
// answer with an error event: what was not filtered is not shown. A failing outlet leaves the answer as it is. A filter
// that panics fails with a text that tells nothing of the inside.
//
// # Costs
//
// Without filters for a call nothing is decoded, copied or allocated for them. A stream is taken apart only where a
// filter looks at streams, or at answers of programs (see [Chain]).
package filter
