package auths

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type detailsAnswer struct {
	Name  *string `json:"name"`
	Email *string `json:"email"`
}

// adminDetails says whom to ask for admission.
func (m *Module) adminDetails(c *web.Call, _ web.None) (*detailsAnswer, error) {
	snap := m.Settings.Snapshot()
	if !config.AuthAdminShow.Get(snap) {
		return nil, web.Fail(http.StatusBadRequest, textRestricted)
	}
	var u *users.User
	var err error
	out := &detailsAnswer{}
	if email := config.AuthAdminEmail.Get(snap); email != "" {
		out.Email = &email
		u, err = m.Users.ByEmail(c.Context(), email)
	} else if u, err = m.Users.First(c.Context()); err == nil {
		out.Email = &u.Email
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if u != nil {
		out.Name = &u.Name
	}
	return out, nil
}

// formKey is a field of a form and the setting it stands for.
type formKey struct{ field, key string }

// adminKeys are the settings of the admin form.
var adminKeys = []formKey{
	{"ENABLE_MFA", "auth.mfa.enable"},
	{"MFA_ALLOW_OAUTH_BYPASS", "auth.mfa.allow_oauth_bypass"},
	{"MFA_ALLOW_TRUSTED_HEADER_BYPASS", "auth.mfa.allow_trusted_header_bypass"},
	{"SHOW_ADMIN_DETAILS", "auth.admin.show"},
	{"ADMIN_EMAIL", "auth.admin.email"},
	{"WEBUI_URL", "webui.url"},
	{"ENABLE_LOGIN_FORM", "ui.enable_login_form"},
	{"ENABLE_SIGNUP", "ui.enable_signup"},
	{"ENABLE_API_KEYS", "auth.enable_api_keys"},
	{"ENABLE_API_KEYS_ENDPOINT_RESTRICTIONS", "auth.api_key.endpoint_restrictions"},
	{"API_KEYS_ALLOWED_ENDPOINTS", "auth.api_key.allowed_endpoints"},
	{"DEFAULT_USER_ROLE", "ui.default_user_role"},
	{"DEFAULT_GROUP_ID", "ui.default_group_id"},
	{"DEFAULT_INTERFACE_SETTINGS", "ui.default_interface_settings"},
	{"I18N", "ui.i18n"},
	{"JWT_EXPIRES_IN", "auth.jwt_expiry"},
	{"ENABLE_COMMUNITY_SHARING", "ui.enable_community_sharing"},
	{"ENABLE_MESSAGE_RATING", "ui.enable_message_rating"},
	{"ENABLE_FOLDERS", "folders.enable"},
	{"FOLDER_MAX_FILE_COUNT", "folders.max_file_count"},
	{"AUTOMATION_MAX_COUNT", "automations.max_count"},
	{"AUTOMATION_MIN_INTERVAL", "automations.min_interval"},
	{"ENABLE_AUTOMATIONS", "automations.enable"},
	{"ENABLE_CHANNELS", "channels.enable"},
	{"ENABLE_ENCRYPTED_CHANNELS", "channels.encryption.enable"},
	{"ENABLE_APPS", "apps.enable"},
	{"CHANNEL_MODEL_RESPONSE_MODE", "channels.model_response_mode"},
	{"ENABLE_CALENDAR", "calendar.enable"},
	{"ENABLE_MEMORIES", "memories.enable"},
	{"ENABLE_MEMORY_SYSTEM_CONTEXT", "memories.system_context.enable"},
	{"ENABLE_SKILL_LAZY_LOADING", "skills.lazy_loading.enable"},
	{"SKILL_CONTENT_MAX_CHARS", "skills.content_max_chars"},
	{"SKILL_PREVIEW_MAX_CHARS", "skills.preview_max_chars"},
	{"ENABLE_NOTES", "notes.enable"},
	{"ENABLE_USER_WEBHOOKS", "ui.enable_user_webhooks"},
	{"ENABLE_USER_STATUS", "users.enable_status"},
	{"PENDING_USER_OVERLAY_TITLE", "ui.pending_user_overlay_title"},
	{"PENDING_USER_OVERLAY_CONTENT", "ui.pending_user_overlay_content"},
	{"RESPONSE_WATERMARK", "ui.watermark"},
}

// formOf writes settings as a form.
func formOf(snap *config.Snapshot, keys []formKey) *jsondoc.Builder {
	b := &jsondoc.Builder{}
	for _, k := range keys {
		b.Raw(k.field, jsondoc.Doc(snap.Raw(k.key)))
	}
	return b
}

// changesOf reads a form, whose values are sound, as changes of settings.
func changesOf(form any, keys []formKey) config.Changes {
	values := jsondoc.Open(jsondoc.Of(form))
	out := config.Changes{}
	for _, k := range keys {
		if v := values.Get(k.field); v != nil {
			out[k.key] = jsontext.Value(v)
		}
	}
	return out
}

func (m *Module) adminConfig(_ *web.Call, _ web.None) (jsondoc.Doc, error) {
	return formOf(m.Settings.Snapshot(), adminKeys).Done(), nil
}

// adminForm holds web.Opt where the form may leave a setting alone.
type adminForm struct {
	EnableMFA          web.Opt[strictBool] `json:"ENABLE_MFA"`
	MFAOAuthBypass     web.Opt[strictBool] `json:"MFA_ALLOW_OAUTH_BYPASS"`
	MFAHeaderBypass    web.Opt[strictBool] `json:"MFA_ALLOW_TRUSTED_HEADER_BYPASS"`
	ShowAdmin          bool                `json:"SHOW_ADMIN_DETAILS"`
	AdminEmail         web.Opt[string]     `json:"ADMIN_EMAIL"`
	URL                string              `json:"WEBUI_URL"`
	LoginForm          *bool               `json:"ENABLE_LOGIN_FORM"`
	Signup             bool                `json:"ENABLE_SIGNUP"`
	APIKeys            bool                `json:"ENABLE_API_KEYS"`
	APIKeysRestricted  bool                `json:"ENABLE_API_KEYS_ENDPOINT_RESTRICTIONS"`
	APIKeysEndpoints   string              `json:"API_KEYS_ALLOWED_ENDPOINTS"`
	DefaultRole        string              `json:"DEFAULT_USER_ROLE"`
	DefaultGroup       string              `json:"DEFAULT_GROUP_ID"`
	Interface          web.Opt[web.Dict]   `json:"DEFAULT_INTERFACE_SETTINGS"`
	I18N               web.Opt[i18n]       `json:"I18N"`
	JWTExpiry          string              `json:"JWT_EXPIRES_IN"`
	CommunitySharing   bool                `json:"ENABLE_COMMUNITY_SHARING"`
	MessageRating      bool                `json:"ENABLE_MESSAGE_RATING"`
	Folders            bool                `json:"ENABLE_FOLDERS"`
	FolderFiles        web.Opt[count]      `json:"FOLDER_MAX_FILE_COUNT"`
	AutomationCount    web.Opt[count]      `json:"AUTOMATION_MAX_COUNT"`
	AutomationInterval web.Opt[count]      `json:"AUTOMATION_MIN_INTERVAL"`
	Automations        bool                `json:"ENABLE_AUTOMATIONS"`
	Channels           bool                `json:"ENABLE_CHANNELS"`
	EncryptedChannels  *bool               `json:"ENABLE_ENCRYPTED_CHANNELS"`
	Apps               *bool               `json:"ENABLE_APPS"`
	ChannelMode        string              `json:"CHANNEL_MODEL_RESPONSE_MODE" default:"thread"`
	Calendar           bool                `json:"ENABLE_CALENDAR"`
	Memories           bool                `json:"ENABLE_MEMORIES"`
	MemoryContext      bool                `json:"ENABLE_MEMORY_SYSTEM_CONTEXT"`
	SkillLazy          *bool               `json:"ENABLE_SKILL_LAZY_LOADING"`
	SkillContent       web.Opt[positive]   `json:"SKILL_CONTENT_MAX_CHARS"`
	SkillPreview       web.Opt[positive]   `json:"SKILL_PREVIEW_MAX_CHARS"`
	Notes              bool                `json:"ENABLE_NOTES"`
	UserWebhooks       bool                `json:"ENABLE_USER_WEBHOOKS"`
	UserStatus         bool                `json:"ENABLE_USER_STATUS"`
	OverlayTitle       web.Opt[string]     `json:"PENDING_USER_OVERLAY_TITLE"`
	OverlayContent     web.Opt[string]     `json:"PENDING_USER_OVERLAY_CONTENT"`
	Watermark          web.Opt[string]     `json:"RESPONSE_WATERMARK"`

	sent map[string]bool
}

// notNull are the fields that may be absent but not null.
var notNull = []string{"ENABLE_MFA", "MFA_ALLOW_OAUTH_BYPASS", "MFA_ALLOW_TRUSTED_HEADER_BYPASS", "ENABLE_LOGIN_FORM", "I18N",
	"ENABLE_ENCRYPTED_CHANNELS", "ENABLE_APPS", "ENABLE_SKILL_LAZY_LOADING"}

// Validate implements web.Validator, and notes what was sent: the fields alone cannot tell everywhere.
func (f *adminForm) Validate(loc web.Loc, raw jsondoc.Doc) web.Problems {
	var ps web.Problems
	f.sent = map[string]bool{}
	raw.Each(func(name string, _ jsondoc.Doc) bool {
		f.sent[name] = true
		return true
	})
	for _, name := range notNull {
		if v := raw.Get(name); v != nil && v.IsNull() {
			ps = append(ps, web.ValueError(append(loc[:len(loc):len(loc)], name), v, name+" must not be null"))
		}
	}
	return ps
}

// optionalAdmin are the fields whose settings stay as they are where the form leaves them out.
var optionalAdmin = []string{"ENABLE_MFA", "MFA_ALLOW_OAUTH_BYPASS", "MFA_ALLOW_TRUSTED_HEADER_BYPASS", "ENABLE_LOGIN_FORM",
	"ENABLE_ENCRYPTED_CHANNELS", "ENABLE_APPS", "I18N", "ENABLE_SKILL_LAZY_LOADING", "SKILL_CONTENT_MAX_CHARS", "SKILL_PREVIEW_MAX_CHARS"}

type adminIn struct{ Body adminForm }

func (m *Module) setAdminConfig(c *web.Call, in adminIn) (jsondoc.Doc, error) {
	f := &in.Body
	changes := changesOf(f, adminKeys)
	drop := func(field string) {
		for _, k := range adminKeys {
			if k.field == field {
				delete(changes, k.key)
			}
		}
	}
	for _, field := range optionalAdmin {
		if !f.sent[field] {
			drop(field)
		}
	}
	changes["ui.default_interface_settings"] = jsontext.Value(f.Interface.V.Doc().Or(jsondoc.Doc("{}")))
	changes["folders.max_file_count"] = f.FolderFiles.V.setting()
	changes["automations.max_count"] = f.AutomationCount.V.setting()
	changes["automations.min_interval"] = f.AutomationInterval.V.setting()
	switch f.DefaultRole {
	case users.RolePending, users.RoleUser, users.RoleAdmin:
	default:
		drop("DEFAULT_USER_ROLE")
	}
	if f.ChannelMode != "thread" && f.ChannelMode != "channel" {
		drop("CHANNEL_MODEL_RESPONSE_MODE")
	}
	if !auth.IsExpiry(f.JWTExpiry) {
		drop("JWT_EXPIRES_IN")
	}
	ctx := c.Context()
	revoked, err := m.Factors.Apply(ctx, c.Principal, func(key string) (jsontext.Value, bool) {
		v, ok := changes[key].(jsontext.Value)
		return v, ok
	}, func(tx *store.Tx) error { return m.Settings.SetTx(ctx, tx, changes) })
	if err != nil {
		return nil, err
	}
	b := formOf(m.Settings.Snapshot(), adminKeys)
	b.Add("sessions_revoked", revoked)
	return b.Done(), nil
}
