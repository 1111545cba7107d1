// Package tasks gives models work besides answering: titles, tags, follow-up questions, search queries and the like. The
// prompts are templates, see package prompt, that an administrator may replace.
package tasks
