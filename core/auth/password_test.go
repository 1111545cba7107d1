package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/galleychat/galley/core/config"
)

// The hashes were made by Python's bcrypt and argon2-cffi.
const (
	pythonBcrypt  = "$2b$04$fsOCKZCRV/VYW8HUaAA3L.S5xsL/XboPk6kbIe5kOdD1cQZhXOVFG" // contract-user-1
	pythonUmlauts = "$2b$04$GQvoXqfwrgEbdkVpr99y.OMvH.AQ96h3q.hjq59qb.Gt3KWv7CG/C" // pässwörd
	pythonLong    = "$2b$04$sDU6ya2xuTawFuChbJlnq./o51hRoYfDZrWkkZi1TMxgaAOorCvt2" // x, 72 times
	pythonArgonID = "$argon2id$v=19$m=1024,t=1,p=2$7pCeNhDGh8zZLu+cDE6taw$zfhu8zCTIEpl3v432KQAg507erw7pctFNX1OrcR84jo"
	pythonArgonI  = "$argon2i$v=19$m=512,t=2,p=1$gJzCA8ydZMnWJfKOqnIwrQ$voigZ0H9mlyOEztOEJK/CYstGcyD9Kks2Mlkxao1MZE"
	pythonArgonD  = "$argon2d$v=19$m=512,t=2,p=1$y/VI+usluwVo6ZCEf4iU3w$J6Mm6R8Dkv6AQh2BlWTcnpBKPYPsd0heJH/fhkD1PC4"
)

func TestVerify(t *testing.T) {
	p := NewPasswordsCost(config.Password{}, bcrypt.MinCost)
	for _, c := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"2b", pythonBcrypt, "contract-user-1", true},
		{"2a", "$2a" + pythonBcrypt[3:], "contract-user-1", true},
		{"2y", "$2y" + pythonBcrypt[3:], "contract-user-1", true},
		{"wrong", pythonBcrypt, "contract-user-2", false},
		{"umlauts", pythonUmlauts, "pässwörd", true},
		{"72 bytes", pythonLong, strings.Repeat("x", 72), true},
		{"more than 72 bytes", pythonLong, strings.Repeat("x", 80), true},
		{"71 bytes", pythonLong, strings.Repeat("x", 71), false},
		{"argon2id", pythonArgonID, "contract-user-1", true},
		{"argon2id, wrong", pythonArgonID, "contract-user-2", false},
		{"argon2i", pythonArgonI, "contract-user-1", true},
		{"argon2d is not known", pythonArgonD, "contract-user-1", false},
		{"argon2 of too much memory", strings.Replace(pythonArgonID, "m=1024", "m=4000000000", 1), "contract-user-1", false},
		{"argon2 without time", strings.Replace(pythonArgonID, "t=1", "t=0", 1), "contract-user-1", false},
		{"argon2, broken", "$argon2id$v=19$m=1024", "contract-user-1", false},
		{"no hash", "", "contract-user-1", false},
		{"not a hash", "plain", "plain", false},
	} {
		if got, err := p.Verify(context.Background(), c.hash, c.password); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestHash(t *testing.T) {
	for algorithm, prefix := range map[string]string{"": "$2b$04$", "bcrypt": "$2b$04$", "argon2": "$argon2id$v=19$m=65536,t=3,p=4$"} {
		p := NewPasswordsCost(config.Password{Hash: algorithm}, bcrypt.MinCost)
		h, err := p.Hash(context.Background(), "pässwörd")
		if err != nil || !strings.HasPrefix(h, prefix) {
			t.Fatalf("%s: %s, %v", algorithm, h, err)
		}
		if ok, err := p.Verify(context.Background(), h, "pässwörd"); !ok || err != nil {
			t.Errorf("%s: own hash not verified: %v", algorithm, err)
		}
	}
	if _, err := NewPasswordsCost(config.Password{Hash: "md5"}, bcrypt.MinCost).Hash(context.Background(), "x"); err == nil {
		t.Error("an unknown algorithm hashes")
	}
	if cost := NewPasswords(config.Password{}).cost; cost != 12 {
		t.Errorf("cost %d, want Python's 12", cost)
	}
}

func TestCheck(t *testing.T) {
	pattern, err := config.CompilePassword(`^(?=.*\d).{4,}$`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		settings config.Password
		password string
		want     string
	}{
		{"empty", config.Password{}, "", ""},
		{"72 bytes", config.Password{}, strings.Repeat("x", 72), ""},
		{"73 bytes", config.Password{}, strings.Repeat("x", 73), ErrPasswordTooLong.Error()},
		{"37 letters of 2 bytes", config.Password{}, strings.Repeat("ä", 37), ErrPasswordTooLong.Error()},
		{"argon2 takes more", config.Password{Hash: "argon2"}, strings.Repeat("x", 200), ""},
		{"pattern not asked for", config.Password{Pattern: pattern}, "x", ""},
		{"pattern", config.Password{Validate: true, Pattern: pattern}, "x", ErrPasswordWeak.Error()},
		{"hint", config.Password{Validate: true, Pattern: pattern, Hint: "a digit, please"}, "xxxx", "a digit, please"},
		{"matches", config.Password{Validate: true, Pattern: pattern}, "xxx1", ""},
	} {
		got := ""
		if err := NewPasswordsCost(c.settings, bcrypt.MinCost).Check(c.password); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestWaiting checks that hashing waits for a free slot, and gives up when its caller does.
func TestWaiting(t *testing.T) {
	p := NewPasswordsCost(config.Password{}, bcrypt.MinCost)
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Verify(ctx, pythonBcrypt, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("verified without a slot: %v", err)
	}
	if _, err := p.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("hashed without a slot: %v", err)
	}
	<-p.slots
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if ok, err := p.Verify(context.Background(), pythonBcrypt, "contract-user-1"); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
	wg.Wait()
}
