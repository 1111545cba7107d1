package check

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/galleychat/galley/core/store"
)

// relation says that a column of a table names a row of another one.
type relation struct {
	table, column, parent string
	where                 string // which rows; "" for all
	text                  string // what is said of orphans, behind their number
}

// relations are what rows of the reference say of each other, most of it without a foreign key. That chats of before
// sharing had a table of its own belong to "shared-" and an id is no mistake.
var relations = []relation{
	{"chat", "user_id", "user", "user_id NOT LIKE 'shared-%'", "chats of users that are gone"},
	{"chat", "folder_id", "folder", "", "chats in folders that are gone, which no list shows"},
	{"chat_message", "chat_id", "chat", "", "messages of chats that are gone"},
	{"chat_file", "chat_id", "chat", "", "attachments of chats that are gone"},
	{"chat_file", "file_id", "file", "", "attachments of chats whose file is gone"},
	{"shared_chat", "chat_id", "chat", "", "shared chats whose chat is gone"},
	{"auth", "id", "user", "", "passwords of users that are gone"},
	{"user", "id", "auth", "", "users without a row in auth, who cannot sign in"},
	{"api_key", "user_id", "user", "", "API keys of users that are gone"},
	{"oauth_session", "user_id", "user", "", "OAuth sessions of users that are gone"},
	{"group_member", "group_id", "group", "", "memberships of groups that are gone"},
	{"group_member", "user_id", "user", "", "memberships of users that are gone"},
	{"group", "parent_group_id", "group", "", "groups below groups that are gone"},
	{"folder", "user_id", "user", "", "folders of users that are gone"},
	{"folder", "parent_id", "folder", "", "folders in folders that are gone"},
	{"file", "user_id", "user", "", "files of users that are gone"},
	{"memory", "user_id", "user", "", "memories of users that are gone"},
	{"tag", "user_id", "user", "", "tags of users that are gone"},
	{"prompt_history", "prompt_id", "prompt", "", "versions of prompts that are gone"},
	{"tool_history", "tool_id", "tool", "", "versions of tools that are gone"},
	{"model_history", "model_id", "model", "", "versions of models that are gone"},
	{"knowledge_file", "knowledge_id", "knowledge", "", "entries of knowledge bases that are gone"},
	{"knowledge_file", "file_id", "file", "", "entries of knowledge bases whose file is gone"},
	{"channel_member", "channel_id", "channel", "", "memberships of channels that are gone"},
	{"message", "channel_id", "channel", "", "messages of channels that are gone"},
	{"access_grant", "principal_id", "user", "principal_type = 'user' AND principal_id <> '*'", "grants to users that are gone"},
	{"access_grant", "principal_id", "group", "principal_type = 'group'", "grants to groups that are gone"},
	{"access_grant", "resource_id", "model", "resource_type = 'model'", "grants of models that are gone"},
	{"access_grant", "resource_id", "prompt", "resource_type = 'prompt'", "grants of prompts that are gone"},
	{"access_grant", "resource_id", "tool", "resource_type = 'tool' AND resource_id NOT LIKE 'server:%'", "grants of tools that are gone"},
	{"access_grant", "resource_id", "knowledge", "resource_type = 'knowledge'", "grants of knowledge bases that are gone"},
	{"access_grant", "resource_id", "skill", "resource_type = 'skill'", "grants of skills that are gone"},
	{"access_grant", "resource_id", "note", "resource_type = 'note'", "grants of notes that are gone"},
	{"access_grant", "resource_id", "folder", "resource_type = 'folder'", "grants of folders that are gone"},
	{"access_grant", "resource_id", "channel", "resource_type = 'channel'", "grants of channels that are gone"},
	{"access_grant", "resource_id", "calendar", "resource_type = 'calendar'", "grants of calendars that are gone"},
	{"access_grant", "resource_id", "chat", "resource_type = 'shared_chat'", "grants of shared chats that are gone"},
}

