package turn

import (
	"context"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
)

// Chat is what a turn needs to know of a saved chat.
type Chat struct {
	ID        string
	UserID    string
	FolderID  string // "" for none
	Variables jsondoc.Doc
}

// NewChat is a chat that a turn makes.
type NewChat struct {
	ID        string
	UserID    string
	FolderID  string
	Variables jsondoc.Doc
	Document  jsondoc.Doc // title, models, history, …
}

// Entry is one model that answers a question, and the message its answer becomes.
type Entry struct {
	ModelID   string
	MessageID string
	ModelIdx  jsondoc.Doc // the column among several models, null for one
	TaskID    string      // kept in the message's meta, "" for none
}

// Begin is a question in an existing chat, stored with the empty answers to it; for an answer that goes on there is
// neither.
type Begin struct {
	Message jsondoc.Doc // the user's message; null where only answers are made
	Entries []Entry
	// Of the owner only: the chat's selected models, its files (nil: unchanged) and its variables.
	Models, Files, Variables jsondoc.Doc
}

// Store keeps chats. Methods that write are done once they return nil. An error that is a *web.Error is answered as
// it is.
type Store interface {
	// Chat gives a chat the user may take part in: as its owner, or by a grant to write. store.ErrNotFound otherwise.
	Chat(ctx context.Context, p *auth.Principal, id string) (*Chat, error)
	// Create makes a chat with its messages.
	Create(ctx context.Context, c NewChat) error
	// Begin stores a question and empty answers. It gives {"messages": {id: message}, "currentId": …} of all that was
	// written, for those who watch the chat.
	Begin(ctx context.Context, c *Chat, p *auth.Principal, b Begin) (jsondoc.Doc, error)
	// Update merges fields into a message of the chat, touching the chat's time if touch is set.
	Update(ctx context.Context, chatID, messageID string, fields jsondoc.Doc, touch bool) error
	// Message gives one message, nil where there is none.
	Message(ctx context.Context, chatID, messageID string) (jsondoc.Doc, error)
	// EditMessage changes a message by f, which sees it as stored and whose error is given back; nobody else writes to it
	// meanwhile. f giving nil changes nothing. store.ErrNotFound where there is no such message.
	EditMessage(ctx context.Context, chatID, messageID string, f func(message jsondoc.Doc) (jsondoc.Doc, error)) error
	// Chain gives the messages from the first to the given one, and how many messages the chat has in all.
	Chain(ctx context.Context, chatID, messageID string) (chain []jsondoc.Doc, total int, err error)
	// Title and SetTitle are the chat's title.
	Title(ctx context.Context, chatID string) (string, error)
	SetTitle(ctx context.Context, chatID, title string) error
	// SetTags replaces the chat's tags; tags that are new to the user are made.
	SetTags(ctx context.Context, chatID, userID string, tags []string) error
	// Progress stores an answer that is being written, cheaply: the chat's document follows with Update.
	Progress(ctx context.Context, chatID, messageID string, fields jsondoc.Doc) error
	// SaveEvent keeps what an event of a message says, as far as it is of a kind to be kept: a status, files, sources, …
	SaveEvent(ctx context.Context, chatID, messageID, kind string, data jsondoc.Doc) error
	// AddFiles notes files that a message of the chat refers to, those that the user may read.
	AddFiles(ctx context.Context, chatID, messageID string, u *users.User, fileIDs []string) error
	// Unfinished gives the user's answers in a chat that are not done, with their ids.
	Unfinished(ctx context.Context, chatID, userID string) (map[string]jsondoc.Doc, error)
	// TaskOwners gives, of the tasks that messages of the chat name in their meta, the user whose message it is.
	TaskOwners(ctx context.Context, chatID string) (owners map[string]string, chatOwner string, err error)
}

// Folder is the project a chat lies in.
type Folder struct {
	ID           string
	SystemPrompt string
	Files        jsondoc.Doc
}

// Folders looks up projects.
type Folders interface {
	// Folder gives a folder the user may read; nil where there is none.
	Folder(ctx context.Context, p *auth.Principal, id string) (*Folder, error)
	// CanWrite says whether the user may put chats into a folder.
	CanWrite(ctx context.Context, p *auth.Principal, id string) (bool, error)
}

// Prompts renders system prompts.
type Prompts interface {
	// Render fills in the variables of a prompt: the chat's and the user's own, those the client sent, and the date,
	// name and so on of the caller.
	Render(ctx context.Context, p *auth.Principal, prompt string, chatVariables, variables jsondoc.Doc) string
	// Server fills in the server's own variables only: the date, the user's name and so on.
	Server(ctx context.Context, u *users.User, template string) string
}

// Images fetches what images of messages show, and keeps those that models make.
type Images interface {
	// Keep stores an image that is given as a data URI as a file of the person's, and gives its address and id.
	Keep(ctx context.Context, p *auth.Principal, data string) (address, id string, err error)
	// Inline gives an image as a data URI: an upload by its address or id, which the person must be allowed to read, or
	// one from the internet. False where it cannot be had.
	Inline(ctx context.Context, p *auth.Principal, address string) (string, bool)
}

// Task names work that is given to a model besides the answer.
type Task string

// The tasks that follow a turn.
const (
	TaskTitle     Task = "title_generation"
	TaskTags      Task = "tags_generation"
	TaskFollowUps Task = "follow_up_generation"
)

// TaskToolCalls has a model say in words which tools to call; its messages are sent as they are.
const TaskToolCalls Task = "function_calling"

// TaskMemoryReview has the chat's own model say what to remember; its messages are sent as they are.
const TaskMemoryReview Task = "memory_review"

// Tasks asks a model for titles, tags and the like.
type Tasks interface {
	// Run gives the model's completion, nil where the administrator has switched the task off.
	Run(ctx context.Context, p *auth.Principal, task Task, modelID string, messages []jsondoc.Doc, chatID, messageID string) (jsondoc.Doc, error)
}

// savedChat says whether a chat id stands for a chat in the database, and not for a temporary one or a channel.
func savedChat(id string) bool {
	return id != "" && !temporaryChat(id) && !strings.HasPrefix(id, "channel:")
}

// temporaryChat says whether a chat lives in the browser only. Its id names the socket it belongs to.
func temporaryChat(id string) bool {
	return strings.HasPrefix(id, "temporary:") || strings.HasPrefix(id, "local:")
}
