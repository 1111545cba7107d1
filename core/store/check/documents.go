package check

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// columns of a table that hold JSON, and how what is in them begins: "{", "[", or " " for anything. null goes everywhere.
type columns struct{ table, names, kinds string }

// documents are all columns of JSON. Those of Open WebUI's type JSONField are text, of which no database takes care.
var documents = []columns{
	{"api_key", "data", "{"},
	{"app", "data", "{"},
	{"auth", "mfa", "{"},
	{"automation", "data meta", "{{"},
	{"calendar", "data meta", "{{"},
	{"calendar_event", "data meta", "{{"},
	{"calendar_event_attendee", "meta", "{"},
	{"channel", "data meta", "{{"},
	{"channel_member", "data meta", "{{"},
	{"chat", "chat meta variables tasks", "{{{ "},
	{"chat_message", "content output files sources embeds meta status_history error usage", " [[[[{[ {"},
	{"config", "value", " "},
	{"feedback", "data meta snapshot", "{{{"},
	{"file", "data meta", "{{"},
	{"folder", "items meta data", " {{"},
	{"function", "meta valves", "{ "},
	{"function_history", "snapshot", "{"},
	{"group", "data meta permissions", "{{{"},
	{"knowledge", "meta", "{"},
	{"memory", "meta", "{"},
	{"message", "data meta", "{{"},
	{"model", "params meta", "{{"},
	{"model_history", "snapshot", "{"},
	{"note", "data meta", "{{"},
	{"prompt", "data meta tags", "{{["},
	{"prompt_history", "snapshot", "{"},
	{"shared_chat", "chat", "{"},
	{"skill", "data meta", "{{"},
	{"skill_history", "snapshot", "{"},
	{"tag", "meta", "{"},
	{"tool", "specs meta valves", "[{ "},
	{"tool_history", "snapshot", "{"},
	{"user", "info variables settings oauth scim", "{{{{{"},
}

// tally counts what is wrong with a column.
type tally struct {
	broken, odd, lost       int64
	brokenIn, oddIn, lostIn []string
}

func add(n *int64, ids *[]string, id []byte) {
	if *n++; *n <= examples {
		*ids = append(*ids, string(id))
	}
}

// documents reads every document: one that is no JSON stops the reference and Galley from reading its row.
func (c *checker) documents(ctx context.Context) error {
	if c.o.Quick {
		return nil
	}
	for _, d := range documents {
		if !c.has(d.table) {
			continue
		}
		if err := c.documentsOf(ctx, d); err != nil {
			return fmt.Errorf("documents of %s: %w", d.table, err)
		}
	}
	if c.db.Dialect() == store.Postgres {
		c.report.Integrity = "read"
	}
	return nil
}

func (c *checker) documentsOf(ctx context.Context, d columns) error {
	id := "id"
	if d.table == "config" {
		id = `"key"`
	}
	names := strings.Fields(d.names)
	selected := "CAST(" + id + " AS TEXT)"
	for _, n := range names {
		selected += ", CAST(" + store.Quote(n) + " AS TEXT)"
	}
	rows, err := c.db.Query(ctx, "SELECT "+selected+" FROM "+store.Quote(d.table))
	if err != nil {
		return err
	}
	defer rows.Close()
	cells := make([]sql.RawBytes, len(names)+1)
	dest := make([]any, len(cells))
	for i := range cells {
		dest[i] = &cells[i]
	}
	tallies := make([]tally, len(names))
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		for i, cell := range cells[1:] {
			if cell != nil {
				tallies[i].look(cells[0], cell, d.kinds[i], d.table == "chat" && i == 0)
			}
		}
	}
	for i, t := range tallies {
		place := d.table + "." + names[i]
		switch {
		case t.broken > 0 && place == "chat.chat":
			c.damage("documents."+place, t.broken, t.brokenIn, "chats whose document cannot be read")
		case t.broken > 0:
			c.damage("documents."+place, t.broken, t.brokenIn, "rows of %s whose %s is no JSON", d.table, names[i])
		}
		if t.odd > 0 {
			c.warn("shape."+place, t.odd, t.oddIn, "rows of %s whose %s is JSON of another shape than expected", d.table, names[i])
		}
		if t.lost > 0 {
			c.warn("shape.chat.history", t.lost, t.lostIn, "chats whose current message is not among their messages")
		}
	}
	return rows.Err()
}

// look judges a document.
func (t *tally) look(id, text []byte, kind byte, chat bool) {
	doc, err := jsondoc.Check(text)
	switch {
	case err != nil:
		add(&t.broken, &t.brokenIn, id)
	case string(doc) == "null" || kind == ' ':
	case doc[0] != kind:
		add(&t.odd, &t.oddIn, id)
	case chat:
		history := doc.Get("history")
		messages, current := history.Get("messages"), history.Text("currentId")
		switch {
		case !history.IsNull() && (bytes.TrimSpace(history)[0] != '{' || !messages.IsNull() && bytes.TrimSpace(messages)[0] != '{'):
			add(&t.odd, &t.oddIn, id)
		case current != "" && messages.Get(current).IsNull():
			add(&t.lost, &t.lostIn, id)
		}
	}
}
