package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/galleychat/galley/core/auth/oauth/oidctest"
)

// TestBrowserOAuth has a person sign in by way of an identity provider's own page, and an administrator set the provider
// up, in the unmodified frontend.
func TestBrowserOAuth(t *testing.T) {
	if os.Getenv("GALLEY_BROWSER") == "" {
		t.Skip("GALLEY_BROWSER is not set")
	}
	provider := oidctest.New(t)
	provider.Add("ann", oidctest.Person{"sub": "ann-1", "email": "ann@example.com", "name": "Ann Example", "picture": provider.URL + "/picture"})
	s := start(t, "DATA_DIR="+dataWithFrontend(t), "OPENAI_API_BASE_URL="+newModels(t).URL+"/v1", "OPENAI_API_KEY=k", "ENABLE_OLLAMA_API=false",
		"ENABLE_VERSION_UPDATE_CHECK=false", "ENABLE_OAUTH_PERSISTENT_CONFIG=true", "OPENID_PROVIDER_URL="+provider.Discovery(), "OAUTH_CLIENT_ID=galley",
		"OAUTH_CLIENT_SECRET=a secret", "DEFAULT_USER_ROLE=user", "BYPASS_MODEL_ACCESS_CONTROL=true", "ENABLE_LOCAL_WEB_FETCH=true", "OAUTH_CODE_CHALLENGE_METHOD=S256")
	admin := openBrowser(t, s.url)
	admin.signUp()

	// nobody new may sign in yet
	stranger := openBrowser(t, s.url)
	stranger.signInAtProvider("SSO", "ann")
	stranger.waitText("You do not have permission to access this resource")
	stranger.shot("oauth-refused")

	// the administrator changes that, and the provider's name
	admin.do("open the settings", chromedp.Navigate(s.url+"/admin/settings/authentication"))
	admin.setNamed("Provider Name", "Test Provider")
	admin.switchOn("OAuth Signup")
	admin.shot("oauth-settings")
	admin.clickText("Save")
	admin.until("saved", admin.fetched("/api/config", `x.oauth.providers.oidc === 'Test Provider'`))
	admin.do("reload, which closes the settings, and open them again", chromedp.Reload(), chromedp.Navigate(s.url+"/admin/settings/authentication"))
	admin.until("the name is still there", `[...document.querySelectorAll('input')].some(e => e.value === 'Test Provider')`)
	admin.until("the switch is still on", admin.fetched("/api/v1/auths/admin/config/oauth", `x.ENABLE_OAUTH_SIGNUP && x.OAUTH_PROVIDER_NAME === 'Test Provider'`))

	// now the person lands in the chat
	ann := openBrowser(t, s.url)
	ann.signInAtProvider("Test Provider", "ann")
	ann.do("chat page", visible("#chat-input"))
	ann.waitText(browserModel)
	ann.say("a walk in the park")
	ann.waitText("You said: a walk in the park")
	ann.waitText("Echo Title")
	ann.until("her picture is the provider's", ann.fetched("/api/v1/auths/", `x.profile_image_url.startsWith('data:image/png') && x.name === 'Ann Example' && x.role === 'user'`))
	ann.do("reload", chromedp.Reload())
	ann.waitText("You said: a walk in the park")
	ann.shot("oauth-chat")

	// she signs out, at the provider too, and finds the same account when she comes back
	ann.until("user menu", `(() => {
		const open = [...document.querySelectorAll('button')].find(e => /user menu|open user profile menu/i.test(e.getAttribute('aria-label') ?? ''));
		if (!open) return false;
		open.click();
		return true;
	})()`)
	ann.clickText("Sign Out")
	ann.waitText("Continue with Test Provider") // the provider sends her back
	if !slices.Contains(provider.Take(), "GET /end_session") {
		t.Error("she is still signed in at the provider")
	}
	ann.signInAtProvider("Test Provider", "ann")
	ann.do("chat page", visible("#chat-input"))
	ann.waitText("Echo Title")
	admin.until("there is one account of hers", admin.fetched("/api/v1/users/?query=ann@example.com", `x.total === 1 && x.users[0].oauth.oidc.sub === 'ann-1'`))
	admin.check()
	ann.check()
	stranger.check()
}

// signInAtProvider goes from the sign-in page to the provider's and signs in there.
func (p *page) signInAtProvider(provider, person string) {
	p.t.Helper()
	p.do("open the sign-in page", chromedp.Navigate(p.base+"/auth"))
	p.clickText("Continue with " + provider)
	p.do("the provider's page", visible("#username"))
	p.shot("oauth-provider")
	p.do("sign in there", typeInto("#username", person), typeInto("#password", "secret"+kb.Enter))
}

// setting is an expression for the row of a settings page that a label stands in.
func setting(label, selector string) string {
	return fmt.Sprintf(`(() => {
		const label = [...document.querySelectorAll('label, div, span')].filter(e => e.innerText?.trim() === %q && e.offsetParent !== null).pop();
		for (let row = label; row; row = row.parentElement) {
			const found = row.querySelector(%q);
			if (found) return found;
		}
	})()`, label, selector)
}

// setNamed types into the field with a label.
func (p *page) setNamed(label, value string) {
	p.t.Helper()
	p.until("set "+label, fmt.Sprintf(`(() => {
		const input = %s;
		if (!input) return false;
		input.scrollIntoView({block: 'center'});
		input.value = %q;
		input.dispatchEvent(new Event('input', {bubbles: true}));
		input.dispatchEvent(new Event('change', {bubbles: true}));
		return true;
	})()`, setting(label, "input"), value))
}

// switchOn switches the switch with a label on.
func (p *page) switchOn(label string) {
	p.t.Helper()
	p.until("switch on "+label, fmt.Sprintf(`(() => {
		const button = %s;
		if (!button) return false;
		if (button.getAttribute('aria-checked') === 'true' || button.dataset.state === 'checked') return true;
		button.click();
		return false;
	})()`, setting(label, "button[role=switch]")))
}
