package models

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/prompt"
)

// inputs are what a snapshot is made of.
type inputs struct {
	base      []llm.Model
	tables    *tables
	settings  *config.Snapshot
	functions uint64
}

func (in *inputs) same(other *inputs) bool {
	return in.tables == other.tables && in.settings == other.settings && in.functions == other.functions && sameList(in.base, other.base)
}

// snapshot is the list at one moment. It never changes, but remembers answers.
type snapshot struct {
	in     inputs
	all    []*Model
	byID   map[string]*Model
	listed []*listedModel // in the order of GET /api/models

	once   sync.Once
	answer jsondoc.Doc // for those who see everything

	mu      sync.Mutex
	answers map[string]jsondoc.Doc // by the set of models that is visible
}

// maxAnswers bounds the answers that a snapshot remembers; users of one set of groups share one.
const maxAnswers = 128

// listedModel is a model with what decides who sees it.
type listedModel struct {
	*Model
	owner  string
	grants []Grant
	arena  jsondoc.Doc // grants in the settings
	hasRow bool        // "info" comes from the table
	info   bool        // it has an "info" at all: default metadata makes one
}

// everything is the answer for those whom no grants bind.
func (s *snapshot) everything() jsondoc.Doc {
	s.once.Do(func() { s.answer = encode(s.listed) })
	return s.answer
}

// visible is the answer for a user.
func (s *snapshot) visible(v access.Viewer, admin bool) jsondoc.Doc {
	list := make([]*listedModel, 0, len(s.listed))
	set := make([]byte, (len(s.listed)+7)/8)
	for i, m := range s.listed {
		if m.visible(v, admin) {
			list = append(list, m)
			set[i/8] |= 1 << (i % 8)
		}
	}
	s.mu.Lock()
	answer, ok := s.answers[string(set)]
	s.mu.Unlock()
	if ok {
		return answer
	}
	answer = encode(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) >= maxAnswers {
		clear(s.answers)
	}
	s.answers[string(set)] = answer
	return answer
}

func (m *listedModel) visible(v access.Viewer, admin bool) bool {
	switch {
	case m.Arena != nil:
		return !m.arena.Truthy() && admin || v.MayIn(m.arena, access.Read)
	case m.info:
		return m.hasRow && (m.owner == v.UserID || v.May(m.grants, access.Read))
	}
	return admin
}

func encode(list []*listedModel) jsondoc.Doc {
	size := 16
	for _, m := range list {
		size += len(m.Entry) + 1
	}
	out := append(make([]byte, 0, size), `{"data":[`...)
	for i, m := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m.Entry...)
	}
	return append(out, "]}"...)
}

// draft is an entry that is being made.
type draft struct {
	model   Model
	entry   jsondoc.Doc // without name, info, actions, filters and tags
	info    jsondoc.Doc // the members of info but meta and params, or nil
	hasInfo bool
	meta    jsondoc.Doc
	params  jsondoc.Doc // nil: info has none
	tags    jsondoc.Doc // of the entry
	gone    bool
}

// build makes the list: the providers' models, arenas, and the rows over them.
func (c *Catalog) build(in inputs) *snapshot {
	s := &snapshot{in: in, byID: map[string]*Model{}, answers: map[string]jsondoc.Doc{}, all: []*Model{}, listed: []*listedModel{}}
	if len(in.base) == 0 {
		return s
	}
	b := builder{in: in, lookup: map[string]*draft{}, ids: map[string]bool{}}
	for i := range in.base {
		b.addBase(&in.base[i])
	}
	b.addArenas()
	for _, d := range b.drafts {
		if d.model.OwnedBy == "ollama" {
			short, _, _ := strings.Cut(d.model.ID, ":")
			if _, taken := b.lookup[short]; !taken {
				b.lookup[short] = d
			}
		}
		b.lookup[d.model.ID] = d
		b.ids[d.model.ID] = true
	}
	for i := range in.tables.rows {
		b.addRow(&in.tables.rows[i])
	}
	b.finish(c.o.Functions, s)
	return s
}

