// Package fernet encrypts values that are stored, in the Fernet format (AES-128-CBC with HMAC-SHA256) that Open WebUI
// uses, so that both servers read them.
package fernet

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrToken says that a token was not made with the key, or is damaged.
var ErrToken = errors.New("fernet: invalid token")

// Key is a signing and an encryption key.
type Key struct{ sign, encrypt []byte }

// NewKey makes a key of a secret: the secret itself where it is 32 bytes in URL-safe base64 (44 characters), else its
// SHA-256.
func NewKey(secret string) (Key, error) {
	if len(secret) != 44 {
		sum := sha256.Sum256([]byte(secret))
		return Key{sum[:16], sum[16:]}, nil
	}
	raw, err := base64.URLEncoding.DecodeString(secret)
	if err != nil || len(raw) != 32 {
		return Key{}, fmt.Errorf("fernet: a key of 44 characters must be 32 bytes in URL-safe base64")
	}
	return Key{raw[:16], raw[16:]}, nil
}

const version = 0x80

// Encrypt makes a token of a text.
func (k Key) Encrypt(text []byte) (string, error) {
	var iv [aes.BlockSize]byte
	if _, err := rand.Read(iv[:]); err != nil {
		return "", err
	}
	return k.seal(text, iv, time.Now())
}

func (k Key) seal(text []byte, iv [aes.BlockSize]byte, now time.Time) (string, error) {
	block, err := aes.NewCipher(k.encrypt)
	if err != nil {
		return "", err
	}
	pad := aes.BlockSize - len(text)%aes.BlockSize
	plain := append(bytes.Clone(text), bytes.Repeat([]byte{byte(pad)}, pad)...)
	out := binary.BigEndian.AppendUint64([]byte{version}, uint64(now.Unix()))
	out = append(out, iv[:]...)
	cipher.NewCBCEncrypter(block, iv[:]).CryptBlocks(plain, plain)
	out = append(out, plain...)
	return base64.URLEncoding.EncodeToString(append(out, k.mac(out)...)), nil
}

func (k Key) mac(data []byte) []byte {
	m := hmac.New(sha256.New, k.sign)
	m.Write(data)
	return m.Sum(nil)
}

// Decrypt gives the text of a token, whatever its age.
func (k Key) Decrypt(token string) ([]byte, error) {
	raw, err := base64.URLEncoding.DecodeString(token)
	const head = 1 + 8 + aes.BlockSize
	if err != nil || len(raw) < head+aes.BlockSize+sha256.Size || raw[0] != version {
		return nil, ErrToken
	}
	signed, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	body := signed[head:]
	if !hmac.Equal(mac, k.mac(signed)) || len(body)%aes.BlockSize != 0 {
		return nil, ErrToken
	}
	block, err := aes.NewCipher(k.encrypt)
	if err != nil {
		return nil, err
	}
	plain := bytes.Clone(body)
	cipher.NewCBCDecrypter(block, signed[9:head]).CryptBlocks(plain, plain)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, ErrToken
	}
	return plain[:len(plain)-pad], nil
}
