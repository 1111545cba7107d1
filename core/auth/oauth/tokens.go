package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/users"
)

// tokenClient is a client of a token endpoint.
type tokenClient struct {
	http    *http.Client
	timeout time.Duration
	url     string
	id      string
	secret  string
	method  string // client_secret_basic, client_secret_post or none; "" goes by the secret
	sendID  bool   // send the client's id in the body as well
}

// tokenError is a token endpoint's refusal.
type tokenError struct {
	status            int
	code, description string
}

func (e *tokenError) Error() string {
	switch {
	case e.code != "" && e.description != "":
		return e.code + ": " + e.description
	case e.code != "":
		return e.code
	}
	return fmt.Sprintf("the token endpoint answered %d", e.status)
}

// final says whether it is of no use to ask again.
func (e *tokenError) final() bool { return e.status < 500 && e.status != http.StatusTooManyRequests }

// ask requests tokens.
func (c *tokenClient) ask(ctx context.Context, form url.Values) (*jsondoc.Obj, error) {
	if c.url == "" {
		return nil, errors.New("the token endpoint is not known")
	}
	method := c.method
	if method == "" && c.secret != "" {
		method = "client_secret_basic"
	}
	switch {
	case method == "client_secret_post":
		form.Set("client_id", c.id)
		form.Set("client_secret", c.secret)
	case method != "client_secret_basic" || c.sendID:
		form.Set("client_id", c.id)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if method == "client_secret_basic" {
		// not escaped, unlike RFC 6749 has it: most providers compare the secret as it is
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.id+":"+c.secret)))
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := *c.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // secrets go nowhere else
	status, body, err := fetch(&client, req, c.timeout)
	if err != nil {
		return nil, err
	}
	doc, bad := jsondoc.Check(body)
	if code := doc.Get("error"); bad == nil && code.Truthy() {
		name, _ := code.AsText()
		return nil, &tokenError{max(status, http.StatusBadRequest), firstOf(name, code.String()), doc.Text("error_description")}
	}
	if status >= 300 {
		return nil, &tokenError{status: status}
	}
	if bad != nil || doc.Kind() != '{' {
		return nil, errors.New("the token endpoint answered no JSON object")
	}
	return jsondoc.Open(doc), nil
}

// neverExpires is the end of tokens of which nobody has said when they end, the last second of the year 9999.
const neverExpires = 253402300799

// stamp notes in a token when it came and when it ends: as it says; else in an hour if it can be renewed, else never.
func stamp(token *jsondoc.Obj, now time.Time) int64 {
	at, ok := number(token.Get("expires_at"))
	if !ok {
		if life, said := number(token.Get("expires_in")); said {
			at = now.Unix() + life
		} else if token.Get("refresh_token").Truthy() {
			at = now.Add(time.Hour).Unix()
		} else {
			at = neverExpires
		}
	}
	token.Set("expires_at", jsondoc.Of(at))
	token.Set("issued_at", jsondoc.Of(float64(now.UnixMicro())/1e6))
	return at
}

