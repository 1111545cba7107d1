package app

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/groups"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

// audience are those who see the same of the server's configuration.
type audience int

const (
	strangers audience = iota
	firsts             // strangers while there is no account yet
	waiting            // accounts that were not admitted
	others             // accounts with an unknown role
	members            // users and administrators
	audiences
)

// configs are the encoded answers of GET /api/config for each audience, under one snapshot of the settings.
type configs struct {
	current atomic.Pointer[encoded]
	peopled atomic.Bool // there are accounts; that does not change back
}

type encoded struct {
	snap   *config.Snapshot
	bodies [audiences]jsondoc.Doc
}

// configuration answers what clients need to know of the server before and after sign-in. A credential that is no good,
// and an API key, count as none.
func (m *Module) configuration(c *web.Call, _ web.None) (web.Raw, error) {
	who, err := m.audienceOf(c.Context(), c.Principal)
	if err != nil {
		return web.Raw{}, err
	}
	body := m.configFor(who)
	if who == members {
		ids, err := m.groupModels(c.Context(), c.Principal)
		if err != nil {
			m.Log.WarnContext(c.Context(), "default models of groups were not found", "error", err)
		}
		if len(ids) > 0 {
			body = body.Set(jsondoc.Text(strings.Join(ids, ",")), "default_models")
		}
	}
	return web.Raw{Type: "application/json", Body: body}, nil
}

func (m *Module) audienceOf(ctx context.Context, p *auth.Principal) (audience, error) {
	if p == nil || p.APIKey {
		if m.config.peopled.Load() {
			return strangers, nil
		}
		any, err := m.Users.Any(ctx)
		if err != nil || !any {
			return firsts, err
		}
		m.config.peopled.Store(true)
		return strangers, nil
	}
	switch {
	case p.IsVerified():
		return members, nil
	case p.Role == users.RolePending:
		return waiting, nil
	}
	return others, nil
}

// configFor is the answer for an audience under the settings of now.
func (m *Module) configFor(who audience) jsondoc.Doc {
	snap := m.Settings.Snapshot()
	e := m.config.current.Load()
	if e == nil || e.snap != snap {
		e = &encoded{snap: snap}
		for a := range audiences {
			e.bodies[a] = m.encodeConfig(snap, a)
		}
		m.config.current.Store(e)
	}
	return e.bodies[who]
}

