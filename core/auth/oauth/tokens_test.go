package oauth_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth/oauth/oidctest"
	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
)

// referenceToken was made by the reference's library with the key "a key for tests".
const referenceToken = "gAAAAABrDIenUNg4azRvLPf1UiaBt5Cu29DGmxNVGNtZdzzxrKP9fy0-FIku8nPNbKrhSZ1Uwoz5EHa2_BNUsx3MK5fp3Tv4yYUToF9QuZ5SYschiaGdAlSO9Xd2_Y7QCkopaLSp6axN5v4GC5dqdc3gbuy6C47nFuZ-RZ1dPzK77aGA-2HRjO3NEUf0Ez7qJRsNWZTZ_5sS"

func TestReferenceRows(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	for _, token := range []string{referenceToken, "made with another key"} {
		if err := w.Users.AddOAuthSession(ctx, &users.OAuthSession{UserID: w.boss.ID, Provider: "oidc", Token: token, ExpiresAt: 4102444800}, 10); err != nil {
			t.Fatal(err)
		}
	}
	list, err := w.OAuth.Stored(ctx, w.boss.ID)
	if err != nil || len(list) != 1 || list[0].Token.Text("access_token") != "at" {
		t.Fatalf("%+v, %v", list, err)
	}
	if n := len(w.stored(w.boss.ID)); n != 2 {
		t.Errorf("%d rows are left", n)
	}
	if token, err := w.OAuth.Token(ctx, w.boss.ID, list[0].ID); err != nil || token.Text("refresh_token") != "rt" {
		t.Errorf("%s, %v", token, err)
	}
}

// signedIn signs Ann in and gives her account and her stored session.
func signedIn(t *testing.T, w *world) (*users.User, string) {
	t.Helper()
	b := w.browser()
	if got := b.signIn("ann"); got != "" {
		t.Fatal(got)
	}
	return w.account("ann@example.com"), b.cookies["oauth_session_id"].Value
}

func TestRenewal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.Lifetime(3600, true, 24*time.Hour) // the provider's clock stays behind
		ann, id := signedIn(t, w)
		token := func() string {
			t.Helper()
			got, err := w.OAuth.Token(ctx, ann.ID, id)
			if err != nil {
				t.Fatal(err)
			}
			return got.Text("access_token")
		}
		first := token()
		w.Take()
		if got := token(); got != first || len(w.Take()) != 0 {
			t.Error("renewed before its time")
		}
		if got, err := w.OAuth.Token(ctx, w.boss.ID, id); got != nil || err != nil {
			t.Errorf("somebody else has %s, %v", got, err)
		}
		w.OAuth.SetNow(func() time.Time { return time.Now().Add(56 * time.Minute) })
		second := token()
		if second == first || second == "" {
			t.Fatalf("not renewed: %q", second)
		}
		form, auth := w.LastToken()
		if form.Get("grant_type") != "refresh_token" || form.Get("client_secret") != "a secret" || auth != "" || form.Has("scope") {
			t.Errorf("asked %v", form)
		}
		if row := w.stored(ann.ID)[0]; row.ExpiresAt < time.Now().Add(115*time.Minute).Unix() || row.UpdatedAt < row.CreatedAt {
			t.Errorf("stored %+v", row)
		}
		// many at once ask the provider once: its refresh tokens are good for one use
		w.OAuth.SetNow(func() time.Time { return time.Now().Add(115 * time.Minute) })
		w.Take()
		got := make([]string, 8)
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() { got[i] = token() })
		}
		all.Wait()
		slices.Sort(got)
		if asked := slices.DeleteFunc(w.Take(), func(s string) bool { return s != "POST /token" }); len(asked) != 1 || got[0] != got[7] || got[0] == second {
			t.Errorf("asked %v, got %v", asked, got)
		}
		// a provider that is out of order: the tokens are kept
		w.OAuth.SetNow(func() time.Time { return time.Now().Add(175 * time.Minute) })
		w.Do(oidctest.TokenFails)
		if got := token(); got != "" || len(w.stored(ann.ID)) != 1 {
			t.Errorf("%q; %d rows", got, len(w.stored(ann.ID)))
		}
		// one that takes the refresh token no more: they are not
		w.Do(oidctest.TokenRefuses)
		if got := token(); got != "" || len(w.stored(ann.ID)) != 0 {
			t.Errorf("%q; %d rows", got, len(w.stored(ann.ID)))
		}
	})
}

