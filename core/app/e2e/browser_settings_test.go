package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// TestBrowserSettings is what an administrator does on the tabs of the settings.
func TestBrowserSettings(t *testing.T) {
	other := newKeyedModels(t)
	d := newDesk(t, "OLLAMA_BASE_URL="+other, "ENABLE_OAUTH_PERSISTENT_CONFIG=true", "ENABLE_RAG_LOCAL_WEB_FETCH=true") // webhooks may be on this machine
	d.run("general", d.testGeneral)
	d.run("banners", d.testBanners)
	d.run("event webhooks", d.testEventWebhooks)
	d.run("access", d.testAccess)
	d.run("LDAP and OAuth", d.testDirectories)
	d.run("interface", d.testInterface)
	d.run("connections", func(t *testing.T) { d.testConnections(t, other) })
	d.run("Ollama", func(t *testing.T) { d.testOllama(t, other) })
	d.run("models", d.testModels)
	d.run("evaluations", d.testEvaluations)
	d.run("database", d.testDatabase)
	d.run("other tabs", d.testTabs)
}

const saved = "Settings saved successfully!"

// save presses the button of a tab and waits until that is confirmed.
func (d *desk) save() {
	d.t.Helper()
	d.press("Save")
	d.waitText(saved)
}

func (d *desk) testGeneral(t *testing.T) {
	d.settings("admin:general", "General")
	d.fill("Community Sharing", "false")
	d.fill("Message Rating", "false")
	d.fill("Folder Max File Count", "7")
	d.fill("Channels", "true")
	d.fill("Model Response Mode", "Channel")
	d.fill("User Status", "false")
	d.fill("Response Watermark", "Made by a model")
	d.fill("WebUI URL", "http://galley.contract.test")
	d.press("Configure") // the interface's defaults for everybody
	d.fill("Widescreen Mode", "true")
	d.save()
	d.settings("admin:general", "General")
	d.shows("Community Sharing", "false")
	d.shows("Message Rating", "false")
	d.shows("Folder Max File Count", "7")
	d.shows("Channels", "true")
	d.shows("Model Response Mode", "channel")
	d.shows("User Status", "false")
	d.shows("Response Watermark", "Made by a model")
	d.shows("WebUI URL", "http://galley.contract.test")
	d.press("Configure")
	d.shows("Widescreen Mode", "true")
	d.fill("Channels", "false")
	d.save()

	// answers are not rated any more
	d.newChat()
	d.say("no stars please")
	d.awaitAnswer("You said: no stars please")
	d.until("the answer has its buttons", `!!document.querySelector('[role=log] button[aria-label=Copy]')`)
	d.until("but none for rating", `!document.querySelector('button[aria-label="Good Response"]')`)
}

// testBanners has one banner stay away once it is closed, and one come back.
func (d *desk) testBanners(t *testing.T) {
	d.account("Bo Banner", "bo@contract.test", "user")
	d.settings("admin:general", "General")
	for i, text := range []string{"Closed on **Sunday**", "Fire drill at noon"} {
		d.press("Add banner")
		d.eventually("a field for it", fmt.Sprintf(`all(top(), '[id^=banner-item] textarea').length === %d`, i+1))
		d.eventually("type it", fmt.Sprintf(`fill(all(top(), '[id^=banner-item] textarea')[%d], %q)`, i, text))
		d.eventually("choose its kind", fmt.Sprintf(`fill(all(top(), '[id^=banner-item] select')[%d], %q)`, i, []string{"info", "warning"}[i]))
	}
	d.eventually("the second comes back", `fill(all(top(), '[id^=banner-item] [role=switch]')[1], 'false')`)
	d.save()
	d.settings("admin:general", "General")
	d.eventually("both are kept", `all(top(), '[id^=banner-item] textarea').map(e => e.value).join() === 'Closed on **Sunday**,Fire drill at noon'`)

	q := d.as("bo@contract.test")
	q.waitText("Closed on Sunday")
	q.waitText("Fire drill at noon")
	for range 2 {
		q.press("Close Banner")
	}
	q.waitGone("Closed on Sunday")
	q.waitGone("Fire drill at noon")
	q.open("/")
	q.waitText("Fire drill at noon")
	q.waitGone("Closed on Sunday")

	d.pressBeside("Fire drill at noon", "Delete")
	d.save()
	d.settings("admin:general", "General")
	d.eventually("one is left", `all(top(), '[id^=banner-item] textarea').map(e => e.value).join() === 'Closed on **Sunday**'`)
}

