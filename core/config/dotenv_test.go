package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestReadDotEnv has the answers of python-dotenv, as the reference uses it.
func TestReadDotEnv(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []Variable
	}{
		"plain":        {"A=1\nB = two words  \n\nexport C=3", []Variable{{"A", "1"}, {"B", "two words"}, {"C", "3"}}},
		"comments":     {"# A=1\nA=1 # one\nB=#2\nC= # none\nD='x' # y\n  E=1#2", []Variable{{"A", "1"}, {"B", "#2"}, {"C", ""}, {"D", "x"}, {"E", "1#2"}}},
		"quotes":       {`A='a\'b\n' ` + "\n" + `B="a\"b\n\t\\"` + "\n'C D'=1", []Variable{{"A", `a'b\n`}, {"B", "a\"b\n\t\\"}, {"C D", "1"}}},
		"several":      {"A=\"one\ntwo\"\nB='x\ny'\n", []Variable{{"A", "one\ntwo"}, {"B", "x\ny"}}},
		"carriage":     {"\ufeffA=1\r\nB=2\r\n", []Variable{{"A", "1"}, {"B", "2"}}},
		"empty":        {"A=\nB=\"\"\nC\nD=1", []Variable{{"A", ""}, {"B", ""}, {"D", "1"}}},
		"wrong":        {"A=\"open\nB=1\nC='x'y\nD=2\n=3", []Variable{{"B", "1"}, {"D", "2"}}},
		"named":        {"A=1\nB=${A}${SET}\nC=${NONE:-x}y${NONE}\nD=${SET:-n}\nSET=file\nE='${A}'\nF=$A", []Variable{{"A", "1"}, {"B", "1env"}, {"C", "xy"}, {"D", "env"}, {"SET", "file"}, {"E", "1"}, {"F", "$A"}}},
		"twice":        {"A=1\nA=2\nB=${A}", []Variable{{"A", "1"}, {"A", "2"}, {"B", "2"}}},
		"not a secret": {"WEBUI_SECRET_KEY=abc=def==\nDATABASE_URL=postgresql://u:p%40@h/d?x=1#y", []Variable{{"WEBUI_SECRET_KEY", "abc=def=="}, {"DATABASE_URL", "postgresql://u:p%40@h/d?x=1#y"}}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), ".env")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadDotEnv(file, func(n string) (string, bool) { return "env", n == "SET" })
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
	if got, err := ReadDotEnv(filepath.Join(t.TempDir(), ".env"), nil); got != nil || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}
