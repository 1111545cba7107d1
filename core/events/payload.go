package events

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/users"
)

// maxText is how many characters of a text leave the server.
const maxText = 1000

// Payload is the event as it leaves the server: without secrets, long texts cut. It is for sinks, before they return.
func (e Event) Payload() jsondoc.Doc {
	if e.told == nil {
		return e.payload("")
	}
	if e.told.payload == nil {
		e.told.payload = e.payload(e.told.instance)
	}
	return e.told.payload
}

func (e Event) payload(instance string) jsondoc.Doc {
	at := strings.LastIndexByte(e.Name, '.')
	resource := e.Name[:max(at, 0)]
	source := e.Source
	if source == "" {
		source = "api"
	}
	var b jsondoc.Builder
	b.Add("schema", config.Version)
	b.Add("id", store.NewID())
	b.Add("event", e.Name)
	b.Add("resource", resource)
	b.Add("operation", e.Name[at+1:])
	b.Add("created_at", time.Now().Unix())
	b.Add("instance_id", instance)
	b.Add("version", config.Version)
	b.Add("source", source)
	b.Raw("actor", actor(e.Actor))
	b.Raw("subject", e.subject(resource))
	data := jsondoc.Doc("{}")
	if e.Data != nil {
		data = clean(jsondoc.Of(e.Data)).Or(data)
	}
	b.Raw("data", data)
	if e.Message == "" {
		b.Raw("message", nil)
	} else {
		b.Add("message", e.Message)
	}
	return b.Done()
}

func (e Event) subject(resource string) jsondoc.Doc {
	if e.SubjectID == "" && e.SubjectType == "" {
		return nil
	}
	kind := e.SubjectType
	if kind == "" {
		kind = resource
	}
	var b jsondoc.Builder
	b.Add("type", kind)
	if e.SubjectID == "" {
		b.Raw("id", nil)
	} else {
		b.Add("id", cut(e.SubjectID))
	}
	return b.Done()
}

// actor is what is told of who did something.
func actor(u *users.User) jsondoc.Doc {
	if u == nil {
		return nil
	}
	var b jsondoc.Builder
	b.Add("id", u.ID)
	b.Add("name", cut(u.Name))
	b.Add("email", cut(u.Email))
	b.Add("role", cut(u.Role))
	b.Add("created_at", u.CreatedAt)
	b.Add("updated_at", u.UpdatedAt)
	b.Add("type", "user")
	return b.Done()
}

// secretNames are members that do not leave the server; nor do those that end in one of secretEnds.
var (
	secretNames = map[string]bool{
		"password": true, "hashed_password": true, "token": true, "access_token": true, "refresh_token": true, "id_token": true,
		"api_key": true, "secret": true, "key": true, "authorization": true, "cookie": true, "webhook_token": true,
	}
	secretEnds = []string{"_token", "_secret", "_api_key", "_key"}
)

func isSecret(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	if secretNames[name] {
		return true
	}
	for _, end := range secretEnds {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// clean takes secrets out of a document, however deep, and cuts its long texts.
func clean(d jsondoc.Doc) jsondoc.Doc {
	switch d.Kind() {
	case '{':
		o := &jsondoc.Obj{}
		d.Each(func(name string, v jsondoc.Doc) bool {
			if !isSecret(name) {
				o.Set(name, clean(v))
			}
			return true
		})
		return o.Doc()
	case '[':
		list := d.List()
		for i, v := range list {
			list[i] = clean(v)
		}
		return jsondoc.Array(list...)
	case '"':
		if len(d) > maxText {
			text, _ := d.AsText()
			return jsondoc.Text(cut(text))
		}
	}
	return d
}

func cut(s string) string {
	if len(s) <= maxText || utf8.RuneCountInString(s) <= maxText {
		return s
	}
	n := 0
	for i := range s {
		if n == maxText {
			return s[:i] + "..."
		}
		n++
	}
	return s
}
