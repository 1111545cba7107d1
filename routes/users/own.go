package users

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type settingsIn struct {
	Raw bool `query:"raw" default:"false"`
}

// settings gives the caller's settings, with the administrator's defaults below those of the interface unless raw.
func (m *Module) settings(c *web.Call, in settingsIn) (jsondoc.Doc, error) {
	own := c.Principal.Settings
	defaults := jsondoc.Doc(config.UIDefaultInterfaceSettings.Raw(m.Settings.Snapshot()))
	if in.Raw || defaults.Kind() != '{' || !defaults.Truthy() {
		return own, nil
	}
	ui := own.Get("ui")
	if ui.Kind() != '{' {
		ui = jsondoc.Doc("{}")
	}
	return own.Or(jsondoc.Doc("{}")).Set(overlay(defaults, ui), "ui"), nil
}

// overlay lays values over defaults, objects member by member; null is no value.
func overlay(defaults, values jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(defaults)
	values.Each(func(name string, v jsondoc.Doc) bool {
		if v.IsNull() {
			return true
		}
		if have := o.Get(name); have.Kind() == '{' && v.Kind() == '{' {
			v = overlay(have, v)
		}
		o.Set(name, v)
		return true
	})
	return o.Doc()
}

type updateSettingsIn struct {
	Body struct {
		UI    web.Opt[web.Dict] `json:"ui"`
		Extra web.Extra
	}
}

// updateSettings merges what is sent into the caller's settings. What they may not set is left out silently.
func (m *Module) updateSettings(c *web.Call, in updateSettingsIn) (jsondoc.Doc, error) {
	changes := jsondoc.Open(jsondoc.Doc(in.Body.Extra))
	var ui *jsondoc.Obj
	if in.Body.UI.Has() {
		ui = jsondoc.Open(in.Body.UI.V.Doc())
	}
	if !c.IsAdmin() {
		if err := m.strip(c, changes, ui); err != nil {
			return nil, err
		}
	}
	if ui != nil {
		changes.Set("ui", ui.Doc())
	}
	u, err := m.Users.Edit(c.Context(), c.UserID(), func(u *users.User) []users.Field {
		return []users.Field{users.SetSettings(users.MergeSettings(u.Settings, changes.Doc()))}
	})
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	m.Events.Publish(c.Context(), events.Event{Name: "user.settings_updated", Actor: u, SubjectID: u.ID})
	return u.Settings, nil
}

// strip removes the settings that a user has no permission to set. ui may be nil.
func (m *Module) strip(c *web.Call, changes, ui *jsondoc.Obj) error {
	var failed error
	may := func(permission string) bool {
		ok, err := m.Access.Has(c.Context(), c.Principal.User, permission)
		if err != nil {
			failed = err
		}
		return ok
	}
	if ui != nil {
		if !may("settings.interface") {
			for _, name := range interfaceSettings {
				ui.Pop(name)
			}
		}
		if ui.Has("system") && !(may("chat.controls") && may("chat.system_prompt")) {
			ui.Pop("system")
		}
		if ui.Has("toolServers") && !may("features.direct_tool_servers") {
			ui.Pop("toolServers")
		}
	}
	var webhook jsondoc.Doc
	if ui != nil {
		webhook = ui.Get("notifications").Get("webhook_url")
	}
	if (changes.Has("notifications") || webhook != nil) && !may("features.webhooks") {
		changes.Pop("notifications")
		if webhook != nil {
			ui.Set("notifications", ui.Get("notifications").Delete("webhook_url"))
		}
	}
	return failed
}

// interfaceSettings are the members of ui that the panel Interface sets.
var interfaceSettings = strings.Fields(`autoTags autoFollowUps highContrastMode detectArtifacts responseAutoCopy showUsername
	showUpdateToast showChangelog showEmojiInCall voiceInterruption displayMultiModelResponsesInTabs chatFadeStreamingText
	richTextInput showFormattingToolbar insertPromptAsRichText promptAutocomplete insertSuggestionPrompt keepFollowUpPrompts
	insertFollowUpPrompt regenerateMenu enableMessageQueue largeTextAsFile copyFormatted collapseCodeBlocks
	renderMarkdownInUserMessages renderMarkdownInAssistantMessages expandDetails chatHoverPreview renderMarkdownInPreviews
	chatBubble widescreenMode splitLargeChunks scrollOnBranchChange scrollOnResponseGeneration showFilesOnTerminalSelect
	temporaryChatByDefault userLocation showChatTitleInTab iframeSandboxAllowScripts iframeSandboxAllowSameOrigin
	iframeSandboxAllowForms iframeSandboxAllowDownloads terminalPreviewAllowSameOrigin stylizedPdfExport hapticFeedback
	ctrlEnterToSend showFloatingActionButtons imageCompression imageCompressionInChannels landingPageMode chatDirection
	terminalFileDisplay defaultUploadContext webSearch models backgroundImageUrl fontFamily textScale title
	imageCompressionSize floatingActionButtons`)

