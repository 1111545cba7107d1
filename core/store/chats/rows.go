package chats

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// messageRow is a row of chat_message to be written.
type messageRow struct {
	id     string // of the message; the row's key is "{chat id}-{id}"
	userID string
	fields jsondoc.Doc
}

// rows are the rows for the messages that have a role.
func (ms *messages) rows(owner string) []messageRow {
	out := make([]messageRow, 0, len(ms.list))
	for i := range ms.list {
		m := &ms.list[i]
		if !m.object() || !m.role.Truthy() {
			continue
		}
		user := m.author()
		if user == "" {
			user, _ = text(member(m.user, "id"))
		}
		if user == "" {
			user = owner
		}
		out = append(out, messageRow{id: m.key, userID: user, fields: m.raw})
	}
	return out
}

// rowFields are the members of a message that have a column, raw; which says which of them are there.
type rowFields struct {
	role, parent, content, output, model, files, sources, embeds, meta, done, status, err, usage, summary, timestamp jsondoc.Doc
}

// either follows `a or b` over two spellings of a member.
func either(have *jsondoc.Doc, v jsondoc.Doc, first bool) {
	if len(*have) == 0 || first && v.Truthy() || !have.Truthy() {
		*have = v
	}
}

func readFields(d jsondoc.Doc) (f rowFields) {
	var usage, info jsondoc.Doc
	each(d, func(n []byte, v jsondoc.Doc) bool {
		switch string(n) {
		case "role":
			f.role = v
		case "parent_id":
			either(&f.parent, v, true)
		case "parentId":
			either(&f.parent, v, false)
		case "content":
			f.content = v
		case "output":
			f.output = v
		case "model_id":
			either(&f.model, v, true)
		case "model":
			either(&f.model, v, false)
		case "files":
			f.files = v
		case "sources":
			f.sources = v
		case "embeds":
			f.embeds = v
		case "meta":
			f.meta = v
		case "done":
			f.done = v
		case "status_history":
			either(&f.status, v, true)
		case "statusHistory":
			either(&f.status, v, false)
		case "error":
			f.err = v
		case "context_summary":
			either(&f.summary, v, true)
		case "contextSummary":
			either(&f.summary, v, false)
		case "timestamp":
			f.timestamp = v
		case "usage":
			usage = v
		case "info":
			info = v
		}
		return true
	})
	if !usage.Truthy() {
		usage = member(info, "usage")
	}
	f.usage = NormalizeUsage(usage)
	return f
}

// jsonValue is a JSON column's value as the reference writes it: a Python None is the text null.
func jsonValue(d jsondoc.Doc) any {
	if d.IsNull() {
		return "null"
	}
	return string(d)
}

// textValue is a text column's value: NULL for anything but a string, numbers as they are spelt.
func textValue(d jsondoc.Doc) any {
	if s, ok := text(d); ok {
		return s
	}
	if d.IsNull() || isObject(d) || isArray(d) {
		return nil
	}
	return string(d)
}

// orNull follows `value or None` of a text column.
func orNull(d jsondoc.Doc) any {
	if !d.Truthy() {
		return nil
	}
	return textValue(d)
}