// TestRenewalElsewhere has two servers renew the same tokens.
func TestRenewalElsewhere(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		other := sessiontest.New(t, db, "OPENID_PROVIDER_URL", w.Discovery(), "OAUTH_CLIENT_ID", "galley", "OAUTH_CLIENT_SECRET", "a secret")
		w.Lifetime(3600, true, 24*time.Hour)
		ann, id := signedIn(t, w)
		later := func() time.Time { return time.Now().Add(time.Hour) }
		w.OAuth.SetNow(later)
		other.OAuth.SetNow(later)
		w.Take()
		var all sync.WaitGroup
		got := make([]jsondoc.Doc, 8)
		for i := range got {
			all.Go(func() {
				var err error
				if s := w.OAuth; i%2 == 0 {
					got[i], err = s.Token(ctx, ann.ID, id)
				} else {
					got[i], err = other.OAuth.Token(ctx, ann.ID, id)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if asked := slices.DeleteFunc(w.Take(), func(s string) bool { return s != "POST /token" }); len(asked) != 1 {
			t.Errorf("the provider is asked %d times", len(asked))
		}
		for _, token := range got {
			if token.Text("access_token") == "" || token.String() != got[0].String() {
				t.Errorf("got %s", token)
			}
		}
		list, err := w.OAuth.Stored(ctx, ann.ID)
		if err != nil || len(list) != 1 || list[0].Token.Text("access_token") != got[0].Text("access_token") {
			t.Fatalf("%+v, %v", list, err)
		}
	})
}

// TestShortIDToken renews by the ID token's end, which programs in front use.
func TestShortIDToken(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.Lifetime(3600, true, 2*time.Minute)
	ann, id := signedIn(t, w)
	w.Take()
	if got, err := w.OAuth.Token(ctx, ann.ID, id); err != nil || got == nil || !slices.Contains(w.Take(), "POST /token") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestWithoutExpiry(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.Lifetime(0, true, time.Hour)
	ann, _ := signedIn(t, w)
	if end := w.stored(ann.ID)[0].ExpiresAt; end < time.Now().Add(59*time.Minute).Unix() || end > time.Now().Add(61*time.Minute).Unix() {
		t.Errorf("ends at %d", end)
	}
	w.Lifetime(0, false, time.Hour)
	_, id := signedIn(t, w)
	var end int64
	for _, row := range w.stored(ann.ID) {
		if row.ID == id {
			end = row.ExpiresAt
		}
	}
	if end != 253402300799 {
		t.Errorf("ends at %d", end)
	}
}

func TestMostSessions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "OAUTH_MAX_SESSIONS_PER_USER", "2")
		if err := w.Users.AddOAuthSession(ctx, &users.OAuthSession{UserID: w.boss.ID, Provider: "mcp:x", Token: "t"}, 1); err != nil {
			t.Fatal(err)
		}
		var ann *users.User
		var last string
		for range 4 {
			ann, last = signedIn(t, w)
		}
		rows := w.stored(ann.ID)
		if len(rows) != 2 || rows[0].ID != last && rows[1].ID != last {
			t.Errorf("%+v", rows)
		}
		if len(w.stored(w.boss.ID)) != 1 {
			t.Error("the sessions of another are gone")
		}
	})
}

func TestSystemToken(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	ann, id := signedIn(t, w)
	if err := w.Users.AddOAuthSession(ctx, &users.OAuthSession{UserID: ann.ID, Provider: "mcp:x", Token: referenceToken, ExpiresAt: 4102444800}, 1); err != nil {
		t.Fatal(err)
	}
	want, err := w.OAuth.Token(ctx, ann.ID, id)
	if err != nil {
		t.Fatal(err)
	}
	for name, cookie := range map[string]string{"by cookie": id, "without": "", "with another's": "nope"} {
		cookies := []*http.Cookie{{Name: "other", Value: "x"}}
		if cookie != "" {
			cookies = append(cookies, &http.Cookie{Name: "oauth_session_id", Value: cookie})
		}
		if got, err := w.OAuth.SystemToken(ctx, ann.ID, cookies); err != nil || got.Text("access_token") != want.Text("access_token") {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got, err := w.OAuth.SystemToken(ctx, w.boss.ID, nil); got != nil || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}
