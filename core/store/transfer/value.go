package transfer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// kind is what a column holds, whatever the two databases call it.
type kind int

const (
	other kind = iota // a type of Postgres's that SQLite has not; copied as text between two Postgres databases
	text
	document // JSON
	integer
	boolean
	float
	decimal
	moment // date and time without zone
	day
	binaryData
)

// kindOfSQLite follows SQLite's rules of affinity, after the names that SQLAlchemy gives.
func kindOfSQLite(declared string) kind {
	name, _, _ := strings.Cut(strings.ToUpper(declared), "(")
	name = strings.TrimSpace(name)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(name, p) {
				return true
			}
		}
		return false
	}
	switch {
	case name == "BOOLEAN" || name == "BOOL":
		return boolean
	case name == "JSON":
		return document
	case name == "DATE":
		return day
	case name == "DATETIME" || name == "TIMESTAMP":
		return moment
	case has("INT"):
		return integer
	case has("CHAR", "CLOB", "TEXT"):
		return text
	case has("BLOB") || name == "":
		return binaryData
	case has("REAL", "FLOA", "DOUB"):
		return float
	}
	return decimal
}

func kindOfPostgres(declared string) kind {
	name, _, _ := strings.Cut(declared, "(")
	switch name {
	case "text", "character varying", "character":
		return text
	case "json":
		return document
	case "bigint", "integer", "smallint":
		return integer
	case "boolean":
		return boolean
	case "double precision", "real":
		return float
	case "numeric":
		return decimal
	case "timestamp without time zone":
		return moment
	case "date":
		return day
	case "bytea":
		return binaryData
	}
	return other
}

// dayForm and momentForm are how both databases' values are compared; momentSQLite is SQLAlchemy's form in SQLite.
const (
	dayForm      = "2006-01-02"
	momentForm   = "2006-01-02 15:04:05.999999"
	momentSQLite = "2006-01-02 15:04:05.000000"
)

func parseMoment(s string) (time.Time, bool) {
	for _, form := range []string{"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04", dayForm, time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC().Truncate(time.Microsecond), t.Year() > 0
		}
	}
	return time.Time{}, false
}

// toPostgres gives a value of SQLite's in a type that the column of Postgres takes, and whether that changed it. SQLite
// checks no types: a column may hold anything. What Postgres cannot hold becomes NULL, or an empty value where the column
// forbids NULL.
func (c *pair) toPostgres(v any) (any, bool) {
	if v == nil {
		if c.to.notNull {
			return c.empty(), true
		}
		return nil, false
	}
	switch c.kind {
	case text:
		s, changed := asText(v)
		if strings.IndexByte(s, 0) >= 0 {
			s, changed = strings.ReplaceAll(s, "\x00", ""), true
		}
		if c.to.length > 0 && utf8.RuneCountInString(s) > c.to.length {
			s, changed = string([]rune(s)[:c.to.length]), true
		}
		return s, changed
	case document:
		switch v := v.(type) {
		case int64:
			return strconv.FormatInt(v, 10), false
		case float64:
			if math.IsInf(v, 0) {
				return map[bool]string{true: "1e999", false: "-1e999"}[v > 0], false
			}
			return strconv.FormatFloat(v, 'g', -1, 64), false
		}
		s, changed := asText(v)
		fixed, more := postgresJSON(s)
		return fixed, changed || more
	case integer:
		switch v := v.(type) {
		case int64:
			return v, false
		case float64:
			if i, ok := whole(math.Round(v)); ok {
				return i, float64(i) != v
			}
		case string:
			if i, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
				return i, true
			}
		}
	case boolean:
		switch v := v.(type) {
		case int64:
			return v != 0, v != 0 && v != 1
		case float64:
			return v != 0, true
		case string:
			switch strings.ToLower(strings.TrimSpace(v)) {
			case "true", "t", "yes", "on":
				return true, true
			case "false", "f", "no", "off":
				return false, true
			}
		}
	case float:
		switch v := v.(type) {
		case float64:
			return v, false
		case int64:
			return float64(v), int64(float64(v)) != v
		case string:
			if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
				return f, true
			}
		}
	case decimal:
		switch v := v.(type) {
		case int64:
			return strconv.FormatInt(v, 10), false
		case float64:
			if !math.IsInf(v, 0) {
				return strconv.FormatFloat(v, 'f', -1, 64), false
			}
		}
	case moment, day:
		if s, ok := v.(string); ok {
			if t, ok := parseMoment(strings.TrimSpace(s)); ok {
				if c.kind == day {
					d := t.Format(dayForm)
					return d, d != s
				}
				return t.Format(momentForm), false
			}
		}
	case binaryData:
		if b, ok := v.([]byte); ok {
			return b, false
		}
		s, _ := asText(v)
		return []byte(s), true
	}
	if c.to.notNull {
		return c.empty(), true
	}
	return nil, true
}

// empty stands for what a column that forbids NULL cannot hold.
func (c *pair) empty() any {
	switch c.kind {
	case integer:
		return int64(0)
	case boolean:
		return false
	case float:
		return float64(0)
	case decimal:
		return "0"
	case document:
		return "null"
	case moment, day:
		return "1970-01-01"
	case binaryData:
		return []byte{}
	}
	return ""
}

