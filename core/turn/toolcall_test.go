package turn

import (
	"slices"
	"testing"
)

func TestReadArguments(t *testing.T) {
	for in, want := range map[string]string{
		``:                                   `{}`,
		" \n":                                `{}`,
		` {"a" : 1.0, "b":"\u00e9\/"} `:      `{"a":1.0,"b":"é/"}`,
		`{"a": NaN}`:                         `{"a":null}`,
		`{'a': "it's", "b": 'say "x"',}`:     `{"a":"it's","b":"say \"x\""}`,
		`{'a': [True, False, None, -1.5e3]}`: `{"a":[true,false,null,-1.5e3]}`,
		`{'a': 'x\'y\n\x41\u00e9\d'}`:        `{"a":"x'y\nAé\\d"}`,
		`{'a': ()}`:                          `{"a":[]}`,
		`{`:                                  "",
		`{'a'}`:                              "",
		`{'a': b}`:                           "",
		`{'a': 'x`:                           "",
		`{'a': 1} x`:                         "",
		`{1: 2}`:                             "",
		`[1 2]`:                              "",
		`{'a': 0x}`:                          "",
		`__import__('os')`:                   "",
	} {
		got, ok := readArguments(in)
		if ok != (want != "") || string(got) != want {
			t.Errorf("%q: %s, %v; want %s", in, got, ok, want)
		}
	}
}

func TestSplitArguments(t *testing.T) {
	for in, want := range map[string][]string{
		`{"a":1}{"a":2}`:    {`{"a":1}`, `{"a":2}`},
		"{} \n [1] ":        {`{}`, `[1]`},
		`{"a":1}`:           nil,
		`{"a":1}{"a":`:      nil,
		``:                  nil,
		`{"a":1} and so on`: nil,
		`{'a': 1}{'a': 2}`:  nil,
	} {
		if got := splitArguments(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestTellsOfFailure(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                  false,
		"fine":                              false,
		"No error: all is well":             false,
		" error: x":                         true,
		"Exception: x":                      true,
		"Traceback (most recent call last)": true,
		"HTTP error! Status: 500":           true,
		`{"error":"x"}`:                     true,
		`{"error":""}`:                      false,
		`{"error":null}`:                    false,
		`{"error":{}}`:                      false,
		`{"error":{"code":1}}`:              true,
		`{"error":true}`:                    false,
		`{"status":" Failed "}`:             true,
		`{"status":"failing"}`:              false,
		`{"success":false}`:                 false,
		`{"success":false,"message":"no"}`:  true,
		`{"ok":false,"message":["no"]}`:     true,
		`"{\"error\":\"x\"}"`:               true,
		`[{"error":"x"}]`:                   false,
	} {
		if got := tellsOfFailure(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
