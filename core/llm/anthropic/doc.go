// Package anthropic translates between Anthropic's Messages API, which some clients speak, and OpenAI's chat
// completions, which everything behind this server speaks: requests ([Request]), whole answers ([Response]) and
// streams ([Stream]).
//
// What is translated how is that of Open WebUI 0.12.4: unsigned thinking is not sent back to a provider, text that
// comes after a tool call is dropped, and an error within a stream is an event after which nothing follows.
package anthropic
