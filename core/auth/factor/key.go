package factor

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/web"
)

// keyUse tells the derived key from others of the same secret; it is the reference's.
const keyUse = "open-webui/mfa-encryption/v1"

// secretsKey is what secrets are stored under: MFA_ENCRYPTION_KEY, else a key derived from WEBUI_SECRET_KEY.
func secretsKey(env *config.Env) (fernet.Key, error) {
	text := env.MFAKey
	switch {
	case text != "":
		if raw, err := base64.URLEncoding.DecodeString(text); err != nil || len(raw) != 32 {
			return fernet.Key{}, errors.New("MFA_ENCRYPTION_KEY must be 32 bytes in URL-safe base64")
		}
	case env.SecretKey == "":
		return fernet.Key{}, errors.New("second factors need a WEBUI_SECRET_KEY that stays")
	default:
		raw, err := hkdf.Key(sha256.New, []byte(env.SecretKey), nil, keyUse, 32)
		if err != nil {
			return fernet.Key{}, err
		}
		text = base64.URLEncoding.EncodeToString(raw)
	}
	return fernet.NewKey(text)
}

func (f *Factors) encrypt(secret string) (string, error) {
	key, err := f.key()
	if err != nil {
		return "", err
	}
	return key.Encrypt([]byte(secret))
}

func (f *Factors) decrypt(stored string) (string, error) {
	key, err := f.key()
	var plain []byte
	if err == nil {
		plain, err = key.Decrypt(stored)
	}
	if err != nil {
		return "", web.Because(http.StatusServiceUnavailable, "Authenticator configuration is unavailable. Contact the operator.", err)
	}
	return string(plain), nil
}
