package tools

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/pyhost"
	"github.com/galleychat/galley/core/store"
	rows "github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/web"
)

var (
	errNotFound     = web.Fail(http.StatusNotFound, web.TextNotFound)
	errNone         = web.Fail(http.StatusUnauthorized, web.TextNotFound) // what most operations say of a tool that is not there
	errProhibited   = web.Fail(http.StatusUnauthorized, web.TextProhibited)
	errUnauthorized = web.Fail(http.StatusUnauthorized, web.TextUnauthorized)
	errCode         = web.Fail(http.StatusUnauthorized, "You do not have permission to change executable Tool code")
	errID           = web.Fail(http.StatusBadRequest, "Only alphanumeric characters and underscores are allowed in the id")
	errTaken        = web.Fail(http.StatusBadRequest, "Uh-oh! This id is already registered. Please choose another id string.")
	errOff          = web.Fail(http.StatusBadRequest, "Tools are disabled by ENABLE_PLUGINS or ENABLE_TOOLS")
)

// head is what all answers tell of a tool.
type head struct {
	VersionID *string        `json:"version_id"`
	ID        string         `json:"id"`
	UserID    *string        `json:"user_id"`
	Name      string         `json:"name"`
	Meta      jsondoc.Doc    `json:"meta"`
	Grants    []access.Grant `json:"access_grants"`
	UpdatedAt int64          `json:"updated_at"`
	CreatedAt int64          `json:"created_at"`
}

func newHead(t *rows.Tool, grants []access.Grant) head {
	if grants == nil {
		grants = []access.Grant{}
	}
	return head{t.VersionID, t.ID, t.UserID, t.Name, t.Meta, grants, t.UpdatedAt, t.CreatedAt}
}

// whole is a tool with its code.
type whole struct {
	head    `json:",inline"`
	Content *string       `json:"content"`
	Specs   []jsondoc.Doc `json:"specs"`
}

// shown is a tool in a list.
type shown struct {
	whole `json:",inline"`
	Owner *rows.Owner `json:"user"`
}

// entry is a tool in the list of what a chat can be given, or in the workspace.
type entry struct {
	shown      `json:",inline"`
	Write      *bool       `json:"write_access,omitzero"`
	UserValves jsondoc.Doc `json:"has_user_valves,omitzero"`
}

// viewed is a tool by itself. Only who may change it sees its code.
type viewed struct {
	head    `json:",inline"`
	Content *string       `json:"content,omitzero"`
	Specs   []jsondoc.Doc `json:"specs"`
	Owner   *rows.Owner   `json:"user"`
	Write   bool          `json:"write_access"`
}

func (m *Module) whole(ctx context.Context, t *rows.Tool) (*whole, error) {
	grants, err := m.Access.Grants(ctx, rows.ResourceType, t.ID)
	if err != nil {
		return nil, err
	}
	return &whole{newHead(t, grants[t.ID]), t.Content, t.Specs}, nil
}

// free says whether the caller is an administrator whom grants do not bind.
func (m *Module) free(c *web.Call) bool { return c.IsAdmin() && m.Env.BypassAdminAccess }

// usable lists the tools that the caller has a permission for.
func (m *Module) usable(c *web.Call, permission string, content bool) ([]shown, error) {
	if m.Python == nil || !m.Env.Tools && !content {
		return nil, nil
	}
	f := rows.Filter{Permission: permission, Content: content}
	if !m.free(c) {
		v, err := m.Access.Viewer(c.Context(), c.UserID())
		if err != nil {
			return nil, err
		}
		f.Viewer = &v
	}
	list, err := m.Python.Rows.List(c.Context(), f)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	grants, err := m.Access.Grants(c.Context(), rows.ResourceType, ids...)
	out := make([]shown, len(list))
	for i := range list {
		t := &list[i]
		out[i] = shown{whole{newHead(&t.Tool, grants[t.ID]), t.Content, t.Specs}, t.Owner}
	}
	return out, err
}

func (m *Module) workspace(c *web.Call, _ web.None) ([]entry, error) {
	list, err := m.usable(c, access.Read, false)
	if err != nil {
		return nil, err
	}
	v, err := m.Access.Viewer(c.Context(), c.UserID())
	out := make([]entry, len(list))
	for i, t := range list {
		write := m.free(c) || owns(c, t.UserID) || v.May(t.Grants, access.Write)
		out[i] = entry{shown: t, Write: &write}
	}
	return out, err
}

func owns(c *web.Call, owner *string) bool { return owner != nil && *owner == c.UserID() }

func (m *Module) export(c *web.Call, _ web.None) ([]whole, error) {
	if ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, "workspace.tools_export"); err != nil || !ok {
		return nil, either(err, errUnauthorized)
	}
	list, err := m.usable(c, access.Write, true)
	out := make([]whole, len(list))
	for i, t := range list {
		out[i] = t.whole
	}
	return out, err
}

