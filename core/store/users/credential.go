package users

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
)

// Credential is a row of the table auth: how its owner signs in.
type Credential struct {
	ID       string // of the account
	Email    string
	Password string // hash: bcrypt or argon2
	Active   bool
	MFA      jsondoc.Doc // second factor and its challenges; nil for none
	Stamp    string      // session_stamp: tokens carry it, and end when it changes
}

const credentialColumns = `COALESCE(a.id, ''), COALESCE(a.email, ''), COALESCE(a.password, ''), a.active, a.mfa, COALESCE(a.session_stamp, '')`

func (c *Credential) fields() []any {
	return []any{&c.ID, &c.Email, &c.Password, (*nullableBool)(&c.Active), &c.MFA, &c.Stamp}
}

// nullableBool reads NULL as false.
type nullableBool bool

// Scan implements sql.Scanner.
func (b *nullableBool) Scan(src any) error {
	var n sql.NullBool
	err := n.Scan(src)
	*b = nullableBool(n.Bool)
	return err
}

// Credential finds the credentials of an account; ErrNotFound where there are none.
func (s *Store) Credential(ctx context.Context, userID string) (*Credential, error) {
	return credential(ctx, s.db, userID, "")
}

func credential(ctx context.Context, q store.Querier, userID, lock string) (*Credential, error) {
	c := &Credential{}
	err := q.QueryRow(ctx, `SELECT `+credentialColumns+` FROM auth a WHERE a.id = $1`+lock, userID).Scan(c.fields()...)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Account finds an account with its credentials in one query: what a session token is held against. Either may be nil
// where only the other is there; ErrNotFound where neither is.
func (s *Store) Account(ctx context.Context, userID string) (*User, *Credential, error) {
	c := &Credential{}
	u, err := scan(withCredential{s.db.QueryRow(ctx, `SELECT `+qualified+`, `+credentialColumns+
		` FROM "user" u LEFT JOIN auth a ON a.id = u.id WHERE u.id = $1`, userID), c})
	switch {
	case errors.Is(err, store.ErrNotFound):
		c, err = s.Credential(ctx, userID)
		return nil, c, err
	case err != nil:
		return nil, nil, err
	case c.ID == "":
		return u, nil, nil
	}
	return u, c, nil
}

// withCredential scans the columns of credentials after those of an account.
type withCredential struct {
	row store.Row
	c   *Credential
}

func (w withCredential) Scan(dest ...any) error { return w.row.Scan(append(dest, w.c.fields()...)...) }

// ErrStale says that the credentials changed since they were read.
var ErrStale = errors.New("credentials changed in another request")

// SetPassword replaces the password of credentials as they were read, ends all sessions and drops pending challenges of
// the second factor. ErrStale where they changed meanwhile.
func (s *Store) SetPassword(ctx context.Context, c *Credential, hash string) error {
	next := *c
	next.Password, next.MFA, next.Stamp = hash, withoutChallenges(c.MFA), store.NewID()
	return s.replace(ctx, c, &next)
}

// SetMFA replaces the state of the second factor of credentials as they were read; mfa has a revision of its own, by
// which a later change is told. With revoke it ends all sessions. It gives the credentials as they are then; ErrStale
// where they changed meanwhile.
func (s *Store) SetMFA(ctx context.Context, c *Credential, mfa jsondoc.Doc, revoke bool) (*Credential, error) {
	next := *c
	next.MFA = mfa
	if revoke {
		next.Stamp = store.NewID()
	}
	return &next, s.replace(ctx, c, &next)
}

// replace is compare-and-swap: of changes that were made of the same credentials one is stored.
func (s *Store) replace(ctx context.Context, old, next *Credential) error {
	n, err := store.Affected(s.db.Exec(ctx, `UPDATE auth SET password = $2, mfa = $3, session_stamp = NULLIF($4, '')
		WHERE id = $1 AND active AND COALESCE(password, '') = $5 AND COALESCE(session_stamp, '') = $6
		AND COALESCE(`+s.db.Dialect().JSONText("mfa", "revision")+`, '') = $7`,
		old.ID, next.Password, next.MFA, next.Stamp, old.Password, old.Stamp, old.MFA.Text("revision")))
	if err != nil {
		return fmt.Errorf("change credentials: %w", err)
	}
	if n != 1 {
		return ErrStale
	}
	s.Changed(old.ID)
	return nil
}

// EachMFA calls f with the state of each second factor there is, until f fails.
func (s *Store) EachMFA(ctx context.Context, q store.Querier, f func(mfa jsondoc.Doc) error) error {
	rows, err := q.Query(ctx, `SELECT mfa FROM auth WHERE NOT `+q.Dialect().JSONIsNull("mfa"))
	states, err := store.Collect(rows, err, func(r *sql.Rows) (d jsondoc.Doc, err error) {
		err = r.Scan(&d)
		return
	})
	if err != nil {
		return fmt.Errorf("read second factors: %w", err)
	}
	for _, d := range states {
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}

// RevokeSessions ends all sessions of an account; false where it has no credentials.
func (s *Store) RevokeSessions(ctx context.Context, userID string) (bool, error) {
	found := false
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		c, err := credential(ctx, tx, userID, tx.Dialect().ForUpdate())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		return revoke(ctx, tx, c)
	})
	if err != nil {
		return false, fmt.Errorf("revoke sessions: %w", err)
	}
	s.Changed(userID)
	return found, nil
}

