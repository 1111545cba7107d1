package users

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// permissionTree is the setting user.permissions as forms know it: what a form leaves out has these defaults.
type permissionTree struct {
	Workspace struct {
		Models        bool `json:"models" default:"false"`
		Knowledge     bool `json:"knowledge" default:"false"`
		Prompts       bool `json:"prompts" default:"false"`
		Tools         bool `json:"tools" default:"false"`
		Skills        bool `json:"skills" default:"false"`
		ModelsImport  bool `json:"models_import" default:"false"`
		ModelsExport  bool `json:"models_export" default:"false"`
		ModelsHidden  bool `json:"models_hidden" default:"false"`
		PromptsImport bool `json:"prompts_import" default:"false"`
		PromptsExport bool `json:"prompts_export" default:"false"`
		ToolsImport   bool `json:"tools_import" default:"false"`
		ToolsExport   bool `json:"tools_export" default:"false"`
		SkillsImport  bool `json:"skills_import" default:"false"`
		SkillsExport  bool `json:"skills_export" default:"false"`
	} `json:"workspace"`
	Sharing struct {
		Models          bool `json:"models" default:"false"`
		PublicModels    bool `json:"public_models" default:"false"`
		Knowledge       bool `json:"knowledge" default:"false"`
		PublicKnowledge bool `json:"public_knowledge" default:"false"`
		Prompts         bool `json:"prompts" default:"false"`
		PublicPrompts   bool `json:"public_prompts" default:"false"`
		Tools           bool `json:"tools" default:"false"`
		PublicTools     bool `json:"public_tools" default:"false"`
		Skills          bool `json:"skills" default:"false"`
		PublicSkills    bool `json:"public_skills" default:"false"`
		Notes           bool `json:"notes" default:"false"`
		PublicNotes     bool `json:"public_notes" default:"false"`
		Folders         bool `json:"folders" default:"false"`
		PublicChats     bool `json:"public_chats" default:"false"`
		OpenChats       bool `json:"open_chats" default:"false"`
		PublicCalendars bool `json:"public_calendars" default:"false"`
	} `json:"sharing"`
	AccessGrants struct {
		AllowUsers  bool `json:"allow_users" default:"true"`
		AllowGroups bool `json:"allow_groups" default:"true"`
	} `json:"access_grants"`
	Chat struct {
		Controls           bool `json:"controls" default:"true"`
		Valves             bool `json:"valves" default:"true"`
		SystemPrompt       bool `json:"system_prompt" default:"true"`
		Params             bool `json:"params" default:"true"`
		FileUpload         bool `json:"file_upload" default:"true"`
		WebUpload          bool `json:"web_upload" default:"true"`
		Delete             bool `json:"delete" default:"true"`
		DeleteMessage      bool `json:"delete_message" default:"true"`
		ContinueResponse   bool `json:"continue_response" default:"true"`
		RegenerateResponse bool `json:"regenerate_response" default:"true"`
		RateResponse       bool `json:"rate_response" default:"true"`
		Edit               bool `json:"edit" default:"true"`
		Share              bool `json:"share" default:"true"`
		Export             bool `json:"export" default:"true"`
		Import             bool `json:"import" default:"true"`
		STT                bool `json:"stt" default:"true"`
		TTS                bool `json:"tts" default:"true"`
		Call               bool `json:"call" default:"true"`
		MultipleModels     bool `json:"multiple_models" default:"true"`
		Temporary          bool `json:"temporary" default:"true"`
		TemporaryEnforced  bool `json:"temporary_enforced" default:"false"`
	} `json:"chat"`
	Features struct {
		APIKeys           bool `json:"api_keys" default:"false"`
		Notes             bool `json:"notes" default:"true"`
		Channels          bool `json:"channels" default:"true"`
		EncryptedChannels bool `json:"encrypted_channels" default:"false"`
		Folders           bool `json:"folders" default:"true"`
		DirectToolServers bool `json:"direct_tool_servers" default:"false"`
		WebSearch         bool `json:"web_search" default:"true"`
		ImageGeneration   bool `json:"image_generation" default:"true"`
		CodeInterpreter   bool `json:"code_interpreter" default:"true"`
		Memories          bool `json:"memories" default:"true"`
		Automations       bool `json:"automations" default:"false"`
		Calendar          bool `json:"calendar" default:"true"`
		Webhooks          bool `json:"webhooks" default:"false"`
	} `json:"features"`
	Settings struct {
		Interface bool `json:"interface" default:"true"`
	} `json:"settings"`
}

// sections are the members of the tree.
var sections = []string{"workspace", "sharing", "access_grants", "chat", "features", "settings"}

// formOf reads a stored tree as a form; sections that are not there have their defaults.
func formOf(d jsondoc.Doc) (*permissionTree, error) {
	for _, name := range sections {
		if d.Get(name).Kind() != '{' {
			d = d.Set(jsondoc.Doc("{}"), name)
		}
	}
	t, ps := web.BindDoc[permissionTree](d, web.Loc{"user.permissions"})
	if len(ps) > 0 {
		return nil, fmt.Errorf("user.permissions holds what is no permission: %v", ps[0].Loc)
	}
	return &t, nil
}

func (m *Module) defaultPermissions(_ *web.Call, _ web.None) (*permissionTree, error) {
	return formOf(m.Access.Defaults())
}

func (m *Module) builtinPermissions(_ *web.Call, _ web.None) (*permissionTree, error) {
	return formOf(m.Access.Builtin())
}

type permissionsIn struct{ Body permissionTree }

func (m *Module) setDefaultPermissions(c *web.Call, in permissionsIn) (*permissionTree, error) {
	err := m.Settings.Set(c.Context(), config.Changes{config.UserPermissions.Key(): jsontext.Value(jsondoc.Of(in.Body))})
	if err == nil {
		m.publish(c, events.Event{Name: "user.permissions_updated", SubjectType: "config", SubjectID: "user.permissions"})
	}
	return &in.Body, err
}

func (m *Module) permissions(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	return m.Access.Permissions(c.Context(), c.Principal.User)
}
