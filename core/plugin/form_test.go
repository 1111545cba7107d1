package plugin

import (
	"testing"

	"github.com/galleychat/galley/core/jsondoc"
)

var formSchema = jsondoc.Doc(`{"type":"object","properties":{
	"name":{"type":"string","title":"Name"},"count":{"type":"integer"},"ratio":{"type":"number"},"on":{"type":"boolean"},
	"words":{"type":"array","items":{"type":"string"},"description":"Some words"},"numbers":{"type":"array","items":{"type":"integer"}},
	"more":{"type":"object"},"kind":{"type":"string","enum":["a","b"]}}}`)

func TestFormSchema(t *testing.T) {
	got := FormSchema(formSchema)
	for path, want := range map[string]string{
		"words": `{"type":"string","description":"Some words (separated by commas)"}`,
		"more":  `{"type":"string","description":"(JSON)"}`,
		"count": `{"type":"integer"}`,
		"kind":  `{"type":"string","enum":["a","b"]}`,
	} {
		if p := got.Get("properties", path); !sameJSON(p, jsondoc.Doc(want)) {
			t.Errorf("%s: %s", path, p)
		}
	}
}

func TestFormValues(t *testing.T) {
	got := FormValues(formSchema, jsondoc.Doc(`{"name":"","count":3,"on":false,"words":["a","b c"],"numbers":[],"more":{"x":1},"kind":"a"}`))
	want := jsondoc.Doc(`{"name":null,"count":3,"on":false,"words":"a, b c","numbers":null,"more":"{\"x\":1}","kind":"a","ratio":null}`)
	if !sameJSON(got, want) {
		t.Errorf("%s", got)
	}
}

func TestFromForm(t *testing.T) {
	effective := jsondoc.Doc(`{"name":"","count":3,"ratio":0.5,"on":false,"words":["a"],"numbers":[1],"more":{"x":1},"kind":"a"}`)
	for _, c := range []struct{ name, values, want string }{
		{"nothing changed", `{"name":null,"count":3,"ratio":0.5,"on":false,"words":"a","numbers":"1","more":"{\"x\": 1}","kind":"a"}`, `{}`},
		{"texts of numbers", `{"count":"7","ratio":" 1.5 "}`, `{"count":7,"ratio":1.5}`},
		{"what is no number is for the plugin to refuse", `{"count":"many","ratio":"0x10"}`, `{"count":"many","ratio":"0x10"}`},
		{"switches", `{"on":"true"}`, `{"on":true}`},
		{"nothing in place of a value", `{"count":"","on":"","kind":null}`, `{"count":null,"on":null,"kind":null}`},
		{"lists", `{"words":"x, y ,z","numbers":"4,5"}`, `{"words":["x","y","z"],"numbers":[4,5]}`},
		{"lists as the form sends them", `{"words":["x"],"numbers":["4"," 5"]}`, `{"words":["x"],"numbers":[4,5]}`},
		{"empty lists", `{"words":[""],"numbers":null}`, `{"words":[],"numbers":[]}`},
		{"objects", `{"more":"{\"y\":2}"}`, `{"more":{"y":2}}`},
		{"unknown members", `{"nope":1}`, `{}`},
		{"a text stays one", `{"name":"7"}`, `{"name":"7"}`},
	} {
		if got := fromForm(formSchema, effective, jsondoc.Doc(c.values)); !sameJSON(got, jsondoc.Doc(c.want)) {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}
