package turn

import (
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
)

// normalizeUsage adds the standard counts input_tokens, output_tokens and total_tokens to what a provider reported, be
// it in the words of OpenAI, Ollama or llama.cpp. An empty report stays empty.
func normalizeUsage(u jsondoc.Doc) jsondoc.Doc {
	if u.Kind() != '{' || !u.Truthy() {
		return nil
	}
	o := jsondoc.Open(u)
	first := func(names ...string) (int64, bool) {
		for _, n := range names {
			if v := o.Get(n); v.Truthy() {
				i, _ := v.Int()
				return i, true
			}
		}
		return 0, false
	}
	in, ok := first("input_tokens", "prompt_tokens", "prompt_eval_count")
	if !ok && o.Get("prompt_eval_count").IsNull() {
		n, _ := first("prompt_n")
		c, _ := first("cache_n")
		in = n + c
	}
	out, _ := first("output_tokens", "completion_tokens", "eval_count", "predicted_n")
	total, ok := first("total_tokens")
	if !ok {
		total = in + out
	}
	for name, n := range map[string]int64{"input_tokens": in, "output_tokens": out, "total_tokens": total} {
		o.Set(name, jsondoc.Doc(strconv.FormatInt(n, 10)))
	}
	return o.Doc()
}

// summed are the members of a usage that add up over the calls of one turn; members that end in _details are objects
// of such numbers.
var summed = map[string]bool{
	"input_tokens": true, "output_tokens": true, "total_tokens": true,
	"cost": true, "total_cost": true, "input_cost": true, "output_cost": true, "prompt_cost": true, "completion_cost": true,
}

var details = map[string]bool{
	"prompt_tokens_details": true, "completion_tokens_details": true, "input_tokens_details": true, "output_tokens_details": true,
}

// mergeUsage adds the usage of a further call of the same turn to what there is.
func mergeUsage(current, incoming jsondoc.Doc) jsondoc.Doc {
	current, incoming = normalizeUsage(current), normalizeUsage(incoming)
	if current == nil {
		return incoming
	}
	if incoming == nil {
		return current
	}
	old := jsondoc.Open(current)
	out := jsondoc.Open(current.Merge(incoming))
	jsondoc.Open(incoming).Each(func(name string, v jsondoc.Doc) bool {
		switch {
		case summed[name]:
			if was := old.Get(name); was.Kind() == '0' && v.Kind() == '0' {
				out.Set(name, addNumbers(was, v))
			}
		case details[name]:
			out.Set(name, addObjects(old.Get(name), v))
		}
		return true
	})
	return out.Doc()
}

func addObjects(a, b jsondoc.Doc) jsondoc.Doc {
	if a.Kind() != '{' || b.Kind() != '{' {
		return b
	}
	out := jsondoc.Open(a.Merge(b))
	b.Each(func(name string, v jsondoc.Doc) bool {
		was := a.Get(name)
		switch {
		case v.Kind() == '{':
			out.Set(name, addObjects(was, v))
		case was.Kind() == '0' && v.Kind() == '0':
			out.Set(name, addNumbers(was, v))
		}
		return true
	})
	return out.Doc()
}

func addNumbers(a, b jsondoc.Doc) jsondoc.Doc {
	if !strings.ContainsAny(string(a)+string(b), ".eE") {
		x, _ := a.Int()
		y, _ := b.Int()
		return jsondoc.Doc(strconv.FormatInt(x+y, 10))
	}
	x, _ := strconv.ParseFloat(string(a), 64)
	y, _ := strconv.ParseFloat(string(b), 64)
	return jsondoc.Of(x + y)
}
