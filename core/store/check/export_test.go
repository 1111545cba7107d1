package check

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/store"
)

// Unlisted are the columns of JSON that documents does not name, and the other way round.
func Unlisted() (out []string) {
	text, err := os.ReadFile("../schema/postgres.sql")
	if err != nil {
		return []string{err.Error()}
	}
	listed := map[string]bool{}
	for _, d := range documents {
		names := strings.Fields(d.names)
		for _, n := range names {
			listed[d.table+"."+n] = true
			if !store.Postgres.Reference().Has(d.table, n) {
				out = append(out, d.table+"."+n+" is not there")
			}
		}
		if len(names) != len(d.kinds) {
			out = append(out, d.table+" has as many kinds as columns?")
		}
	}
	column := regexp.MustCompile(`(?m)^    "?(\w+)"? jsonb?\b`)
	for _, table := range strings.Split(string(text), "CREATE TABLE ")[1:] {
		body, _, _ := strings.Cut(table, ");")
		name := strings.Trim(strings.Fields(table)[0], `"`)
		for _, m := range column.FindAllStringSubmatch(body, -1) {
			if !listed[name+"."+m[1]] && !store.IsLeft(name) && !store.IsLeft(name+"."+m[1]) {
				out = append(out, name+"."+m[1])
			}
		}
	}
	slices.Sort(out)
	return out
}
