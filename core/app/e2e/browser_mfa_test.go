package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/galleychat/galley/core/auth/factor"
)

// TestBrowserMFA switches second factors on in the administration, and has a user set one up, sign in with it, and with a
// recovery code.
func TestBrowserMFA(t *testing.T) {
	base := browserBase(t)
	p := openBrowser(t, base)
	p.signUp()
	p.addUser("Bea Second", "bea@contract.test", "contract-user-1")
	p.open("/admin/settings/authentication")
	p.until("switch it on", `(() => {
		const box = [...document.querySelectorAll('[role=switch]')].find(e => /Require an authenticator/.test(e.getAttribute('aria-label') ?? document.getElementById(e.getAttribute('aria-labelledby'))?.innerText ?? ''));
		if (!box) return false;
		if (box.getAttribute('aria-checked') !== 'true') box.click();
		return box.getAttribute('aria-checked') === 'true';
	})()`)
	p.shot("mfa-policy")
	p.check() // what comes now is refused: the session is over
	p.clickText("Save")
	p.do("signed out", visible("input#email"))

	q := openBrowser(t, base)
	q.do("open", chromedp.Navigate(base+"/"))
	q.password("bea@contract.test", "contract-user-1")
	q.waitText("Set up your authenticator")
	secret := q.shownSecret()
	q.shot("mfa-enroll")

	// a reload forgets the sign-in, and the secret with it
	q.do("reload", chromedp.Reload())
	q.password("bea@contract.test", "contract-user-1")
	if again := q.shownSecret(); again == secret {
		t.Error("another sign-in shows the same secret")
	} else {
		secret = again
	}
	q.code(factor.Code(secret, time.Now()))
	q.waitText("Save your recovery codes")
	codes := q.texts("li.select-all")
	if len(codes) != 10 || len(codes[0]) != 32 {
		t.Errorf("recovery codes: %q", codes)
	}
	q.shot("mfa-recovery-codes")
	q.until("keep them", `(() => {
		const box = [...document.querySelectorAll('label')].find(e => /I have saved my recovery codes/.test(e.innerText))?.querySelector('input');
		if (!box) return false;
		if (!box.checked) box.click();
		return box.checked;
	})()`)
	q.clickText("Continue")
	q.do("signed in", visible("#chat-input"))
	q.do("reload", chromedp.Reload())
	q.do("still signed in", visible("#chat-input"))

	// with a code: the next one, since the last is used
	q.signOut()
	q.password("bea@contract.test", "contract-user-1")
	q.waitText("Verify your sign-in")
	q.shot("mfa-verify")
	q.code(factor.Code(secret, time.Now().Add(30*time.Second)))
	q.do("signed in", visible("#chat-input"))

	// with a recovery code, after one that is none
	q.signOut()
	q.password("bea@contract.test", "contract-user-1")
	q.waitText("Verify your sign-in")
	q.clickText("Use a recovery code")
	q.code("no recovery code")
	q.waitText("Invalid or already used code.")
	q.expected("/mfa/verify: 401")
	q.code(codes[0])
	q.do("signed in", visible("#chat-input"))
	q.open("/?settings=account")
	q.waitText("9 recovery codes remaining")
	q.shot("mfa-account")
	q.check()

	// the administrator too
	p.password(adminEmail, adminPass)
	p.code(factor.Code(p.shownSecret(), time.Now()))
	p.waitText("Save your recovery codes")
}

// password gives the first factor.
func (p *page) password(email, password string) {
	p.t.Helper()
	p.do("give the password",
		visible("input#email"),
		typeInto("input#email", email),
		typeInto("input#password", password+kb.Enter))
}

// shownSecret is the key that stands below the QR code.
func (p *page) shownSecret() string {
	p.t.Helper()
	p.until("QR code", `(() => {
		const details = document.querySelector('details');
		if (details && !details.open) details.querySelector('summary').click();
		return document.querySelector('img[alt="Authenticator setup QR code"]')?.naturalWidth > 0 && document.querySelector('code.select-all') !== null;
	})()`)
	found := p.texts("code.select-all")
	if len(found) != 1 {
		p.t.Fatalf("secrets shown: %q", found)
	}
	return strings.ReplaceAll(found[0], " ", "")
}

// code gives a second factor.
func (p *page) code(code string) {
	p.t.Helper()
	const field = "input[autocomplete=one-time-code]"
	p.do("code field", visible(field))
	p.until("mark what is in it", fmt.Sprintf("(() => { const f = document.querySelector(%q); f?.select(); return f !== null && !f.disabled; })()", field))
	p.do("give the code", typeInto(field, code+kb.Enter))
}

func (p *page) texts(selector string) []string {
	p.t.Helper()
	out, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](fmt.Sprintf("[...document.querySelectorAll(%q)].map(e => e.innerText.trim())", selector)))
	if err != nil {
		p.failed("read "+selector, err)
	}
	return out
}

// expected forgets a problem that was meant to be.
func (p *page) expected(problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = slices.DeleteFunc(p.problems, func(s string) bool { return strings.HasSuffix(s, problem) })
}
