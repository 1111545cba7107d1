package relay

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// Sent is a form as it is sent on: its members and extra ones, without those that are null.
func Sent(form any, extra web.Extra) *jsondoc.Obj {
	out := &jsondoc.Obj{}
	for _, d := range []jsondoc.Doc{jsondoc.Of(form), jsondoc.Doc(extra)} {
		d.Each(func(name string, v jsondoc.Doc) bool {
			if !v.IsNull() {
				out.Set(name, v)
			}
			return true
		})
	}
	return out
}

// Malformed is the 400 answer for a body that has not the form it should have.
func Malformed(form string, ps web.Problems) *web.Error {
	var b strings.Builder
	plural := "s"
	if len(ps) == 1 {
		plural = ""
	}
	fmt.Fprintf(&b, "%d validation error%s for %s", len(ps), plural, form)
	for _, p := range ps {
		steps := make([]string, len(p.Loc))
		for i, s := range p.Loc {
			steps[i] = fmt.Sprint(s)
		}
		fmt.Fprintf(&b, "\n%s\n  %s [type=%s]", strings.Join(steps, "."), p.Msg, p.Type)
	}
	return web.Fail(http.StatusBadRequest, b.String())
}