// statusOn refuses where users have no status.
func (m *Module) statusOn() error {
	if !config.UsersEnableStatus.Get(m.Settings.Snapshot()) {
		return web.Fail(http.StatusForbidden, textRestricted)
	}
	return nil
}

func (m *Module) status(c *web.Call, _ web.None) (*users.User, error) {
	return c.Principal.User, m.statusOn()
}

type statusIn struct {
	Body struct {
		Emoji     web.Opt[string] `json:"status_emoji"`
		Message   web.Opt[string] `json:"status_message"`
		ExpiresAt web.Opt[int64]  `json:"status_expires_at"`
	}
}

// updateStatus sets what is sent; null changes nothing.
func (m *Module) updateStatus(c *web.Call, in statusIn) (*users.User, error) {
	if err := m.statusOn(); err != nil {
		return nil, err
	}
	var fields []users.Field
	if in.Body.Emoji.Has() {
		fields = append(fields, users.SetStatusEmoji(&in.Body.Emoji.V))
	}
	if in.Body.Message.Has() {
		fields = append(fields, users.SetStatusMessage(&in.Body.Message.V))
	}
	if in.Body.ExpiresAt.Has() {
		fields = append(fields, users.SetStatusExpiresAt(&in.Body.ExpiresAt.V))
	}
	u, err := m.Users.Update(c.Context(), c.UserID(), fields...)
	if err == nil {
		m.publish(c, events.Event{Name: "user.status_updated", SubjectID: u.ID})
	}
	return u, missing(err, http.StatusBadRequest)
}

func (m *Module) info(c *web.Call, _ web.None) (jsondoc.Doc, error) { return c.Principal.Info, nil }

type infoIn struct{ Body web.Dict }

func (m *Module) updateInfo(c *web.Call, in infoIn) (jsondoc.Doc, error) {
	u, err := m.Users.Edit(c.Context(), c.UserID(), func(u *users.User) []users.Field {
		return []users.Field{users.SetInfo(u.Info.Or(jsondoc.Doc("{}")).Merge(in.Body.Doc()))}
	})
	if err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	return u.Info, nil
}

type variablesAnswer struct {
	Variables jsondoc.Doc `json:"variables"`
}

func (m *Module) variables(c *web.Call, _ web.None) (*variablesAnswer, error) {
	var b jsondoc.Builder
	c.Principal.Variables.Each(func(name string, v jsondoc.Doc) bool {
		if v.Kind() == '"' {
			b.Raw(name, v)
		}
		return true
	})
	return &variablesAnswer{b.Done()}, nil
}

type variablesIn struct {
	Body struct {
		Variables web.Dict `json:"variables" default:"{}"`
	}
}

// Limits of a user's variables, in characters.
const (
	maxVariables     = 100_000 // of all, as JSON
	maxVariableValue = 20_000
)

var variableName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// compactLen is the number of characters of an object of texts that is written without spaces and needless escapes.
func compactLen(d jsondoc.Doc) int {
	n := len("{}")
	d.Each(func(name string, v jsondoc.Doc) bool {
		if n > len("{}") {
			n++
		}
		if text, ok := v.AsText(); ok {
			v = jsondoc.Text(text)
		}
		n += utf8.RuneCount(jsondoc.Text(name)) + 1 + utf8.RuneCount(v)
		return true
	})
	return n
}

func (m *Module) updateVariables(c *web.Call, in variablesIn) (*variablesAnswer, error) {
	d := in.Body.Variables.Doc()
	if compactLen(d) > maxVariables {
		return nil, web.Fail(http.StatusBadRequest, "User variables are too large.")
	}
	var b jsondoc.Builder
	var refused error
	d.Each(func(name string, v jsondoc.Doc) bool {
		text, ok := v.AsText()
		text = strings.ReplaceAll(text, "\r\n", "\n")
		switch {
		case !variableName.MatchString(name):
			refused = fmt.Errorf("Invalid user variable key: %s", name)
		case !ok:
			refused = fmt.Errorf("User variable must be a string: %s", name)
		case utf8.RuneCountInString(text) > maxVariableValue:
			refused = fmt.Errorf("User variable is too long: %s", name)
		default:
			b.Add(name, text)
		}
		return refused == nil
	})
	if refused != nil {
		return nil, web.Fail(http.StatusBadRequest, refused.Error())
	}
	doc := b.Done()
	if _, err := m.Users.Update(c.Context(), c.UserID(), users.SetVariables(doc)); err != nil {
		return nil, missing(err, http.StatusBadRequest)
	}
	return &variablesAnswer{doc}, nil
}
