package plugin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/plugins"
	"github.com/galleychat/galley/core/web"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// published is what plugins offer to the rest of Galley.
type published struct {
	states  map[string]plugins.State // guarded by the manager's mu
	offered atomic.Pointer[offered]
}

// offered is what ready plugins offer at a moment, in order. It is never changed.
type offered struct {
	filters []*filterEntry
	tools   []*toolEntry
}

func owner(id string) string { return "plugin:" + id }

// publish makes an instance the unit's current one, with its routes, models, filter and tools.
func (m *Manager) publish(u *unit, inst *instance) error {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	id, before := inst.id(), u.ID()
	if m.o.Router != nil {
		routes, err := u.routes(inst)
		if err != nil {
			return &refusal{err}
		}
		if err := m.o.Router.SetDynamic(owner(id), routes); err != nil {
			return &conflict{err}
		}
	}
	u.current.Store(inst)
	if before != id { // the new version has another name
		m.retract(before)
		u.mu.Lock()
		u.set = inst.given()
		u.mu.Unlock()
	}
	m.own(u, id)
	m.offerModels(u, inst)
	u.filter.Store(newFilterEntry(u, inst))
	m.offer()
	return nil
}

// offerModels has the registry know a plugin's models, or no more.
func (m *Manager) offerModels(u *unit, inst *instance) {
	switch {
	case m.o.LLM == nil:
	case !inst.models:
		m.dropModels(inst.id())
	default:
		p := &provider{u: u, id: inst.id()}
		m.o.LLM.Put(p, p.models(inst.listed)) // for the version before, or one that is gone, too
		m.o.LLM.Refresh()
		if inst.listed == nil { // a chat may name a model before anybody lists them
			m.wg.Go(func() { m.o.LLM.Models(m.ctx, nil) })
		}
	}
}

// withdraw takes away what a unit that is down cannot give; its routes stay, to say so, and so does its filter if it is
// required.
func (m *Manager) withdraw(u *unit) {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	m.dropModels(u.ID())
	m.offer()
}

// unpublish takes away everything of a unit.
func (m *Manager) unpublish(u *unit) {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	id := u.ID()
	m.mu.Lock()
	mine := m.ids[id] == u
	m.mu.Unlock()
	if mine {
		m.retract(id)
	}
	u.filter.Store(nil)
	m.offer()
}

// retract takes away the routes and models of an id.
func (m *Manager) retract(id string) {
	if m.o.Router != nil {
		m.o.Router.RemoveDynamic(owner(id))
	}
	m.dropModels(id)
}

func (m *Manager) dropModels(id string) {
	if m.o.LLM != nil && m.o.LLM.Unregister(providerID(id)) {
		m.o.LLM.Refresh()
	}
}

// offer makes the list of filters and tools anew. It is called with publishing held.
func (m *Manager) offer() {
	next := &offered{}
	units := m.all()
	slices.SortStableFunc(units, func(a, b *unit) int { return cmp.Compare(a.ID(), b.ID()) })
	for _, u := range units {
		inst := u.current.Load()
		if f := u.filter.Load(); f != nil && (inst != nil || f.spec.GetRequired()) {
			next.filters = append(next.filters, f)
		}
		if inst != nil && len(inst.tooled) > 0 {
			next.tools = append(next.tools, &toolEntry{u: u, id: inst.id(), name: inst.title(), description: inst.description(), tools: inst.tooled})
		}
	}
	slices.SortStableFunc(next.filters, func(a, b *filterEntry) int { return cmp.Compare(a.spec.GetPriority(), b.spec.GetPriority()) })
	m.published.offered.Store(next)
	m.changed()
}

// changed tells who wants to know that the list of plugins is another.
func (m *Manager) changed() {
	if m.o.Changed != nil {
		m.o.Changed()
	}
}

func (m *Manager) offered() *offered {
	if o := m.published.offered.Load(); o != nil {
		return o
	}
	return &offered{}
}

// title is the plugin's name for people.
func (inst *instance) title() string {
	if m := inst.src.manifest; m != nil && m.Name != "" {
		return m.Name
	}
	return orText(inst.what.GetName(), inst.id())
}

func (inst *instance) description() string {
	if m := inst.src.manifest; m != nil && m.Description != "" {
		return m.Description
	}
	return inst.what.GetDescription()
}

// everything is the route of a plugin that lists none.
var everything = []*pb.Route{{Path: "/"}}

// routes are the addresses of a plugin: below its own prefix and those that the operator granted.
func (u *unit) routes(inst *instance) ([]web.DynamicRoute, error) {
	if inst.web == nil {
		return nil, nil
	}
	list := inst.what.GetRoutes()
	if len(list) == 0 {
		list = everything
	}
	prefixes := []string{"/api/v1/plugins/" + inst.id()}
	if m := inst.src.manifest; m != nil {
		prefixes = append(prefixes, m.Prefixes...)
	}
	var out []web.DynamicRoute
	for i, prefix := range prefixes {
		for _, r := range list {
			d, err := u.route(prefix, r)
			if err != nil {
				return nil, err
			}
			out = append(out, d)
			if i > 0 && r.GetPath() == "/" { // the granted address itself
				d.Path = prefix
				out = append(out, d)
			}
		}
	}
	return out, nil
}

func (u *unit) route(prefix string, r *pb.Route) (web.DynamicRoute, error) {
	path := r.GetPath()
	if !strings.HasPrefix(path, "/") {
		return web.DynamicRoute{}, fmt.Errorf("route %q does not begin with a slash", path)
	}
	d := web.DynamicRoute{Method: r.GetMethod(), Path: prefix + path, Permission: r.GetPermission(), Summary: r.GetSummary()}
	switch r.GetAccess() {
	case pb.Access_ACCESS_PUBLIC:
		d.Level = auth.Optional
		if d.Permission != "" {
			d.Level = auth.Verified
		}
	case pb.Access_ACCESS_ADMIN:
		d.Level = auth.Admin
	default:
		d.Level = auth.Verified
	}
	if schema := r.GetOpenapi(); len(schema) > 0 {
		doc, bad := jsondoc.Check(schema)
		if bad != nil || doc.Kind() != '{' {
			return d, fmt.Errorf("route %q: its OpenAPI operation is no JSON object", path)
		}
		d.Schema = doc
	}
	d.Handler = func(w http.ResponseWriter, req *http.Request, p *auth.Principal) { u.serveHTTP(w, req, p, prefix, r) }
	return d, nil
}
