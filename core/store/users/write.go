package users

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// NewUser is an account to be made. Password is a hash.
type NewUser struct {
	ID              string // "" for a random one
	Email           string // kept in lower case
	Name            string
	Password        string
	Role            string
	ProfileImageURL string
	OAuth           jsondoc.Doc
	SCIM            jsondoc.Doc
	// FirstIsAdmin makes the account an administrator where it is the only one.
	FirstIsAdmin bool
	// OnlyFirst refuses the account, with ErrConflict, where there is one already.
	OnlyFirst bool
	// InTx is called within the transaction that makes the account; first says that it is the only one.
	InTx func(tx *store.Tx, u *User, first bool) error
}

// signupLock orders account creations on Postgres, where transactions run side by side.
const signupLock = 7217054

// Insert makes an account and its credentials in one transaction. An address that is taken, in whatever case of letters,
// is ErrConflict. Of accounts that are made at once exactly one is the first.
func (s *Store) Insert(ctx context.Context, n NewUser) (*User, error) {
	if n.ID == "" {
		n.ID = store.NewID()
	}
	n.Email = strings.ToLower(n.Email)
	var u *User
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		u, err = insert(ctx, tx, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("insert user: %w", err)
	}
	s.Changed(u.ID)
	return u, nil
}

func insert(ctx context.Context, tx *store.Tx, n NewUser) (*User, error) {
	if tx.Dialect() == store.Postgres {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", signupLock); err != nil {
			return nil, err
		}
	}
	var others int
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM "user" LIMIT 1) AS one`).Scan(&others); err != nil {
		return nil, err
	}
	first := others == 0
	switch {
	case first && n.FirstIsAdmin:
		n.Role = RoleAdmin
	case !first && n.OnlyFirst:
		return nil, fmt.Errorf("%w: there is an account already", store.ErrConflict)
	}
	now := time.Now().Unix()
	if _, err := tx.Exec(ctx, `INSERT INTO auth (id, email, password, active, session_stamp) VALUES ($1, $2, $3, $4, $5)`,
		n.ID, n.Email, n.Password, true, store.NewID()); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO "user" (id, email, name, role, profile_image_url, oauth, scim, last_active_at, updated_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		n.ID, n.Email, n.Name, n.Role, n.ProfileImageURL, n.OAuth, n.SCIM, now, now, now); err != nil {
		return nil, err
	}
	u, err := byID(ctx, tx, n.ID)
	if err == nil && n.InTx != nil {
		err = n.InTx(tx, u, first)
	}
	return u, err
}

// Field is a column of "user" and its new value.
type Field struct {
	column string
	value  any
}

// SetName sets the name that is shown.
func SetName(v string) Field { return Field{"name", v} }

// SetRole sets the role.
func SetRole(v string) Field { return Field{"role", v} }

// SetEmail sets the address, in lower case, of the account and of its credentials.
func SetEmail(v string) Field { return Field{"email", strings.ToLower(v)} }

// SetProfileImageURL sets the picture; "" is the default one.
func SetProfileImageURL(v string) Field { return Field{"profile_image_url", v} }

// SetBio sets what the user says of themselves; nil is NULL.
func SetBio(v *string) Field { return Field{"bio", v} }

// SetGender sets the gender; nil is NULL.
func SetGender(v *string) Field { return Field{"gender", v} }

// SetDateOfBirth sets the day of birth, YYYY-MM-DD; nil is NULL.
func SetDateOfBirth(v *string) Field { return Field{"date_of_birth", v} }

// SetTimezone sets the IANA name of the time zone; nil is NULL.
func SetTimezone(v *string) Field { return Field{"timezone", v} }

// SetPresenceState sets the presence that the user chose; nil is NULL.
func SetPresenceState(v *string) Field { return Field{"presence_state", v} }

// SetStatusEmoji sets the status's emoji; nil is NULL.
func SetStatusEmoji(v *string) Field { return Field{"status_emoji", v} }

// SetStatusMessage sets the status's text; nil is NULL.
func SetStatusMessage(v *string) Field { return Field{"status_message", v} }

// SetStatusExpiresAt sets when the status ends, in Unix seconds; nil is NULL.
func SetStatusExpiresAt(v *int64) Field { return Field{"status_expires_at", v} }

// SetInfo sets the free data of the user; nil is NULL.
func SetInfo(v jsondoc.Doc) Field { return Field{"info", v} }

// SetSettings sets all settings; see MergeSettings; nil is NULL.
func SetSettings(v jsondoc.Doc) Field { return Field{"settings", v} }

// SetVariables sets the variables of prompts, texts by name; nil is NULL.
func SetVariables(v jsondoc.Doc) Field { return Field{"variables", v} }

// SetOAuth sets the identities by provider; nil is NULL.
func SetOAuth(v jsondoc.Doc) Field { return Field{"oauth", v} }

// SetSCIM sets the external ids by provider; nil is NULL.
func SetSCIM(v jsondoc.Doc) Field { return Field{"scim", v} }

// SetUpdatedAt sets when the account was last changed, in Unix seconds.
func SetUpdatedAt(v int64) Field { return Field{"updated_at", v} }

// Update sets columns of an account and gives it as it is then. ErrNotFound where there is none, ErrConflict for an
// address that is taken; a new address is that of the credentials too. updated_at stays, as in the reference.
func (s *Store) Update(ctx context.Context, id string, fields ...Field) (*User, error) {
	var u *User
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		u, err = update(ctx, tx, id, fields)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("update user: %w", err)
	}
	s.Changed(id)
	return u, nil
}

// UpdateTx is Update within a transaction of the caller's; the listeners are told when it commits.
func (s *Store) UpdateTx(ctx context.Context, tx *store.Tx, id string, fields ...Field) (*User, error) {
	u, err := update(ctx, tx, id, fields)
	if err == nil {
		tx.AfterCommit(func() { s.Changed(id) })
	}
	return u, err
}

func update(ctx context.Context, tx *store.Tx, id string, fields []Field) (*User, error) {
	if len(fields) > 0 {
		var b strings.Builder
		args := []any{id}
		for i, f := range fields {
			if i > 0 {
				b.WriteString(", ")
			}
			args = append(args, f.value)
			fmt.Fprintf(&b, "%s = $%d", f.column, len(args))
			if f.column == "email" {
				if _, err := tx.Exec(ctx, `UPDATE auth SET email = $2 WHERE id = $1`, id, f.value); err != nil {
					return nil, err
				}
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE "user" SET `+b.String()+` WHERE id = $1`, args...); err != nil {
			return nil, err
		}
	}
	return byID(ctx, tx, id)
}