func boolValue(d jsondoc.Doc, absent any) any {
	switch string(d) {
	case "":
		return absent
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	return nil
}

const (
	messageColumns = "id, chat_id, user_id, role, parent_id, content, output, model_id, files, sources, embeds, meta, done, status_history, error, usage, " +
		"context_summary, created_at, updated_at"
	messageWidth = 19
)

func (r messageRow) values(args []any, chatID string, now int64) []any {
	f := readFields(r.fields)
	role, ok := text(f.role)
	if !ok {
		role = "user"
	}
	created := now
	if f.timestamp.Truthy() && isNumber(f.timestamp) {
		created = int64(number(f.timestamp))
	}
	return append(args, chatID+"-"+r.id, chatID, r.userID, role, orNull(f.parent), jsonValue(f.content), jsonValue(f.output), orNull(f.model), jsonValue(f.files),
		jsonValue(f.sources), jsonValue(f.embeds), jsonValue(f.meta), boolValue(f.done, true), jsonOr(f.status), jsonValue(f.err), jsonValue(f.usage),
		orNull(f.summary), created, now)
}

// jsonOr follows `value or None` of a JSON column.
func jsonOr(d jsondoc.Doc) any {
	if !d.Truthy() {
		return "null"
	}
	return string(d)
}

var insertTexts = map[int]string{}

func init() {
	for n := 1; n <= 32; n *= 2 {
		var b strings.Builder
		b.WriteString("INSERT INTO chat_message (" + messageColumns + ") VALUES ")
		for i := range n * messageWidth {
			switch {
			case i == 0:
				b.WriteByte('(')
			case i%messageWidth == 0:
				b.WriteString("),(")
			default:
				b.WriteByte(',')
			}
			b.WriteString("$" + strconv.Itoa(i+1))
		}
		b.WriteByte(')')
		insertTexts[n] = b.String()
	}
}

// insertMessages writes new rows, as many in a statement as it goes; suffix may say what to do on a conflict.
func insertMessages(ctx context.Context, q store.Querier, chatID string, rows []messageRow, suffix string) error {
	now := timeNow()
	for len(rows) > 0 {
		n := 32
		for n > len(rows) {
			n /= 2
		}
		args := make([]any, 0, n*messageWidth)
		for _, r := range rows[:n] {
			args = r.values(args, chatID, now)
		}
		if _, err := q.Exec(ctx, insertTexts[n]+suffix, args...); err != nil {
			return fmt.Errorf("messages of chat %s: %w", chatID, err)
		}
		rows = rows[n:]
	}
	return nil
}

// upsertMessages writes rows: new ones whole, of known ones the columns that the fields name. Usage is added up.
func upsertMessages(ctx context.Context, q store.Querier, chatID string, rows []messageRow) error {
	if len(rows) == 0 {
		return nil
	}
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = chatID + "-" + r.id
	}
	known, err := usageOf(ctx, q, keys)
	if err != nil {
		return err
	}
	var fresh []messageRow
	for i, r := range rows {
		usage, ok := known[keys[i]]
		if !ok {
			fresh = append(fresh, r)
			continue
		}
		if err := updateMessage(ctx, q, keys[i], r.fields, usage); err != nil {
			return err
		}
	}
	return insertMessages(ctx, q, chatID, fresh, "")
}

func usageOf(ctx context.Context, q store.Querier, keys []string) (map[string]jsondoc.Doc, error) {
	out := make(map[string]jsondoc.Doc, len(keys))
	for from := 0; from < len(keys); from += 200 {
		list, args := store.In(nil, padded(keys[from:min(from+200, len(keys))]))
		rows, err := q.Query(ctx, "SELECT id, usage FROM chat_message WHERE id IN "+list, args...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id string
			var usage jsondoc.Doc
			if err := rows.Scan(&id, &usage); err != nil {
				_ = rows.Close()
				return nil, err
			}
			out[id] = usage
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		_ = rows.Close()
	}
	return out, nil
}

// padded repeats the last value up to a power of two, so that few different statements are prepared.
func padded[T any](values []T) []T {
	n := 1
	for n < len(values) {
		n *= 2
	}
	for len(values) > 0 && len(values) < n {
		values = append(values[:len(values):len(values)], values[len(values)-1])
	}
	return values
}

// updateMessage sets the columns of a row that fields name.
func updateMessage(ctx context.Context, q store.Querier, key string, fields, oldUsage jsondoc.Doc) error {
	f := readFields(fields)
	args := []any{key, timeNow()}
	var b strings.Builder
	b.WriteString("UPDATE chat_message SET updated_at = $2")
	set := func(column string, there jsondoc.Doc, v any) {
		if len(there) > 0 {
			args = append(args, v)
			b.WriteString(", " + column + " = $" + strconv.Itoa(len(args)))
		}
	}
	if role, ok := text(f.role); ok {
		set("role", f.role, role)
	}
	set("parent_id", f.parent, orNull(f.parent))
	set("content", f.content, jsonValue(f.content))
	set("output", f.output, jsonValue(f.output))
	set("model_id", f.model, orNull(f.model))
	set("files", f.files, jsonValue(f.files))
	set("sources", f.sources, jsonValue(f.sources))
	set("embeds", f.embeds, jsonValue(f.embeds))
	set("meta", f.meta, jsonValue(f.meta))
	set("done", f.done, boolValue(f.done, nil))
	set("status_history", f.status, jsonOr(f.status))
	set("error", f.err, jsonValue(f.err))
	set("context_summary", f.summary, orNull(f.summary))
	if len(f.usage) > 0 {
		if old := NormalizeUsage(oldUsage); !equal(f.usage, old) {
			merged := MergeUsage(old, f.usage)
			set("usage", merged, jsonValue(merged))
		}
	}
	b.WriteString(" WHERE id = $1")
	_, err := q.Exec(ctx, b.String(), args...)
	return err
}

func deleteMessages(ctx context.Context, q store.Querier, chatID string, ids map[string]bool) error {
	if len(ids) == 0 {
		return nil
	}
	keys := make([]string, 0, len(ids))
	for id := range ids {
		keys = append(keys, chatID+"-"+id)
	}
	list, args := store.In([]any{chatID}, keys)
	_, err := q.Exec(ctx, "DELETE FROM chat_message WHERE chat_id = $1 AND id IN "+list, args...)
	return err
}