// number reads a whole number, or the text of one.
func number(d jsondoc.Doc) (int64, bool) {
	text := d.String()
	if s, ok := d.AsText(); ok {
		text = strings.TrimSpace(s)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return int64(f), err == nil && d != nil
}

// keep stores what a provider gave for an account.
func (s *Service) keep(ctx context.Context, userID, provider string, token *jsondoc.Obj, most int) (*users.OAuthSession, error) {
	row := &users.OAuthSession{UserID: userID, Provider: provider, ExpiresAt: stamp(token, s.now())}
	var err error
	if row.Token, err = s.tokens.Encrypt(token.Doc()); err != nil {
		return nil, err
	}
	return row, s.Users.AddOAuthSession(ctx, row, most)
}

// open gives the tokens of a stored session.
func (s *Service) open(row *users.OAuthSession) (jsondoc.Doc, error) {
	text, err := s.tokens.Decrypt(row.Token)
	if err != nil {
		return nil, fmt.Errorf("OAuth session %s: %w", row.ID, err)
	}
	doc, bad := jsondoc.Check(text)
	if bad != nil {
		return nil, fmt.Errorf("OAuth session %s: %w", row.ID, bad)
	}
	return doc, nil
}

// StoredSession is a session with a provider and its tokens, as the reference answers with it.
type StoredSession struct {
	ID        string      `json:"id"`
	UserID    string      `json:"user_id"`
	Provider  string      `json:"provider"`
	Token     jsondoc.Doc `json:"token"`
	ExpiresAt int64       `json:"expires_at"`
	CreatedAt int64       `json:"created_at"`
	UpdatedAt int64       `json:"updated_at"`
}

// Stored gives the sessions of an account with providers. Those whose tokens were stored under another key are left out.
func (s *Service) Stored(ctx context.Context, userID string) ([]StoredSession, error) {
	rows, err := s.Users.OAuthSessions(ctx, userID)
	if err != nil {
		return nil, err
	}
	var out []StoredSession
	for _, r := range rows {
		token, err := s.open(r)
		if err != nil {
			s.Log.WarnContext(ctx, "tokens cannot be read", "error", err)
			continue
		}
		out = append(out, StoredSession{r.ID, r.UserID, r.Provider, token, r.ExpiresAt, r.CreatedAt, r.UpdatedAt})
	}
	return out, nil
}

// renewBefore is how long before their end tokens are renewed.
const renewBefore = 5 * time.Minute

// due says whether tokens have to be renewed. An ID token may end before the access token, and is used as well.
func (s *Service) due(row *users.OAuthSession, token jsondoc.Doc) bool {
	end := row.ExpiresAt
	if exp, ok := number(unverified(token.Text("id_token")).Get("exp")); ok && !isTool(row.Provider) {
		end = min(end, exp)
	}
	return !s.now().Add(renewBefore).Before(time.Unix(end, 0))
}

// unverified reads the claims of a token that nobody has vouched for; nil where it is none.
func unverified(token string) jsondoc.Doc {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, ok := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(payload, "="))
	if !ok || err != nil {
		return nil
	}
	doc, bad := jsondoc.Check(text)
	if bad != nil || doc.Kind() != '{' {
		return nil
	}
	return doc
}

// fresh gives the tokens of a stored session, renewed where they are about to end, or in any case with force. Those that
// the provider renews no more are forgotten. nil means that there are none.
func (s *Service) fresh(ctx context.Context, row *users.OAuthSession, force bool) (jsondoc.Doc, error) {
	token, err := s.open(row)
	if err != nil {
		return nil, err
	}
	if !force && !s.due(row, token) {
		return token, nil
	}
	// It goes on without the first to ask, and is for all who ask meanwhile.
	got, err, _ := s.renewing.Do(row.ID, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewalTime)
		defer cancel()
		return s.renew(ctx, row)
	})
	doc, _ := got.(jsondoc.Doc)
	return doc, err
}

const (
	// renewalTime is how long a renewal may take, and the longest that others wait for it.
	renewalTime = time.Minute
	// renewalPoll is how often a server looks whether another is done.
	renewalPoll = 50 * time.Millisecond
)

