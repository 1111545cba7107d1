// Package chats stores conversations: the tables chat, chat_message, shared_chat and chat_file.
//
// A chat's document (column chat.chat) is what clients read and write: title, models, history{messages, currentId}.
// Each message of the history is mirrored as a row of chat_message, which lists, analytics, unread marks and the chat
// turn read. Who reads what, as in the reference:
//
//   - GET of a chat, search, export, fork's authors: the document
//   - the chain of messages that goes to a model, context usage, compaction, fork: the rows, completed from the document
//     where a parent has no row
//   - analytics, usage summaries, "unfinished answer" and with it unread and active marks: the rows
//
// Every change of a message goes to both in one transaction; only the progress of a running answer ([Store.Progress])
// goes to the row alone until the answer is done.
//
// Documents are spliced, not decoded: see jsondoc and skim.go. Searches read only chats that may have the words, which
// sieves tell (sieve.go, sieves.go). Two bounded caches spare work on reads: the texts that searches look through (texts.go)
// and, on SQLite, answers of lists, searches and opened chats for as long as nobody has committed anything to the database
// (quiet.go). None of this trusts that this process is the only writer.
package chats
