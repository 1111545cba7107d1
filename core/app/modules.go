package app

import (
	storedfiles "github.com/galleychat/galley/core/store/files"
	found "github.com/galleychat/galley/core/store/search"
	"github.com/galleychat/galley/core/web"
	appRoutes "github.com/galleychat/galley/routes/app"
	"github.com/galleychat/galley/routes/auths"
	"github.com/galleychat/galley/routes/chats"
	"github.com/galleychat/galley/routes/configs"
	"github.com/galleychat/galley/routes/evaluations"
	"github.com/galleychat/galley/routes/files"
	"github.com/galleychat/galley/routes/folders"
	"github.com/galleychat/galley/routes/groups"
	"github.com/galleychat/galley/routes/memories"
	"github.com/galleychat/galley/routes/models"
	"github.com/galleychat/galley/routes/notifications"
	"github.com/galleychat/galley/routes/oauth"
	"github.com/galleychat/galley/routes/ollama"
	"github.com/galleychat/galley/routes/openai"
	"github.com/galleychat/galley/routes/pipelines"
	"github.com/galleychat/galley/routes/plugins"
	"github.com/galleychat/galley/routes/prompts"
	unbuilt "github.com/galleychat/galley/routes/quiet"
	"github.com/galleychat/galley/routes/scim"
	"github.com/galleychat/galley/routes/search"
	"github.com/galleychat/galley/routes/tasks"
	"github.com/galleychat/galley/routes/tools"
	"github.com/galleychat/galley/routes/users"
	"github.com/galleychat/galley/routes/utils"
)

// mounted is a module and the prefix of its paths.
type mounted struct {
	prefix string
	module web.Module
}

// built are the tags of the API that modules serve, and single paths of others; package quiet answers for the rest.
var built = []string{"auths", "users", "groups", "chats", "folders", "models", "openai", "ollama", "tasks", "configs", "files", "search", "pipelines", "prompts", "notifications", "memories", "tools", "tool_servers"}

