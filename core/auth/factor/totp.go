package factor

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The parameters that every authenticator app takes for granted (RFC 6238): SHA-1, six digits, half a minute.
const (
	digits = 6
	period = 30 // seconds
)

// issuer is the name under which authenticators show the account. It is the reference's, so that the entries of people
// who enrol with one server and replace with the other look alike.
const issuer = "Open WebUI"

// newSecret is 160 random bits in base32.
func newSecret() string {
	raw := make([]byte, 20)
	_, _ = rand.Read(raw) // never fails
	return base32.StdEncoding.EncodeToString(raw)
}

// Code is what an authenticator shows for a secret at a time; "" for what is no secret.
func Code(secret string, at time.Time) string {
	key, err := decodeSecret(secret)
	if err != nil {
		return ""
	}
	return codeAt(key, at.Unix()/period)
}

func decodeSecret(secret string) ([]byte, error) {
	return base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimRight(secret, "=")))
}

// codeAt is the code of a step, the number of half minutes since 1970.
func codeAt(key []byte, step int64) string {
	m := hmac.New(sha1.New, key)
	_ = binary.Write(m, binary.BigEndian, step) // a hash takes everything
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%0*d", digits, binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// matchingStep finds the step whose code this is: that of now (Unix seconds), the one before or the one after, since
// clocks differ. Steps up to the last that was used do not count, so that each code is good once.
func matchingStep(secret, code string, now, last int64) (step int64, ok bool) {
	key, err := decodeSecret(secret)
	if err != nil || len(code) != digits || strings.Trim(code, "0123456789") != "" {
		return 0, false
	}
	current := now / period
	for _, step := range []int64{current, current - 1, current + 1} {
		if step > last && subtle.ConstantTimeCompare([]byte(codeAt(key, step)), []byte(code)) == 1 {
			return step, true
		}
	}
	return 0, false
}

// provisioningURI is what authenticators read from the QR code.
func provisioningURI(secret, account string) string {
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	return "otpauth://totp/" + escape(issuer) + ":" + escape(account) + "?secret=" + secret + "&issuer=" + escape(issuer)
}
