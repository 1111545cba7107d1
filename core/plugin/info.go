package plugin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Info is what there is to know of a plugin.
type Info struct {
	ID           string      `json:"id"`
	Name         string      `json:"name"`
	Version      string      `json:"version"`
	Description  string      `json:"description"`
	State        State       `json:"state"`
	Since        int64       `json:"since"` // of the state, Unix seconds
	Enabled      bool        `json:"enabled"`
	Source       string      `json:"source"`          // name in the plugins folder, or "builtin:ID"
	Checksum     string      `json:"checksum"`        // "pinned" or "none"
	SDK          string      `json:"sdk,omitempty"`   // what it is made with
	Error        string      `json:"error,omitempty"` // the last one
	Warning      string      `json:"warning,omitempty"`
	PID          int         `json:"pid,omitempty"`
	Started      int64       `json:"started,omitempty"` // of the process, Unix seconds
	Restarts     int         `json:"restarts"`
	Memory       int64       `json:"memory_bytes"`
	CPU          float64     `json:"cpu_seconds"`
	Processes    int         `json:"processes"`
	Calls        int64       `json:"calls"` // that run now
	Routes       []Route     `json:"routes"`
	Models       []string    `json:"models"`
	Tools        []string    `json:"tools"`
	Filter       *FilterInfo `json:"filter,omitempty"`
	Configurable bool        `json:"configurable"`
	Grants       []string    `json:"grants"`
	Missing      []string    `json:"missing_grants,omitempty"` // wanted and not granted
	Limits       Limits      `json:"limits"`
	Enforced     *Enforced   `json:"limits_enforced,omitempty"`
}

// Enforced says how each limit is kept ("cgroup v2", "rlimit", "watched", "none", "not enforced: …"), and what ends the
// plugin's own children.
type Enforced struct {
	Memory    string `json:"memory"`
	CPU       string `json:"cpu"`
	Processes string `json:"processes"`
	OpenFiles string `json:"open_files"`
	Tree      string `json:"tree"`
}

// Route is an address of a plugin.
type Route struct {
	Method     string `json:"method"` // "" for any
	Path       string `json:"path"`
	Access     string `json:"access"` // public, verified, admin
	Permission string `json:"permission,omitempty"`
	Summary    string `json:"summary,omitempty"`
}

// FilterInfo says what a filter looks at.
type FilterInfo struct {
	Inlet    bool     `json:"inlet"`
	Outlet   bool     `json:"outlet"`
	Stream   bool     `json:"stream"`
	Required bool     `json:"required"`
	Priority int32    `json:"priority"`
	Models   []string `json:"models"`
}

// List describes all plugins, by the names of their sources.
func (m *Manager) List(ctx context.Context) []Info {
	units := m.all()
	out := make([]Info, len(units))
	var wg sync.WaitGroup
	for i, u := range units {
		wg.Go(func() { out[i] = u.info(ctx) }) // it asks the plugin for its models
	}
	wg.Wait()
	return out
}

// Get describes a plugin; store.ErrNotFound where there is none.
func (m *Manager) Get(ctx context.Context, id string) (Info, error) {
	u, err := m.find(id)
	if err != nil {
		return Info{}, err
	}
	return u.info(ctx), nil
}

