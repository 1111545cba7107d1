package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestBrowserAccount is what people do about their own accounts.
func TestBrowserAccount(t *testing.T) {
	d := newDesk(t, "GALLEY_SIGNOUT_REVOKES=true", "ENABLE_API_KEYS=true", "ENABLE_PASSWORD_VALIDATION=true", "PASSWORD_VALIDATION_REGEX_PATTERN=^contract-", "PASSWORD_VALIDATION_HINT=Begin with contract-.")
	d.account("Ada Account", "ada@contract.test", "user")
	d.run("profile", d.testProfile)
	d.run("password", d.testPassword)
	d.run("API key", d.testKey)
	d.run("status", d.testStatus)
	d.run("settings", d.testPersonalSettings)
	d.run("sign out", d.testSignOut)
	d.run("sign up", d.testSignUpForm)
	d.run("sign in", d.testSignInForm)
}

func (p *page) openAccount() {
	p.t.Helper()
	p.settings("account", "Account")
}

// picture is an expression for where the picture on the account's page comes from.
const picture = `top().querySelector('img[alt=profile]').src`

func (d *desk) testProfile(t *testing.T) {
	q := d.as("ada@contract.test")
	q.openAccount()
	q.shows("Name", "Ada Account")
	q.fill("Name", "Ada Renamed")
	q.fill("Bio", "Reads *everything*.")
	q.fill("Gender", "Custom")
	q.fill("Custom Gender", "countess")
	q.fill("Birth Date", "1990-12-10")
	var photo bytes.Buffer
	if err := png.Encode(&photo, image.NewGray(image.Rect(0, 0, 40, 20))); err != nil {
		t.Fatal(err)
	}
	q.upload("#profile-image-input", "photo.png", photo.Bytes())
	q.eventually("the photo is shown", picture+`.startsWith('data:image/webp')`)
	q.press("Save")
	q.waitText(saved)
	q.openAccount()
	q.shows("Name", "Ada Renamed")
	q.shows("Bio", "Reads *everything*.")
	q.shows("Gender", "Custom")
	q.shows("Custom Gender", "countess")
	q.shows("Birth Date", "1990-12-10")
	q.eventually("the photo is kept", picture+`.startsWith('data:image/webp')`)
	q.until("others are given it", q.fetched("/api/v1/auths/", `fetch('/api/v1/users/' + x.id + '/profile/image').then(r => r.headers.get('Content-Type') === 'image/webp')`))

	q.press("Initials")
	q.eventually("initials in place of it", picture+`.startsWith('data:image/png')`)
	q.fill("Gender", "Female")
	q.fill("Bio", "")
	q.press("Save")
	q.waitText(saved)
	q.openAccount()
	q.shows("Gender", "female")
	q.shows("Bio", "")
	q.eventually("the initials are kept", picture+`.startsWith('data:image/png')`)
	q.press("Gravatar")
	q.eventually("a picture from elsewhere", picture+`.startsWith('https://www.gravatar.com/avatar/')`)
	q.press("Remove")
	q.press("Save")
	q.waitText(saved)
	q.openAccount()
	q.eventually("no picture", picture+`.endsWith('/user.png')`)
	d.openUsers()
	d.findUser("ada@contract.test", "Ada Renamed", "user")
}

func (d *desk) testPassword(t *testing.T) {
	d.account("Pat Password", "pat@contract.test", "user")
	q, r := d.as("pat@contract.test"), d.as("pat@contract.test")
	q.openAccount()
	q.pressBeside("Change Password", "Show")
	change := func(current, first, second string) {
		t.Helper()
		q.fill("Enter your current password", current)
		q.fill("Enter your new password", first)
		q.fill("Confirm your new password", second)
		q.press("Update password")
	}
	change(userPass, "contract-new-1", "contract-new-2")
	q.waitText("don't quite match")
	change("wrong", "contract-new-1", "contract-new-1")
	q.waitText("The password provided is incorrect.")
	q.tolerate("/api/v1/auths/update/password", 400)
	change(userPass, "short", "short")
	q.waitText("Begin with contract-.")
	q.tolerate("/api/v1/auths/update/password", 400)
	change(userPass, "contract-new-1", "contract-new-1")
	q.do("has to sign in again", visible("input#email"))
	q.tolerateAll("", 401) // what the page asked for when its session had just ended
	r.sessionEnded()
	q.signIn("pat@contract.test", "contract-new-1")
}

