package app

import (
	"context"

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
	"github.com/galleychat/galley/routes/models"
	"github.com/galleychat/galley/routes/oauth"
	"github.com/galleychat/galley/routes/ollama"
	"github.com/galleychat/galley/routes/openai"
	"github.com/galleychat/galley/routes/pipelines"
	"github.com/galleychat/galley/routes/plugins"
	unbuilt "github.com/galleychat/galley/routes/quiet"
	"github.com/galleychat/galley/routes/search"
	"github.com/galleychat/galley/routes/tasks"
	"github.com/galleychat/galley/routes/tools"
	"github.com/galleychat/galley/routes/users"
)

// mounted is a module and the prefix of its paths.
type mounted struct {
	prefix string
	module web.Module
}

// built are the tags of the API that modules serve, and single paths of others; package quiet answers for the rest.
var built = []string{"auths", "users", "groups", "chats", "folders", "models", "openai", "ollama", "tasks", "configs", "files", "search", "pipelines", "/tools/"}

// modules makes all modules of the API. A module that is a Starter, Runner, Drainer or Stopper takes part in the life of
// the process; other parts that do are appended to a.parts here.
func (a *App) modules() ([]mounted, error) {
	v1 := "/api/v1/"
	var err error
	if a.Uploads, err = storedfiles.NewFolder(a.Env.UploadDir()); err != nil {
		return nil, err
	}
	uploaded := files.New(files.Deps{
		Files: a.Files, Access: a.FileAccess, Folder: a.Uploads, Users: a.Users, Settings: a.Settings, AdminsSeeAll: a.Env.BypassAdminAccess, Log: a.Log,
	})
	list := []mounted{
		{"", &probes{app: a}},
		{"", appRoutes.New(appRoutes.Deps{
			Turns: a.Turns, TurnStore: a.turnStore(), Chats: a.Chats, Models: a.Models, Providers: a.LLM, Access: a.Access, Users: a.Users,
			Settings: a.Settings, Env: a.Env, Presence: a.Presence, Realtime: a.Realtime, Filters: a.Filters, Log: a.Log, FeaturesOff: unbuilt.Off(built...),
			OAuthProviders: a.OAuth.Names,
		})},
		{v1 + "auths", auths.New(auths.Deps{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env, Sessions: a.Sessions, OAuth: a.OAuth, Events: a.Events, Log: a.Log})},
		{"/oauth", oauth.New(oauth.Deps{OAuth: a.OAuth, Backchannel: a.Env.OAuth.BackchannelLogout})},
		{v1 + "users", users.New(users.Deps{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env, Sessions: a.Sessions, OAuth: a.OAuth, Static: a.Site})},
		{v1 + "groups", groups.New(groups.Deps{Users: a.Users, Access: a.Access, Settings: a.Settings, Env: a.Env})},
		{v1 + "chats", chats.New(chats.Deps{
			Store: a.Chats, Access: a.ChatAccess, Grants: a.Access, Folders: a.Folders, FolderRules: a.FolderRules, Users: a.Users, Settings: a.Settings,
			AdminExport: a.Env.AdminExport, Realtime: a.Realtime, Tasks: chatTasks{a.Turns}, Completer: completer{a}, Render: a.Prompts.Server, AccessChanged: a.chatAccessChanged,
		})},
		{v1 + "folders", folders.New(folders.Deps{
			Folders: a.Folders, Access: a.Access, Chats: a.Chats, Users: a.Users, Files: a.FileAccess, Settings: a.Settings, Active: a.Turns.Active,
		})},
		{v1 + "models", models.New(models.Deps{DB: a.DB, Catalog: a.Models, Access: a.Access, Settings: a.Settings, Env: a.Env, Files: modelFiles{a, a.Uploads}})},
		{"/openai", openai.New(openai.Deps{Registry: a.LLM, Catalog: a.Models, Access: a.Access, Settings: a.Settings, Env: a.Env, Prompts: a.Prompts, Filters: a.Filters})},
		{"/ollama", ollama.New(ollama.Deps{Registry: a.LLM, Catalog: a.Models, Settings: a.Settings, Env: a.Env, Prompts: a.Prompts, Filters: a.Filters})},
		{v1 + "pipelines", pipelines.New(pipelines.Deps{Registry: a.LLM, Settings: a.Settings, Local: a.pipelinesOfPlugins(), Log: a.Log})},
		{v1 + "search", search.New(search.Deps{Store: found.New(a.DB, a.Chats), Grants: a.Access, Settings: a.Settings})},
		{v1 + "files", uploaded},
		{v1 + "retrieval", uploaded.Retrieval()},
		{v1 + "configs", configs.New(configs.Deps{
			DB: a.DB, Users: a.Users, Settings: a.Settings, Env: a.Env, Headers: a.LLM.Client().Headers(), OAuth: a.OAuth.Clients,
			Revoked: func(_ context.Context, ids []string) { a.Sessions.Disconnect(ids...) },
		})},
		{v1 + "evaluations", evaluations.New(evaluations.Deps{Settings: a.Settings})},
		{v1 + "tasks", tasks.New(tasks.Deps{Tasks: a.Tasks, Settings: a.Settings})},
		{v1 + "tools", tools.New(tools.Deps{Sources: []tools.ToolSource{pluginTools{a}}, Env: a.Env, Log: a.Log})},
		{v1[:len(v1)-1], unbuilt.New(unbuilt.Deps{Settings: a.Settings, Built: built})},
	}
	if a.Plugins != nil {
		list = append(list, mounted{pluginsPrefix, plugins.New(plugins.Deps{Plugins: a.Plugins, Upload: a.Env.PluginsUpload})})
	}
	return list, nil
}

// chatAccessChanged has those leave a chat's room who may no longer read it.
func (a *App) chatAccessChanged(ctx context.Context, chatID string) {
	if err := a.Presence.ChatAccessChanged(ctx, chatID); err != nil {
		a.Log.WarnContext(ctx, "readers of a chat were not checked", "chat", chatID, "error", err)
	}
}
