// Package turn is the chat engine: it takes a chat completion request as the frontend or a program sends it, asks a
// model, and brings the answer to the browser, the database or the program.
//
// A turn is a list of small steps over a [Turn], see prepareSteps: each reads and changes the request that goes to the
// model. Then the model is called, its stream becomes output items and events (answer), the result is stored, and
// background tasks follow: follow-up questions, a title, tags. Filters (core/filter) act before the model's own system
// prompt is put in, on the stream, and on the stored answer.
//
// Tools come from a [Toolbox], and for pages the server's own from [Builtins]. While the model calls some, the engine runs them, puts their results behind the calls and
// asks the model again (runTools). Users can want to be asked first: the turn ends then with the calls stored as waiting,
// and a later request goes on with those that were approved (resumeCalls). Models that cannot call tools have a model
// asked in words which to call, and are given the results as sources (promptTools).
//
// A provider of the Responses API has its items kept as it makes them; those of chat completions become such items here.
// A model of a connection that a person has set up in their own page is asked by that page ([Browsers]). Images are put into
// requests in place of their addresses ([Images]), and of a long chat the older part is left out for a summary of it.
//
// Three kinds of caller share these steps: the frontend (a Socket.IO session and a chat: the call returns at once, the
// answer comes as events), programs that name a chat (the answer is stored and returned), and programs that name none
// (the provider's stream is passed on as it comes).
package turn