// testKey makes a key, uses it, makes another, and deletes it.
func (d *desk) testKey(t *testing.T) {
	works := func(key string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, d.base+"/api/models", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a request with the key: %d, want %d", resp.StatusCode, want)
		}
	}
	openKeys := func() {
		t.Helper()
		d.openAccount()
		d.pressBeside("Secrets", "Show")
	}
	const shown = `all(top(), 'input').map(i => i.value).find(v => v.startsWith('sk-'))`
	key := func() string {
		t.Helper()
		d.eventually("the key is shown", "!!"+shown)
		return d.evaluate("(() => {" + forms + "return " + shown + ";})()")
	}
	openKeys()
	d.press("Create new secret key")
	d.waitText("API Key created.")
	first := key()
	works(first, http.StatusOK)
	openKeys()
	if again := key(); again != first {
		t.Error("another key after a reload")
	}
	d.evaluate(`String(navigator.clipboard.writeText = async text => window.copied = text)`) // a browser without a window has no clipboard
	d.press("Copy API Key")
	d.until("it is copied", fmt.Sprintf(`window.copied === %q`, first))

	d.press("More")
	d.choose("Create new key")
	d.eventually("it is another", fmt.Sprintf("%s && %s !== %q", shown, shown, first))
	second := key()
	works(first, http.StatusUnauthorized)
	works(second, http.StatusOK)
	openKeys()
	if again := key(); again != second {
		t.Error("another key after a reload")
	}
	d.press("More")
	d.choose("Delete")
	d.dialog("Delete API Key?")
	d.press("Delete")
	d.waitText("API Key deleted.")
	works(second, http.StatusUnauthorized)
	openKeys()
	d.eventually("there is none", `all(top(), 'button').some(b => says(b, 'Create new secret key'))`)
	q := d.as("ada@contract.test")
	q.openAccount()
	q.eventually("not everybody may have keys", `control('Name') && !top().innerText.includes('Secrets')`)
	d.settle()
	d.tolerateAll("/api/v1/auths/api_key", 404) // asked for while there is none
}

func (p *page) openUserMenu() {
	p.t.Helper()
	p.eventually("user menu", `(b => b && (b.click(), true))(all(document, 'button').find(e => /user menu|open user profile menu/i.test(e.ariaLabel ?? '')))`)
}

func (d *desk) testStatus(t *testing.T) {
	q := d.as("ada@contract.test")
	q.openUserMenu()
	q.choose("Update your status")
	q.dialog("Set your status")
	q.fill("What's on your mind?", "Out to lunch")
	q.press("Save")
	q.waitText("Status updated successfully")
	q.open("/")
	q.openUserMenu()
	q.waitText("Out to lunch")
	q.eventually("open it", `press(all(document, '[role=menu]').at(-1), 'Out to lunch')`)
	q.dialog("Set your status")
	q.shows("What's on your mind?", "Out to lunch")
	q.fill("What's on your mind?", "Back again")
	q.press("Save")
	q.waitText("Status updated successfully")
	q.open("/")
	q.openUserMenu()
	q.waitText("Back again")
}

