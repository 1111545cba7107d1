package chats

import (
	"reflect"
	"strconv"

	"github.com/galleychat/galley/core/jsondoc"
)

// number is the value of a JSON number, 0 for anything else.
func number(d jsondoc.Doc) float64 {
	f, err := strconv.ParseFloat(str(trim(d)), 64)
	if err != nil {
		return 0
	}
	return f
}

func isNumber(d jsondoc.Doc) bool {
	d = trim(d)
	return len(d) > 0 && (d[0] == '-' || d[0] >= '0' && d[0] <= '9')
}

// equal says whether two documents hold the same value, whatever their spelling.
func equal(a, b jsondoc.Doc) bool {
	if string(a) == string(b) {
		return true
	}
	if a.Kind() != b.Kind() {
		return false
	}
	var x, y any
	return a.Decode(&x) == nil && b.Decode(&y) == nil && reflect.DeepEqual(x, y)
}

// NormalizeUsage adds input_tokens, output_tokens and total_tokens to usage as OpenAI, Ollama or llama.cpp report it;
// nil where there is none.
func NormalizeUsage(u jsondoc.Doc) jsondoc.Doc {
	if u.Kind() != '{' || !u.Truthy() {
		return nil
	}
	o := jsondoc.Open(u)
	first := func(names ...string) jsondoc.Doc {
		var v jsondoc.Doc
		for _, n := range names {
			if v = o.Get(n); v.Truthy() {
				break
			}
		}
		return v
	}
	input := number(o.Get("prompt_n")) + number(o.Get("cache_n"))
	if v := first("input_tokens", "prompt_tokens", "prompt_eval_count"); !v.IsNull() {
		input = number(v)
	}
	output := number(first("output_tokens", "completion_tokens", "eval_count", "predicted_n"))
	total := input + output
	if v := o.Get("total_tokens"); v.Truthy() {
		total = number(v)
	}
	o.Set("input_tokens", jsondoc.Of(int64(input)))
	o.Set("output_tokens", jsondoc.Of(int64(output)))
	o.Set("total_tokens", jsondoc.Of(int64(total)))
	return o.Doc()
}

var summed = []string{"input_tokens", "output_tokens", "total_tokens", "cost", "total_cost", "input_cost", "output_cost", "prompt_cost", "completion_cost"}

var usageDetails = []string{"prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"}

// MergeUsage adds the usage of a further model call to that of earlier ones: token and cost members are summed, others
// are the latest.
func MergeUsage(current, incoming jsondoc.Doc) jsondoc.Doc {
	current, incoming = NormalizeUsage(current), NormalizeUsage(incoming)
	switch {
	case incoming == nil:
		return current
	case current == nil:
		return incoming
	}
	old, add := jsondoc.Open(current), jsondoc.Open(incoming)
	out := jsondoc.Open(current.Merge(incoming))
	for _, n := range summed {
		a, b := old.Get(n), add.Get(n)
		if isNumber(a) || isNumber(b) {
			out.Set(n, sum(a, b))
		}
	}
	for _, n := range usageDetails {
		a, b := old.Get(n), add.Get(n)
		if a.Kind() == '{' || b.Kind() == '{' {
			out.Set(n, sumMap(a, b))
		}
	}
	latest := func(name, standard string) {
		for _, v := range []jsondoc.Doc{add.Get(name), add.Get(standard), old.Get(name).Or(jsondoc.Doc("0"))} {
			out.Set(name, v)
			if v.Truthy() {
				break
			}
		}
	}
	latest("prompt_tokens", "input_tokens")
	latest("completion_tokens", "output_tokens")
	return out.Doc()
}

func sum(a, b jsondoc.Doc) jsondoc.Doc {
	x, errX := strconv.ParseInt(str(trim(a)), 10, 64)
	y, errY := strconv.ParseInt(str(trim(b)), 10, 64)
	if (errX == nil || !isNumber(a)) && (errY == nil || !isNumber(b)) {
		return jsondoc.Of(x + y)
	}
	return jsondoc.Of(number(a) + number(b))
}

func sumMap(a, b jsondoc.Doc) jsondoc.Doc {
	old, add := jsondoc.Open(a), jsondoc.Open(b)
	out := jsondoc.Open(jsondoc.Doc("{}").Merge(a).Merge(b))
	for _, n := range names(out) {
		x, y := old.Get(n), add.Get(n)
		switch {
		case x.Kind() == '{' || y.Kind() == '{':
			out.Set(n, sumMap(x, y))
		case isNumber(x) || isNumber(y):
			out.Set(n, sum(x, y))
		}
	}
	return out.Doc()
}

func names(o *jsondoc.Obj) (out []string) {
	o.Each(func(n string, _ jsondoc.Doc) bool {
		out = append(out, n)
		return true
	})
	return out
}
