package oauth

import (
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/fernet"
)

// pending is a sign-in whose person is at the provider.
type pending struct {
	State    string `json:"s"`
	Provider string `json:"p"` // or the id of a tool server's client
	Nonce    string `json:"n,omitempty"`
	Verifier string `json:"v,omitempty"` // of PKCE
	Redirect string `json:"r"`
	UserID   string `json:"u,omitempty"` // who is to be given the tokens; "" for a sign-in
	Expires  int64  `json:"e"`
}

const (
	// stateCookie has the name of the reference's session cookie. Its content is encrypted, and tells no script what a
	// sign-in needs to be finished.
	stateCookie = "owui-session"
	// pendingLife is how long a person may take at the provider.
	pendingLife = time.Hour
	// maxPending is how many sign-ins of a browser are remembered, such as those of several tabs: a cookie has 4 kB.
	maxPending = 5
	cookieLife = 14 * 24 * time.Hour
)

// states are the pending sign-ins of browsers, each browser's in its cookie, so that every replica can finish them.
type states struct {
	key     fernet.Key
	cookies config.Cookies
}

func (s *states) read(r *http.Request, now time.Time) []pending {
	c, err := r.Cookie(stateCookie)
	if err != nil {
		return nil
	}
	text, err := s.key.Decrypt(c.Value)
	if err != nil {
		return nil
	}
	var list []pending
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(p pending) bool { return p.Expires < now.Unix() })
}

func (s *states) write(w http.ResponseWriter, list []pending) error {
	c := &http.Cookie{Name: stateCookie, Path: "/", HttpOnly: true, Secure: s.cookies.SessionSecure, SameSite: s.cookies.SessionSameSite}
	if len(list) == 0 {
		c.Value, c.MaxAge, c.Expires = "null", -1, time.Unix(0, 0)
	} else {
		text, err := json.Marshal(list)
		if err != nil {
			return err
		}
		if c.Value, err = s.key.Encrypt(text); err != nil {
			return err
		}
		c.MaxAge = int(cookieLife / time.Second)
	}
	http.SetCookie(w, c)
	return nil
}

// add notes a sign-in.
func (s *states) add(w http.ResponseWriter, r *http.Request, p pending, now time.Time) error {
	p.Expires = now.Add(pendingLife).Unix()
	list := append(s.read(r, now), p)
	return s.write(w, list[max(0, len(list)-maxPending):])
}

// take finds the sign-in of a state and forgets it; nil where the browser has begun none.
func (s *states) take(w http.ResponseWriter, r *http.Request, provider, state string, now time.Time) *pending {
	list := s.read(r, now)
	i := slices.IndexFunc(list, func(p pending) bool { return p.State == state && p.Provider == provider })
	if i < 0 || state == "" {
		return nil
	}
	p := list[i]
	_ = s.write(w, slices.Delete(list, i, i+1)) // were it not written, the sign-in would be over in an hour
	return &p
}
