// Package llm is the switchboard between clients and models.
//
// A [Provider] serves models. Connections to OpenAI-compatible servers (package openai) and Ollama servers
// (package ollama) come from the settings, see [Settings] and [Registry.Configure]; plugins
// join by [Registry.Register]. The [Registry] lists the models of all of them and finds
// the provider of a model; [Target.Chat] runs a chat completion on it.
//
// Every answer is in OpenAI's form. A [Response] is used in one of three ways:
//
//   - Relay or CopyTo pass a stream on as it comes. The text of an OpenAI-compatible server is not looked at.
//   - Chunks decodes a stream for a chat turn, in one pass per event and without building trees.
//   - Body or JSON give a whole answer.
//
// Failures of a provider are [UpstreamError], which says what the client is to be answered; a stream that
// breaks off ends with a [StreamError].
//
// Model lists are shared by all users. With headers that differ by user (forwarded user info, auth_type
// "session", custom headers) the list is that of whoever made it be fetched.
package llm
