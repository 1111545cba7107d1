package models

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// Meta is the meta object of a workspace model as clients send it and as the table keeps it: known members with their
// types, and any others. A profile image is not looked at until [Meta.CleanImage].
type Meta struct {
	ProfileImage web.Opt[jsondoc.Doc]   `json:"profile_image_url"`
	Background   web.Opt[BackgroundURL] `json:"background_image_url"`
	Description  web.Opt[string]        `json:"description"`
	I18n         web.Opt[web.Dict]      `json:"i18n"`
	Capabilities web.Opt[web.Dict]      `json:"capabilities"`
	Knowledge    web.Opt[Knowledge]     `json:"knowledge"`
	Voice        web.Opt[Voice]         `json:"voice"`
	Avatar       web.Opt[VoiceAvatar]   `json:"voice_avatar"`
	Extra        web.Extra              `json:"-"`
}

// ParseMeta reads a meta object; loc is where it stands in the request.
func ParseMeta(raw jsondoc.Doc, loc web.Loc) (Meta, web.Problems) {
	return web.BindDoc[Meta](raw.Or(jsondoc.Doc("{}")), loc)
}

// CleanImage drops a profile image that is none that the server shows: an own path, an http(s) URL or a data URI of an
// allowed raster type and size.
func (m *Meta) CleanImage(images config.ProfileImages) {
	if m.ProfileImage.Has() && !validImage(m.ProfileImage.V, images) {
		m.ProfileImage = web.Opt[jsondoc.Doc]{Set: true, Null: true}
	}
}

// JSON is the object in the reference's form: every known member, null where it has no value, then the others.
func (m *Meta) JSON() jsondoc.Doc {
	var b jsondoc.Builder
	b.Add("profile_image_url", m.ProfileImage)
	b.Add("background_image_url", m.Background)
	b.Add("description", m.Description)
	b.Add("i18n", m.I18n)
	b.Add("capabilities", m.Capabilities)
	b.Add("knowledge", m.Knowledge)
	b.Add("voice", m.Voice)
	b.Add("voice_avatar", m.Avatar)
	jsondoc.Doc(m.Extra).Each(func(name string, v jsondoc.Doc) bool {
		if name == "tags" {
			v = tagList(Tags(v))
		}
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

var (
	userImagePath  = regexp.MustCompile(`^/api/v1/users/[^/?#]+/profile/image\n?$`)
	backgroundPath = regexp.MustCompile(`^/api/v1/files/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/content$`)
	ownImages      = []string{"", "/user.png", "/favicon.png", "/static/favicon.png"}
)

// validImage follows the reference's validate_image_url.
func validImage(v jsondoc.Doc, images config.ProfileImages) bool {
	s, ok := v.AsText()
	if !ok {
		return false
	}
	if slices.Contains(ownImages, s) || userImagePath.MatchString(s) {
		return true
	}
	if u, err := url.Parse(s); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return u.Hostname() != ""
	}
	head, _, ok := strings.Cut(s, ",")
	if !ok {
		return false
	}
	for _, kind := range images.MIMETypes {
		_, sub, _ := strings.Cut(kind, "/")
		if strings.EqualFold(head, "data:image/"+sub+";base64") {
			return images.MaxDataURI == 0 || len(s) <= images.MaxDataURI
		}
	}
	return false
}

// BackgroundURL is the address of an uploaded file.
type BackgroundURL string

// DecodeField implements web.Decoder.
func (u *BackgroundURL) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	s, ok := raw.AsText()
	if !ok {
		return web.Problems{web.ValueError(loc, raw, "Invalid image URL.")}
	}
	if !backgroundPath.MatchString(s) {
		return web.Problems{web.ValueError(loc, raw, "Invalid background image URL: must reference an internal file.")}
	}
	*u = BackgroundURL(s)
	return nil
}

// FileID is the id of the file, "" where there is none.
func (u BackgroundURL) FileID() string {
	parts := strings.Split(string(u), "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[len(parts)-2]
}

// Knowledge is the list of a model's sources, without the text extracted from them: the files have that.
type Knowledge jsondoc.Doc

// DecodeField implements web.Decoder.
func (k *Knowledge) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '[' {
		return web.Problems{{Type: "list_type", Loc: loc, Msg: "Input should be a valid list", Input: raw}}
	}
	out := []byte{'['}
	raw.Items(func(i int, e jsondoc.Doc) bool {
		if i > 0 {
			out = append(out, ',')
		}
		for _, path := range [][]string{{"data", "content"}, {"file", "data", "content"}} {
			if e.Get(path...) != nil {
				e = e.Delete(path...)
			}
		}
		out = append(out, e...)
		return true
	})
	*k = append(out, ']')
	return nil
}

// MarshalJSONTo writes the list.
func (k Knowledge) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(k).MarshalJSONTo(e) }

