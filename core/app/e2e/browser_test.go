package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browserBase is the server that the browser tests drive: GALLEY_BROWSER is its address, or "1" to have one started with
// the frontend at GALLEY_FRONTEND (a folder that "galley frontend install" made), a model that echoes, and variables.
func browserBase(t *testing.T, vars ...string) string {
	t.Helper()
	v := os.Getenv("GALLEY_BROWSER")
	switch {
	case v == "":
		t.Skip("GALLEY_BROWSER is not set")
	case strings.HasPrefix(v, "http"):
		return strings.TrimRight(v, "/")
	}
	s := start(t, append([]string{"DATA_DIR=" + dataWithFrontend(t), "OPENAI_API_BASE_URL=" + newModels(t).URL + "/v1", "OPENAI_API_KEY=k",
		"ENABLE_OLLAMA_API=false", "ENABLE_VERSION_UPDATE_CHECK=false"}, vars...)...)
	t.Cleanup(func() {
		select {
		case <-s.exited:
			t.Errorf("the server has ended: %v\n%s", s.err, s.logged())
		default:
		}
	})
	return s.url
}

// dataWithFrontend is a data folder with the installed frontend.
func dataWithFrontend(t *testing.T) string {
	t.Helper()
	data := t.TempDir()
	installed := os.Getenv("GALLEY_FRONTEND")
	if installed == "" {
		t.Fatal("GALLEY_FRONTEND does not say where the frontend is installed")
	}
	if err := os.Symlink(installed, filepath.Join(data, "frontend")); err != nil {
		t.Fatal(err)
	}
	return data
}

// page is a browser window with its own profile, and what went wrong in it.
type page struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	urls     map[network.RequestID]string
	loader   cdp.LoaderID               // of the page that is shown
	pending  map[network.RequestID]bool // its scripts' requests that have no answer yet
	problems []string
}

func openBrowser(t *testing.T, base string) *page {
	t.Helper()
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.NoFirstRun,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 860), chromedp.WSURLReadTimeout(60*time.Second))
	p := &page{t: t, base: base, urls: map[network.RequestID]string{}, pending: map[network.RequestID]bool{}}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stop := chromedp.NewContext(alloc, chromedp.WithListener(p.watch))
	p.ctx = ctx
	t.Cleanup(func() { stop(); stopAlloc() })
	// The first run starts the browser, which lives as long as this context.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	return p
}

// watch notes every failed request to the API and every error of the page.
func (p *page) watch(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		p.urls[e.RequestID] = e.Request.Method + " " + e.Request.URL
		switch e.Type {
		case network.ResourceTypeDocument:
			clear(p.pending) // nobody waits for the answers to the page before
			p.loader = e.LoaderID
		case network.ResourceTypeFetch:
			if e.LoaderID != p.loader {
				break
			}
			p.pending[e.RequestID] = true
		}
	case *network.EventResponseReceived:
		delete(p.pending, e.RequestID)
		if e.Response.Status >= 400 && strings.HasPrefix(e.Response.URL, p.base) && !tolerated(p.urls[e.RequestID], e.Response.Status) {
			p.problems = append(p.problems, fmt.Sprintf("%s: %d", p.urls[e.RequestID], e.Response.Status))
		}
	case *network.EventLoadingFailed:
		delete(p.pending, e.RequestID)
		if u := p.urls[e.RequestID]; strings.Contains(u, p.base) && !e.Canceled && e.ErrorText != "net::ERR_ABORTED" {
			p.problems = append(p.problems, u+": "+e.ErrorText)
		}
	case *cdpruntime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		if !strings.Contains(text, onboardingError) {
			p.problems = append(p.problems, "page error: "+text)
		}
	}
}

// onboardingError is the frontend's own: its welcome page plays a film that it may have removed by then. It comes with
// the reference as well.
const onboardingError = "Cannot read properties of null (reading 'play')"

// tolerated are failures that the frontend meets with the reference as well: the session is asked for before there is
// one, and channels are refused while they are off.
func tolerated(request string, status int64) bool {
	return strings.HasSuffix(request, "/api/v1/auths/") && status == 401 || strings.HasSuffix(request, "/api/v1/channels/") && status == 403
}

func (p *page) check() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		p.t.Error(problem)
	}
}

// stepTimeout is how long one step may take.
const stepTimeout = 45 * time.Second

func (p *page) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.failed(what, err)
	}
}

func (p *page) failed(what string, err error) {
	p.t.Helper()
	p.shot("failed-" + strings.ReplaceAll(p.t.Name(), "/", "-"))
	text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("([...document.querySelectorAll('[role=dialog]')].at(-1) ?? document.body).innerText"))
	p.t.Fatalf("%s: %v\nproblems: %v\nthe page says: %.1500s", what, err, p.problems, text)
}

// until waits until a JavaScript expression, or the promise that it gives, is true. A navigation in between is no failure.
func (p *page) until(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	for {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool]("Promise.resolve("+expression+").then(Boolean)", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0)))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			p.failed(what, err)
		}
	}
}

func visible(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

func typeInto(selector, text string) chromedp.Action[chromedp.Void] {
	return chromedp.SendKeys(chromedp.CSS(selector), text)
}

// shot keeps a picture of the page in the folder GALLEY_SCREENSHOTS.
func (p *page) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("GALLEY_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Logf("screenshot %s: %v", name, err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Error(err)
	}
}

