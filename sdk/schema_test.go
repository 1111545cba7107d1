package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type embedded struct {
	Shared string `json:"shared" description:"of the embedded"`
}

type tree struct {
	Name     string `json:"name"`
	Children []tree `json:"children,omitempty"`
}

func TestSchema(t *testing.T) {
	type small struct {
		A int `json:"a" minimum:"1" maximum:"9"`
	}
	cases := map[string]struct {
		in   any
		want string
	}{
		"types": {struct {
			S   string
			B   bool            `json:"b"`
			F   float32         `json:"f"`
			L   []string        `json:"l"`
			M   map[string]int  `json:"m"`
			R   json.RawMessage `json:"r"`
			T   time.Time       `json:"t"`
			D   time.Duration   `json:"d"`
			Raw []byte          `json:"raw"`
			IP  netip.Addr      `json:"ip"`
			P   *int            `json:"p"`
			Out string          `json:"-"`
			low string          //nolint:unused // not exported
		}{}, `{"type":"object","properties":{"S":{"type":"string"},"b":{"type":"boolean"},"f":{"type":"number"},"l":{"type":"array","items":{"type":"string"}},` +
			`"m":{"type":"object","additionalProperties":{"type":"integer"}},"r":{},"t":{"type":"string","format":"date-time"},"d":{"type":"integer"},` +
			`"raw":{"type":"string","format":"byte"},"ip":{"type":"string"},"p":{"type":"integer"}},"required":["S","b","f","l","m","r","t","d","raw","ip"]}`},
		"tags": {struct {
			U string   `json:"u,omitempty" title:"Unit" description:"which <one>" enum:"c,f" default:"c"`
			N int      `json:"n" default:"3" minimum:"1" maximum:"10"`
			L []string `json:"l" enum:"x,y" default:"[\"x\"]"`
		}{}, `{"type":"object","properties":{"u":{"type":"string","title":"Unit","description":"which <one>","enum":["c","f"],"default":"c"},` +
			`"n":{"type":"integer","minimum":1,"maximum":10,"default":3},"l":{"type":"array","items":{"type":"string","enum":["x","y"]},"default":["x"]}}}`},
		"embedded": {struct {
			embedded
			Own string `json:"own"`
		}{}, `{"type":"object","properties":{"shared":{"type":"string","description":"of the embedded"},"own":{"type":"string"}},"required":["shared","own"]}`},
		"nested": {struct {
			In small `json:"in"`
		}{}, `{"type":"object","properties":{"in":{"type":"object","properties":{"a":{"type":"integer","minimum":1,"maximum":9}},"required":["a"]}},"required":["in"]}`},
		"holds itself": {tree{}, `{"type":"object","properties":{"name":{"type":"string"},"children":{"type":"array","items":{"type":"object"}}},"required":["name"]}`},
	}
	for name, c := range cases {
		got := string(schemaOf(reflect.TypeOf(c.in), reflect.Value{}).append(nil))
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestTool(t *testing.T) {
	type in struct {
		City  string  `json:"city"`
		Unit  string  `json:"unit" enum:"c,f" default:"c"`
		Days  int     `json:"days" default:"3" minimum:"1" maximum:"7"`
		Extra *string `json:"extra"`
	}
	var seen in
	tool := NewTool("weather", "…", func(_ context.Context, i in) (any, error) { seen = i; return i.City, nil })
	for _, c := range []struct {
		args, want, wrong string
	}{
		{`{"city":"Rome"}`, `{"city":"Rome","unit":"c","days":3,"extra":null}`, ""},
		{`{"city":"Rome","unit":"f","days":7,"extra":"x","more":1}`, `{"city":"Rome","unit":"f","days":7,"extra":"x"}`, ""},
		{``, "", "the argument city is missing"},
		{`{}`, "", "the argument city is missing"},
		{`[]`, "", "not a JSON object"},
		{`{"city":1}`, "", "the argument city must be a text, not number"},
		{`{"city":"Rome","days":8}`, "", "the argument days must be at most 7"},
		{`{"city":"Rome","unit":"k"}`, "", "the argument unit must be one of c, f"},
	} {
		_, err := tool.Call(t.Context(), &ToolCall{Arguments: json.RawMessage(c.args)})
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v, want %s", c.args, err, c.wrong)
			}
			continue
		}
		if got := string(mustJSON(seen)); err != nil || got != c.want {
			t.Errorf("%s: %s, %v", c.args, got, err)
		}
	}
	for name, f := range map[string]func(){
		"no struct": func() { NewTool("x", "", func(context.Context, string) (any, error) { return nil, nil }) },
		"bad default": func() {
			NewTool("x", "", func(context.Context, struct {
				N int `default:"x"`
			}) (any, error) {
				return nil, nil
			})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
	// a call outside of Galley has nobody to show its status to
	if err := ToolCallFrom(t.Context()).Status("x", true); err != nil {
		t.Error(err)
	}
}

type limits struct {
	Per  int      `json:"per" minimum:"1" maximum:"100" title:"Per minute"`
	Mode string   `json:"mode" enum:"open,closed"`
	List []string `json:"list"`
	Map  map[string]int
	Deep struct {
		N    float64 `json:"n" maximum:"1"`
		Keep string  `json:"keep"`
	} `json:"deep"`
	Items []struct {
		A int `json:"a" minimum:"1"`
		B int `json:"b"`
	} `json:"items"`
}

func (l *limits) Validate() error {
	switch l.Mode + l.Deep.Keep {
	case "closedbad":
		return &FieldError{"deep.keep", errors.New("is bad")}
	case "closedworse":
		return errors.New("all is bad")
	}
	return nil
}

func newLimits() limits {
	l := limits{Per: 10, Mode: "open", List: []string{"a", "b"}, Map: map[string]int{"x": 1}}
	l.Deep.Keep = "kept"
	l.Items = append(l.Items, struct {
		A int `json:"a" minimum:"1"`
		B int `json:"b"`
	}{5, 6})
	return l
}

func TestConfig(t *testing.T) {
	const defaults = `{"per":10,"mode":"open","list":["a","b"],"Map":{"x":1},"deep":{"n":0,"keep":"kept"},"items":[{"a":5,"b":6}]}`
	for _, c := range []struct{ given, want, wrong string }{
		{``, defaults, ""},
		{`{}`, defaults, ""},
		{`{"per":null,"list":null}`, defaults, ""},
		{`{"per":20,"unknown":1}`, strings.Replace(defaults, `"per":10`, `"per":20`, 1), ""},
		{`{"list":[]}`, strings.Replace(defaults, `["a","b"]`, `[]`, 1), ""},
		{`{"map":{"y":2}}`, strings.Replace(defaults, `{"x":1}`, `{"y":2}`, 1), ""},
		{`{"items":[{"a":1}]}`, strings.Replace(defaults, `{"a":5,"b":6}`, `{"a":1,"b":0}`, 1), ""},
		{`{"deep":{"n":0.5}}`, strings.Replace(defaults, `"n":0`, `"n":0.5`, 1), ""},
		{`{"per":0}`, "", "per: must be at least 1"},
		{`{"per":101,"mode":"ajar","deep":{"n":2}}`, "", "per: must be at most 100; mode: must be one of open, closed; deep.n: must be at most 1"},
		{`{"items":[{"a":1},{"a":0}]}`, "", "items.1.a: must be at least 1"},
		{`{"per":"many"}`, "", "per: must be a whole number, not string"},
		{`{"deep":{"keep":1}}`, "", "deep.keep: must be a text, not number"},
		{`{"mode":"closed","deep":{"keep":"bad"}}`, "", "deep.keep: is bad"},
		{`{"mode":"closed","deep":{"keep":"worse"}}`, "", ": all is bad"},
		{`{"per":`, "", ": unexpected end of JSON input"},
		{`[]`, "", ": must be an object, not array"},
	} {
		conf := NewConfig(newLimits())
		var told []*limits
		conf.OnChange(func(l *limits) { told = append(told, l) })
		got, wrong := conf.apply([]byte(c.given))
		var texts []string
		for _, v := range wrong {
			texts = append(texts, v.GetPath()+": "+v.GetMessage())
		}
		if text := strings.Join(texts, "; "); text != c.wrong || string(got) != c.want {
			t.Errorf("%s:\n got %s (%s)\nwant %s (%s)", c.given, got, text, c.want, c.wrong)
		}
		if (len(told) == 1) != (c.wrong == "") || c.wrong == "" && told[0] != conf.Get() {
			t.Errorf("%s: told %d times", c.given, len(told))
		}
		if c.wrong != "" && !reflect.DeepEqual(*conf.Get(), newLimits()) {
			t.Errorf("%s: refused, and yet it is %+v", c.given, conf.Get())
		}
		// nobody can spoil the defaults
		conf.Get().List = append(conf.Get().List[:0], "spoilt")
		conf.Get().Map["spoilt"] = 1
		if got, _ := conf.apply(nil); string(got) != defaults {
			t.Errorf("%s: the defaults became %s", c.given, got)
		}
	}
	schema := string(NewConfig(newLimits()).schema())
	for _, want := range []string{`"per":{"type":"integer","title":"Per minute","minimum":1,"maximum":100,"default":10}`, `"list":{"type":"array","items":{"type":"string"},"default":["a","b"]}`} {
		if !strings.Contains(schema, want) {
			t.Errorf("the schema lacks %s: %s", want, schema)
		}
	}
}

func TestConfigWhileRead(t *testing.T) {
	conf := NewConfig(newLimits())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			conf.apply(mustJSON(map[string]any{"per": i%100 + 1, "list": []string{"x", "y", "z"}[:i%3]}))
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			if l := conf.Get(); l.Per < 1 || l.Per > 100 || len(l.List) > 3 {
				t.Fatalf("%+v", l)
			}
		}
	}
}
