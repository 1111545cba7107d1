package auths

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

var ldapKeys = []formKey{
	{"label", "ldap.server.label"},
	{"host", "ldap.server.host"},
	{"port", "ldap.server.port"},
	{"attribute_for_mail", "ldap.server.attribute_for_mail"},
	{"default_email_domain", "ldap.server.default_email_domain"},
	{"attribute_for_username", "ldap.server.attribute_for_username"},
	{"app_dn", "ldap.server.app_dn"},
	{"app_dn_password", "ldap.server.app_password"},
	{"search_base", "ldap.server.users_dn"},
	{"search_filters", "ldap.server.search_filter"},
	{"use_tls", "ldap.server.use_tls"},
	{"certificate_path", "ldap.server.ca_cert_file"},
	{"validate_cert", "ldap.server.validate_cert"},
	{"ciphers", "ldap.server.ciphers"},
	{"enable_group_management", "ldap.group.enable_management"},
	{"enable_group_creation", "ldap.group.enable_creation"},
	{"attribute_for_groups", "ldap.server.attribute_for_groups"},
}

type ldapForm struct {
	Label           string          `json:"label"`
	Host            string          `json:"host"`
	Port            web.Opt[int]    `json:"port"`
	MailAttribute   string          `json:"attribute_for_mail" default:"mail"`
	EmailDomain     string          `json:"default_email_domain" default:"\"\""`
	NameAttribute   string          `json:"attribute_for_username" default:"uid"`
	AppDN           string          `json:"app_dn"`
	AppPassword     string          `json:"app_dn_password"`
	SearchBase      string          `json:"search_base"`
	SearchFilters   string          `json:"search_filters" default:"\"\""`
	UseTLS          bool            `json:"use_tls" default:"true"`
	Certificate     web.Opt[string] `json:"certificate_path"`
	ValidateCert    bool            `json:"validate_cert" default:"true"`
	Ciphers         *string         `json:"ciphers" default:"\"ALL\""`
	ManageGroups    bool            `json:"enable_group_management" default:"false"`
	CreateGroups    bool            `json:"enable_group_creation" default:"false"`
	GroupsAttribute string          `json:"attribute_for_groups" default:"memberOf"`
}

type ldapIn struct{ Body ldapForm }

func (m *Module) ldapServer(_ *web.Call, _ web.None) (jsondoc.Doc, error) {
	return formOf(m.Settings.Snapshot(), ldapKeys).Done(), nil
}

func (m *Module) setLDAPServer(c *web.Call, in ldapIn) (jsondoc.Doc, error) {
	f := &in.Body
	for _, r := range []struct{ name, value string }{
		{"label", f.Label}, {"host", f.Host}, {"attribute_for_mail", f.MailAttribute},
		{"attribute_for_username", f.NameAttribute}, {"search_base", f.SearchBase},
	} {
		if r.value == "" {
			return nil, web.Fail(http.StatusBadRequest, "Required field "+r.name+" is empty")
		}
	}
	if f.ManageGroups && strings.TrimSpace(f.GroupsAttribute) == "" {
		return nil, web.Fail(http.StatusBadRequest, "Required field attribute_for_groups is empty")
	}
	if err := m.Settings.Set(c.Context(), changesOf(f, ldapKeys)); err != nil {
		return nil, err
	}
	return formOf(m.Settings.Snapshot(), ldapKeys).Done(), nil
}

type ldapSwitch struct {
	Enabled jsondoc.Doc `json:"ENABLE_LDAP"`
}

func (m *Module) ldapConfig(_ *web.Call, _ web.None) (*ldapSwitch, error) {
	return &ldapSwitch{jsondoc.Doc(config.LDAPEnable.Raw(m.Settings.Snapshot()))}, nil
}

type ldapSwitchIn struct {
	Body struct {
		Enable web.Opt[bool] `json:"enable_ldap"`
	}
}

func (m *Module) setLDAPConfig(c *web.Call, in ldapSwitchIn) (*ldapSwitch, error) {
	if err := m.Settings.Set(c.Context(), config.Changes{config.LDAPEnable.Key(): in.Body.Enable.Ptr()}); err != nil {
		return nil, err
	}
	return m.ldapConfig(c, web.None{})
}