type builder struct {
	in     inputs
	drafts []*draft
	lookup map[string]*draft
	ids    map[string]bool
}

func (b *builder) addBase(m *llm.Model) {
	entry := jsondoc.Doc(m.Entry)
	d := &draft{model: Model{ID: m.ID, Name: m.Name, OwnedBy: m.OwnedBy, Base: m}, entry: entry, tags: entry.Get("tags")}
	if info := entry.Get("info"); info.Kind() == '{' { // the provider is an Open WebUI itself
		d.hasInfo, d.info, d.meta, d.params = true, info, info.Get("meta"), info.Get("params")
	}
	b.drafts = append(b.drafts, d)
}

// defaultArena is what arenas there are when they are switched on and none is set up.
var defaultArena = jsondoc.Doc(`[{"id":"arena-model","name":"Arena Model","meta":{"profile_image_url":"/favicon.png",` +
	`"description":"Submit your questions to anonymous AI chatbots and vote on the best response.","model_ids":null}}]`)

func (b *builder) addArenas() {
	if !config.EvaluationArenaEnable.Get(b.in.settings) {
		return
	}
	list := jsondoc.Doc(config.EvaluationArenaModels.Raw(b.in.settings))
	if list.Kind() != '[' || !list.Truthy() {
		list = defaultArena
	}
	list.Items(func(_ int, a jsondoc.Doc) bool {
		meta := a.Get("meta").Or(jsondoc.Doc("{}"))
		d := &draft{model: Model{ID: a.Text("id"), Name: a.Text("name"), OwnedBy: "arena", Arena: &Arena{}}, meta: meta, hasInfo: true}
		meta.Get("model_ids").Items(func(_ int, id jsondoc.Doc) bool {
			d.model.Arena.ModelIDs = append(d.model.Arena.ModelIDs, id.Text())
			return true
		})
		d.model.Arena.Exclude = meta.Text("filter_mode") == "exclude"
		var e jsondoc.Builder
		e.Add("id", d.model.ID)
		e.Add("name", d.model.Name)
		e.Raw("object", jsondoc.Doc(`"model"`))
		e.Raw("created", jsondoc.Doc("0"))
		e.Raw("owned_by", jsondoc.Doc(`"arena"`))
		e.Raw("arena", jsondoc.Doc("true"))
		d.entry = e.Done()
		b.drafts = append(b.drafts, d)
		return true
	})
}

// arenaOwned are members of an arena's meta that its row cannot change.
var arenaOwned = []string{"access_grants", "model_ids", "filter_mode"}

func (b *builder) addRow(r *Row) {
	if r.BaseModelID == nil {
		if d := b.lookup[r.ID]; d != nil {
			b.override(d, r)
		}
		return
	}
	if !r.IsActive || b.ids[r.ID] {
		return
	}
	b.drafts = append(b.drafts, b.preset(r))
}

// override puts the settings of a provider's model (or an arena) over it.
func (b *builder) override(d *draft, r *Row) {
	if !r.IsActive {
		d.gone = true
		return
	}
	arena := d.meta
	b.setRow(d, r)
	if d.model.Arena != nil {
		for _, name := range arenaOwned {
			if v := arena.Get(name); v != nil {
				d.meta = d.meta.Set(v, name)
			}
		}
	}
	d.model.Name = r.Name
	d.entry = d.entry.Set(jsondoc.Of(r.Name), "name")
}

