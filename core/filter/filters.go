package filter

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// Filters are the filters of one call, run so that nothing they do harms more than the call. A nil *Filters filters
// nothing. It belongs to one goroutine at a time.
type Filters struct {
	chain Chain
	call  *Call
	log   *slog.Logger
}

// For finds the filters of a call; nil if there are none, or s is nil.
func For(s Set, c Call, log *slog.Logger) *Filters {
	if s == nil {
		return nil
	}
	return find(s, c, log)
}

func find(s Set, c Call, log *slog.Logger) (f *Filters) {
	if log == nil {
		log = slog.Default()
	}
	f = &Filters{call: &c, log: log}
	if err := f.guard("set", func() error { f.chain = s.For(&c); return nil }); err != nil {
		f.chain = broken{err} // which filters apply is unknown, so the call is refused
	}
	if f.chain == nil {
		return nil
	}
	return f
}

// errPanic is the answer where a filter panicked.
const errPanic = "A filter failed"

// guard runs a filter; one that panics fails.
func (f *Filters) guard(stage string, run func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("panic in a filter", "stage", stage, "model", f.call.ModelID, "panic", p, "stack", string(debug.Stack()))
			err = web.Because(http.StatusInternalServerError, errPanic, fmt.Errorf("panic in a filter: %v", p))
		}
	}()
	return run()
}

// Inlet has the filters change a request in OpenAI form. The error is a *web.Error, or that of ctx.
func (f *Filters) Inlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, error) {
	if f == nil {
		return body, nil
	}
	var out jsondoc.Doc
	err := f.guard("inlet", func() (err error) { out, err = f.chain.Inlet(ctx, body); return err })
	if err != nil {
		return nil, f.refusal(ctx, err)
	}
	if out, err = object(out); err != nil {
		return nil, web.Because(http.StatusInternalServerError, errPanic, err)
	}
	return out, nil
}

// Allow asks the filters about a request in another form than OpenAI's; they may only refuse it. See [Common].
func (f *Filters) Allow(ctx context.Context, body jsondoc.Doc) error {
	if f == nil {
		return nil
	}
	_, err := f.Inlet(ctx, Common(body))
	return err
}

// HasOutlet says whether a filter looks at answers.
func (f *Filters) HasOutlet() (has bool) {
	if f == nil || f.call.NoOutlet {
		return false
	}
	_ = f.guard("outlet", func() error { has = f.chain.HasOutlet(); return nil })
	return has
}

// Outlet has the filters look at a whole answer, see [Chain]. It gives what they made of it, and false where none looked
// or one failed, which is logged.
func (f *Filters) Outlet(ctx context.Context, body jsondoc.Doc) (jsondoc.Doc, bool) {
	if !f.HasOutlet() {
		return nil, false
	}
	var out jsondoc.Doc
	err := f.guard("outlet", func() (err error) { out, err = f.chain.Outlet(ctx, body); return err })
	if err == nil {
		out, err = object(out)
	}
	if err != nil {
		if ctx.Err() == nil {
			f.log.WarnContext(ctx, "an outlet filter failed", "model", f.call.ModelID, "error", err)
		}
		return nil, false
	}
	return out, true
}

// object checks what a filter gave: it is to be one JSON object.
func object(d jsondoc.Doc) (jsondoc.Doc, error) {
	checked, bad := jsondoc.Check(d)
	if bad != nil {
		return nil, fmt.Errorf("a filter gave no JSON: %w", bad)
	}
	if checked.Kind() != '{' {
		return nil, fmt.Errorf("a filter gave no object but %.40q", string(d))
	}
	return checked, nil
}

// broken is the chain of a set that failed.
type broken struct{ err error }

func (b broken) Inlet(context.Context, jsondoc.Doc) (jsondoc.Doc, error)  { return nil, b.err }
func (b broken) Stream(context.Context) (StreamFilter, bool)              { return nil, false }
func (b broken) HasOutlet() bool                                          { return false }
func (b broken) Outlet(context.Context, jsondoc.Doc) (jsondoc.Doc, error) { return nil, b.err }