func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// find reads a tool; missing is the answer where there is none.
func (m *Module) find(c *web.Call, id string, missing error) (*rows.Tool, error) {
	t, err := m.Python.Rows.Get(c.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	}
	return t, err
}

// granted says whether the caller owns a tool or has a grant.
func (m *Module) granted(c *web.Call, t *rows.Tool, permission string) (bool, error) {
	if owns(c, t.UserID) {
		return true, nil
	}
	return m.Access.Can(c.Context(), c.UserID(), rows.ResourceType, t.ID, permission)
}

// allowed reads a tool for those who must be let in; administrators are. missing and denied are the answers to the others.
func (m *Module) allowed(c *web.Call, id, permission string, missing, denied error) (*rows.Tool, error) {
	t, err := m.find(c, id, missing)
	if err != nil || c.IsAdmin() {
		return t, err
	}
	if ok, err := m.granted(c, t, permission); err != nil || !ok {
		return nil, either(err, denied)
	}
	return t, nil
}

// mayCode says whether the caller may write code.
func (m *Module) mayCode(c *web.Call) (bool, error) {
	ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, "workspace.tools")
	if err == nil && !ok {
		ok, err = m.Access.HasOrAdmin(c.Context(), c.Principal.User, "workspace.tools_import")
	}
	return ok, err
}

// publish tells that something happened to a tool.
func (m *Module) publish(c *web.Call, name, id string, data web.M) {
	m.Events.Publish(c.Context(), events.Event{Name: name, Actor: c.Principal.User, SubjectID: id, Data: data})
}

// meta is the meta object of a tool as clients send it.
type meta struct {
	I18n        web.Opt[translations] `json:"i18n"`
	Description web.Opt[string]       `json:"description"`
	Manifest    web.Opt[web.Dict]     `json:"manifest"`
	UserValves  web.Opt[bool]         `json:"has_user_valves" default:"false"`
	Extra       web.Extra             `json:"-"`
}

