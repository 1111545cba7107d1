package turn

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/chats"
)

// item is one entry of an answer's output, in the form of OpenAI's Responses API: text, reasoning or a tool call.
type item struct {
	kind   string // message, reasoning, function_call; "" for one that is kept as it was stored or as the provider makes it
	id     string
	status string // in_progress, completed, incomplete
	text   []byte
	has    bool          // there is a content part, be it empty
	lead   []jsondoc.Doc // content parts before the one that grows

	// of reasoning, and of text between tags
	startTag, endTag string
	attributes       jsondoc.Doc
	tagType          string // "solution" for text between solution tags
	details          []jsondoc.Doc
	started, ended   time.Time

	// of a tool call
	callID, name string

	raw  jsondoc.Doc // of a carried item, or one that a provider of the Responses API makes
	grow *growth     // what is being added to raw

	scan int // text before it holds no tag
}

// outputID makes an id as the Responses API has them: a prefix and 24 hexadecimal digits.
func outputID(prefix string) string {
	u := uuid.New()
	b := make([]byte, 0, len(prefix)+25)
	b = append(append(b, prefix...), '_')
	return string(hex.AppendEncode(b, u[:12]))
}

func newText() *item {
	return &item{kind: "message", id: outputID("msg"), status: "in_progress", has: true}
}

func newReasoning(startTag, endTag string, attributes jsondoc.Doc) *item {
	return &item{kind: "reasoning", id: outputID("r"), status: "in_progress", startTag: startTag, endTag: endTag, attributes: attributes, started: time.Now()}
}

func newCall(id, name string) *item {
	return &item{kind: "function_call", id: id, callID: id, name: name, status: "in_progress"}
}

// bySeparateField says that the reasoning came in a field of its own and not between tags.
func (i *item) bySeparateField() bool {
	return i.kind == "reasoning" && i.attributes.Text("type") == "reasoning_content"
}

func (i *item) append(s string) {
	i.text = append(i.text, s...)
	i.has = true
}

func (i *item) end(now time.Time) {
	i.ended, i.status = now, "completed"
}

// duration is in whole seconds, rounded down.
func (i *item) duration() int { return int(i.ended.Sub(i.started) / time.Second) }

// parts is how many content parts there are.
func (i *item) parts() int {
	n := len(i.lead)
	if i.has {
		n++
	}
	return n
}

func seconds(b []byte, t time.Time) []byte {
	return strconv.AppendFloat(b, float64(t.UnixMicro())/1e6, 'f', -1, 64)
}

// appendJSON writes the item.
func (i *item) appendJSON(b []byte) []byte {
	if i.kind == "" {
		return append(b, i.whole()...)
	}
	b = append(b, `{"type":"`...)
	b = append(b, i.kind...)
	b = append(b, `","id":`...)
	b = jsondoc.AppendString(b, i.id)
	if i.kind == "function_call" {
		b = append(b, `,"call_id":`...)
		b = jsondoc.AppendString(b, i.callID)
		b = append(b, `,"name":`...)
		b = jsondoc.AppendString(b, i.name)
		b = append(b, `,"arguments":`...)
		b = jsondoc.AppendString(b, string(i.text))
		b = append(b, `,"status":"`...)
		b = append(b, i.status...)
		return append(b, `"}`...)
	}
	b = append(b, `,"status":"`...)
	b = append(b, i.status...)
	b = append(b, '"')
	if i.kind == "message" {
		b = append(b, `,"role":"assistant"`...)
	}
	if i.startTag != "" {
		b = append(b, `,"start_tag":`...)
		b = jsondoc.AppendString(b, i.startTag)
		b = append(b, `,"end_tag":`...)
		b = jsondoc.AppendString(b, i.endTag)
		b = append(b, `,"attributes":`...)
		b = append(b, i.attributes.Or(jsondoc.Doc("{}"))...)
	}
	if i.tagType != "" {
		b = append(b, `,"_tag_type":`...)
		b = jsondoc.AppendString(b, i.tagType)
	}
	b = i.appendContent(b)
	if i.kind == "reasoning" {
		b = append(b, `,"summary":null`...)
	}
	if !i.started.IsZero() {
		b = seconds(append(b, `,"started_at":`...), i.started)
	}
	if !i.ended.IsZero() {
		b = seconds(append(b, `,"ended_at":`...), i.ended)
		if i.kind == "reasoning" {
			b = strconv.AppendInt(append(b, `,"duration":`...), int64(i.duration()), 10)
		}
	}
	if len(i.details) > 0 {
		b = append(append(b, `,"reasoning_details":`...), jsondoc.Array(i.details...)...)
	}
	return append(b, '}')
}

func (i *item) appendContent(b []byte) []byte {
	b = append(b, `,"content":[`...)
	for n, p := range i.lead {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, p...)
	}
	if i.has {
		if len(i.lead) > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"type":"output_text","text":`...)
		b = jsondoc.AppendString(b, string(i.text))
		b = append(b, '}')
	}
	return append(b, ']')
}

func (i *item) doc() jsondoc.Doc { return i.appendJSON(nil) }

// outputDoc writes items as a JSON array.
func outputDoc(items []*item) jsondoc.Doc {
	n := 2
	for _, i := range items {
		n += len(i.text) + len(i.raw) + 256
	}
	b := append(make([]byte, 0, n), '[')
	for k, i := range items {
		if k > 0 {
			b = append(b, ',')
		}
		b = i.appendJSON(b)
	}
	return append(b, ']')
}

// itemsText joins the texts of the message items.
func itemsText(items []*item) string {
	var texts []string
	for _, i := range items {
		var s string
		switch {
		case i.kind == "message":
			var b strings.Builder
			for _, p := range i.lead {
				b.WriteString(p.Text("text"))
			}
			b.Write(i.text)
			s = b.String()
		case i.kind == "":
			s = chats.OutputText(jsondoc.Array(i.whole()))
		}
		if strings.TrimSpace(s) != "" {
			texts = append(texts, s)
		}
	}
	return strings.Join(texts, "\n")
}

// carried are the items of a stored output, kept as they are.
func carried(output jsondoc.Doc) []*item {
	var out []*item
	output.Items(func(_ int, v jsondoc.Doc) bool {
		out = append(out, &item{raw: v, status: v.Text("status")})
		return true
	})
	return out
}
