package scim

import (
	"net/http"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/scim"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/web"
)

type operation struct {
	Op    string          `json:"op"`
	Path  web.Opt[string] `json:"path"`
	Value jsondoc.Doc     `json:"value" default:"null"`
}

type patchForm struct {
	Schemas    []string    `json:"schemas" default:"[]"`
	Operations []operation `json:"Operations"`
}

// step is one attribute of an operation. Providers spell operations in any case of letters.
type step struct {
	op    string // add, replace or remove
	text  string // the path as it came
	path  scim.Path
	value jsondoc.Doc
	whole bool // it is a member of an operation's value, which had no path
}

// steps takes operations apart: those without a path into the members of their values.
func (f *patchForm) steps() ([]step, error) {
	var out []step
	add := func(s step) error {
		var err error
		if s.path, err = scim.ParsePath(s.text); err != nil {
			return unsupported(s.text)
		}
		out = append(out, s)
		return nil
	}
	for _, o := range f.Operations {
		op := strings.ToLower(o.Op)
		switch op {
		case "add", "replace":
		case "remove":
			if o.Path.V == "" {
				return nil, refuse(http.StatusBadRequest, noTarget, "Remove requires a path")
			}
		default:
			return nil, refuse(http.StatusBadRequest, invalidSyntax, "Unsupported PATCH operation: "+o.Op)
		}
		if o.Path.V != "" {
			if err := add(step{op: op, text: o.Path.V, value: o.Value}); err != nil {
				return nil, err
			}
			continue
		}
		if o.Value.Kind() != '{' || o.Value.Len() == 0 {
			return nil, refuse(http.StatusBadRequest, invalidValue, "A pathless operation requires an attribute object")
		}
		var err error
		o.Value.Each(func(name string, v jsondoc.Doc) bool {
			err = add(step{op: op, text: name, value: v, whole: true})
			return err == nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func unsupported(path string) error {
	return refuse(http.StatusBadRequest, invalidPath, "Unsupported PATCH path: "+path)
}

func (s *step) mustBe(what string) error {
	return refuse(http.StatusBadRequest, invalidValue, s.text+" must be "+what)
}

// readOnly says whether an attribute is the server's to set.
func (s *step) readOnly() bool {
	switch s.path.Attr.Name {
	case "id", "schemas", "meta":
		return true
	}
	return false
}

// plain says whether the path is an attribute alone, without values picked.
func (s *step) plain() bool { return s.path.Filter == nil && s.path.Attr.Sub == "" }

func (s *step) str() (string, error) {
	text, ok := s.value.AsText()
	if !ok {
		return "", s.mustBe("a string")
	}
	return text, nil
}

// flag is a truth. Microsoft's provider sends it as a text.
func (s *step) flag() (bool, error) {
	switch strings.ToLower(strings.Trim(s.value.String(), `"`)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, s.mustBe("a boolean")
}

// first is the value of an attribute with many values of which an account has one: its address, its picture. have are the
// parts of the one that the account has, which a filter in the path has to pick.
func (s *step) first(have string) (string, error) {
	if s.path.Filter != nil && !scim.Matches(s.path.Filter, jsondoc.Doc(have)) {
		return "", refuse(http.StatusBadRequest, noTarget, "No value is at "+s.text)
	}
	value := s.value
	switch s.path.Attr.Sub {
	case "value":
		return s.str()
	case "":
	default:
		return "", unsupported(s.text)
	}
	if value.Kind() == '[' {
		list := value.List()
		if len(list) == 0 {
			return "", s.mustBe("a list of values")
		}
		value = list[0]
		for _, item := range list {
			if scim.Member(item, "primary").Truthy() {
				value = item
				break
			}
		}
	}
	if text, ok := value.AsText(); ok {
		return text, nil
	}
	text, ok := scim.Member(value, "value").AsText()
	if !ok {
		return "", s.mustBe("a list of values")
	}
	return text, nil
}

type patchUserIn struct {
	ID   string `path:"user_id"`
	Body patchForm
	shapeIn
}

func (m *Module) patchUser(c *web.Call, in patchUserIn) (any, error) {
	return m.change(c, in.ID, false, in.shape(), func(d *draft) error {
		steps, err := in.Body.steps()
		if err != nil {
			return err
		}
		for i := range steps {
			if err := m.step(d, &steps[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// step applies a step to an account.
func (m *Module) step(d *draft, s *step) error {
	name := s.path.Attr.Name
	switch {
	case s.whole && s.readOnly():
		return nil // providers send whole resources
	case s.readOnly() || name == "groups":
		return refuse(http.StatusBadRequest, mutability, s.text+" cannot be changed")
	case s.op == "remove":
		return m.removeStep(d, s)
	}
	switch name {
	case "active":
		if !s.plain() {
			break
		}
		active, err := s.flag()
		if err == nil {
			d.setActive(active)
		}
		return err
	case "externalid":
		if !s.plain() {
			break
		}
		id, ok := s.value.AsText()
		if !ok && !s.value.IsNull() {
			return s.mustBe("a string or null")
		}
		return m.externalIDStep(d, id, ok)
	case "username", "displayname":
		if !s.plain() {
			break
		}
		text, err := s.str()
		if err != nil {
			return err
		}
		if name == "username" {
			return d.address(s, text)
		}
		d.setName(text)
		return nil
	case "name":
		if s.path.Filter == nil {
			return d.nameStep(s)
		}
	case "emails":
		text, err := s.first(`{"type":"work","primary":true,"value":` + string(jsondoc.Text(d.Email)) + `}`)
		if err != nil {
			return err
		}
		return d.address(s, text)
	case "photos":
		text, err := s.first(`{"type":"photo","primary":true,"value":` + string(jsondoc.Text(d.image)) + `}`)
		if err != nil {
			return err
		}
		if err := users.CheckImageURL(text, m.Env.Images); err != nil {
			return refuse(http.StatusBadRequest, invalidValue, err.Error())
		}
		d.setImage(text)
		return nil
	}
	return unsupported(s.text)
}

func (m *Module) externalIDStep(d *draft, id string, has bool) error {
	provider, err := m.provider()
	if err != nil {
		return err
	}
	if has {
		d.setExternalID(provider, &id)
	} else {
		d.setExternalID(provider, nil)
	}
	return nil
}

func (m *Module) removeStep(d *draft, s *step) error {
	switch {
	case s.path.Attr.Name == "externalid" && s.plain():
		return m.externalIDStep(d, "", false)
	case s.path.Attr.Name == "photos":
		d.setImage(users.DefaultImage)
		return nil
	}
	return refuse(http.StatusBadRequest, mutability, "Removing "+s.text+" is not supported")
}

// address sets the address, which an account has to have.
func (d *draft) address(s *step, text string) error {
	if text == "" {
		return s.mustBe("an address")
	}
	d.setEmail(text)
	return nil
}

// nameStep sets the name or a part of it. The name as one counts more than its parts.
func (d *draft) nameStep(s *step) error {
	parts := s.value
	if sub := s.path.Attr.Sub; sub != "" {
		if !slices.Contains([]string{"formatted", "givenname", "familyname"}, sub) {
			return unsupported(s.text)
		}
		if _, err := s.str(); err != nil {
			return err
		}
		parts = jsondoc.Object(sub, s.value)
	} else if parts.Kind() != '{' {
		return s.mustBe("an object")
	}
	if text, ok := scim.Member(parts, "formatted").AsText(); ok {
		d.setName(text)
		return nil
	}
	given, family := splitName(d.Name)
	if text, ok := scim.Member(parts, "givenName").AsText(); ok {
		given = text
	}
	if text, ok := scim.Member(parts, "familyName").AsText(); ok {
		family = text
	}
	d.setName(strings.TrimSpace(given + " " + family))
	return nil
}