// relations looks for rows that name others which are gone.
func (c *checker) relations(ctx context.Context) error {
	for _, r := range relations {
		if !c.state.Shape.Has(r.table, r.column) || !c.has(r.parent) {
			continue
		}
		text := fmt.Sprintf("SELECT CAST(c.id AS TEXT) FROM %s c WHERE c.%s IS NOT NULL AND NOT EXISTS (SELECT 1 FROM %s p WHERE p.id = c.%s)",
			store.Quote(r.table), r.column, store.Quote(r.parent), r.column)
		if r.where != "" {
			text += " AND (" + r.where + ")"
		}
		n, ids, err := few(c.db.Query(ctx, text))
		if err != nil {
			return fmt.Errorf("%s.%s: %w", r.table, r.column, err)
		}
		if n > 0 {
			c.warn("orphans."+r.table+"."+r.column, n, ids, "%s", r.text)
		}
	}
	if c.db.Dialect() == store.Postgres || c.o.Quick {
		return nil
	}
	return c.foreignKeys(ctx)
}

// foreignKeys has SQLite check the keys that are declared. The reference does not switch them on, so that rows may break
// them; those of the relations above are told already.
func (c *checker) foreignKeys(ctx context.Context) error {
	rows, err := c.db.Query(ctx, "PRAGMA foreign_key_check")
	if err != nil {
		return fmt.Errorf("foreign keys: %w", err)
	}
	defer rows.Close()
	type pair struct{ table, parent string }
	found := map[pair]int64{}
	var order []pair
	for rows.Next() {
		var p pair
		var row, key sql.NullInt64
		if err := rows.Scan(&p.table, &row, &p.parent, &key); err != nil {
			return fmt.Errorf("foreign keys: %w", err)
		}
		if slices.ContainsFunc(relations, func(r relation) bool { return r.table == p.table && r.parent == p.parent }) {
			continue
		}
		if found[p]++; found[p] == 1 {
			order = append(order, p)
		}
	}
	for _, p := range order {
		c.warn("foreign_key."+p.table+"."+p.parent, found[p], nil, "rows of %s whose row in %s is gone", p.table, p.parent)
	}
	return rows.Err()
}

// unique are columns of a table that are to differ from row to row. What is no primary key of every database that the
// reference has migrated is looked at by its values.
var unique = []struct{ table, columns, where, text string }{
	{"user", "lower(email)", "email IS NOT NULL", "addresses that several users have"},
	{"auth", "lower(email)", "email IS NOT NULL", "addresses that several passwords belong to"},
	{"user", "id", "", "ids that several users have"},
	{"auth", "id", "", "ids that several passwords have"},
	{"chat", "share_id", "share_id IS NOT NULL", "links that several chats are shared by"},
	{"api_key", "key", "", "API keys that are there several times"},
	{"tag", "id, user_id", "", "tags that a user has several times"},
	{"group_member", "group_id, user_id", "", "members that a group has several times"},
	{"access_grant", "resource_type, resource_id, principal_type, principal_id, permission", "", "grants that are there several times"},
	{"config", "key", "", "settings that are there several times"},
	{"knowledge_file", "knowledge_id, file_id", "", "files that a knowledge base has several times"},
	{"channel_member", "channel_id, user_id", "", "members that a channel has several times"},
}

// duplicates looks for rows that are there twice.
func (c *checker) duplicates(ctx context.Context) error {
	for _, u := range unique {
		if !c.has(u.table) {
			continue
		}
		where := ""
		if u.where != "" {
			where = " WHERE " + u.where
		}
		// No value is shown: keys are among them.
		n, _, err := few(c.db.Query(ctx, "SELECT CAST(count(*) AS TEXT) FROM "+store.Quote(u.table)+where+" GROUP BY "+u.columns+" HAVING count(*) > 1"))
		if err != nil {
			return fmt.Errorf("duplicates of %s: %w", u.table, err)
		}
		if n > 0 {
			c.damage("duplicates."+u.table, n, nil, "%s", u.text)
		}
	}
	return nil
}