// waitText waits until the page shows a text.
func (p *page) waitText(text string) {
	p.t.Helper()
	p.until("wait for "+text, fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// clickText clicks the first visible button or link with a text.
func (p *page) clickText(text string) {
	p.t.Helper()
	p.until("click "+text, fmt.Sprintf(`(() => {
		const found = [...document.querySelectorAll('button, a, [role=menuitem]')].find(e => e.innerText.trim() === %q && e.offsetParent !== null);
		if (!found) return false;
		found.click();
		return true;
	})()`, text))
}

// dismissNews closes the release notes that an administrator is shown once.
func (p *page) dismissNews() {
	p.t.Helper()
	p.until("release notes", `(() => {
		const close = [...document.querySelectorAll('button')].find(e => /let's go/i.test(e.innerText));
		if (close) { close.click(); return false; }
		return document.querySelector('#chat-input') !== null;
	})()`)
}

func (p *page) say(text string) {
	p.t.Helper()
	p.do("type a message",
		visible("#chat-input"),
		chromedp.Click(chromedp.CSS("#chat-input")),
		typeInto("#chat-input", text))
	p.until("see it typed", fmt.Sprintf("document.querySelector('#chat-input').innerText.includes(%q)", text))
	p.do("send it", typeInto("#chat-input", kb.Enter))
}

const (
	browserModel = "echo-small"
	adminEmail   = "admin@contract.test"
	adminPass    = "contract-admin-1"
)

// TestBrowser is a newcomer's way through the unmodified frontend.
func TestBrowser(t *testing.T) {
	base := browserBase(t)
	p := openBrowser(t, base)

	p.signUp()

	// a streamed answer
	p.waitText(browserModel) // the first model is chosen by itself
	p.say("a walk in the park")
	p.waitText("You said: a walk in the park")
	p.until("the chat has an address", "location.pathname.startsWith('/c/')")
	p.waitText("Echo Title")
	p.waitText("First question?")
	p.shot("chat")

	// everything is there after a reload
	p.do("reload", chromedp.Reload())
	p.waitText("You said: a walk in the park")
	p.waitText("Echo Title")

	// rename
	p.rename("Echo Title", "Park plans")
	p.do("reload", chromedp.Reload())
	p.waitText("Park plans")
	p.shot("renamed")

	// sign out and in again
	p.signOut()
	p.signIn(adminEmail, adminPass)
	p.waitText("Park plans")

	// a second user, who sees none of it
	p.addUser("Bea Second", "bea@contract.test", "contract-user-1")
	q := openBrowser(t, base)
	q.do("open", chromedp.Navigate(base+"/"))
	q.signIn("bea@contract.test", "contract-user-1")
	q.do("chat page", visible("#chat-input"))
	text, err := chromedp.Run(q.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		q.failed("read", err)
	}
	if strings.Contains(text, "Park plans") {
		t.Error("the second user sees the first one's chat")
	}
	q.shot("second-user")
	p.check()
	q.check()
}

// signUp makes the first account, an administrator's.
func (p *page) signUp() {
	p.t.Helper()
	p.do("open the start page", chromedp.Navigate(p.base+"/"))
	p.until("get started", `(() => {
		if (!document.body.innerText.includes('Read the docs')) return document.querySelector('input#name') !== null;
		[...document.querySelectorAll('button')].find(e => /get started/i.test(e.innerText))?.click();
		return false;
	})()`)
	p.shot("sign-up")
	p.do("sign up",
		typeInto("input#name", "Contract Admin"),
		typeInto("input#email", adminEmail),
		typeInto("input#password", adminPass+kb.Enter))
	p.do("chat page", visible("#chat-input"))
	p.dismissNews()
}

func (p *page) signIn(email, password string) {
	p.t.Helper()
	p.do("sign in",
		visible("input#email"),
		typeInto("input#email", email),
		typeInto("input#password", password+kb.Enter))
	p.do("signed in", visible("#chat-input"))
}

func (p *page) signOut() {
	p.t.Helper()
	p.until("user menu", `(() => {
		const open = [...document.querySelectorAll('button')].find(e => /user menu|open user profile menu/i.test(e.getAttribute('aria-label') ?? ''));
		if (!open) return false;
		open.click();
		return true;
	})()`)
	p.clickText("Sign Out")
	p.do("signed out", visible("input#email"))
}

// rename changes a chat's title in the sidebar by way of its menu.
func (p *page) rename(from, to string) {
	p.t.Helper()
	p.until("double click the title", fmt.Sprintf(`(() => {
		if (document.querySelector('input[id^=chat-title-input]')) return true;
		const entry = [...document.querySelectorAll('a[href^="/c/"]')].find(e => e.innerText.includes(%q));
		if (!entry) return false;
		for (const at of [entry, entry.firstElementChild, entry.querySelector('[dir=auto]')]) {
			at?.dispatchEvent(new MouseEvent('dblclick', {bubbles: true, cancelable: true}));
		}
		return false;
	})()`, from))
	p.until("type the new title", fmt.Sprintf(`(() => {
		const input = document.querySelector('input[id^=chat-title-input]');
		if (!input) return false;
		input.value = %q;
		input.dispatchEvent(new Event('input', {bubbles: true}));
		input.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true}));
		return true;
	})()`, to))
	p.waitText(to)
}

// addUser makes an account as the administration page does.
func (p *page) addUser(name, email, password string) {
	p.t.Helper()
	status, err := chromedp.Run(p.ctx, chromedp.Evaluate[int](fmt.Sprintf(`fetch('/api/v1/auths/add', {method: 'POST',
		headers: {'Content-Type': 'application/json', Authorization: 'Bearer ' + localStorage.token},
		body: JSON.stringify({name: %q, email: %q, password: %q, role: 'user'})}).then(r => r.status)`, name, email, password),
		func(e *cdpruntime.EvaluateParams) { yes := true; e.AwaitPromise = &yes }))
	if err != nil || status != 200 {
		p.t.Fatalf("adding a user: %d, %v", status, err)
	}
}
