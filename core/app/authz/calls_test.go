package authz

import (
	"cmp"
	"os"
	"strings"
	"testing"
)

// call is how an operation is called.
type call struct {
	name        string // METHOD /pattern
	method      string
	path        string // with the query
	body        string
	fresh, last bool
	sqlite      bool
	level       string
}

// fixture is how a thing to work on is made.
type fixture struct {
	name, by, method, path, body string
	field                        string // of the answer, with dots
}

// calls is testdata/calls.txt.
type calls struct {
	operations map[string]call
	also       []call
	setups     []fixture
	fixtures   map[string]fixture
	paths      [][2]string // pattern, what stands for it
	say        map[string]string
}

func readCalls(t *testing.T) *calls {
	t.Helper()
	text, err := os.ReadFile("testdata/calls.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := &calls{operations: map[string]call{}, fixtures: map[string]fixture{}, say: map[string]string{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		first, rest, _ := strings.Cut(line, " ")
		switch first {
		case "", "#":
		case "say":
			name, detail, _ := strings.Cut(rest, " = ")
			c.say[detail] = name
		case "path":
			from, to, _ := strings.Cut(rest, " = ")
			c.paths = append(c.paths, [2]string{from, to})
		case "setup":
			c.setups = append(c.setups, parseFixture(t, rest))
		case "fixture":
			f := parseFixture(t, rest)
			c.fixtures[f.name] = f
		case "also":
			c.also = append(c.also, parseCall(t, rest))
		default:
			op := parseCall(t, line)
			if _, twice := c.operations[op.name]; twice {
				t.Errorf("testdata/calls.txt: %s is there twice", op.name)
			}
			c.operations[op.name] = op
		}
	}
	return c
}

// parseFixture reads "NAME by WHO: METHOD PATH BODY -> FIELD".
func parseFixture(t *testing.T, line string) fixture {
	t.Helper()
	head, rest, ok := strings.Cut(line, ": ")
	name, by, okBy := strings.Cut(head, " by ")
	arrow := strings.LastIndex(rest, " -> ")
	if !ok || !okBy || arrow < 0 {
		t.Fatalf("testdata/calls.txt: malformed fixture: %s", line)
	}
	f := fixture{name: name, by: by, field: rest[arrow+4:]}
	f.method, rest, _ = strings.Cut(rest[:arrow], " ")
	f.path, f.body, _ = strings.Cut(rest, " ")
	return f
}

// parseCall reads "METHOD PATTERN [?QUERY] [/PATH] [fresh] [last] [sqlite] [BODY]".
func parseCall(t *testing.T, line string) call {
	t.Helper()
	method, rest, ok := strings.Cut(line, " ")
	pattern, rest, _ := strings.Cut(rest, " ")
	if !ok || !strings.HasPrefix(pattern, "/") {
		t.Fatalf("testdata/calls.txt: malformed line: %s", line)
	}
	op := call{name: method + " " + pattern, method: method}
	query := ""
	for rest != "" {
		first, more, _ := strings.Cut(rest, " ")
		switch {
		case first == "fresh":
			op.fresh = true
		case first == "last":
			op.last = true
		case first == "sqlite":
			op.sqlite = true
		case first[0] == '?':
			query = first
		case first[0] == '/':
			op.path = first
		default:
			op.body, more = rest, ""
		}
		rest = more
	}
	if op.path == "" {
		op.path = pattern
	}
	op.path += query
	return op
}

// of gives the call of an operation, with what stands for the parameters of its path.
func (c *calls) of(method, pattern string) call {
	op, ok := c.operations[method+" "+pattern]
	if !ok {
		op = call{name: method + " " + pattern, method: method, path: pattern}
	}
	if op.body == "" && method != "GET" && method != "HEAD" {
		op.body = "{}"
	}
	for _, rule := range c.paths {
		rest, fits := strings.CutPrefix(op.path, rule[0])
		if fits && (rest == "" || rest[0] == '/' || rest[0] == '?') {
			op.path = rule[1] + rest
			break
		}
	}
	known := func(w string) bool {
		name := strings.Trim(w, "{}")
		if _, ok := c.fixtures[name]; ok {
			return true
		}
		return name == "account" || name == "n" || name == "me" || columnNames[name]
	}
	op.path = parameter.ReplaceAllStringFunc(op.path, func(w string) string {
		if known(w) {
			return w
		}
		return "none"
	})
	return op
}

// compareOps orders operations by path, then by method.
func compareOps(a, b string) int {
	am, ap, _ := strings.Cut(a, " ")
	bm, bp, _ := strings.Cut(b, " ")
	return cmp.Or(cmp.Compare(ap, bp), cmp.Compare(am, bm))
}
