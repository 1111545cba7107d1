package turn

import (
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// ours are params that steer the server and are not sent to providers.
var ours = map[string]bool{
	"stream_response": true, "stream_delta_chunk_size": true, "function_calling": true, "reasoning_tags": true, "compact_token_threshold": true,
	"system": true, "note_id": true, "tool_approval_mode": true, "model_controls": true,
}

// mergeParams lays params over others; custom_params are joined, not replaced.
func mergeParams(base, over jsondoc.Doc) jsondoc.Doc {
	out := base.Merge(over)
	bc, oc := base.Get("custom_params"), over.Get("custom_params")
	if bc.Kind() == '{' && (oc.IsNull() || oc.Kind() == '{') {
		out = out.Set(bc.Merge(oc), "custom_params")
	}
	return out
}

// withoutNulls drops members that are null.
func withoutNulls(d jsondoc.Doc) *jsondoc.Obj {
	o := &jsondoc.Obj{}
	d.Each(func(name string, v jsondoc.Doc) bool {
		if !v.IsNull() {
			o.Set(name, v)
		}
		return true
	})
	return o
}

// deepMerge is Merge that goes into objects.
func deepMerge(d, over jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(d)
	over.Each(func(name string, v jsondoc.Doc) bool {
		if v.Kind() == '{' {
			v = deepMerge(o.Get(name).Or(jsondoc.Doc("{}")), v)
		}
		o.Set(name, v)
		return true
	})
	return o.Doc()
}

// applyParams moves the params of a request into its body, where what the caller set stays. Ollama takes them as
// options. Custom params written as text are read as JSON where they are.
func applyParams(body *jsondoc.Obj, params jsondoc.Doc, ownedBy string) {
	o := jsondoc.Open(params)
	custom := o.Pop("custom_params")
	for name := range ours {
		o.Pop(name)
	}
	if custom.Truthy() && custom.Kind() == '{' {
		c := jsondoc.Open(custom)
		custom.Each(func(name string, v jsondoc.Doc) bool {
			if s, ok := v.AsText(); ok {
				if parsed, bad := jsondoc.Check([]byte(s)); bad == nil {
					c.Set(name, parsed)
				}
			}
			return true
		})
		o = jsondoc.Open(deepMerge(o.Doc(), c.Doc()))
	}
	if ownedBy == "ollama" {
		if given := body.Get("options"); o.Len() > 0 || given != nil {
			body.Set("options", o.Doc().Merge(given.Or(jsondoc.Doc("{}"))))
		}
		return
	}
	o.Each(func(name string, v jsondoc.Doc) bool {
		if v.IsNull() || body.Has(name) {
			return true
		}
		if name == "logit_bias" {
			if v = logitBias(v); v == nil {
				return true
			}
		}
		body.Set(name, v)
		return true
	})
}

// logitBias reads "token:bias, …" as an object, biases held between -100 and 100.
func logitBias(v jsondoc.Doc) jsondoc.Doc {
	s, ok := v.AsText()
	if !ok {
		return v
	}
	out := &jsondoc.Obj{}
	for pair := range strings.SplitSeq(s, ",") {
		token, bias, ok := strings.Cut(pair, ":")
		n, err := strconv.Atoi(strings.TrimSpace(bias))
		if !ok || err != nil {
			return nil
		}
		out.Set(strings.TrimSpace(token), jsondoc.Doc(strconv.Itoa(min(max(n, -100), 100))))
	}
	return out.Doc()
}

// applyControls expands the choices a user made from a model's controls into custom params. The error is the text the
// client sees.
func applyControls(params, controls, choices jsondoc.Doc) (jsondoc.Doc, error) {
	if !choices.IsNull() && choices.Kind() != '{' {
		return nil, errText("Model control options must be an object.")
	}
	var bad error
	choices.Each(func(name string, choice jsondoc.Doc) bool {
		control := controls.Get(name)
		if control == nil {
			return true // a control that has been removed: the user has no menu left to clear it
		}
		c, ok := choice.AsText()
		if !ok || control.Get("options", c) == nil {
			bad = errText("Model control " + name + ": the selected option is no longer available.")
		}
		return bad == nil
	})
	if bad != nil {
		return nil, bad
	}
	controls.Each(func(name string, control jsondoc.Doc) bool {
		choice, ok := choices.Get(name).AsText()
		if !ok {
			choice, ok = control.Get("default").AsText()
		}
		if ok {
			custom := params.Get("custom_params").Or(jsondoc.Doc("{}"))
			params = params.Or(jsondoc.Doc("{}")).Set(deepMerge(custom, control.Get("options", choice, "params")), "custom_params")
		}
		return true
	})
	return params, nil
}

type errText string

func (e errText) Error() string { return string(e) }