func revoke(ctx context.Context, tx *store.Tx, c *Credential) error {
	_, err := tx.Exec(ctx, `UPDATE auth SET session_stamp = $2, mfa = $3 WHERE id = $1`, c.ID, store.NewID(), withoutChallenges(c.MFA))
	return err
}

// RevokeAllTx ends all sessions of all accounts and gives their ids.
func (s *Store) RevokeAllTx(ctx context.Context, tx *store.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT id FROM auth`+tx.Dialect().ForUpdate())
	ids, err := store.Strings(rows, err)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, tx.Dialect().Pick(
		`UPDATE auth SET session_stamp = lower(hex(randomblob(16))), mfa = CASE WHEN json_type(mfa) = 'object' THEN json_set(mfa,
			'$.login_challenge', NULL, '$.manage_challenge', NULL, '$.reset_ticket', NULL, '$.revision', lower(hex(randomblob(16)))) END`,
		`UPDATE auth SET session_stamp = gen_random_uuid()::text, mfa = CASE WHEN json_typeof(mfa) = 'object' THEN (mfa::jsonb ||
			jsonb_build_object('login_challenge', NULL, 'manage_challenge', NULL, 'reset_ticket', NULL, 'revision', gen_random_uuid()::text))::json END`)); err != nil {
		return nil, err
	}
	tx.AfterCommit(func() { s.Changed("") })
	return ids, err
}

// withoutChallenges drops what is under way of a second factor, and marks its state as changed.
func withoutChallenges(mfa jsondoc.Doc) jsondoc.Doc {
	if mfa.Kind() != '{' {
		return nil
	}
	for _, name := range []string{"login_challenge", "manage_challenge", "reset_ticket"} {
		mfa = mfa.Set(nil, name)
	}
	return mfa.Set(jsondoc.Text(store.NewID()), "revision")
}

// APIKey is the API key of an account, "" where it has none.
func (s *Store) APIKey(ctx context.Context, userID string) (string, error) {
	var key string
	err := s.db.QueryRow(ctx, `SELECT key FROM api_key WHERE user_id = $1`, userID).Scan(&key)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return key, err
}

// SetAPIKey replaces the API key of an account; "" removes it.
func (s *Store) SetAPIKey(ctx context.Context, userID, key string) error {
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM api_key WHERE user_id = $1`, userID); err != nil || key == "" {
			return err
		}
		now := time.Now().Unix()
		_, err := tx.Exec(ctx, `INSERT INTO api_key (id, user_id, key, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)`,
			"key_"+userID, userID, key, now, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("set API key: %w", err)
	}
	s.Changed(userID)
	return nil
}
