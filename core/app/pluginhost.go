package app

import (
	"context"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/embedding"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/core/realtime"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/turn"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// pluginServices are those parts of the server that plugins can be granted. It may be called before those parts are made.
func (a *App) pluginServices() plugin.Services {
	return plugin.Services{
		APIKeyHeader: a.Env.APIKeyHeader, Groups: a.pluginGroups, Users: pluginUsers{a}, Models: pluginModels{a}, Files: pluginFiles{a}, Emit: a.pluginEvent,
	}
}

// pluginGroups are the groups of a user, inherited ones too, kept for as long as core/access keeps them.
func (a *App) pluginGroups(ctx context.Context, userID string) ([]sdk.Group, error) {
	list, err := a.Access.GroupsOf(ctx, userID)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	out := make([]sdk.Group, len(list))
	for i, g := range list {
		out[i] = sdk.Group{ID: g.ID, Name: g.Name}
	}
	return out, nil
}

// pluginEvent sends an event to the browsers of a user.
func (a *App) pluginEvent(_ context.Context, e *pb.EmitRequest) (int, error) {
	room := realtime.UserRoom(e.GetUserId())
	n := a.Realtime.RoomSize(room)
	a.Realtime.EmitRaw(room, turn.EncodeEvent(e.GetChatId(), e.GetMessageId(), e.GetType(), jsondoc.Doc(e.GetData())))
	return n, nil
}

// pluginUsers has plugins look up accounts.
type pluginUsers struct{ a *App }

func callerOf(u *users.User) *pb.Caller {
	return &pb.Caller{Id: u.ID, Name: u.Name, Email: u.Email, Role: u.Role}
}

func (s pluginUsers) found(ctx context.Context, u *users.User, err error) (*pb.Caller, error) {
	if err != nil {
		return nil, err
	}
	c := callerOf(u)
	groups, err := s.a.Access.GroupsOf(ctx, u.ID)
	for _, g := range groups {
		c.Groups = append(c.Groups, &pb.Group{Id: g.ID, Name: g.Name})
	}
	return c, err
}

// Get implements plugin.UserService.
func (s pluginUsers) Get(ctx context.Context, id string) (*pb.Caller, error) {
	u, err := s.a.Users.ByID(ctx, id)
	return s.found(ctx, u, err)
}

// ByEmail implements plugin.UserService.
func (s pluginUsers) ByEmail(ctx context.Context, email string) (*pb.Caller, error) {
	u, err := s.a.Users.ByEmail(ctx, strings.ToLower(email))
	return s.found(ctx, u, err)
}

// usersPage is how many accounts a page has.
const usersPage = 30

// List implements plugin.UserService: in the order in which the accounts were made.
func (s pluginUsers) List(ctx context.Context, query string, page int) ([]*pb.Caller, int64, error) {
	list, total, err := s.a.Users.List(ctx, users.Query{Text: query, OrderBy: "created_at", Direction: "asc", Skip: (page - 1) * usersPage, Limit: usersPage})
	out := make([]*pb.Caller, len(list))
	for i, u := range list {
		out[i] = callerOf(u)
	}
	return out, int64(total), err
}

// pluginModels has plugins ask models.
type pluginModels struct{ a *App }

// principal is the user whom a plugin asks for, or the server itself.
func (s pluginModels) principal(ctx context.Context, userID string) (*auth.Principal, *llm.Caller, error) {
	if userID == "" {
		return auth.ServerItself(), &llm.Caller{}, nil
	}
	u, err := s.a.Users.ByID(ctx, userID)
	if err != nil {
		return nil, nil, err
	}
	if !u.IsVerified() {
		return nil, nil, web.Fail(http.StatusForbidden, web.TextProhibited)
	}
	p := &auth.Principal{User: u}
	caller := models.CallerOf(p)
	caller.Groups = func(ctx context.Context) ([]llm.Group, error) {
		list, err := s.a.Access.GroupsOf(ctx, userID)
		groups := make([]llm.Group, len(list))
		for i, g := range list {
			groups[i] = llm.Group{ID: g.ID, Name: g.Name}
		}
		return groups, err
	}
	return p, caller, nil
}

// List implements plugin.ModelService.
func (s pluginModels) List(ctx context.Context, userID string) ([]*pb.Model, error) {
	p, _, err := s.principal(ctx, userID)
	if err != nil {
		return nil, err
	}
	list, err := s.a.Models.Listed(ctx, p)
	out := make([]*pb.Model, len(list))
	for i, m := range list {
		created, _ := m.Entry.Int("created")
		out[i] = &pb.Model{Id: m.ID, Name: m.Name, OwnedBy: m.OwnedBy, Created: created, Tags: models.Tags(m.Entry.Get("tags"))}
		if out[i].Description = m.Meta().Text("description"); out[i].Description == "" {
			out[i].Description = m.Entry.Text("description")
		}
	}
	return out, err
}

// ofChats are the members by which a request belongs to a chat or to a browser's session. What plugins ask does not.
var ofChats = []string{
	"id", "chat_id", "session_id", "message_ids", "parent_id", "user_message", "parent_message", "new_chat", "assistant_message_id",
	"regeneration_message_id", "folder_id", "background_tasks", "automation_id", "chat_variables", "model_item", "tool_servers",
}

// Chat implements plugin.ModelService: as a program asks, with the model's params and with filters.
func (s pluginModels) Chat(ctx context.Context, userID string, body []byte) (*llm.Response, error) {
	p, caller, err := s.principal(ctx, userID)
	if err != nil {
		return nil, err
	}
	form := jsondoc.Open(jsondoc.Doc(body))
	for _, name := range ofChats {
		form.Pop(name)
	}
	if form.Get("stream").IsNull() {
		form.Set("stream", jsondoc.Doc("true"))
	}
	res, err := s.a.Turns.Run(ctx, turn.Request{Principal: p, Caller: caller, Body: form.Doc()})
	if err != nil || res.Response != nil {
		return res.Response, err
	}
	return llm.NewBody(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, res.Body), nil
}

// embeddings is an answer in OpenAI's form.
type embeddings struct {
	Data []struct {
		Embedding []float32 `json:"embedding"`
		Index     int       `json:"index"`
	} `json:"data"`
	Usage struct {
		PromptTokens int64 `json:"prompt_tokens"`
	} `json:"usage"`
}

var errEmbeddings = web.Fail(http.StatusBadGateway, "The provider's embeddings cannot be read")

// Embed implements plugin.ModelService.
func (s pluginModels) Embed(ctx context.Context, userID, model string, input []string) (*pb.EmbedResponse, error) {
	p, caller, err := s.principal(ctx, userID)
	if err != nil {
		return nil, err
	}
	t, err := models.Usable(ctx, s.a.Models, p, caller, model)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, models.ErrNotFound.Error(), err)
	}
	request := jsondoc.Object("model", jsondoc.Text(model)).Set(jsondoc.Of(input), "input")
	answer, err := embedding.Create(ctx, t, request, caller)
	if err != nil {
		return nil, err
	}
	var e embeddings
	if err := answer.Decode(&e); err != nil || len(e.Data) != len(input) {
		return nil, web.Because(errEmbeddings.Status, errEmbeddings.Detail, err)
	}
	out := &pb.EmbedResponse{Embeddings: make([]*pb.Embedding, len(input)), PromptTokens: e.Usage.PromptTokens}
	for _, d := range e.Data {
		if d.Index < 0 || d.Index >= len(input) || out.Embeddings[d.Index] != nil {
			return nil, errEmbeddings
		}
		out.Embeddings[d.Index] = &pb.Embedding{Values: d.Embedding}
	}
	return out, nil
}
