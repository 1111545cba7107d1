package plaintext

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// fromCSV writes each record as lines "column: value", the records joined by a space. The first record names the columns;
// values beyond the last are given together under "None", and missing ones are "None", as Python's DictReader has them.
func fromCSV(text string) (string, error) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	r.FieldsPerRecord, r.LazyQuotes, r.ReuseRecord = -1, true, true
	var columns []string
	var out strings.Builder
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("read CSV: %w", err)
		}
		if columns == nil {
			columns = append(columns, record...)
			continue
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		writeRecord(&out, columns, record)
	}
}

func writeRecord(out *strings.Builder, columns, record []string) {
	last := map[string]int{} // of columns with one name the last has the value, in the place of the first
	for i, c := range columns {
		last[c] = i
	}
	first := true
	field := func(name, value string) {
		if !first {
			out.WriteByte('\n')
		}
		first = false
		out.WriteString(name + ": " + value)
	}
	for _, c := range columns {
		i, ok := last[c]
		if !ok {
			continue
		}
		delete(last, c)
		value := "None"
		if i < len(record) {
			value = strings.TrimSpace(record[i])
		}
		field(strings.TrimSpace(c), value)
	}
	if len(record) > len(columns) {
		rest := make([]string, 0, len(record)-len(columns))
		for _, v := range record[len(columns):] {
			rest = append(rest, strings.TrimSpace(v))
		}
		field("None", strings.Join(rest, ","))
	}
}
