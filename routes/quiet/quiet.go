// Package quiet answers for the groups of operations that Galley does not have yet, so that the frontend finds what it
// asks for and shows no error: what the reference answers while the feature is switched off, or while there is nothing.
//
// Only requests that read are answered, and only with what is true: an empty list because Galley holds no such thing, the
// refusal of a feature that is off, settings as they are stored. What is off is said in the features of /api/config too
// (see [Off]), where the frontend looks before it shows anything. Operations that change something stay unregistered.
// Rows that a database of Open WebUI holds for these groups stay as they are.
package quiet

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with.
type Deps struct {
	Access   *access.Access
	Settings *config.Settings
	Built    []string // tags that other modules serve, and single paths of the table ("/skills/") that they do
}

// Module answers for all paths of the table but those built. It is mounted at /api/v1.
type Module struct{ Deps }

// New makes the module.
func New(d Deps) *Module { return &Module{d} }

// Name implements web.Module.
func (m *Module) Name() string { return "quiet" }

// answer is what a request gets that came through the checks of its caller.
type answer struct {
	status int
	body   jsondoc.Doc
	// permission is what takes it; those without it who are no administrators get denial.
	permission string
	denial     *answer
}

// refuse is an answer with a detail.
func refuse(status int, detail string) answer {
	return answer{status: status, body: jsondoc.Object("detail", jsondoc.Text(detail))}
}

func give(body string) answer { return answer{status: http.StatusOK, body: jsondoc.Doc(body)} }

// needs is the answer where the caller has a permission, and a refusal elsewhere.
func (a answer) needs(permission string, denial answer) answer {
	a.permission, a.denial = permission, &denial
	return a
}

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	for _, r := range table {
		if slices.Contains(m.Built, r.tag) {
			continue
		}
		for _, path := range strings.Fields(r.paths) {
			if slices.Contains(m.Built, path) {
				continue
			}
			var options []web.Option
			if wide := under[path]; wide != "" {
				options = append(options, web.Under("GET "+wide))
			}
			g.Add("GET "+path, web.JSON(r.level, m.serve(path, r.answer)), options...)
		}
	}
	for _, f := range forms {
		if tag := strings.Split(f.path, "/")[1]; !slices.Contains(m.Built, tag) {
			g.Add("GET "+f.path, web.JSON(auth.Admin, func(*web.Call, web.None) (jsondoc.Doc, error) {
				return f.fill(m.Settings.Snapshot()), nil
			}))
		}
	}
}

// serve answers requests to a path by whether its feature is on.
func (m *Module) serve(path string, off answer) func(*web.Call, web.None) (jsondoc.Doc, error) {
	i := slices.IndexFunc(emptyWhenOn, func(e empty) bool { return e.path == path })
	return func(c *web.Call, _ web.None) (jsondoc.Doc, error) {
		a := off
		if i >= 0 && emptyWhenOn[i].setting.Get(m.Settings.Snapshot()) {
			a = emptyWhenOn[i].answer
		}
		if a.permission != "" {
			if ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, a.permission); err != nil {
				return nil, err
			} else if !ok {
				a = *a.denial
			}
		}
		c.Status(a.status)
		return a.body, nil
	}
}

// form is an administrator's view of settings.
type form struct {
	path string
	root *member
}

// member is a member of a form: an object, a setting or a constant.
type member struct {
	name     string
	setting  string
	constant jsondoc.Doc
	members  []*member
}

//go:embed forms.txt
var formsText string

var forms = parseForms(formsText)

func parseForms(text string) (out []form) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "":
		case name == "#":
			out = append(out, form{path: value, root: &member{}})
		default:
			at := out[len(out)-1].root
			steps := strings.Split(name, ".")
			for _, s := range steps[:len(steps)-1] {
				at = at.object(s)
			}
			leaf := &member{name: steps[len(steps)-1], setting: value}
			if constant, ok := strings.CutPrefix(value, "="); ok {
				leaf.setting, leaf.constant = "", jsondoc.Doc(constant)
			}
			at.members = append(at.members, leaf)
		}
	}
	return out
}

func (m *member) object(name string) *member {
	for _, c := range m.members {
		if c.name == name {
			return c
		}
	}
	c := &member{name: name}
	m.members = append(m.members, c)
	return c
}

func (f form) fill(s *config.Snapshot) jsondoc.Doc { return f.root.fill(s) }

func (m *member) fill(s *config.Snapshot) jsondoc.Doc {
	switch {
	case m.members != nil:
		var b jsondoc.Builder
		for _, c := range m.members {
			b.Raw(c.name, c.fill(s))
		}
		return b.Done()
	case m.setting != "":
		return jsondoc.Doc(s.Raw(m.setting))
	}
	return m.constant
}

// Off gives the features that /api/config is to report as off (false), those of the built tags left out.
func Off(built ...string) []string {
	var out []string
	for _, f := range features {
		if !slices.Contains(built, f.tag) {
			out = append(out, f.flag)
		}
	}
	return out
}

// String names a row in tests' messages.
func (r row) String() string { return fmt.Sprintf("%s %d %s", r.tag, r.answer.status, r.answer.body) }

// Tags are those of the table.
func Tags() []string {
	var out []string
	for _, r := range table {
		if !slices.Contains(out, r.tag) {
			out = append(out, r.tag)
		}
	}
	return out
}
