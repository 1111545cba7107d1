package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/galleychat/galley/core/config"
)

// bcryptCost is Python's default, which the reference's hashes have.
const bcryptCost = 12

// maxBcrypt is how many bytes of a password bcrypt looks at.
const maxBcrypt = 72

// Errors of Passwords.Check; the text is the detail that clients are shown.
var (
	ErrPasswordTooLong = errors.New("Uh-oh! The password you entered is too long. Please make sure your password is less than 72 bytes long.")
	ErrPasswordWeak    = errors.New("The password does not meet the required validation criteria.")
)

// Passwords hashes and verifies passwords. Only a part of the CPUs hash at once: others wait, so that a flood of
// sign-ins does not take the server from those who are signed in.
type Passwords struct {
	settings config.Password
	cost     int
	slots    chan struct{}
	nobody   func() string // a hash that nobody's password has
}

// NewPasswords makes Passwords by settings: the algorithm of new hashes is bcrypt or argon2.
func NewPasswords(settings config.Password) *Passwords {
	return NewPasswordsCost(settings, bcryptCost)
}

// NewPasswordsCost is NewPasswords with bcrypt at another cost than Python's 12: tests take the least, bcrypt.MinCost.
func NewPasswordsCost(settings config.Password, cost int) *Passwords {
	p := &Passwords{settings: settings, cost: cost, slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	p.nobody = sync.OnceValue(func() string {
		random := make([]byte, 24)
		_, _ = rand.Read(random) // never fails
		hash, err := p.hash(base64.RawStdEncoding.EncodeToString(random))
		if err != nil {
			return ""
		}
		return hash
	})
	return p
}

// Check says whether a password may be a new one: bcrypt takes 72 bytes at most, and the settings may ask for more.
func (p *Passwords) Check(password string) error {
	if p.settings.Hash != "argon2" && len(password) > maxBcrypt {
		return ErrPasswordTooLong
	}
	if p.settings.Validate && p.settings.Pattern != nil && !p.settings.Pattern.Match(password) {
		if p.settings.Hint != "" {
			return errors.New(p.settings.Hint)
		}
		return ErrPasswordWeak
	}
	return nil
}

func (p *Passwords) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hash hashes a password that Check has passed.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.acquire(ctx); err != nil {
		return "", err
	}
	defer func() { <-p.slots }()
	return p.hash(password)
}

func (p *Passwords) hash(password string) (string, error) {
	switch p.settings.Hash {
	case "argon2":
		return hashArgon2(password)
	case "", "bcrypt":
	default:
		return "", fmt.Errorf("PASSWORD_HASH_ALGORITHM: %q is neither bcrypt nor argon2", p.settings.Hash)
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), p.cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	// Go writes $2a$, Python $2b$; for 72 bytes or less both are the same function.
	return "$2b$" + string(h[4:]), nil
}

// Verify says whether a password has a hash, of bcrypt ($2a$, $2b$, $2y$) or argon2. An empty hash stands for an account
// that is not there: it takes as long as any other, so that nobody learns which accounts there are, and is false.
func (p *Passwords) Verify(ctx context.Context, hash, password string) (bool, error) {
	if err := p.acquire(ctx); err != nil {
		return false, err
	}
	defer func() { <-p.slots }()
	absent := hash == ""
	if absent {
		hash = p.nobody()
	}
	ok := verify(hash, password)
	return ok && !absent, nil
}

func verify(hash, password string) bool {
	if strings.HasPrefix(hash, "$argon2") {
		return verifyArgon2(hash, password)
	}
	b := []byte(password)
	return bcrypt.CompareHashAndPassword([]byte(hash), b[:min(len(b), maxBcrypt)]) == nil
}

// The parameters of argon2-cffi's PasswordHasher: memory in KiB.
const (
	argonTime, argonMemory, argonThreads = 3, 64 << 10, 4
	argonSalt, argonLength               = 16, 32
)

func hashArgon2(password string) (string, error) {
	salt := make([]byte, argonSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonLength)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// verifyArgon2 checks hashes of argon2id and argon2i; argon2d, which nobody uses for passwords, is refused. What a hash
// may cost is bounded, as an import could bring any.
func verifyArgon2(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return false
	}
	var memory, time uint32
	var threads uint8
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads); err != nil || n != 3 {
		return false
	}
	if memory > 1<<20 || time == 0 || time > 64 || threads == 0 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) == 0 || len(want) > 512 {
		return false
	}
	var got []byte
	switch parts[1] {
	case "argon2id":
		got = argon2.IDKey([]byte(password), salt, time, memory, threads, uint32(len(want)))
	case "argon2i":
		got = argon2.Key([]byte(password), salt, time, memory, threads, uint32(len(want)))
	default:
		return false
	}
	return subtle.ConstantTimeCompare(got, want) == 1
}