// asText gives any value of SQLite's as text in UTF-8, and whether that is not what it was.
func asText(v any) (string, bool) {
	var s string
	changed := false
	switch v := v.(type) {
	case string:
		s = v
	case []byte:
		s, changed = string(v), true
	case int64:
		return strconv.FormatInt(v, 10), false
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), false
	default:
		s = fmt.Sprint(v)
	}
	if !utf8.ValidString(s) {
		return strings.ToValidUTF8(s, "\uFFFD"), true
	}
	return s, changed
}

// toSQLite gives a value of Postgres's as SQLAlchemy would have written it into SQLite.
func (c *pair) toSQLite(v any) (any, bool) {
	if v == nil {
		if c.to.notNull {
			return c.empty(), true
		}
		return nil, false
	}
	switch c.kind {
	case document:
		// SQLite would make a number of it too, but not always the nearest.
		if s, ok := v.(string); ok {
			if n, ok := number(s); ok {
				_, large := n.(float64)
				return n, large && !strings.ContainsAny(s, ".eE") // digits are lost
			}
		}
	case float:
		if f, ok := v.(float64); ok && math.IsNaN(f) {
			return nil, true
		}
	case decimal:
		if s, ok := v.(string); ok {
			if n, ok := number(s); ok {
				back, _ := (&pair{kind: decimal}).toPostgres(n)
				return n, back != trimDecimal(s)
			}
		}
	case moment:
		if s, ok := v.(string); ok {
			if t, ok := parseMoment(s); ok {
				return t.Format(momentSQLite), false
			}
		}
	}
	return v, false
}

// trimDecimal drops the zeros that end a decimal fraction.
func trimDecimal(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Sum is a checksum of rows that does not depend on their order: the sum of a hash of each.
type Sum struct{ hi, lo uint64 }

func (s *Sum) add(o Sum) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, o.lo, 0)
	s.hi, _ = bits.Add64(s.hi, o.hi, carry)
}

func (s Sum) String() string {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.hi), s.lo)
	return hex.EncodeToString(b)
}

// hasher makes the hash of rows. Values go in as they are on either database: a boolean as 0 or 1, a whole number as an
// integer whatever it is stored as, a time in one form.
type hasher struct {
	h       hash.Hash
	columns []byte // hashed before each row
	buf     []byte
	sum     [sha256.Size]byte
}

func newHasher(columns []pair) *hasher {
	h := &hasher{h: sha256.New()}
	for _, c := range columns {
		h.columns = append(append(h.columns, c.name...), 0)
	}
	return h
}

// row is the hash of a row and about how many bytes its values have.
func (h *hasher) row(columns []pair, values []any) (Sum, int) {
	h.h.Reset()
	h.buf = append(h.buf[:0], h.columns...)
	size := 0
	for i := range columns {
		size += h.value(columns[i].kind, values[i])
	}
	h.h.Write(h.buf)
	sum := h.h.Sum(h.sum[:0])
	return Sum{binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])}, size
}

func (h *hasher) value(k kind, v any) int {
	switch v := v.(type) {
	case nil:
		h.buf = append(h.buf, 'n')
	case bool:
		h.integer(map[bool]int64{true: 1}[v])
	case int64:
		h.integer(v)
		return 8
	case float64:
		h.float(v)
		return 8
	case []byte:
		h.bytes('b', v)
		return len(v)
	case string:
		switch k {
		case document, decimal:
			if n, ok := number(v); ok {
				if f, ok := n.(float64); !ok {
					h.integer(n.(int64))
					return len(v)
				} else if k == document || trimDecimal(v) == strconv.FormatFloat(f, 'f', -1, 64) {
					h.float(f)
					return len(v)
				}
				v = trimDecimal(v)
			}
		case moment:
			if t, ok := parseMoment(v); ok {
				v = t.Format(momentForm)
			}
		}
		h.text(v)
		return len(v)
	default:
		h.text(fmt.Sprint(v))
	}
	return 1
}

func (h *hasher) integer(i int64) {
	h.buf = binary.BigEndian.AppendUint64(append(h.buf, 'i'), uint64(i))
}

func (h *hasher) float(f float64) {
	if i, ok := whole(f); ok {
		h.integer(i)
		return
	}
	h.buf = binary.BigEndian.AppendUint64(append(h.buf, 'f'), math.Float64bits(f))
}

func (h *hasher) text(s string) {
	h.buf = binary.BigEndian.AppendUint64(append(h.buf, 't'), uint64(len(s)))
	for len(s) > 1<<16 { // long ones past the buffer
		h.buf = append(h.buf, s[:1<<16]...)
		s = s[1<<16:]
		h.h.Write(h.buf)
		h.buf = h.buf[:0]
	}
	h.buf = append(h.buf, s...)
}

func (h *hasher) bytes(tag byte, b []byte) {
	h.buf = binary.BigEndian.AppendUint64(append(h.buf, tag), uint64(len(b)))
	h.h.Write(h.buf)
	h.h.Write(b)
	h.buf = h.buf[:0]
}

// compareKeys orders keys as both databases do when asked for plain bytes: numbers, then text, then other bytes.
func compareKeys(a, b []any) int {
	for i := range a {
		if c := compareValues(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func compareValues(a, b any) int {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
		return cmp.Compare(float64(a), b.(float64))
	case float64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, float64(b))
		}
		return cmp.Compare(a, b.(float64))
	case string:
		return strings.Compare(a, b.(string))
	case []byte:
		return bytes.Compare(a, b.([]byte))
	}
	return 0
}

func rank(v any) int {
	switch v.(type) {
	case string:
		return 1
	case []byte:
		return 2
	}
	return 0
}