func (u *unit) info(ctx context.Context) Info {
	u.mu.Lock()
	i := Info{
		ID: u.id, Name: u.id, State: u.state, Since: u.since.Unix(), Enabled: u.enabled, Source: sourceName(u.src), Checksum: "none",
		Error: u.problem, Warning: u.warning, Restarts: u.restarts, Routes: []Route{}, Models: []string{}, Tools: []string{}, Grants: []string{},
	}
	src, started := u.src, u.started
	u.mu.Unlock()
	if man := src.manifest; man != nil {
		i.Name, i.Version, i.Description = orText(man.Name, man.ID), man.Version, man.Description
		i.Grants, i.Limits = append(i.Grants, man.Grants...), man.Limits
		if man.SHA256 != "" {
			i.Checksum = "pinned"
		}
	}
	inst, err := u.call()
	if err != nil {
		return i
	}
	defer inst.release()
	d := inst.what
	i.Name, i.Version, i.Description, i.SDK = inst.title(), d.GetVersion(), inst.description(), d.GetSdk()
	i.PID, i.Started, i.Calls = inst.child.pid, started.Unix(), inst.running()-1
	i.Configurable = len(d.GetConfigSchema()) > 0
	a := inst.child.proc.Applied()
	i.Enforced = &Enforced{a.Memory, a.CPU, a.Processes, a.OpenFiles, a.Tree}
	if s, ok := inst.stats(); ok {
		i.Memory, i.CPU, i.Processes = s.MemoryBytes, s.CPU.Seconds(), s.Processes
	}
	if routes, err := u.routes(inst); err == nil {
		for _, r := range routes {
			access := map[string]string{"optional": "public"}[r.Level.String()]
			i.Routes = append(i.Routes, Route{Method: r.Method, Path: r.Path, Access: orText(access, r.Level.String()), Permission: r.Permission, Summary: r.Summary})
		}
	}
	for _, t := range inst.tooled {
		i.Tools = append(i.Tools, t.name)
	}
	if f := d.GetFilter(); f != nil {
		i.Filter = &FilterInfo{f.GetInlet(), f.GetOutlet(), f.GetStream(), f.GetRequired(), f.GetPriority(), append([]string{}, f.GetModels()...)}
	}
	for _, g := range d.GetWants() {
		if !slices.Contains(i.Grants, g) {
			i.Missing = append(i.Missing, g)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if resp, err := inst.llm.Models(ctx, &pb.ModelsRequest{}); err == nil {
		for _, model := range resp.GetModels() {
			i.Models = append(i.Models, model.GetId())
		}
	}
	return i
}

func sourceName(s *source) string {
	if isBuiltin(s) {
		return s.path
	}
	return s.path[strings.LastIndexByte(s.path, '/')+1:]
}

// SetEnabled switches a plugin on or off, here and at other replicas, for good.
func (m *Manager) SetEnabled(ctx context.Context, id string, enabled bool) error {
	u, err := m.find(id)
	if err != nil {
		return err
	}
	if err := m.states.SetEnabled(ctx, u.ID(), enabled); err != nil {
		return err
	}
	u.ask(func() { u.enabled = enabled })
	return nil
}

// Restart gives a plugin a new process; the old one ends its calls. One that was given up is tried again.
func (m *Manager) Restart(_ context.Context, id string) error {
	u, err := m.find(id)
	if err != nil {
		return err
	}
	u.ask(func() { u.restart = true })
	return nil
}

// Logs gives the last lines of a plugin's log, the oldest first.
func (m *Manager) Logs(id string, n int) ([]Line, error) {
	u, err := m.find(id)
	if err != nil {
		return nil, err
	}
	return u.logs.last(n), nil
}

// Verification is the result of comparing a plugin's files with the digests in its manifest.
type Verification struct {
	ID     string `json:"id"`
	OK     bool   `json:"ok"`
	Pinned int    `json:"pinned"` // how many files have a digest
	Error  string `json:"error,omitempty"`
}

// Verify compares a plugin's files with the digests in its manifest.
func (m *Manager) Verify(id string) (Verification, error) {
	u, err := m.find(id)
	if err != nil {
		return Verification{}, err
	}
	u.mu.Lock()
	src := u.src
	u.mu.Unlock()
	v := Verification{ID: u.ID(), OK: true}
	if !isBuiltin(src) {
		if now := inspect(src.path); now != nil { // as it is, even if that was not taken up yet
			src = now
		}
		if v.Pinned, err = src.verify(); err != nil {
			v.OK, v.Error = false, err.Error()
		}
	}
	return v, nil
}

// Configurable is a ready plugin that has something to configure.
type Configurable struct {
	ID, Name string
	Filter   bool // it has a filter; otherwise it is a model or something else
}

// Configurables lists the ready plugins that have something to configure.
func (m *Manager) Configurables() []Configurable {
	var out []Configurable
	for _, u := range m.all() {
		if inst := u.current.Load(); inst != nil && len(inst.what.GetConfigSchema()) > 0 {
			out = append(out, Configurable{ID: inst.id(), Name: inst.title(), Filter: inst.what.GetFilter() != nil})
		}
	}
	return out
}

// configured gives the instance of a plugin that can be configured.
func (m *Manager) configured(id string) (*unit, *instance, error) {
	u, err := m.find(id)
	if err != nil {
		return nil, nil, err
	}
	inst, err := u.call()
	if err != nil {
		return nil, nil, web.Fail(http.StatusServiceUnavailable, "The plugin "+id+" is not running")
	}
	if len(inst.what.GetConfigSchema()) == 0 {
		inst.release()
		return nil, nil, store.ErrNotFound
	}
	return u, inst, nil
}

// Config is the configuration of a plugin that is in effect.
func (m *Manager) Config(id string) (jsondoc.Doc, error) {
	_, inst, err := m.configured(id)
	if err != nil {
		return nil, err
	}
	defer inst.release()
	return inst.configuration(), nil
}

// ConfigSchema is the JSON schema of a plugin's configuration.
func (m *Manager) ConfigSchema(id string) (jsondoc.Doc, error) {
	_, inst, err := m.configured(id)
	if err != nil {
		return nil, err
	}
	defer inst.release()
	return jsondoc.Doc(inst.what.GetConfigSchema()), nil
}

// SetConfig changes members of a plugin's configuration, for good and at all replicas; null takes the operator's value or
// the default again. It returns what is in effect then. What the plugin refuses is a *web.Error with status 400.
func (m *Manager) SetConfig(ctx context.Context, id string, values jsondoc.Doc) (jsondoc.Doc, error) {
	u, inst, err := m.configured(id)
	if err != nil {
		return nil, err
	}
	defer inst.release()
	u.configuring.Lock()
	defer u.configuring.Unlock()
	u.mu.Lock()
	before := u.set
	u.mu.Unlock()
	next := jsondoc.Open(before.Or(jsondoc.Doc("{}")))
	fromForm(jsondoc.Doc(inst.what.GetConfigSchema()), inst.configuration(), values).Each(func(name string, v jsondoc.Doc) bool {
		if v.IsNull() {
			next.Pop(name)
		} else {
			next.Set(name, v)
		}
		return true
	})
	set := next.Doc()
	if err := inst.configure(ctx, set); err != nil {
		var c *ConfigError
		if errors.As(err, &c) {
			return nil, web.Because(http.StatusBadRequest, c.Error(), err)
		}
		return nil, web.Because(http.StatusBadGateway, "The plugin "+id+" did not take the configuration", err)
	}
	if err := m.states.SetConfig(ctx, inst.id(), set); err != nil {
		u.notify() // it takes back what it was given
		return nil, err
	}
	u.ask(func() { u.set = set }) // for an instance that came meanwhile
	return inst.configuration(), nil
}

// Down says whether a plugin is there and not ready.
func (m *Manager) Down(id string) bool {
	u, err := m.find(id)
	return err == nil && u.current.Load() == nil
}