// modules makes all modules of the API. A module that is a Starter, Runner, Drainer or Stopper takes part in the life of
// the process; other parts that do are appended to a.parts here.
func (a *App) modules() ([]mounted, error) {
	v1 := "/api/v1/"
	var err error
	if a.Uploads, err = storedfiles.NewFolder(a.Env.UploadDir()); err != nil {
		return nil, err
	}
	uploaded := files.New(files.Deps{
		Files: a.Files, Access: a.FileAccess, Folder: a.Uploads, Users: a.Users, Settings: a.Settings, AdminsSeeAll: a.Env.BypassAdminAccess, Events: a.Events, Log: a.Log,
	})
	list := []mounted{
		{"", &probes{app: a}},
		{"", appRoutes.New(appRoutes.Deps{
			Turns: a.Turns, TurnStore: a.turnStore(), Chats: a.Chats, Models: a.Models, Providers: a.LLM, Access: a.Access, Users: a.Users,
			Settings: a.Settings, Env: a.Env, Presence: a.Presence, Realtime: a.Realtime, Filters: a.Filters, Events: a.Events, Webhooks: a.Webhooks,
			Log: a.Log, FeaturesOff: unbuilt.Off(built...), OAuthProviders: a.OAuth.Names,
		})},
		{v1 + "auths", auths.New(auths.Deps{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env, Sessions: a.Sessions, Factors: a.Factors, OAuth: a.OAuth, Events: a.Events, Log: a.Log})},
		{"/oauth", oauth.New(oauth.Deps{OAuth: a.OAuth, Backchannel: a.Env.OAuth.BackchannelLogout})},
		{v1 + "users", users.New(users.Deps{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env, Sessions: a.Sessions, OAuth: a.OAuth, Static: a.Site, Events: a.Events})},
		{v1 + "groups", groups.New(groups.Deps{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env, Events: a.Events})},
		{v1 + "chats", chats.New(chats.Deps{
			Store: a.Chats, Access: a.ChatAccess, Grants: a.Access, Folders: a.Folders, FolderRules: a.FolderRules, Users: a.Users, Settings: a.Settings,
			AdminExport: a.Env.AdminExport, Realtime: a.Realtime, Tasks: chatTasks{a.Turns}, Completer: completer{a}, Render: a.Prompts.Server, Events: a.Events, AccessChanged: a.chatAccessChanged,
		})},
		{v1 + "folders", folders.New(folders.Deps{
			Folders: a.Folders, Access: a.Access, Chats: a.Chats, Users: a.Users, Files: a.FileAccess, Settings: a.Settings, Active: a.Turns.Active, Events: a.Events,
		})},
		{v1 + "models", models.New(models.Deps{DB: a.DB, Catalog: a.Models, Access: a.Access, Settings: a.Settings, Env: a.Env, Files: modelFiles{a, a.Uploads}, Events: a.Events})},
		{"/openai", openai.New(openai.Deps{Registry: a.LLM, Catalog: a.Models, Access: a.Access, Settings: a.Settings, Env: a.Env, Prompts: a.Prompts, Filters: a.Filters, Events: a.Events})},
		{"/ollama", ollama.New(ollama.Deps{Registry: a.LLM, Catalog: a.Models, Settings: a.Settings, Env: a.Env, Prompts: a.Prompts, Filters: a.Filters, Events: a.Events})},
		{v1 + "pipelines", pipelines.New(pipelines.Deps{Registry: a.LLM, Settings: a.Settings, Local: a.pipelinesOfPlugins(), Events: a.Events, Log: a.Log})},
		{v1 + "prompts", prompts.New(prompts.Deps{DB: a.DB, Access: a.Access, Env: a.Env, Events: a.Events})},
		{v1 + "search", search.New(search.Deps{Store: found.New(a.DB, a.Chats), Grants: a.Access, Settings: a.Settings})},
		{v1 + "files", uploaded},
		{v1 + "retrieval", uploaded.Retrieval()},
		{v1 + "configs", configs.New(configs.Deps{
			Settings: a.Settings, Env: a.Env, Headers: a.LLM.Client().Headers(), Factors: a.Factors, OAuth: a.OAuth.Clients, HTTP: a.ToolServers.HTTP, Events: a.Events,
		})},
		{v1 + "notifications", notifications.New(notifications.Deps{Notifications: a.Notifications, Access: a.Access, Settings: a.Settings})},
		{v1 + "evaluations", evaluations.New(evaluations.Deps{Settings: a.Settings, Events: a.Events})},
		{v1 + "memories", memories.New(memories.Deps{Memories: a.Memories})},
		{v1 + "utils", utils.New(utils.Deps{DB: a.DB, Settings: a.Settings, Env: a.Env, Log: a.Log})},
		{v1 + "tasks", tasks.New(tasks.Deps{Tasks: a.Tasks, Settings: a.Settings})},
		{v1 + "tools", tools.New(tools.Deps{
			Sources: []tools.ToolSource{pluginTools{a}, serverTools{a.ToolServers}}, Discover: serverTools{a.ToolServers}, Python: a.PythonTools, Access: a.Access, Env: a.Env, Events: a.Events, HTTP: a.codeFetcher(), Log: a.Log,
		})},
		{v1[:len(v1)-1], unbuilt.New(unbuilt.Deps{Access: a.Access, Settings: a.Settings, Built: built})},
	}
	if a.Env.SCIM.Enabled {
		list = append(list, mounted{scim.Prefix, scim.New(scim.Deps{Users: a.Users, Access: a.Access, Sessions: a.Sessions, Env: a.Env, Events: a.Events, Log: a.Log})})
	}
	if a.Plugins != nil {
		list = append(list, mounted{pluginsPrefix, plugins.New(plugins.Deps{Plugins: a.Plugins, Upload: a.Env.PluginsUpload})})
	}
	return list, nil
}