// testPersonalSettings has what is set in one browser hold in another.
func (d *desk) testPersonalSettings(t *testing.T) {
	q := d.as("ada@contract.test")
	q.settings("interface", "Interface")
	q.shows("Widescreen Mode", "false")
	q.fill("Widescreen Mode", "true")
	q.fill("Chat Bubble UI", "false")
	q.press("Save")
	q.waitText(saved)
	q.settings("general", "General")
	q.fill("Enter system prompt here", "Be brief.")
	q.press("Save")
	q.waitText(saved)
	for _, w := range []*page{q, d.as("ada@contract.test")} {
		w.settings("interface", "Interface")
		w.shows("Widescreen Mode", "true")
		w.shows("Chat Bubble UI", "false")
		w.settings("general", "General")
		w.shows("Enter system prompt here", "Be brief.")
	}
	for _, tab := range []string{"Notifications", "Keyboard", "Audio", "Data Controls", "Usage", "Archived Chats", "About"} {
		q.tab(tab)
	}
}

func (d *desk) testSignOut(t *testing.T) {
	q := d.as("ada@contract.test")
	token := q.evaluate("localStorage.token")
	q.signOut()
	q.sessionEnded()
	q.until("the session has ended", fmt.Sprintf(`fetch('/api/v1/auths/', {headers: {Authorization: 'Bearer ' + %q}}).then(r => r.status === 401)`, token))
}

func (d *desk) testSignUpForm(t *testing.T) {
	d.evaluate(`(async () => {
		const headers = {Authorization: 'Bearer ' + localStorage.token, 'Content-Type': 'application/json'};
		const config = await (await fetch('/api/v1/auths/admin/config', {headers})).json();
		return String((await fetch('/api/v1/auths/admin/config', {method: 'POST', headers, body: JSON.stringify({...config, ENABLE_SIGNUP: true, DEFAULT_USER_ROLE: 'user'})})).ok);
	})()`)
	q := d.window()
	q.open("/auth")
	for _, tt := range []struct{ email, password, want string }{
		{"nobody", userPass, ""}, // the browser sees to it
		{"sid@nowhere", userPass, "The email format you entered is invalid"},
		{"ADA@contract.test", userPass, "This email is already registered."},
		{"sid@contract.test", "contract-" + strings.Repeat("x", 64), "password you entered is too long"},
		{"sid@contract.test", "other-pass", "Begin with contract-."},
	} {
		q.register("Sid Signup", tt.email, tt.password)
		if tt.want == "" {
			q.until("the address is refused", `!document.querySelector('input#email').validity.valid`)
			continue
		}
		q.waitText(tt.want)
		q.tolerate("/api/v1/auths/signup", 400)
	}
	q.register("Sid Signup", "sid@contract.test", userPass)
	q.do("is in", visible("#chat-input"))
	q.open("/")
	q.do("stays in", visible("#chat-input"))
}

func (d *desk) testSignInForm(t *testing.T) {
	q := d.window()
	q.open("/auth")
	try := func(email, password string) {
		t.Helper()
		q.do("sign-in form", visible("input#email"))
		q.eventually("type the address", fmt.Sprintf(`fill(document.querySelector('input#email'), %q)`, email))
		q.eventually("type the password", fmt.Sprintf(`fill(document.querySelector('input#password'), %q)`, password))
		q.do("sign in", typeInto("input#password", kb.Enter))
	}
	try("ada@contract.test", "wrong")
	q.waitText("The email or password provided is incorrect.")
	q.tolerate("/api/v1/auths/signin", 400)

	// fifteen are allowed for one address, however it is written
	q.until("fifteen more", `Promise.all([...Array(15)].map(() => fetch('/api/v1/auths/signin', {method: 'POST', headers: {'Content-Type': 'application/json'},
		body: JSON.stringify({email: 'stranger@contract.test', password: 'guess'})}).then(r => r.status))).then(all => all.every(s => s === 400))`)
	q.tolerateAll("/api/v1/auths/signin", 400)
	try("Stranger@contract.test", "guess")
	q.waitText("API rate limit exceeded")
	q.tolerate("/api/v1/auths/signin", 429)
	try("ada@contract.test", userPass) // nobody else has to wait
	q.do("is in", visible("#chat-input"))
}
