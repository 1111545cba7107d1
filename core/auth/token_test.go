package auth

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

// pythonToken was made by PyJWT with the key "a key for tests".
const pythonToken = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6InUxIiwidHlwIjoic2Vzc2lvbiIsImF1dGhfbWV0aG9kIjoicGFzc3dvcmQiLCJhdXRoX3RpbWUiOjE3MDAwMDAwMDAsInNlc3Npb25fc3RhbXAiOiJzMSIsIm1mYV92ZXJpZmllZCI6ZmFsc2UsImV4cCI6NDEwMjQ0NDgwMCwianRpIjoiajEiLCJpYXQiOjE3MDAwMDAwMDB9.LxmHQQRYQWKuD3tGbKzpomLOJwyxK4wEZoVY3PGsBZ0"

func TestPythonToken(t *testing.T) {
	c, err := NewTokens("a key for tests").Parse(pythonToken)
	want := Claims{ID: "u1", JTI: "j1", Issued: 1700000000, Expires: 4102444800, Stamp: "s1", Type: TypeSession, Method: "password", AuthTime: 1700000000}
	if err != nil || c != want {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTokenRoundTrip(t *testing.T) {
	tokens := NewTokens("k")
	for _, c := range []Claims{
		{ID: "u", Stamp: "s", Method: "ldap", AuthTime: 5, MFAVerified: true, Expires: time.Now().Add(time.Hour).Unix()},
		{ID: "u", Stamp: "s", Type: TypeAutomation},
		{ID: "u"},
	} {
		text, made, err := tokens.Make(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tokens.Parse(text)
		if err != nil || got != made {
			t.Errorf("%+v, %v; want %+v", got, err, made)
		}
		if made.JTI == "" || made.Issued == 0 || made.ID != c.ID || made.Stamp != c.Stamp {
			t.Errorf("made %+v of %+v", made, c)
		}
	}
}

func TestRefusedTokens(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	tokens := newTokens("k", func() time.Time { return now })
	good, _, err := tokens.Make(Claims{ID: "u", Stamp: "s", Expires: now.Unix() + 60})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Parse(good); err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	other, _, _ := NewTokens("another").Make(Claims{ID: "u", Stamp: "s"})
	expired, _, _ := tokens.Make(Claims{ID: "u", Expires: now.Unix()})
	future, _, _ := newTokens("k", func() time.Time { return now.Add(time.Hour) }).Make(Claims{ID: "u"})
	for name, text := range map[string]string{
		"empty":               "",
		"no token":            "junk.junk.junk",
		"two parts":           part[0] + "." + part[1],
		"another key":         other,
		"other claims":        part[0] + "." + enc(`{"id":"admin"}`) + "." + part[2],
		"algorithm none":      enc(`{"alg":"none","typ":"JWT"}`) + "." + part[1] + ".",
		"algorithm None":      enc(`{"alg":"None"}`) + "." + part[1] + "." + part[2],
		"algorithm RS256":     enc(`{"alg":"RS256"}`) + "." + part[1] + "." + part[2],
		"algorithm HS512":     enc(`{"alg":"HS512"}`) + "." + part[1] + "." + part[2],
		"no signature":        part[0] + "." + part[1] + ".",
		"truncated signature": good[:len(good)-2],
		"expired":             expired,
		"from the future":     future,
	} {
		if c, err := tokens.Parse(text); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"-1": 0, "0": 0, "4w": 28 * 24 * time.Hour, "1.5h": 90 * time.Minute, "1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond,
		"2d": 48 * time.Hour, "-5m": -5 * time.Minute,
	} {
		if got, err := ParseExpiry(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "soon", "12"} {
		if d, err := ParseExpiry(text); err == nil {
			t.Errorf("%q: %v, want an error", text, d)
		}
	}
	for text, want := range map[string]bool{"4w": true, "-1": true, "0": true, "1.5h": true, "-5m": true, "1h30m": false, "5": false, "": false, "4 w": false} {
		if IsExpiry(text) != want {
			t.Errorf("IsExpiry(%q) is %v", text, !want)
		}
	}
}

func TestRateLimit(t *testing.T) {
	now := time.Unix(1_000_000_020, 0)
	l := newRateLimiter(3, 3*time.Minute, func() time.Time { return now })
	for i := range 3 {
		if l.Limited("Alice@x") {
			t.Fatalf("limited at event %d", i+1)
		}
		now = now.Add(20 * time.Second)
	}
	if !l.Limited("alice@X") {
		t.Error("the fourth event is not limited")
	}
	if l.Limited("bob@x") {
		t.Error("another key is limited")
	}
	now = now.Add(5 * time.Minute)
	if l.Limited("alice@x") {
		t.Error("still limited when the window has passed")
	}
	if n := len(l.count); n != 1 {
		t.Errorf("%d minutes are kept, want those of the window alone", n)
	}
}