func (m *Module) encodeConfig(s *config.Snapshot, who audience) jsondoc.Doc {
	raw := func(key string) jsondoc.Doc { return jsondoc.Doc(s.Raw(key)) }
	object := func(pairs ...string) jsondoc.Doc { // names and settings' keys
		var b jsondoc.Builder
		for i := 0; i < len(pairs); i += 2 {
			b.Raw(pairs[i], raw(pairs[i+1]))
		}
		return b.Done()
	}
	var b jsondoc.Builder
	if who == firsts {
		b.Add("onboarding", true)
	}
	b.Add("status", true)
	b.Add("name", m.Env.Name)
	b.Add("version", config.Version)
	b.Add("default_locale", m.variable("DEFAULT_LOCALE"))
	b.Raw("i18n", orEmpty(raw("ui.i18n")))
	var providers jsondoc.Doc
	if m.OAuthProviders != nil && config.OAuthEnable.Get(s) {
		providers = m.OAuthProviders(s)
	}
	b.Raw("oauth", jsondoc.Object("providers", orEmpty(providers)).Set(raw("oauth.auto_redirect").Or(jsondoc.Doc("null")), "auto_redirect"))
	b.Raw("features", m.features(s, who))
	switch who {
	case members:
		b.Raw("default_models", raw("ui.default_models"))
		b.Raw("default_pinned_models", raw("ui.default_pinned_models"))
		b.Raw("default_prompt_suggestions", raw("ui.prompt_suggestions"))
		b.Raw("default_prompt_suggestions_i18n", raw("ui.prompt_suggestions_i18n"))
		b.Raw("code", object("engine", "code_execution.engine", "interpreter_engine", "code_interpreter.engine"))
		var audio jsondoc.Builder
		audio.Raw("realtime", object("enabled", "audio.realtime.enabled", "model", "audio.realtime.model", "voice", "audio.realtime.voice"))
		audio.Raw("tts", object("engine", "audio.tts.engine", "voice", "audio.tts.voice", "split_on", "audio.tts.split_on"))
		audio.Raw("stt", object("engine", "audio.stt.engine"))
		b.Raw("audio", audio.Done())
		b.Raw("file", object("max_size", "rag.file.max_size", "max_count", "rag.file.max_count").
			Set(object("width", "file.image_compression_width", "height", "file.image_compression_height"), "image_compression"))
		b.Raw("permissions", orEmpty(raw("user.permissions")))
		b.Raw("google_drive", m.variables("client_id", "GOOGLE_DRIVE_CLIENT_ID", "api_key", "GOOGLE_DRIVE_API_KEY"))
		b.Raw("onedrive", m.oneDrive())
		b.Raw("ui", object("default_interface_settings", "ui.default_interface_settings", "visibility", "ui.visibility",
			"pending_user_overlay_title", "ui.pending_user_overlay_title", "pending_user_overlay_content", "ui.pending_user_overlay_content",
			"response_watermark", "ui.watermark").Set(jsondoc.Text(m.Env.IframeCSP), "iframe_csp"))
		b.Raw("license_metadata", nil)
	case waiting:
		b.Raw("ui", object("pending_user_overlay_title", "ui.pending_user_overlay_title", "pending_user_overlay_content", "ui.pending_user_overlay_content"))
	}
	return b.Done()
}

func orEmpty(d jsondoc.Doc) jsondoc.Doc {
	if d.Truthy() {
		return d
	}
	return jsondoc.Doc("{}")
}

func (m *Module) variable(name string) string {
	v, _ := m.Env.Lookup(name)
	return v
}

func (m *Module) variables(pairs ...string) jsondoc.Doc {
	var b jsondoc.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.Add(pairs[i], m.variable(pairs[i+1]))
	}
	return b.Done()
}

// oneDriveClient is the application id for a kind of account.
func (m *Module) oneDriveClient(kind string) string {
	if v, ok := m.Env.Lookup("ONEDRIVE_CLIENT_ID_" + kind); ok {
		return v
	}
	return m.variable("ONEDRIVE_CLIENT_ID")
}

func (m *Module) oneDrive() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("client_id_personal", m.oneDriveClient("PERSONAL"))
	b.Add("client_id_business", m.oneDriveClient("BUSINESS"))
	b.Add("sharepoint_url", m.variable("ONEDRIVE_SHAREPOINT_URL"))
	b.Add("sharepoint_tenant_id", m.variable("ONEDRIVE_SHAREPOINT_TENANT_ID"))
	return b.Done()
}