func (b *builder) preset(r *Row) *draft {
	d := &draft{model: Model{ID: r.ID, Name: r.Name, OwnedBy: "openai"}}
	base := b.lookup[*r.BaseModelID]
	if base == nil {
		short, _, _ := strings.Cut(*r.BaseModelID, ":")
		base = b.lookup[short]
	}
	connection := jsondoc.Doc("null")
	if base != nil {
		d.model.OwnedBy, d.model.Base = base.model.OwnedBy, base.model.Base
		connection = base.entry.Get("connection_type").Or(connection)
	}
	var e jsondoc.Builder
	e.Add("id", r.ID)
	e.Add("name", r.Name)
	e.Raw("object", jsondoc.Doc(`"model"`))
	e.Add("created", r.CreatedAt)
	e.Add("owned_by", d.model.OwnedBy)
	e.Raw("connection_type", connection)
	e.Raw("preset", jsondoc.Doc("true"))
	if base != nil {
		if v := base.entry.Get("pipe"); v != nil {
			e.Raw("pipe", v)
		}
		if v := base.entry.Get("provider"); v.Truthy() {
			e.Raw("provider", v)
		}
		if v := base.entry.Get("loaded"); !v.IsNull() {
			e.Raw("loaded", v)
		}
	}
	d.entry = e.Done()
	b.setRow(d, r)
	return d
}

// setRow makes the row the entry's info.
func (b *builder) setRow(d *draft, r *Row) {
	d.model.Row = r
	d.hasInfo = true
	d.meta = WithSchema(r.Meta, r.Params)
	d.params = PublicParams(r.Params)
	d.info = r.json(b.in.tables.grants[r.ID], nil, nil)
}

// finish adds what the settings give every model, and makes entries and list.
func (b *builder) finish(functions Functions, s *snapshot) {
	defaults := jsondoc.Doc(config.ModelsDefaultMetadata.Raw(b.in.settings))
	threshold := jsondoc.Doc(config.ModelsDefaultParams.Raw(b.in.settings)).Get("compact_token_threshold")
	listed := []*listedModel{}
	place := map[string]int{}
	for _, d := range b.drafts {
		if d.gone {
			continue
		}
		if defaults.Kind() == '{' && defaults.Truthy() {
			d.meta = withDefaults(d.meta, defaults)
			d.hasInfo = true
		}
		if !threshold.IsNull() {
			d.hasInfo = true
			d.params = jsondoc.Object("compact_token_threshold", threshold).Merge(d.params.Or(jsondoc.Doc("{}")))
		}
		actions, filters := jsondoc.Doc("[]"), jsondoc.Doc("[]")
		if functions != nil {
			actions, filters = functions.Items(d.meta)
		}
		m := d.finish(actions, filters)
		l := &listedModel{Model: m, hasRow: m.Row != nil, info: d.hasInfo, arena: d.meta.Get("access_grants")}
		if m.Row != nil {
			l.owner, l.grants = m.Row.UserID, b.in.tables.grants[m.ID]
		}
		if i, seen := place[m.ID]; seen { // the last of an id stands where the first stood
			listed[i] = l
		} else {
			place[m.ID] = len(listed)
			listed = append(listed, l)
		}
		s.byID[m.ID] = m
	}
	for _, l := range listed {
		s.all = append(s.all, l.Model)
		if l.Entry.Text("pipeline", "type") != "filter" {
			s.listed = append(s.listed, l)
		}
	}
	s.sort()
}

// finish makes the model of a draft.
func (d *draft) finish(actions, filters jsondoc.Doc) *Model {
	m := d.model
	if m.Row != nil {
		row := *m.Row
		row.Meta = d.meta // with the defaults, as a chat is to see it
		m.Row = &row
	}
	meta := d.meta
	if meta.Get("profile_image_url") != nil {
		meta = meta.Delete("profile_image_url")
	}
	names := []string(nil)
	if t := meta.Get("tags"); t != nil {
		names = Tags(t)
		meta = meta.Set(tagList(names), "tags")
	}
	var e jsondoc.Builder
	d.entry.Each(func(name string, v jsondoc.Doc) bool {
		switch name {
		case "tags", "info", "actions", "filters":
		default:
			e.Raw(name, v)
		}
		return true
	})
	if d.hasInfo {
		e.Raw("info", d.infoJSON(meta))
	}
	e.Raw("actions", actions)
	e.Raw("filters", filters)
	e.Raw("tags", tagList(unique(append(names, Tags(d.tags)...))))
	m.Entry = e.Done()
	return &m
}