// stored is the object as it is kept, with what the code says.
func (m *meta) stored(code *pyhost.Module) jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("i18n", m.I18n)
	b.Add("description", m.Description)
	b.Raw("manifest", code.Manifest)
	b.Add("has_user_valves", code.UserValves)
	jsondoc.Doc(m.Extra).Each(func(name string, v jsondoc.Doc) bool {
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

// translations are texts by language and name.
type translations jsondoc.Doc

// DecodeField implements web.Decoder.
func (t *translations) DecodeField(raw jsondoc.Doc, loc web.Loc) (ps web.Problems) {
	*t = translations(raw)
	dict := func(d jsondoc.Doc, loc web.Loc) bool {
		if d.Kind() != '{' {
			ps = append(ps, web.Problem{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: d})
			return false
		}
		return true
	}
	if !dict(raw, loc) {
		return ps
	}
	raw.Each(func(language string, texts jsondoc.Doc) bool {
		at := loc.With(language)
		if dict(texts, at) {
			texts.Each(func(name string, v jsondoc.Doc) bool {
				if v.Kind() != '"' {
					ps = append(ps, web.Problem{Type: "string_type", Loc: at.With(name), Msg: "Input should be a valid string", Input: v})
				}
				return true
			})
		}
		return true
	})
	return ps
}

// MarshalJSONTo writes the object as it is.
func (t translations) MarshalJSONTo(e *jsontext.Encoder) error {
	return jsondoc.Doc(t).MarshalJSONTo(e)
}

// form is a tool as clients send it.
type form struct {
	Message web.Opt[string]     `json:"commit_message"`
	ID      string              `json:"id"`
	Name    string              `json:"name"`
	Content string              `json:"content"`
	Meta    meta                `json:"meta"`
	Grants  web.Opt[[]web.Dict] `json:"access_grants"`
}

// stored is the form as it is kept.
func (f *form) stored(code *pyhost.Module) rows.Form {
	return rows.Form{Name: f.Name, Content: f.Content, Meta: f.Meta.stored(code), Specs: code.Specs, Message: f.Message.Ptr()}
}

// codeError is the answer to code that does not load. text is the answer for what the code itself raises, "" for its own
// words.
func codeError(err error, text string) error {
	var raised *pyhost.Error
	switch {
	case errors.As(err, &raised) && raised.Kind == "valves":
		return web.Because(http.StatusBadRequest, "Current Valves are incompatible with this code: "+raised.Text, err)
	case raised != nil && text != "":
		return web.Because(http.StatusBadRequest, text, err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return web.Because(http.StatusBadRequest, err.Error(), err)
}

type createIn struct{ Body form }

func (m *Module) create(c *web.Call, in createIn) (*head, error) {
	ctx, f := c.Context(), &in.Body
	if ok, err := m.mayCode(c); err != nil || !ok {
		return nil, either(err, errUnauthorized)
	}
	if !pyhost.IsIdentifier(f.ID) {
		return nil, errID
	}
	f.ID = strings.ToLower(f.ID)
	switch _, err := m.Python.Rows.Get(ctx, f.ID); {
	case err == nil:
		return nil, errTaken
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	if !m.Env.Tools {
		return nil, errOff
	}
	grants, err := m.Access.FilterAllowed(ctx, c.Principal.User, rows.ResourceType, access.GrantsOf(f.Grants.V))
	if err != nil {
		return nil, err
	}
	f.Content = pyhost.Current(f.Content)
	code, err := m.Python.Load(ctx, f.ID, f.Content, nil)
	if err != nil {
		return nil, codeError(err, "[ERROR: Error creating tool]")
	}
	t, err := m.Python.Rows.Insert(ctx, f.ID, c.UserID(), f.stored(code), grants)
	if errors.Is(err, store.ErrConflict) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(m.Env.DataDir, "cache", "tools", f.ID), 0o755); err != nil { // where tools keep files
		m.Log.WarnContext(ctx, "a tool has no folder", "tool", f.ID, "error", err)
	}
	m.publish(c, "tool.created", t.ID, web.M{"name": t.Name})
	w, err := m.whole(ctx, t)
	if err != nil {
		return nil, err
	}
	return &w.head, nil
}

func (m *Module) get(c *web.Call, in idIn) (*viewed, error) {
	t, err := m.allowed(c, in.ID, access.Read, errNotFound, errProhibited)
	if err != nil {
		return nil, err
	}
	write := m.free(c)
	if !write {
		if write, err = m.granted(c, t, access.Write); err != nil {
			return nil, err
		}
	}
	w, err := m.whole(c.Context(), t)
	if err != nil {
		return nil, err
	}
	if !write {
		w.Content = nil
	}
	return &viewed{head: w.head, Content: w.Content, Specs: w.Specs, Write: write}, nil
}

type updateIn struct {
	idIn
	Body form
}

func (m *Module) update(c *web.Call, in updateIn) (*whole, error) {
	t, err := m.allowed(c, in.ID, access.Write, errNone, errUnauthorized)
	if err != nil {
		return nil, err
	}
	in.Body.Content = pyhost.Current(in.Body.Content)
	return m.change(c, t, &in.Body, "")
}

// change changes a tool; version is that to go back to, "" for none.
func (m *Module) change(c *web.Call, t *rows.Tool, f *form, version string) (*whole, error) {
	ctx := c.Context()
	code, err := m.mayCode(c)
	if err != nil {
		return nil, err
	}
	if !code && f.Content != t.Source() {
		return nil, errUnauthorized
	}
	if !m.Env.Tools {
		return nil, errOff
	}
	loaded, err := m.Python.Load(ctx, t.ID, f.Content, t.Valves)
	if err != nil {
		return nil, codeError(err, "")
	}
	t, err = m.Python.Rows.Update(ctx, t.ID, rows.Change{Form: f.stored(loaded), UserID: c.UserID(), Version: version, NoCode: !code})
	switch {
	case errors.Is(err, rows.ErrCode):
		return nil, errCode
	case errors.Is(err, rows.ErrOtherVersion):
		return nil, web.Fail(http.StatusBadRequest, "Version configuration does not match the saved snapshot")
	case errors.Is(err, store.ErrNotFound):
		return nil, web.Fail(http.StatusBadRequest, "Tool not found")
	case err != nil:
		return nil, versionError(err)
	}
	m.publish(c, "tool.updated", t.ID, web.M{"name": t.Name})
	return m.whole(ctx, t)
}

type accessIn struct {
	idIn
	Body struct {
		Grants []web.Dict `json:"access_grants"`
	}
}

func (m *Module) updateAccess(c *web.Call, in accessIn) (*whole, error) {
	t, err := m.allowed(c, in.ID, access.Write, errNotFound, errUnauthorized)
	if err != nil {
		return nil, err
	}
	grants := access.GrantsOf(in.Body.Grants)
	if ok, err := m.Access.MayGive(c.Context(), c.Principal.User, rows.ResourceType, grants); err != nil || !ok {
		return nil, either(err, web.Fail(http.StatusForbidden, access.TextAudience))
	}
	if err := m.Python.Rows.SetGrants(c.Context(), t.ID, grants); err != nil {
		return nil, err
	}
	m.publish(c, "tool.access_updated", t.ID, web.M{"name": t.Name})
	return m.whole(c.Context(), t)
}

func (m *Module) delete(c *web.Call, in idIn) (bool, error) {
	t, err := m.allowed(c, in.ID, access.Write, errNone, errUnauthorized)
	if err != nil {
		return false, err
	}
	if err := m.Python.Rows.Delete(c.Context(), t.ID); err != nil {
		return false, err
	}
	m.publish(c, "tool.deleted", t.ID, web.M{"name": t.Name})
	return true, nil
}