// Voice is how a model's answers are read out.
type Voice struct {
	Voice web.Opt[string] `json:"voice" minlen:"1" maxlen:"200" pattern:"^\\S+$"`
}

// Animation is a movement of an avatar: an uploaded file.
type Animation struct {
	web.Forbid `json:"-"`
	FileID     string `json:"file_id" pattern:"^[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}$"`
}

// Gesture is an animation that a model may choose by name.
type Gesture struct {
	web.Forbid  `json:"-"`
	FileID      string `json:"file_id" pattern:"^[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}$"`
	Name        string `json:"name" pattern:"^[a-z][a-z0-9_]{0,47}$"`
	Description string `json:"description" minlen:"1" maxlen:"500"`
}

// VoiceAvatar is a figure that speaks a model's answers.
type VoiceAvatar struct {
	FileID   string               `json:"file_id"`
	States   map[string]Animation `json:"states"`
	Gestures []Gesture            `json:"gestures"`
}

type avatarForm struct {
	web.Forbid
	FileID   string    `json:"file_id" pattern:"^[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}$"`
	States   states    `json:"states" default:"{}"`
	Gestures []Gesture `json:"gestures" default:"[]" maxitems:"16"`
}

type states map[string]Animation

// DecodeField implements web.Decoder: the names of states are fixed.
func (s *states) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '{' {
		return web.Problems{{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: raw}}
	}
	*s = states{}
	var ps web.Problems
	raw.Each(func(name string, v jsondoc.Doc) bool {
		if !slices.Contains([]string{"idle", "listening", "speaking"}, name) {
			ps = append(ps, web.Problem{Type: "literal_error", Loc: at(loc, name, "[key]"), Input: jsondoc.Of(name),
				Msg: "Input should be 'idle', 'listening' or 'speaking'", Ctx: map[string]any{"expected": "'idle', 'listening' or 'speaking'"}})
		}
		a, bad := web.BindDoc[Animation](v, at(loc, name))
		ps = append(ps, bad...)
		(*s)[name] = a
		return true
	})
	return ps
}

// DecodeField implements web.Decoder; members of older versions are dropped.
func (a *VoiceAvatar) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	clean := raw
	for _, old := range []string{"preset", "movement", "mouth", "gaze"} {
		clean = clean.Delete(old)
	}
	f, ps := web.BindDoc[avatarForm](clean, loc)
	if len(ps) > 0 {
		return ps
	}
	names := map[string]bool{}
	for _, g := range f.Gestures {
		if names[g.Name] || strings.TrimSpace(g.Description) == "" {
			return web.Problems{web.ValueError(loc, raw, "Gestures need unique names and a description.")}
		}
		names[g.Name] = true
	}
	*a = VoiceAvatar{f.FileID, f.States, f.Gestures}
	return nil
}

func at(loc web.Loc, steps ...any) web.Loc { return append(loc[:len(loc):len(loc)], steps...) }

// Tags are the names in a list of tags, which may be objects with a name or plain strings; blank ones are left out.
func Tags(list jsondoc.Doc) []string {
	var out []string
	if list.Kind() != '[' {
		return nil
	}
	list.Items(func(_ int, e jsondoc.Doc) bool {
		if e.Kind() == '{' {
			e = e.Get("name")
		}
		if s := strings.TrimSpace(e.Text()); s != "" {
			out = append(out, s)
		}
		return true
	})
	return out
}

// tagList writes names as the list of objects that clients know.
func tagList(names []string) jsondoc.Doc {
	out := []byte{'['}
	for i, n := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"name":`...)
		out = append(jsondoc.AppendString(out, n), '}')
	}
	return append(out, ']')
}

// Params are the parameters of a workspace model: what it sends along with each request, and the choices it offers.
type Params struct {
	Controls Controls  `json:"model_controls" default:"{}"`
	Extra    web.Extra `json:"-"`

	// ControlsSet says that model_controls was sent, be it empty.
	ControlsSet bool `json:"-"`
}

// Validate implements web.Validator; it notes whether there are controls.
func (p *Params) Validate(_ web.Loc, raw jsondoc.Doc) web.Problems {
	p.ControlsSet = raw.Get("model_controls") != nil
	return nil
}

// ParseParams reads a params object.
func ParseParams(raw jsondoc.Doc, loc web.Loc) (Params, web.Problems) {
	return web.BindDoc[Params](raw.Or(jsondoc.Doc("{}")), loc)
}

// JSON is the object as it is kept.
func (p *Params) JSON() jsondoc.Doc {
	var b jsondoc.Builder
	if len(p.Controls) > 2 {
		b.Raw("model_controls", jsondoc.Doc(p.Controls))
	}
	jsondoc.Doc(p.Extra).Each(func(name string, v jsondoc.Doc) bool {
		b.Raw(name, v)
		return true
	})
	return b.Done()
}

// Controls are the choices that a model offers for its parameters, in the kept form.
type Controls jsondoc.Doc

var controlKey = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]*$`)

