package params

import "testing"

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"plain é": "plain é", `a\nb\t\\n`: "a\nb\t\\n", `\x41\u00e9\U0001F600\101\0`: "Aé😀A\x00", `\`: `\`, `\q\x4\u12`: `\q\x4\u12`,
		`\ud83d`: `\ud83d`, `\"\'`: `"'`, "é\\n": "é\n",
	} {
		if got := Unescape(in); got != want {
			t.Errorf("Unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		``: "{}", `null`: "{}", `[]`: "{}",
		`{"system":"x","a":1}`:                                    `{"a":1}`,
		`{"a":1,"custom_params":null}`:                            `{"a":1}`,
		`{"a":1,"custom_params":{"a":"2"}}`:                       `{"a":2}`,
		`{"custom_params":{"a":"two","b":"{\"c\":null}","d":""}}`: `{"a":"two","b":{"c":null},"d":""}`,
		`{"a":{"x":1},"custom_params":{"a":{"y":{"z":2}}}}`:       `{"a":{"x":1,"y":{"z":2}}}`,
	} {
		if got := string(Expand([]byte(in)).JSON()); got != want {
			t.Errorf("Expand(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestConvert(t *testing.T) {
	tests := []struct {
		cast     Cast
		in, want string
	}{
		{Float, `0.30`, `0.30`}, {Float, `"0.5"`, `0.5`}, {Float, `"x"`, `"x"`}, {Int, `9.9`, `9`}, {Int, `"7"`, `7`}, {Int, `"x"`, `"x"`},
		{Text, `5`, `"5"`}, {Text, `"low"`, `"low"`}, {Bool, `1`, `true`}, {Bool, `""`, `false`}, {Stops, `"a"`, `["a"]`},
		{Stops, `["\\n",1]`, `["\n",1]`}, {Stops, `{}`, `{}`}, {Keep, `{"a":1}`, `{"a":1}`},
	}
	for _, tt := range tests {
		if got := string(convert(tt.cast, []byte(tt.in))); got != tt.want {
			t.Errorf("convert(%d, %s) = %s, want %s", tt.cast, tt.in, got, tt.want)
		}
	}
}
