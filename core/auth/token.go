package auth

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/galleychat/galley/core/store"
)

// Types of tokens.
const (
	TypeSession    = "session"
	TypeAutomation = "automation"
	TypeSubagent   = "subagent"
)

// ErrToken says that a token was not made with this server's key, is malformed, or has expired.
var ErrToken = errors.New("invalid token")

// Tokens makes and reads session tokens: JWTs with HS256, the claims of which are those of the reference, so that tokens
// of one server are good for the other while they share a database and a key.
type Tokens struct {
	key    []byte
	now    func() time.Time
	parser *jwt.Parser
}

// NewTokens makes Tokens with a key (WEBUI_SECRET_KEY).
func NewTokens(key string) *Tokens { return newTokens(key, time.Now) }

func newTokens(key string, now func() time.Time) *Tokens {
	return &Tokens{key: []byte(key), now: now, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuedAt(), jwt.WithTimeFunc(now))}
}

// wireClaims are Claims as they stand in a token.
type wireClaims struct {
	ID          string           `json:"id,omitempty"`
	Type        *string          `json:"typ,omitempty"`
	Method      string           `json:"auth_method,omitempty"`
	AuthTime    float64          `json:"auth_time,omitempty"`
	Stamp       *string          `json:"session_stamp"`
	MFAVerified any              `json:"mfa_verified,omitempty"`
	Expires     *jwt.NumericDate `json:"exp,omitempty"`
	NotBefore   *jwt.NumericDate `json:"nbf,omitempty"`
	JTI         string           `json:"jti,omitempty"`
	Issued      *jwt.NumericDate `json:"iat,omitempty"`
}

// The methods of jwt.Claims: the times that the parser checks.
func (c *wireClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c *wireClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.Issued, nil }
func (c *wireClaims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore, nil }
func (c *wireClaims) GetIssuer() (string, error)                   { return "", nil }
func (c *wireClaims) GetSubject() (string, error)                  { return "", nil }
func (c *wireClaims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// Make signs claims; an empty JTI is a random one, Issued is now. It gives the claims as they stand in the token.
func (t *Tokens) Make(c Claims) (string, Claims, error) {
	now := t.now()
	c.Issued = now.Unix()
	if c.JTI == "" {
		c.JTI = store.NewID()
	}
	if c.Type == "" {
		c.Type = TypeSession
	}
	w := &wireClaims{ID: c.ID, Type: &c.Type, Method: c.Method, AuthTime: float64(c.AuthTime), JTI: c.JTI, Issued: jwt.NewNumericDate(now)}
	if c.Stamp != "" {
		w.Stamp = &c.Stamp
	}
	if c.Method != "" {
		w.MFAVerified = c.MFAVerified
	}
	if c.Expires != 0 {
		w.Expires = jwt.NewNumericDate(time.Unix(c.Expires, 0))
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, w).SignedString(t.key)
	if err != nil {
		return "", Claims{}, fmt.Errorf("sign token: %w", err)
	}
	return text, c, nil
}

// Parse checks a token's signature and times and reads its claims; every failure is ErrToken.
func (t *Tokens) Parse(token string) (Claims, error) {
	w := &wireClaims{}
	_, err := t.parser.ParseWithClaims(token, w, func(*jwt.Token) (any, error) { return t.key, nil })
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	c := Claims{ID: w.ID, JTI: w.JTI, Method: w.Method, AuthTime: int64(w.AuthTime), Type: TypeSession}
	c.MFAVerified, _ = w.MFAVerified.(bool)
	if w.Type != nil {
		c.Type = *w.Type
	}
	if w.Stamp != nil {
		c.Stamp = *w.Stamp
	}
	if w.Issued != nil {
		c.Issued = w.Issued.Unix()
	}
	if w.Expires != nil {
		c.Expires = w.Expires.Unix()
	}
	return c, nil
}

var (
	durationPart = regexp.MustCompile(`(-?\d+(?:\.\d+)?)(ms|s|m|h|d|w)`)
	expiryForm   = regexp.MustCompile(`^(?:-1|0|(?:-?\d+(?:\.\d+)?)(?:ms|s|m|h|d|w))$`)
)

var durationUnits = map[string]float64{"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

// ParseExpiry reads for how long tokens are good, such as "4w", "12h" or "1h30m"; 0 for "-1" and "0", which mean for
// ever. Anything else is an error.
func ParseExpiry(text string) (time.Duration, error) {
	if text == "-1" || text == "0" {
		return 0, nil
	}
	parts := durationPart.FindAllStringSubmatch(text, -1)
	if len(parts) == 0 {
		return 0, fmt.Errorf("invalid duration %q", text)
	}
	seconds := 0.0
	for _, p := range parts {
		n, err := strconv.ParseFloat(p[1], 64)
		if err != nil {
			return 0, fmt.Errorf("invalid duration %q: %w", text, err)
		}
		seconds += n * durationUnits[p[2]]
	}
	return time.Duration(math.Min(seconds*1e9, math.MaxInt64/2)), nil
}

// IsExpiry says whether an administrator may set a text as the time that tokens are good for.
func IsExpiry(text string) bool { return expiryForm.MatchString(text) }

// APIKeyPrefix begins every API key, and no session token.
const APIKeyPrefix = "sk-"
