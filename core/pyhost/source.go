package pyhost

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/textdiff"
)

var manifestLine = regexp.MustCompile(`(?i)^\s*([a-z_]+):(.*)$`)

// Frontmatter reads the manifest of a source: the lines "name: value" of the docstring that it begins with.
func Frontmatter(source string) jsondoc.Doc {
	lines := textdiff.Lines(source)
	out := jsondoc.Open(jsondoc.Doc("{}"))
	if len(lines) == 0 || strings.TrimSpace(lines[0]) != `"""` {
		return out.Doc()
	}
	for _, l := range lines[1:] {
		if strings.Contains(l, `"""`) {
			break
		}
		if m := manifestLine.FindStringSubmatch(l); m != nil {
			out.Set(m[1], jsondoc.Text(strings.TrimSpace(m[2])))
		}
	}
	return out.Doc()
}

// moved are modules that had other names in old versions of what tools are written for.
var moved = strings.NewReplacer("from utils", "from open_webui.utils", "from apps", "from open_webui.apps", "from main", "from open_webui.main",
	"from config", "from open_webui.config")

// Current is a source with the names of modules as they are now.
func Current(source string) string { return moved.Replace(source) }

// IsIdentifier says whether a text is a name in Python, as ids of sources are.
func IsIdentifier(s string) bool {
	for i, r := range s {
		start := r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r) || unicode.Is(unicode.Other_ID_Start, r)
		if !start && (i == 0 || !unicode.In(r, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc, unicode.Other_ID_Continue)) {
			return false
		}
	}
	return s != ""
}