// featureSettings are the switches that signed-in clients see and that are settings, in the reference's order; "" stands
// for those that the process is told, which features fills in.
var featureSettings = [...][2]string{
	{"enable_api_keys", "auth.enable_api_keys"},
	{"enable_password_change_form", "ui.enable_password_change_form"},
	{"enable_version_update_check", ""},
	{"enable_pyodide_file_persistence", ""},
	{"enable_public_active_users_count", ""},
	{"enable_easter_eggs", ""},
	{"enable_direct_connections", "direct.enable"},
	{"enable_direct_integrations", ""},
	{"enable_plugins", ""},
	{"enable_tools", ""},
	{"enable_functions", ""},
	{"enable_tool_servers", ""},
	{"enable_terminal_servers", ""},
	{"enable_folders", "folders.enable"},
	{"folder_max_file_count", "folders.max_file_count"},
	{"enable_channels", "channels.enable"},
	{"enable_encrypted_channels", "channels.encryption.enable"},
	{"enable_apps", "apps.enable"},
	{"enable_calendar", "calendar.enable"},
	{"enable_automations", "automations.enable"},
	{"enable_notes", "notes.enable"},
	{"enable_context_compaction", "chat.context_compaction.enable"},
	{"enable_tool_permissions", "chat.tool_permissions.enable"},
	{"enable_web_search", "web.search.enable"},
	{"enable_web_search_confirmation", "web.search.confirmation.enable"},
	{"web_search_confirmation_content", "web.search.confirmation.content"},
	{"enable_code_execution", "code_execution.enable"},
	{"enable_code_interpreter", "code_interpreter.enable"},
	{"enable_image_generation", "image_generation.enable"},
	{"enable_autocomplete_generation", "task.autocomplete.enable"},
	{"enable_title_generation", "task.title.enable"},
	{"enable_follow_up_generation", "task.follow_up.enable"},
	{"enable_tags_generation", "task.tags.enable"},
	{"enable_community_sharing", "ui.enable_community_sharing"},
	{"enable_message_rating", "ui.enable_message_rating"},
	{"enable_user_webhooks", "ui.enable_user_webhooks"},
	{"enable_user_status", "users.enable_status"},
	{"enable_admin_export", ""},
	{"enable_admin_chat_access", ""},
	{"enable_admin_analytics", ""},
	{"enable_google_drive_integration", "google_drive.enable"},
	{"enable_onedrive_integration", "onedrive.enable"},
	{"enable_memories", "memories.enable"},
	{"enable_subagents", "subagents.enable"},
}

// features are the switches: those of the sign-in page, and for accounts all others.
func (m *Module) features(s *config.Snapshot, who audience) jsondoc.Doc {
	e := m.Env
	var b jsondoc.Builder
	add := func(name string, v jsondoc.Doc) {
		if slices.Contains(m.FeaturesOff, name) {
			v = jsondoc.Doc("false")
		}
		b.Raw(name, v)
	}
	add("slim", jsondoc.Of(strings.EqualFold(m.variable("USE_SLIM_DOCKER"), "true")))
	add("auth", jsondoc.Of(e.Auth))
	add("auth_trusted_header", jsondoc.Of(e.Trusted.Email != ""))
	add("enable_signup_password_confirmation", jsondoc.Of(e.PasswordConfirmation))
	add("enable_ldap", jsondoc.Doc(config.LDAPEnable.Raw(s)))
	add("enable_signup", jsondoc.Doc(config.UIEnableSignup.Raw(s)))
	add("enable_login_form", jsondoc.Doc(config.UIEnableLoginForm.Raw(s)))
	add("enable_websocket", jsondoc.Of(e.WebSocket.Enabled))
	if d := e.WebSocket.HeartbeatInterval; d > 0 {
		add("websocket_heartbeat_interval", jsondoc.Of(int(d/time.Second)))
	}
	if who == strangers || who == firsts {
		return b.Done()
	}
	process := map[string]bool{
		"enable_version_update_check": e.VersionCheck, "enable_pyodide_file_persistence": e.PyodidePersistence,
		"enable_public_active_users_count": e.PublicActiveUsers, "enable_easter_eggs": e.EasterEggs,
		"enable_direct_integrations": e.ToolServers && s.Bool("direct.integrations.enable"),
		"enable_plugins":             e.Plugins, "enable_tools": e.Tools, "enable_functions": e.Functions, "enable_tool_servers": e.ToolServers,
		"enable_terminal_servers": e.ToolServers && anyEnabled(jsondoc.Doc(s.Raw("terminal_server.connections"))),
		"enable_admin_export":     e.AdminExport, "enable_admin_chat_access": e.AdminChatAccess, "enable_admin_analytics": e.AdminAnalytics,
	}
	for _, f := range featureSettings {
		if f[1] != "" {
			add(f[0], jsondoc.Doc(s.Raw(f[1])))
		} else {
			add(f[0], jsondoc.Of(process[f[0]]))
		}
	}
	if s.Bool("onedrive.enable") {
		add("enable_onedrive_personal", jsondoc.Of(m.oneDriveFor("PERSONAL")))
		add("enable_onedrive_business", jsondoc.Of(m.oneDriveFor("BUSINESS")))
	}
	return b.Done()
}