// Edit reads an account and sets the fields that f derives from it, in one transaction: for documents that are merged.
func (s *Store) Edit(ctx context.Context, id string, f func(*User) []Field) (*User, error) {
	return s.Change(ctx, id, func(u *User) ([]Field, error) { return f(u), nil })
}

// Change is Edit where f may refuse; its error is given back. Without fields nothing is written.
func (s *Store) Change(ctx context.Context, id string, f func(*User) ([]Field, error)) (*User, error) {
	var u *User
	wrote := false
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		old, err := scan(tx.QueryRow(ctx, `SELECT `+columns+` FROM "user" WHERE id = $1`+tx.Dialect().ForUpdate(), id))
		if err != nil {
			return err
		}
		fields, err := f(old)
		if err != nil {
			return err
		}
		wrote = len(fields) > 0
		u, err = update(ctx, tx, id, fields)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("edit user: %w", err)
	}
	if wrote {
		s.Changed(id)
	}
	return u, nil
}

// MergeSettings changes settings as the reference does: members replace those of the same name; below ui each member
// replaces its own, and null removes it.
func MergeSettings(old, changes jsondoc.Doc) jsondoc.Doc {
	o := jsondoc.Open(old)
	ui := jsondoc.Doc(nil)
	changes.Each(func(name string, v jsondoc.Doc) bool {
		if name == "ui" {
			ui = v
		} else {
			o.Set(name, v)
		}
		return true
	})
	if !ui.IsNull() {
		merged := jsondoc.Open(o.Get("ui"))
		ui.Each(func(name string, v jsondoc.Doc) bool {
			if v.IsNull() {
				merged.Pop(name)
			} else {
				merged.Set(name, v)
			}
			return true
		})
		o.Set("ui", merged.Doc())
	}
	return o.Doc()
}

// Delete removes an account with its memberships, chats, memories, keys and sessions. One that is not there is no error.
func (s *Store) Delete(ctx context.Context, id string) error {
	err := s.db.Tx(ctx, func(tx *store.Tx) error { return s.DeleteTx(ctx, tx, id) })
	if err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// DeleteTx is Delete within a transaction of the caller's.
func (s *Store) DeleteTx(ctx context.Context, tx *store.Tx, id string) error {
	now := time.Now().Unix()
	if _, err := tx.Exec(ctx, `UPDATE "group" SET updated_at = $2 WHERE id IN (SELECT group_id FROM group_member WHERE user_id = $1)`, id, now); err != nil {
		return err
	}
	// Children first: SQLite has foreign keys off, Postgres would cascade.
	for _, text := range []string{
		`DELETE FROM group_member WHERE user_id = $1`,
		`DELETE FROM shared_chat WHERE user_id = $1`,
		`DELETE FROM shared_chat WHERE chat_id IN (SELECT id FROM chat WHERE user_id = $1)`,
		`UPDATE automation_run SET chat_id = NULL WHERE chat_id IN (SELECT id FROM chat WHERE user_id = $1)`,
		`DELETE FROM chat_message WHERE chat_id IN (SELECT id FROM chat WHERE user_id = $1)`,
		`DELETE FROM chat_file WHERE chat_id IN (SELECT id FROM chat WHERE user_id = $1)`,
		`DELETE FROM galley_chat_sieve WHERE user_id = $1`,
		`DELETE FROM chat WHERE user_id = $1`,
		`DELETE FROM api_key WHERE user_id = $1`,
		`DELETE FROM oauth_session WHERE user_id = $1`,
		`DELETE FROM memory WHERE user_id = $1`,
		`DELETE FROM galley_vector WHERE collection = 'user-memory-' || $1`,
		`DELETE FROM "user" WHERE id = $1`,
		`DELETE FROM auth WHERE id = $1`,
	} {
		if _, err := tx.Exec(ctx, text, id); err != nil {
			return err
		}
	}
	tx.AfterCommit(func() { s.Changed(id) })
	return nil
}

// IsTaken says that an error means an address that belongs to another account.
func IsTaken(err error) bool { return errors.Is(err, store.ErrConflict) }