func (d *desk) testEventWebhooks(t *testing.T) {
	d.settings("admin:general", "General")
	d.waitText("No event webhooks configured.")
	d.press("Add webhook")
	d.dialog("Add webhook")
	d.fill("Name", "Audit trail")
	d.fill("URL", "http://127.0.0.1:9/events")
	d.fill("All events", "false")
	d.fill("Search or add pattern", "user.*")
	d.press("Add")
	d.press("Save")
	d.waitText("Webhook saved")
	d.settings("admin:general", "General")
	d.waitText("127.0.0.1:9 - user.* - All users and system events")
	d.fillBeside("Audit trail", "false")
	d.settings("admin:general", "General")
	d.showsBeside("Audit trail", "false")
	d.eventually("configure it", `(e => e && (all(e, 'button:not([role=switch])')[0].click(), true))(beside('Audit trail', 'button:not([role=switch])'))`)
	d.dialog("Edit webhook")
	d.press("Delete")
	d.dialog("Are you sure")
	d.press("Delete")
	d.waitText("Webhook deleted")
	d.settings("admin:general", "General")
	d.waitText("No event webhooks configured.")
}

// testAccess is about who gets in, and what those see who wait.
func (d *desk) testAccess(t *testing.T) {
	group := d.post("/api/v1/groups/create", `{"name": "Newcomers", "description": ""}`)["id"].(string)
	d.settings("admin:authentication", "Authentication")
	d.fill("Default User Role", "pending")
	d.fill("Default Group", group)
	d.fill("New Sign Ups", "true")
	d.fill("API Keys", "true")
	d.fill("API Key Endpoint Restrictions", "true")
	d.fill("Allowed Endpoints", "/api/models, /api/v1/chats")
	d.fill("JWT Expiration", "10d")
	d.fill("Admin Details", "true")
	d.fill("Admin Contact Email", "desk@contract.test")
	d.fill("Pending User Overlay Title", "One moment")
	d.fill("Pending User Overlay Content", "Somebody **will** let you in.")
	d.save()
	d.settings("admin:authentication", "Authentication")
	d.shows("Default User Role", "pending")
	d.shows("Default Group", "Newcomers")
	d.shows("New Sign Ups", "true")
	d.shows("API Key Endpoint Restrictions", "true")
	d.shows("Allowed Endpoints", "/api/models, /api/v1/chats")
	d.shows("JWT Expiration", "10d")
	d.shows("Admin Contact Email", "desk@contract.test")
	d.shows("Pending User Overlay Title", "One moment")
	d.shows("Pending User Overlay Content", "Somebody **will** let you in.")

	q := d.window()
	q.open("/auth")
	q.register("Walter Waiting", "walter@contract.test", userPass)
	q.waitText("One moment")
	q.waitText("Somebody will let you in.")
	q.waitText("(desk@contract.test)")
	q.do("reload", chromedp.Reload())
	q.waitText("One moment")
	d.open("/admin/users/groups")
	d.waitText("1 direct members")

	// what makes no sense is not taken over
	d.settings("admin:authentication", "Authentication")
	d.fill("JWT Expiration", "soon")
	d.fill("Default User Role", "user")
	d.fill("New Sign Ups", "false")
	d.fill("Admin Details", "false")
	d.save()
	d.settings("admin:authentication", "Authentication")
	d.shows("JWT Expiration", "10d")
	d.shows("Default User Role", "user")
	d.shows("Admin Details", "false")
	q.do("reload", chromedp.Reload())
	q.waitText("Somebody will let you in.")
	q.settle()
	q.waitGone("desk@contract.test")
	q.tolerate("/api/v1/auths/admin/details", 400) // the reference refuses them too
	r := d.window()
	r.open("/auth")
	r.do("sign-in form", visible("input#email"))
	r.until("nobody can sign up", `!document.body.innerText.includes('Sign up')`)
}

// register fills in the form for a new account.
func (p *page) register(name, email, password string) {
	p.t.Helper()
	p.do("sign-in form", visible("input#email"))
	p.eventually("open the sign-up form", `!!document.querySelector('input#name') || (press(document.body, 'Sign up'), false)`)
	for id, value := range map[string]string{"name": name, "email": email, "password": password} {
		p.eventually("type the "+id, fmt.Sprintf(`fill(document.querySelector('input#%s'), %q)`, id, value))
	}
	p.press("Create Account")
}