func (m *Module) oneDriveFor(kind string) bool {
	v, ok := m.Env.Lookup("ENABLE_ONEDRIVE_" + kind)
	return (!ok || strings.EqualFold(v, "true")) && m.oneDriveClient(kind) != ""
}

func anyEnabled(connections jsondoc.Doc) (on bool) {
	connections.Items(func(_ int, conn jsondoc.Doc) bool {
		v := conn.Get("enabled")
		on = v == nil || v.Truthy()
		return !on
	})
	return on
}

// groupDefaults are the groups that say which models their members' chats begin with.
type groupDefaults struct {
	mu      sync.Mutex
	until   time.Time
	version uint64 // counts changes, so that what was read before one is not kept after it
	groups  []*groups.Group
	depth   map[string]int
}

// groupsTTL is how long the groups are kept; other replicas may change them.
const groupsTTL = time.Second

func (d *groupDefaults) watch(a *access.Access) {
	if a == nil {
		return
	}
	a.Groups().OnChange(func([]string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.version++
		d.until = time.Time{}
	})
}

// load gives the groups with default models, and how deep in the tree each lies.
func (d *groupDefaults) load(ctx context.Context, s *groups.Store) ([]*groups.Group, map[string]int, error) {
	d.mu.Lock()
	found, depth, fresh, version := d.groups, d.depth, time.Now().Before(d.until), d.version
	d.mu.Unlock()
	if fresh {
		return found, depth, nil
	}
	all, err := s.List(ctx, groups.Query{})
	if err != nil {
		return nil, nil, err
	}
	found, depth = nil, map[string]int{}
	parents := map[string]*string{}
	for _, g := range all {
		parents[g.ID] = g.ParentID
		if g.DefaultModels() != nil {
			found = append(found, &g.Group)
		}
	}
	for _, g := range found {
		n := 0
		for at := g.ParentID; at != nil && n < len(all); n++ {
			at = parents[*at]
		}
		depth[g.ID] = n
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if version == d.version {
		d.groups, d.depth, d.until = found, depth, time.Now().Add(groupsTTL)
	}
	return found, depth, nil
}

// groupModels are the default models of the caller's group, of those the deepest, then the oldest; without those that
// the caller does not see.
func (m *Module) groupModels(ctx context.Context, p *auth.Principal) ([]string, error) {
	configured, depth, err := m.defaults.load(ctx, m.Access.Groups())
	if err != nil || len(configured) == 0 {
		return nil, err
	}
	mine, err := m.Access.GroupIDs(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	var best *groups.Group
	for _, g := range configured {
		if slices.Contains(mine, g.ID) && (best == nil || before(g, best, depth)) {
			best = g
		}
	}
	if best == nil {
		return nil, nil
	}
	list, err := m.Models.ListJSON(ctx, p, false)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	list.Get("data").Items(func(_ int, e jsondoc.Doc) bool {
		seen[e.Text("id")] = !e.Get("info", "meta", "hidden").Truthy()
		return true
	})
	return slices.DeleteFunc(best.DefaultModels().Texts(), func(id string) bool { return !seen[id] }), nil
}

func before(a, b *groups.Group, depth map[string]int) bool {
	if depth[a.ID] != depth[b.ID] {
		return depth[a.ID] > depth[b.ID]
	}
	if a.CreatedAt != b.CreatedAt {
		return a.CreatedAt < b.CreatedAt
	}
	return a.ID < b.ID
}
