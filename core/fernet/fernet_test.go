package fernet

import (
	"errors"
	"testing"
	"time"
)

// TestVector is the generation vector of the Fernet specification.
func TestVector(t *testing.T) {
	k, err := NewKey("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
	if err != nil {
		t.Fatal(err)
	}
	const token = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
	now, err := time.Parse(time.RFC3339, "1985-10-26T01:20:00-07:00")
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.seal([]byte("hello"), [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, now)
	if err != nil || got != token {
		t.Errorf("%s, %v", got, err)
	}
	text, err := k.Decrypt(token)
	if err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestDecryptRefuses(t *testing.T) {
	k, _ := NewKey("a secret of any length")
	other, _ := NewKey("another")
	token, err := k.Encrypt([]byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(token)
	damaged[20] ^= 1
	for _, c := range []struct {
		key   Key
		token string
	}{{other, token}, {k, string(damaged)}, {k, ""}, {k, token[:40]}} {
		if _, err := c.key.Decrypt(c.token); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v", c.token, err)
		}
	}
	if text, err := k.Decrypt(token); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}