var oauthKeys = []formKey{
	{"ENABLE_OAUTH", "oauth.enable"},
	{"ENABLE_OAUTH_SIGNUP", "oauth.enable_signup"},
	{"OAUTH_MERGE_ACCOUNTS_BY_EMAIL", "oauth.merge_accounts_by_email"},
	{"OAUTH_AUTO_REDIRECT", "oauth.auto_redirect"},
	{"OAUTH_ALLOWED_DOMAINS", "oauth.allowed_domains"},
	{"OAUTH_BLOCKED_GROUPS", "oauth.blocked_groups"},
	{"ENABLE_OAUTH_ROLE_MANAGEMENT", "oauth.enable_role_mapping"},
	{"OAUTH_ROLES_CLAIM", "oauth.roles_claim"},
	{"OAUTH_ADMIN_ROLES", "oauth.admin_roles"},
	{"OAUTH_ALLOWED_ROLES", "oauth.allowed_roles"},
	{"ENABLE_OAUTH_GROUP_MANAGEMENT", "oauth.enable_group_mapping"},
	{"ENABLE_OAUTH_GROUP_CREATION", "oauth.enable_group_creation"},
	{"OAUTH_GROUP_CLAIM", "oauth.group_claim"},
	{"OAUTH_GROUP_DEFAULT_SHARE", "oauth.group_default_share"},
	{"OAUTH_PROVIDER_NAME", "oauth.provider_name"},
	{"OPENID_PROVIDER_URL", "oauth.provider_url"},
	{"OAUTH_CLIENT_ID", "oauth.client_id"},
	{"OAUTH_CLIENT_SECRET", "oauth.client_secret"},
	{"OPENID_REDIRECT_URI", "oauth.redirect_uri"},
	{"OAUTH_SCOPES", "oauth.scopes"},
	{"OAUTH_CODE_CHALLENGE_METHOD", "oauth.code_challenge_method"},
	{"OAUTH_TOKEN_ENDPOINT_AUTH_METHOD", "oauth.token_endpoint_auth_method"},
	{"OPENID_END_SESSION_ENDPOINT", "oauth.end_session_endpoint"},
	{"OAUTH_TIMEOUT", "oauth.timeout"},
	{"OAUTH_CLIENT_TIMEOUT", "oauth.client.timeout"},
	{"OAUTH_EMAIL_CLAIM", "oauth.email_claim"},
	{"OAUTH_USERNAME_CLAIM", "oauth.username_claim"},
	{"OAUTH_PICTURE_CLAIM", "oauth.picture_claim"},
	{"OAUTH_SUB_CLAIM", "oauth.sub_claim"},
	{"OAUTH_AUDIENCE", "oauth.audience"},
	{"OAUTH_UPDATE_EMAIL_ON_LOGIN", "oauth.update_email_on_login"},
	{"OAUTH_UPDATE_NAME_ON_LOGIN", "oauth.update_name_on_login"},
	{"OAUTH_UPDATE_PICTURE_ON_LOGIN", "oauth.update_picture_on_login"},
	{"OAUTH_REFRESH_TOKEN_INCLUDE_SCOPE", "oauth.refresh_token.include_scope"},
}

type oauthForm struct {
	Enable          web.Opt[bool]         `json:"ENABLE_OAUTH"`
	Signup          web.Opt[bool]         `json:"ENABLE_OAUTH_SIGNUP"`
	MergeAccounts   web.Opt[bool]         `json:"OAUTH_MERGE_ACCOUNTS_BY_EMAIL"`
	AutoRedirect    web.Opt[bool]         `json:"OAUTH_AUTO_REDIRECT"`
	AllowedDomains  web.Opt[commaList]    `json:"OAUTH_ALLOWED_DOMAINS"`
	BlockedGroups   web.Opt[string]       `json:"OAUTH_BLOCKED_GROUPS"`
	ManageRoles     web.Opt[bool]         `json:"ENABLE_OAUTH_ROLE_MANAGEMENT"`
	RolesClaim      web.Opt[string]       `json:"OAUTH_ROLES_CLAIM"`
	AdminRoles      web.Opt[commaList]    `json:"OAUTH_ADMIN_ROLES"`
	AllowedRoles    web.Opt[commaList]    `json:"OAUTH_ALLOWED_ROLES"`
	ManageGroups    web.Opt[bool]         `json:"ENABLE_OAUTH_GROUP_MANAGEMENT"`
	CreateGroups    web.Opt[bool]         `json:"ENABLE_OAUTH_GROUP_CREATION"`
	GroupClaim      web.Opt[string]       `json:"OAUTH_GROUP_CLAIM"`
	GroupShare      web.Opt[boolOrText]   `json:"OAUTH_GROUP_DEFAULT_SHARE"`
	ProviderName    web.Opt[string]       `json:"OAUTH_PROVIDER_NAME"`
	ProviderURL     web.Opt[string]       `json:"OPENID_PROVIDER_URL"`
	ClientID        web.Opt[string]       `json:"OAUTH_CLIENT_ID"`
	ClientSecret    web.Opt[string]       `json:"OAUTH_CLIENT_SECRET"`
	RedirectURI     web.Opt[string]       `json:"OPENID_REDIRECT_URI"`
	Scopes          web.Opt[string]       `json:"OAUTH_SCOPES"`
	ChallengeMethod web.Opt[string]       `json:"OAUTH_CODE_CHALLENGE_METHOD"`
	TokenAuthMethod web.Opt[string]       `json:"OAUTH_TOKEN_ENDPOINT_AUTH_METHOD"`
	EndSession      web.Opt[string]       `json:"OPENID_END_SESSION_ENDPOINT"`
	Timeout         web.Opt[numberOrText] `json:"OAUTH_TIMEOUT"`
	ClientTimeout   web.Opt[numberOrText] `json:"OAUTH_CLIENT_TIMEOUT"`
	EmailClaim      web.Opt[string]       `json:"OAUTH_EMAIL_CLAIM"`
	UsernameClaim   web.Opt[string]       `json:"OAUTH_USERNAME_CLAIM"`
	PictureClaim    web.Opt[string]       `json:"OAUTH_PICTURE_CLAIM"`
	SubClaim        web.Opt[string]       `json:"OAUTH_SUB_CLAIM"`
	Audience        web.Opt[string]       `json:"OAUTH_AUDIENCE"`
	UpdateEmail     web.Opt[bool]         `json:"OAUTH_UPDATE_EMAIL_ON_LOGIN"`
	UpdateName      web.Opt[bool]         `json:"OAUTH_UPDATE_NAME_ON_LOGIN"`
	UpdatePicture   web.Opt[bool]         `json:"OAUTH_UPDATE_PICTURE_ON_LOGIN"`
	RefreshScope    web.Opt[bool]         `json:"OAUTH_REFRESH_TOKEN_INCLUDE_SCOPE"`
}