// renew exchanges the tokens of a stored session, unless somebody else has: one server at a time, since most providers
// take a refresh token once.
func (s *Service) renew(ctx context.Context, read *users.OAuthSession) (jsondoc.Doc, error) {
	for {
		mine, err := s.Users.ClaimOAuthRenewal(ctx, read.ID, renewalTime)
		if err != nil {
			return nil, err
		}
		if mine {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(renewalPoll):
		}
	}
	defer func() {
		if err := s.Users.DoneOAuthRenewal(context.WithoutCancel(ctx), read.ID); err != nil {
			s.Log.WarnContext(ctx, "a renewal is not given up", "session", read.ID, "error", err)
		}
	}()
	row, token, err := s.reread(ctx, read.ID)
	if err != nil || row == nil || row.Token != read.Token {
		return token, err
	}
	next, err := s.refresh(ctx, row.Provider, token)
	if err != nil {
		s.Log.WarnContext(ctx, "tokens of a provider are not renewed", "user_id", row.UserID, "provider", row.Provider, "session", row.ID, "error", err)
		var refused *tokenError
		if errors.As(err, &refused) && refused.final() || errors.Is(err, errNoRefresh) {
			return nil, s.Users.DropOAuthSession(ctx, row)
		}
		return nil, nil
	}
	if !next.Has("refresh_token") {
		next.Set("refresh_token", token.Get("refresh_token"))
	}
	end := stamp(next, s.now())
	sealed, err := s.tokens.Encrypt(next.Doc())
	if err != nil {
		return nil, err
	}
	return next.Doc(), s.Users.RenewOAuthSession(ctx, row, sealed, end)
}

func (s *Service) reread(ctx context.Context, id string) (*users.OAuthSession, jsondoc.Doc, error) {
	row, err := found(s.Users.OAuthSession(ctx, id))
	if err != nil || row == nil {
		return nil, nil, err
	}
	token, err := s.open(row)
	return row, token, err
}

// errNoRefresh says that tokens cannot be renewed.
var errNoRefresh = errors.New("there is no refresh token")

// refresh asks the provider of a stored session for new tokens.
func (s *Service) refresh(ctx context.Context, id string, token jsondoc.Doc) (*jsondoc.Obj, error) {
	if !token.Get("refresh_token").Truthy() {
		return nil, errNoRefresh
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.Text("refresh_token")}}
	withScope := config.OAuthRefreshTokenIncludeScope.Get(s.Settings.Snapshot())
	if isTool(id) {
		return s.Clients.refresh(ctx, id, form, withScope)
	}
	p := s.provider(id)
	if p == nil {
		return nil, fmt.Errorf("the provider %s is not set up any more", id)
	}
	m, err := s.describe(ctx, p)
	if err != nil {
		return nil, err
	}
	if withScope && p.scope != "" {
		form.Set("scope", p.scope)
	}
	c := s.tokenClient(p, m)
	switch {
	case c.method == "client_secret_basic":
		c.sendID = s.Env.OAuth.IncludeClientID
	case c.secret != "":
		c.method = "client_secret_post" // what the reference renews with, unless the other is asked for
	}
	return c.ask(ctx, form)
}

// Token gives the tokens of an account's session with a provider that it signed in at, renewed where they are about to
// end: access_token, id_token and more. nil means that there are none.
func (s *Service) Token(ctx context.Context, userID, sessionID string) (jsondoc.Doc, error) {
	row, err := found(s.Users.OAuthSession(ctx, sessionID))
	if err != nil || row == nil || row.UserID != userID || isTool(row.Provider) {
		return nil, err
	}
	return s.fresh(ctx, row, false)
}

// SystemToken is Token for what is done in an account's name (auth type system_oauth): with the session that the browser's
// cookie names, else with the one that was used last.
func (s *Service) SystemToken(ctx context.Context, userID string, cookies []*http.Cookie) (jsondoc.Doc, error) {
	for _, c := range cookies {
		if c.Name == SessionCookie {
			if token, err := s.Token(ctx, userID, c.Value); err != nil || token != nil {
				return token, err
			}
		}
	}
	rows, err := s.Users.OAuthSessions(ctx, userID)
	if err != nil {
		return nil, err
	}
	var last *users.OAuthSession
	for _, row := range rows {
		if !isTool(row.Provider) && (last == nil || row.UpdatedAt > last.UpdatedAt) {
			last = row
		}
	}
	if last == nil {
		return nil, nil
	}
	return s.fresh(ctx, last, false)
}
