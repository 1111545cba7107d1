package events

import (
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// Names are the things that happen on a server and that webhooks can ask for, in the order in which they are listed. They
// are the reference's.
var Names = strings.Fields(`
system.startup.started system.startup.completed system.shutdown.started system.shutdown.completed config.imported
config.updated config.webhook.updated config.connections.updated config.tool_servers.updated
config.terminal_servers.updated config.code_execution.updated config.models.updated config.banners.updated
config.suggestions.updated auth.signup auth.mfa.enrolled auth.mfa.replaced auth.mfa.failed auth.mfa.throttled
auth.mfa.recovery_used auth.mfa.recovery_codes_regenerated auth.mfa.reset_requested auth.mfa.reset_completed
auth.mfa.policy_changed auth.login auth.sessions_revoked auth.logout auth.password_changed auth.api_key.created
auth.api_key.deleted auth.oauth_session.deleted user.created user.updated user.deleted user.role_updated
user.status_updated user.settings_updated user.profile_updated user.permissions_updated group.created group.updated
group.deleted group.member_added group.member_removed chat.created chat.finished chat.failed chat.imported
chat.updated chat.deleted chat.deleted_all chat.compacted chat.pinned chat.unpinned chat.cloned chat.archived
chat.unarchived chat.shared chat.unshared chat.folder_updated chat.tag_added chat.tag_removed message.created
message.updated message.deleted message.event_received message.reaction_added message.reaction_removed message.pinned
message.unpinned channel.created channel.updated channel.deleted channel.member_added channel.member_removed
channel.member_active_updated channel.message channel.webhook.created channel.webhook.updated channel.webhook.deleted
file.uploaded file.content_updated file.renamed file.deleted file.deleted_all folder.created folder.updated
folder.parent_updated folder.access_updated folder.deleted note.created note.updated note.access_updated note.pinned
note.unpinned note.deleted memory.created memory.updated memory.deleted memory.reset knowledge.created
knowledge.updated knowledge.deleted knowledge.reset knowledge.reindexed knowledge.access_updated knowledge.file.added
knowledge.file.updated knowledge.file.removed knowledge.file.moved knowledge.directory.created
knowledge.directory.updated knowledge.directory.deleted knowledge.external_connection.created
knowledge.external_connection.updated knowledge.external_connection.deleted retrieval.content.processed
retrieval.content.process_failed retrieval.collection.deleted retrieval.vector_db.reset retrieval.uploads.reset
model.created model.imported model.synced model.updated model.deleted model.enabled model.disabled
model.access_updated model.provider_config.updated model.provider_request.failed model.provider_model.created
model.provider_model.deleted function.created function.updated function.deleted function.enabled function.disabled
function.enable_started function.disable_started function.valves_updated tool.created tool.updated tool.deleted
tool.access_updated tool.valves_updated skill.created skill.updated skill.deleted skill.enabled skill.disabled
prompt.created prompt.updated prompt.deleted prompt.enabled prompt.disabled prompt.version_updated
prompt.access_updated pipeline.uploaded pipeline.added pipeline.deleted pipeline.valves_updated calendar.created
calendar.updated calendar.deleted calendar.default_updated calendar.event.created calendar.event.updated
calendar.event.deleted calendar.event.rsvp_updated calendar.alert automation.created automation.updated
automation.enabled automation.disabled automation.deleted automation.run_started automation.run_completed
automation.run_failed feedback.created feedback.updated feedback.deleted feedback.deleted_all image.generated
image.edited audio.speech_requested audio.transcription_requested terminal.session.opened terminal.session.closed
notification.test notification.manual
`)

// Notifiable are the events that people can be notified of.
var Notifiable = []string{"chat.finished", "chat.failed", "channel.message", "calendar.alert", "retrieval.content.process_failed"}

// Definition is what is said of the events of a name.
type Definition struct {
	Event       string `json:"event"`
	Description string `json:"description"`
	Message     string `json:"message"`
}

// worded are the events whose words are given; those of others are made of their names.
var worded = map[string]Definition{
	"chat.finished":                    {"chat.finished", "A chat response finished.", "Chat finished"},
	"chat.failed":                      {"chat.failed", "A chat response failed.", "Chat failed"},
	"channel.message":                  {"channel.message", "A channel message was posted.", "Channel message"},
	"calendar.alert":                   {"calendar.alert", "A calendar event alert was triggered.", "Calendar alert"},
	"retrieval.content.process_failed": {"retrieval.content.process_failed", "Retrieval content processing failed.", "Retrieval Content process failed"},
	"auth.login":                       {"auth.login", "Somebody signed in.", "User logged in"},
	"auth.logout":                      {"auth.logout", "Somebody signed out.", "User logged out"},
	"auth.signup":                      {"auth.signup", "Somebody made an account for themselves.", "User signed up"},
}

// definitions are those of all names.
var definitions = func() map[string]Definition {
	out := make(map[string]Definition, len(Names))
	for _, name := range Names {
		d, ok := worded[name]
		if !ok {
			message := wordsOf(name)
			d = Definition{name, message + ".", message}
		}
		out[name] = d
	}
	return out
}()

// Define gives what is said of the events of a name; false where there is no such event.
func Define(name string) (Definition, bool) {
	d, ok := definitions[name]
	return d, ok
}

// Catalog lists all events for administrators.
var Catalog = func() jsondoc.Doc {
	items := make([]Definition, len(Names))
	for i, name := range Names {
		items[i] = definitions[name]
	}
	var b jsondoc.Builder
	b.Add("schema", config.Version)
	b.Add("events", items)
	return b.Done()
}()

// wordsOf makes words of an event's name.
func wordsOf(name string) string {
	words := strings.NewReplacer(".", " ", "_", " ", "mfa", "MFA", "api", "API", "oauth", "OAuth", "rsvp", "RSVP").Replace(name)
	return strings.ToUpper(words[:1]) + words[1:]
}
