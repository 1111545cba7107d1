package auths

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

// date is a day as pydantic reads one: YYYY-MM-DD, a time at midnight, or Unix seconds (or milliseconds) of midnight UTC.
type date string

// milliseconds is from where on pydantic takes a number for milliseconds.
const milliseconds = 2e10

// DecodeField implements web.Decoder.
func (d *date) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	text, isText := raw.AsText()
	if isText {
		text := strings.Replace(text, " ", "T", 1)
		for _, layout := range []string{time.DateOnly, "2006-01-02T15:04:05", time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02T15:04Z07:00"} {
			if t, err := time.Parse(layout, text); err == nil && t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0 && t.Nanosecond() == 0 {
				*d = date(t.Format(time.DateOnly))
				return nil
			}
		}
	}
	if isText || raw.Kind() == '0' {
		if !isText {
			text = string(raw)
		}
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			if math.Abs(n) > milliseconds {
				n /= 1000
			}
			if math.Mod(n, 86400) == 0 && math.Abs(n) < 253402300800 {
				*d = date(time.Unix(int64(n), 0).UTC().Format(time.DateOnly))
				return nil
			}
		}
	}
	return web.Problems{{Type: "date_from_datetime_parsing", Loc: loc, Msg: "Input should be a valid date or datetime", Input: raw}}
}