func (d *draft) infoJSON(meta jsondoc.Doc) jsondoc.Doc {
	var info jsondoc.Builder
	d.info.Each(func(name string, v jsondoc.Doc) bool {
		if name != "meta" && name != "params" {
			info.Raw(name, v)
		}
		return true
	})
	if meta != nil {
		info.Raw("meta", meta)
	}
	if d.params != nil {
		info.Raw("params", d.params)
	}
	return info.Done()
}

func unique(names []string) []string {
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// withDefaults gives a meta what the settings say for all models; its own values win, in capabilities one by one.
func withDefaults(meta, defaults jsondoc.Doc) jsondoc.Doc {
	if meta == nil {
		meta = jsondoc.Doc("{}")
	}
	defaults.Each(func(name string, v jsondoc.Doc) bool {
		own := meta.Get(name)
		switch {
		case name == "capabilities" && v.Kind() == '{':
			if own.Kind() == '{' {
				v = v.Merge(own)
			}
			meta = meta.Set(v, name)
		case own.IsNull():
			meta = meta.Set(v, name)
		}
		return true
	})
	return meta
}

// sort follows the order that administrators give; what they do not name comes after, by name.
func (s *snapshot) sort() {
	order := config.UIModelOrderList.Get(s.in.settings)
	if len(order) == 0 {
		return
	}
	at := make(map[string]int, len(order))
	for i, id := range order {
		at[id] = i
	}
	rank := func(m *listedModel) int {
		if i, ok := at[m.ID]; ok {
			return i
		}
		return math.MaxInt
	}
	slices.SortStableFunc(s.listed, func(a, b *listedModel) int {
		if ra, rb := rank(a), rank(b); ra != rb {
			if ra < rb {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// JSON is the model as the workspace's addresses answer it.
func (r *Row) JSON(grants []Grant) jsondoc.Doc { return r.json(grants, r.Meta, r.Params) }

func (r *Row) json(grants []Grant, meta, params jsondoc.Doc) jsondoc.Doc {
	if grants == nil {
		grants = []Grant{}
	}
	var b jsondoc.Builder
	b.Add("version_id", r.VersionID)
	b.Add("id", r.ID)
	b.Add("user_id", r.UserID)
	b.Add("base_model_id", r.BaseModelID)
	b.Add("name", r.Name)
	b.Raw("params", params)
	b.Raw("meta", meta)
	b.Add("access_grants", grants)
	b.Add("is_active", r.IsActive)
	b.Add("updated_at", r.UpdatedAt)
	b.Add("created_at", r.CreatedAt)
	return b.Done()
}

// WithSchema gives a meta the description of the variables that the system prompt in params asks for.
func WithSchema(meta, params jsondoc.Doc) jsondoc.Doc {
	if schema := prompt.Schema(params.Text("system")); schema != nil {
		return meta.Set(schema, "chat_variables_schema")
	}
	if meta.Get("chat_variables_schema") != nil {
		return meta.Delete("chat_variables_schema")
	}
	return meta
}

// Shape brings a row as the table keeps it into the reference's form: known members of meta, tags as objects.
func Shape(r *Row, images config.ProfileImages) error {
	meta, bad := ParseMeta(r.Meta, nil)
	if len(bad) > 0 {
		return fmt.Errorf("meta: %s at %v", bad[0].Msg, bad[0].Loc)
	}
	meta.CleanImage(images)
	params, bad := ParseParams(r.Params, nil)
	if len(bad) > 0 {
		return fmt.Errorf("params: %s at %v", bad[0].Msg, bad[0].Loc)
	}
	if r.ID == "" {
		return errors.New("no id")
	}
	r.Meta, r.Params = meta.JSON(), params.JSON()
	return nil
}