func (d *desk) testDirectories(t *testing.T) {
	ldap := [][2]string{
		{"Label", "Town hall"}, {"Host", "ldap.contract.test"}, {"Port", "1636"}, {"Application DN", "cn=galley,dc=contract,dc=test"},
		{"Application DN Password", "bind-secret"}, {"Attribute for Mail", "mailbox"}, {"Attribute for Username", "login"},
		{"Default Email Domain", "contract.test"}, {"Search Base", "ou=people,dc=contract,dc=test"}, {"Search Filters", "(active=yes)"},
		{"TLS", "true"}, {"Certificate Path", ""}, {"Validate Certificate", "false"}, {"Ciphers", "ALL"},
		{"Group Mapping", "true"}, {"Auto-Create Groups", "true"}, {"Group Attribute", "teams"},
	}
	oauth := [][2]string{
		{"Provider Name", "Town pass"}, {"Provider URL", "http://127.0.0.1:9/.well-known/openid-configuration"}, {"Client ID", "galley"},
		{"Client Secret", "client-secret"}, {"Redirect URI", "http://127.0.0.1:9/oauth/oidc/callback"}, {"Scopes", "openid email profile groups"},
		{"Email Claim", "mail"}, {"Username Claim", "nick"}, {"Picture Claim", "face"}, {"Sub Claim", "sub"},
		{"OAuth Signup", "true"}, {"Merge Accounts by Email", "true"}, {"Allowed Domains", "contract.test"},
		{"Role Mapping", "true"}, {"Roles Claim", "ranks"}, {"Admin Roles", "chief"}, {"Allowed Roles", "clerk,chief"},
		{"Group Mapping", "true"}, {"Auto-Create Groups", "true"}, {"Group Claim", "teams"}, {"Blocked Groups", "outsiders"},
		{"Update Email", "true"}, {"Update Name", "true"}, {"Update Picture", "true"},
	}
	each := func(what func(label, value string)) {
		t.Helper()
		what("LDAP: LDAP", "true")
		for _, f := range ldap {
			what("LDAP: "+f[0], f[1])
		}
		what("OAuth / OIDC: OAuth / OIDC", "true")
		for _, f := range oauth {
			what("OAuth / OIDC: "+f[0], f[1])
		}
	}
	d.settings("admin:authentication", "Authentication")
	d.until("the switch of LDAP is loaded, after all else", `performance.getEntriesByType('resource').some(r => r.name.endsWith('/auths/admin/config/ldap'))`)
	d.settle()
	each(d.fill)
	d.save()
	d.settings("admin:authentication", "Authentication")
	each(d.shows)
	q := d.window()
	q.open("/auth")
	q.waitText("with LDAP")
	d.fill("LDAP: LDAP", "false")
	d.fill("OAuth / OIDC: OAuth / OIDC", "false")
	d.save()
	d.settings("admin:authentication", "Authentication")
	d.shows("LDAP: LDAP", "false")
	d.shows("OAuth / OIDC: OAuth / OIDC", "false")
	q.open("/auth")
	q.do("sign-in form", visible("input#email"))
}

func (d *desk) testInterface(t *testing.T) {
	d.settings("admin:interface", "Interface")
	d.fill("Title Generation Prompt", "Name this: {{MESSAGES}}")
	d.fill("Follow Up Generation", "false")
	d.fill("Autocomplete Generation", "true")
	d.fill("Autocomplete Generation Input Max Length", "123")
	d.fill("Context Compaction", "true")
	d.fill("Token Threshold", "50000")
	d.save()
	d.settings("admin:interface", "Interface")
	d.shows("Title Generation Prompt", "Name this: {{MESSAGES}}")
	d.shows("Follow Up Generation", "false")
	d.shows("Autocomplete Generation Input Max Length", "123")
	d.shows("Context Compaction", "true")
	d.shows("Token Threshold", "50000")
	d.newChat()
	d.say("nothing to follow")
	d.awaitAnswer("You said: nothing to follow")
	d.until("no questions follow", d.fetched("/api/v1/tasks/config", "x.ENABLE_FOLLOW_UP_GENERATION === false"))
}

// testDatabase saves the settings to a file, changes one, and reads the file again.
func (d *desk) testDatabase(t *testing.T) {
	dir := t.TempDir()
	if _, err := chromedp.CallBrowser(d.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir}); err != nil {
		t.Fatal(err)
	}
	downloaded := func(pattern string) string {
		t.Helper()
		var text string
		d.wait("the file "+pattern, func() bool {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(files) == 0 {
				return false
			}
			content, err := os.ReadFile(files[0])
			text = string(content)
			return err == nil && text != ""
		})
		return text
	}
	d.settings("admin:db", "Database")
	d.pressBeside("Export Config", "Export")
	config := downloaded("config-*.json")
	d.pressBeside("Users", "Export")
	if users := downloaded("users.csv"); !strings.Contains(users, `"Contract Admin","`+adminEmail+`","admin"`) {
		t.Errorf("users.csv: %s", users)
	}
	d.pressBeside("All Chats", "Export")
	if chats := downloaded("all-chats-export-*.json"); !strings.Contains(chats, "no stars please") {
		t.Errorf("the chats: %.500s", chats)
	}
	d.settings("admin:general", "General")
	d.fill("Response Watermark", "Changed since")
	d.save()
	d.settings("admin:db", "Database")
	d.upload("#config-json-input", "config.json", []byte(config))
	d.waitText("Config imported successfully")
	d.settings("admin:general", "General")
	d.shows("Response Watermark", "Made by a model")
}

// testTabs opens what is left.
func (d *desk) testTabs(t *testing.T) {
	d.settings("admin:code-execution", "Code Execution")
	d.fill("Enable Code Execution", "false")
	d.save()
	d.settings("admin:code-execution", "Code Execution")
	d.shows("Enable Code Execution", "false")
	for _, tab := range []string{"Documents", "Audio", "Images", "Web Search", "Integrations", "Sub-agents", "Pipelines", "Analytics"} {
		d.tab(tab)
		d.eventually("it is loaded", `!top().querySelector('.spinner_ajPY')`)
	}
	d.open("/admin/functions")
	d.waitText("Functions")
}