const controlKeyPattern = `^(?!(?:constructor|prototype)\Z)[a-zA-Z][a-zA-Z0-9_-]*\Z`

func checkKey(name string, loc web.Loc) web.Problems {
	if controlKey.MatchString(name) && name != "constructor" && name != "prototype" {
		return nil
	}
	return web.Problems{{Type: "string_pattern_mismatch", Loc: at(loc, name, "[key]"), Input: jsondoc.Of(name),
		Msg: fmt.Sprintf("String should match pattern '%s'", controlKeyPattern), Ctx: map[string]any{"pattern": controlKeyPattern}}}
}

type control struct {
	Display     string          `json:"display" default:"menu" enum:"menu,slider"`
	Label       string          `json:"label" pattern:"\\S"`
	Description web.Opt[string] `json:"description"`
	Default     web.Opt[string] `json:"default"`
	Options     controlOptions  `json:"options"`
}

type controlOption struct {
	Label  string   `json:"label" pattern:"\\S"`
	Params web.Dict `json:"params"`
}

type controlOptions struct {
	names []string
	list  jsondoc.Doc
}

// DecodeField implements web.Decoder.
func (o *controlOptions) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '{' {
		return web.Problems{{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: raw}}
	}
	var b jsondoc.Builder
	var ps web.Problems
	raw.Each(func(name string, v jsondoc.Doc) bool {
		ps = append(ps, checkKey(name, loc)...)
		opt, bad := web.BindDoc[controlOption](v, at(loc, name))
		ps = append(ps, bad...)
		o.names = append(o.names, name)
		b.Add(name, opt)
		return true
	})
	if len(o.names) == 0 {
		ps = append(ps, web.Problem{Type: "too_short", Loc: loc, Input: raw, Msg: "Dictionary should have at least 1 item after validation, not 0",
			Ctx: map[string]any{"field_type": "Dictionary", "min_length": 1, "actual_length": 0}})
	}
	o.list = b.Done()
	return ps
}

// DecodeField implements web.Decoder.
func (c *Controls) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	if raw.Kind() != '{' {
		return web.Problems{{Type: "dict_type", Loc: loc, Msg: "Input should be a valid dictionary", Input: raw}}
	}
	var b jsondoc.Builder
	var ps web.Problems
	raw.Each(func(name string, v jsondoc.Doc) bool {
		ps = append(ps, checkKey(name, loc)...)
		one, bad := web.BindDoc[control](v, at(loc, name))
		if len(bad) == 0 {
			bad = one.check(v, at(loc, name))
		}
		ps = append(ps, bad...)
		b.Raw(name, one.json())
		return true
	})
	*c = Controls(b.Done())
	return ps
}

func (c *control) check(raw jsondoc.Doc, loc web.Loc) web.Problems {
	switch {
	case c.Display == "slider" && len(c.Options.names) < 2:
		return web.Problems{web.ValueError(loc, raw, "A slider needs at least two options.")}
	case c.Default.Has() && !slices.Contains(c.Options.names, c.Default.V):
		return web.Problems{web.ValueError(loc, raw, "Default must name an approved option.")}
	}
	return nil
}

func (c *control) json() jsondoc.Doc {
	var b jsondoc.Builder
	if c.Display != "menu" {
		b.Add("display", c.Display)
	}
	b.Add("label", c.Label)
	if c.Description.Has() {
		b.Add("description", c.Description.V)
	}
	if c.Default.Has() {
		b.Add("default", c.Default.V)
	}
	b.Raw("options", c.Options.list)
	return b.Done()
}

// PublicParams are the params that every user of a model may see: labels of its choices and when its chats are
// compacted. System prompt and sampling stay with those who may edit the model.
func PublicParams(params jsondoc.Doc) jsondoc.Doc {
	var out jsondoc.Builder
	if controls := params.Get("model_controls"); controls.Kind() == '{' && controls.Truthy() {
		var list jsondoc.Builder
		controls.Each(func(name string, c jsondoc.Doc) bool {
			list.Raw(name, publicControl(c))
			return true
		})
		out.Raw("model_controls", list.Done())
	}
	if v := params.Get("compact_token_threshold"); v != nil {
		out.Raw("compact_token_threshold", v)
	}
	return out.Done()
}

func publicControl(c jsondoc.Doc) jsondoc.Doc {
	var b, options jsondoc.Builder
	for _, name := range []string{"label", "description", "default", "display"} {
		if v := c.Get(name); v != nil {
			b.Raw(name, v)
		}
	}
	c.Get("options").Each(func(name string, o jsondoc.Doc) bool {
		options.Raw(name, jsondoc.Object("label", o.Get("label")))
		return true
	})
	b.Raw("options", options.Done())
	return b.Done()
}
