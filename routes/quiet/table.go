package quiet

import (
	"net/http"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/web"
)

// row says what requests to paths of a tag are answered with.
type row struct {
	tag    string
	level  auth.Level
	answer answer
	paths  string
}

var (
	list       = give(`[]`)
	page       = give(`{"items":[],"total":0}`)
	missing    = refuse(http.StatusNotFound, web.TextNotFound)
	unknown    = refuse(http.StatusNotFound, "Not found")
	missing1   = refuse(http.StatusUnauthorized, web.TextNotFound) // functions
	off        = refuse(http.StatusForbidden, web.TextUnauthorized)
	denied     = refuse(http.StatusUnauthorized, web.TextUnauthorized)
	noEvent    = refuse(http.StatusNotFound, "Event not found")
	noApps     = refuse(http.StatusNotFound, "Apps are disabled")
	noChan     = refuse(http.StatusForbidden, "Channels is disabled")
	noNotes    = refuse(http.StatusForbidden, "Notes is disabled")
	noSkill    = refuse(http.StatusNotFound, "Skill not found")
	noCalendar = refuse(http.StatusNotFound, "Calendar not found")
	noExport   = refuse(http.StatusForbidden, "Export permission required")
)

// table is what the reference 0.12.4 answers, with nothing in its database, while these features are off: channels, notes,
// calendars, automations, apps and functions.
var table = []row{
	{"functions", auth.Verified, list, "/functions/"},
	{"functions", auth.Admin, list, "/functions/list /functions/export"},
	{"functions", auth.Admin, missing1, "/functions/id/{id} /functions/id/{id}/valves /functions/id/{id}/valves/spec"},
	{"functions", auth.Verified, missing1, "/functions/id/{id}/valves/user /functions/id/{id}/valves/user/spec"},
	{"functions", auth.Admin, unknown, "/functions/id/{id}/history"},

	{"skills", auth.Verified, list, "/skills/"},
	{"skills", auth.Verified, page, "/skills/list"},
	{"skills", auth.Verified, list.needs("workspace.skills_export", noExport), "/skills/export"},
	{"skills", auth.Verified, missing, "/skills/id/{id}"},
	{"skills", auth.Verified, noSkill, "/skills/id/{id}/files /skills/id/{id}/history"},

	{"knowledge", auth.Verified, page, "/knowledge/ /knowledge/search"},
	{"knowledge", auth.Verified, give(`{"items":[],"directories":[],"breadcrumbs":[],"total":0}`), "/knowledge/search/files"},
	{"knowledge", auth.Admin, page, "/knowledge/external/connections"},
	{"knowledge", auth.Admin, missing, "/knowledge/external/connections/{id} /knowledge/{id}/export"},
	{"knowledge", auth.Verified, missing, "/knowledge/{id} /knowledge/{id}/files/pending"},
	{"knowledge", auth.Verified, refuse(http.StatusBadRequest, web.TextNotFound), "/knowledge/{id}/files"},

	{"channels", auth.Verified, noChan, "/channels/ /channels/list /channels/users/{user_id} /channels/{id} /channels/{id}/members /channels/{id}/messages " +
		"/channels/{id}/messages/pinned /channels/{id}/messages/{message_id} /channels/{id}/messages/{message_id}/data /channels/{id}/messages/{message_id}/thread " +
		"/channels/webhooks/{webhook_id}/profile/image /channels/{id}/webhooks"},
	{"channels", auth.Verified, noApps, "/channels/{channel_id}/apps"},

	{"apps", auth.Verified, noApps, "/apps"},
	{"apps", auth.Admin, noApps, "/apps/{app_id}"},

	{"notes", auth.Verified, noNotes, "/notes/ /notes/pinned /notes/search /notes/{id} /notes/{id}/chat /notes/{id}/chats"},

	{"calendars", auth.Verified, off, "/calendars/ /calendars/events /calendars/events/search /calendars/events/{event_id} /calendars/{calendar_id}"},

	{"automations", auth.Verified, off, "/automations/list /automations/{id} /automations/{id}/runs"},

	{"evaluations", auth.Admin, give(`{"entries":[]}`), "/evaluations/leaderboard"},
	{"evaluations", auth.Admin, list, "/evaluations/feedbacks/models /evaluations/feedbacks/all/ids /evaluations/feedbacks/all/export"},
	{"evaluations", auth.Verified, page, "/evaluations/feedbacks/user"},
	{"evaluations", auth.Admin, page, "/evaluations/feedbacks/list"},
	{"evaluations", auth.Verified, missing, "/evaluations/feedback/{id}"},

	{"audio", auth.Verified, give(`{"models":[]}`), "/audio/models"},
	{"audio", auth.Verified, give(`{"voices":[]}`), "/audio/voices"},

	{"images", auth.Verified, list, "/images/models"}, // the reference names OpenAI's, whatever the switch says

	{"terminals", auth.Verified, list, "/terminals/"},
}

// under are the paths that ServeMux takes only below a wider pattern.
var under = map[string]string{"/channels/users/{user_id}": "/channels/{a}/{b}"}

// empty is what a path of a feature answers that is on.
type empty struct {
	setting config.Bool
	path    string
	answer  answer
}

// emptyWhenOn are the answers of paths whose feature the settings have on: nothing is there.
var emptyWhenOn = []empty{
	{config.NotesEnable, "/notes/", list.needs("features.notes", denied)},
	{config.NotesEnable, "/notes/pinned", list.needs("features.notes", denied)},
	{config.NotesEnable, "/notes/search", page.needs("features.notes", denied)},
	{config.NotesEnable, "/notes/{id}", missing.needs("features.notes", denied)},
	{config.NotesEnable, "/notes/{id}/chat", missing.needs("features.notes", denied)},
	{config.NotesEnable, "/notes/{id}/chats", missing.needs("features.notes", denied)},
	{config.CalendarEnable, "/calendars/", list.needs("features.calendar", off)},
	{config.CalendarEnable, "/calendars/events", list.needs("features.calendar", off)},
	{config.CalendarEnable, "/calendars/events/search", page.needs("features.calendar", off)},
	{config.CalendarEnable, "/calendars/events/{event_id}", noEvent.needs("features.calendar", off)},
	{config.CalendarEnable, "/calendars/{calendar_id}", noCalendar.needs("features.calendar", off)},
	{config.AutomationsEnable, "/automations/list", page.needs("features.automations", off)},
	{config.AutomationsEnable, "/automations/{id}", missing.needs("features.automations", off)},
	{config.AutomationsEnable, "/automations/{id}/runs", missing.needs("features.automations", off)},
}

// feature is a switch among the features of /api/config that belongs to a tag.
type feature struct{ flag, tag string }

// features are off, whatever the settings say, for as long as their tag is not built; where what is missing is a part of the chat turn, the tag is
// "turn" and the name of that part. Features that are on by default (notes, calendar, automations, tools, …) are
// not among them: the contract of GET /api/config has them on, and their paths say that nothing is there.
var features = []feature{
	{"enable_direct_integrations", "tool_servers"},
	{"enable_terminal_servers", "terminals"},
	{"enable_channels", "channels"},
	{"enable_encrypted_channels", "channels"},
	{"enable_apps", "apps"},
	{"enable_image_generation", "images"},
	{"enable_web_search", "retrieval"},
	{"enable_web_search_confirmation", "retrieval"},
	{"enable_google_drive_integration", "retrieval"},
	{"enable_onedrive_integration", "retrieval"},
	{"enable_subagents", "turn.subagents"},
}