type oauthIn struct{ Body oauthForm }

// oauthConfig writes lists as the form's text fields: joined by commas, blocked groups as JSON since their names may have
// commas.
func (m *Module) oauthConfig(_ *web.Call, _ web.None) (jsondoc.Doc, error) {
	snap := m.Settings.Snapshot()
	b := &jsondoc.Builder{}
	for _, k := range oauthKeys {
		v := jsondoc.Doc(snap.Raw(k.key))
		if v.Kind() == '[' {
			if k.field == "OAUTH_BLOCKED_GROUPS" {
				v = jsondoc.Text(string(v))
			} else {
				v = jsondoc.Text(strings.Join(v.Texts(), ","))
			}
		}
		b.Raw(k.field, v)
	}
	b.Add("ENABLE_OAUTH_PERSISTENT_CONFIG", m.Env.OAuthPersistentConfig)
	return b.Done(), nil
}

func (m *Module) setOAuthConfig(c *web.Call, in oauthIn) (jsondoc.Doc, error) {
	changes := changesOf(&in.Body, oauthKeys)
	for key, v := range changes {
		if raw, ok := v.(jsontext.Value); ok && string(raw) == "null" {
			delete(changes, key)
		}
	}
	if err := m.Settings.Set(c.Context(), changes); err != nil {
		return nil, err
	}
	return m.oauthConfig(c, web.None{})
}

// commaList is a text of parts between commas, stored as a list.
type commaList []string

// DecodeField implements web.Decoder.
func (l *commaList) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	text, ok := raw.AsText()
	if !ok {
		return web.Problems{{Type: "string_type", Loc: loc, Msg: "Input should be a valid string", Input: raw}}
	}
	*l = splitList(text)
	return nil
}

// boolOrText is true, false or a text.
type boolOrText jsondoc.Doc

// MarshalJSONTo writes the value as it is.
func (v boolOrText) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }

// DecodeField implements web.Decoder.
func (v *boolOrText) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	switch raw.Kind() {
	case 't', 'f', '"':
		*v = boolOrText(raw)
		return nil
	}
	return web.Problems{{Type: "bool_type", Loc: loc, Msg: "Input should be a valid boolean", Input: raw}}
}

// numberOrText is a whole number or a text.
type numberOrText jsondoc.Doc

// MarshalJSONTo writes the value as it is.
func (v numberOrText) MarshalJSONTo(e *jsontext.Encoder) error {
	return jsondoc.Doc(v).MarshalJSONTo(e)
}

// DecodeField implements web.Decoder.
func (v *numberOrText) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	switch raw.Kind() {
	case '0', '"':
		*v = numberOrText(raw)
		return nil
	}
	return web.Problems{{Type: "int_type", Loc: loc, Msg: "Input should be a valid integer", Input: raw}}
}
