package factor

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Kinds of challenges: what the next step is.
const (
	enroll   = "enroll"  // set a factor up
	verify   = "verify"  // give a code
	replace  = "replace" // set another factor up, from within a session
	recovery = "recover" // give the operator's token
)

// state is auth.mfa, member for member as the reference stores it: it refuses a row with others.
type state struct {
	Revision  string           `json:"revision"`        // changes with every change
	Secret    *string          `json:"secret"`          // encrypted; null for no factor
	LastStep  int64            `json:"last_step"`       // of the code that was used last; -1 for none
	Recovery  []string         `json:"recovery_hashes"` // of the codes that are left
	Login     *challenge       `json:"login_challenge"`
	Manage    *challenge       `json:"manage_challenge"`
	MustReset bool             `json:"reset_required"` // an operator has removed the factor
	Ticket    *ticket          `json:"reset_ticket"`
	Limits    map[string]limit `json:"limits"` // tries by kind: password, factor
}

// challenge is a step that somebody who proved the first factor may take.
type challenge struct {
	Hash         string  `json:"token_hash"`
	Type         string  `json:"type"`
	Expires      int64   `json:"expires_at"`
	Attempts     int     `json:"attempts"`
	Method       string  `json:"auth_method"` // how the sign-in began
	AuthTime     int64   `json:"auth_time"`   // and when
	Stamp        *string `json:"session_stamp"`
	Secret       *string `json:"secret"` // encrypted, of a factor that is being set up
	OAuthSession *string `json:"oauth_session_id"`
	Provider     *string `json:"provider"`
}

// ticket lets somebody whose factor an operator has removed set up another.
type ticket struct {
	Hash    string `json:"token_hash"`
	Expires int64  `json:"expires_at"`
}

// limit counts tries until a time.
type limit struct {
	Count   int   `json:"count"`
	Expires int64 `json:"expires_at"`
}

// parse reads auth.mfa. What the reference could not have written is an error, as it is for the reference.
func parse(raw jsondoc.Doc) (*state, error) {
	s := &state{LastStep: -1}
	if raw.IsNull() {
		return s, nil
	}
	if err := json.Unmarshal(raw, s, jsondoc.Options(), json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("stored second factor: %w", err)
	}
	return s, nil
}

// doc writes the state, with a new revision.
func (s *state) doc() jsondoc.Doc {
	s.Revision = store.NewID()
	return jsondoc.Of(s)
}

// dropChallenges ends what is under way.
func (s *state) dropChallenges() { s.Login, s.Manage, s.Ticket = nil, nil, nil }

// Bounds of tries.
const (
	triesPerChallenge = 5
	triesPerAccount   = 10
	limitSeconds      = 900
)

// count notes a try, and refuses it where there were too many.
func (s *state) count(kind string, now int64) error {
	l := s.Limits[kind]
	if l.Expires <= now {
		l = limit{Expires: now + limitSeconds}
	}
	if l.Count >= triesPerAccount {
		return tooMany("Too many attempts. Please try again later.", l.Expires-now)
	}
	l.Count++
	if s.Limits == nil {
		s.Limits = map[string]limit{}
	}
	s.Limits[kind] = l
	return nil
}

func tooMany(text string, wait int64) error {
	err := web.Fail(http.StatusTooManyRequests, text)
	err.Header = http.Header{"Retry-After": {strconv.FormatInt(max(1, wait), 10)}}
	return err
}

// consume uses up a code: a recovery code, or one of the authenticator. Nothing changes where it is not good.
func (f *Factors) consume(s *state, code string, byRecovery bool, now int64) error {
	code = strings.TrimSpace(code)
	switch {
	case byRecovery:
		hash := hashOf(strings.ToLower(code))
		for i, h := range s.Recovery {
			if sameHash(h, hash) {
				s.Recovery = append(s.Recovery[:i:i], s.Recovery[i+1:]...)
				return nil
			}
		}
	case s.Secret != nil && *s.Secret != "":
		secret, err := f.decrypt(*s.Secret)
		if err != nil {
			return err
		}
		if step, ok := matchingStep(secret, code, now, s.LastStep); ok {
			s.LastStep = step
			return nil
		}
	}
	return web.Fail(http.StatusUnauthorized, "Invalid or already used code.")
}

// recoveryCount is how many recovery codes there are at first.
const recoveryCount = 10

// recoveryCodes makes recovery codes: what their owner keeps, and the hashes that are stored.
func recoveryCodes() (codes, hashes []string) {
	for range recoveryCount {
		raw := make([]byte, 16)
		_, _ = rand.Read(raw) // never fails
		code := hex.EncodeToString(raw)
		codes, hashes = append(codes, code), append(hashes, hashOf(code))
	}
	return codes, hashes
}

// newToken is 256 random bits.
func newToken() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// hashOf is how tokens and recovery codes are stored. They are random and long, so that a plain digest will do.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func sameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
