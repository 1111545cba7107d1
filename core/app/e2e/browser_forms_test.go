package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/go-json-experiment/json"
)

// desk is what the tests of administration work with: a server, and an administrator who is signed in to a browser.
type desk struct {
	*page
	token string
}

// newDesk starts a server and a browser; the administrator's account is made by the API. Desks work side by side.
func newDesk(t *testing.T, vars ...string) *desk {
	t.Helper()
	t.Parallel()
	base := browserBase(t, vars...)
	d := &desk{page: openBrowser(t, base)}
	d.token = d.post("/api/v1/auths/signup", `{"name": "Contract Admin", "email": "`+adminEmail+`", "password": "`+adminPass+`"}`)["token"].(string)
	d.enter(adminEmail, adminPass)
	d.dismissNews()
	return d
}

// run is a sub-test on the shared page.
func (d *desk) run(name string, test func(t *testing.T)) {
	whole := d.t
	whole.Run(name, func(t *testing.T) {
		d.t = t
		defer func() { d.t = whole }()
		test(t)
		d.check()
		d.problems = nil
	})
}

// post sends JSON to the API as the administrator, and get asks it; both give the answer.
func (d *desk) post(path, body string) map[string]any {
	d.t.Helper()
	return d.call(d.token, http.MethodPost, path, body)
}

func (d *desk) get(path string) map[string]any {
	d.t.Helper()
	return d.call(d.token, http.MethodGet, path, "")
}

// call asks the API for somebody.
func (p *page) call(token, method, path, body string) map[string]any {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
	}
	var out map[string]any
	if bytes.HasPrefix(text, []byte("{")) {
		if err := json.Unmarshal(text, &out); err != nil {
			p.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return out
}

// account makes a person's account and gives its id.
func (d *desk) account(name, email, role string) string {
	d.t.Helper()
	d.post("/api/v1/auths/add", fmt.Sprintf(`{"name": %q, "email": %q, "password": %q, "role": %q}`, name, email, userPass, role))
	found := d.get("/api/v1/users/?query=" + email)["users"].([]any)
	if len(found) != 1 {
		d.t.Fatalf("%d accounts of %s", len(found), email)
	}
	return found[0].(map[string]any)["id"].(string)
}

// userPass is the password of everybody but the administrator.
const userPass = "contract-user-1"

// window opens a window for another person: cookies and storage of its own in the browser that is there already.
func (p *page) window() *page {
	p.t.Helper()
	q := &page{t: p.t, base: p.base, urls: map[network.RequestID]string{}, pending: map[network.RequestID]bool{}}
	ctx, stop := chromedp.NewContext(p.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(q.watch))
	q.ctx = ctx
	p.t.Cleanup(func() {
		q.check()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		p.t.Fatalf("open a window: %v", err)
	}
	return q
}

// enter signs in on a fresh page.
func (p *page) enter(email, password string) {
	p.t.Helper()
	p.open("/auth")
	p.signIn(email, password)
}

// as opens a window in which somebody is signed in. That is done without the form, which loads the page a second time.
func (p *page) as(email string) *page {
	p.t.Helper()
	q := p.window()
	q.open("/manifest.json")
	q.until("sign in", fmt.Sprintf(`fetch('/api/v1/auths/signin', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({email: %q, password: %q})})
		.then(r => r.json()).then(x => localStorage.token = x.token)`, email, userPass))
	q.open("/")
	q.do("chat page", visible("#chat-input"))
	return q
}

// sessionEnded loads a page and is asked to sign in. What the page that was open before asked for in vain is no problem.
func (p *page) sessionEnded() {
	p.t.Helper()
	p.open("/")
	p.do("has to sign in again", visible("input#email"))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = slices.DeleteFunc(p.problems, func(s string) bool { return strings.HasSuffix(s, ": 401") || strings.HasSuffix(s, "(in promise) ") })
}

// tolerateAll takes back as many failures of a request as there are.
func (p *page) tolerateAll(path string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = slices.DeleteFunc(p.problems, func(s string) bool {
		return strings.Contains(s, path) && strings.HasSuffix(s, fmt.Sprintf(": %d", status))
	})
}

// open loads a page anew; what it shows comes from the server.
func (p *page) open(path string) {
	p.t.Helper()
	p.do("open "+path, chromedp.Navigate(p.base+path))
}

// settings loads the page anew with a tab of the settings open, an administrator's as "admin:general".
func (p *page) settings(tab, title string) {
	p.t.Helper()
	p.open("/?settings=" + tab)
	p.titled(title)
}

// tab opens another tab of the settings that are open; of two with a title, the administrator's.
func (p *page) tab(title string) {
	p.t.Helper()
	p.eventually("open "+title, fmt.Sprintf(`(e => e && (e.click(), true))(all(top(), '[role=tab]').findLast(e => says(e, %q)))`, title))
	p.titled(title)
}

// titled waits until a tab of the settings is loaded.
func (p *page) titled(title string) {
	p.t.Helper()
	p.eventually("the settings "+title, fmt.Sprintf(`all(top(), 'h2').some(e => e.innerText.trim().startsWith(%q))`, title))
	p.settle()
}

// settle waits until the page has its answers: a form that is shown may yet be overwritten by what comes late.
func (p *page) settle() {
	p.t.Helper()
	quiet := 0
	defer func() {
		if quiet <= 3 {
			for id := range p.pending {
				p.t.Log("without an answer: ", p.urls[id])
			}
		}
	}()
	p.wait("the page's requests are answered", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if quiet++; len(p.pending) > 0 {
			quiet = 0
		}
		return quiet > 3
	})
}

// forms are functions for what people see of a form: controls by the text beside them, buttons by their text or label, in
// the dialog on top or, without one, in the page. "Section: Label" is the control in that section.
const forms = `
	const shown = e => e.getClientRects().length > 0;
	const all = (root, selector) => [...root.querySelectorAll(selector)].filter(shown);
	const says = (e, text) => e.innerText?.trim() === text || e.ariaLabel?.trim() === text || e.placeholder?.trim() === text;
	const top = () => all(document, '[role=dialog]').at(-1) ?? document.body;
	const controls = 'input:not([type=file]), select, textarea, [role=switch], [role=checkbox]';
	const control = name => {
		const [, section, label] = name.match(/^(?:([^:]+): )?(.+)$/);
		const root = section ? all(top(), 'h3').find(e => says(e, section))?.closest('section') : top();
		if (!root) return;
		const named = all(root, controls).find(e => e.ariaLabel === label || e.placeholder === label);
		if (named) return named;
		for (const text of all(root, 'label, div, span').filter(e => says(e, label))) {
			const own = text.htmlFor && document.getElementById(text.htmlFor);
			if (own && own.matches(controls)) return own;
			for (let e = text; e && e !== root.parentElement; e = e.parentElement) {
				const found = all(e, controls)[0];
				if (found) return found;
			}
		}
	};
	const toggle = e => e.matches('[role=switch], [role=checkbox], input[type=checkbox]');
	const value = e => toggle(e) ? String(e.checked ?? e.ariaChecked === 'true') : e.value;
	const is = (e, want) => value(e) === want || e.selectedOptions?.[0]?.innerText.trim() === want;
	const fill = (e, want) => {
		if (is(e, want)) return true;
		if (e.matches(':disabled')) return false;
		if (toggle(e)) e.click();
		else {
			e.value = [...e.options ?? []].find(o => o.innerText.trim() === want)?.value ?? want;
			for (const event of ['input', 'change']) e.dispatchEvent(new Event(event, {bubbles: true}));
		}
		return false;
	};
	const beside = (text, selector, name) => all(top(), 'div, tr, li').filter(e => all(e, selector).some(b => !name || says(b, name)) &&
		(e.innerText.includes(text) || all(e, 'input, textarea').some(i => i.value.includes(text)))).at(-1);
	const press = (root, text) => {
		const found = root && all(root, 'button, a, [role=menuitem]').find(e => says(e, text) && !e.disabled);
		found?.click();
		return !!found;
	};
`

// eventually waits until a JavaScript expression that may use forms is true.
func (p *page) eventually(what, expression string) {
	p.t.Helper()
	p.until(what, "(() => {"+forms+"return "+expression+";})()")
}

// fill gives a control a value: a text, an option, "true" or "false" for a switch.
func (p *page) fill(label, value string) {
	p.t.Helper()
	p.eventually("set "+label+" to "+value, fmt.Sprintf(`(e => e && fill(e, %q))(control(%q))`, value, label))
}

// shows waits until a control has a value.
func (p *page) shows(label, value string) {
	p.t.Helper()
	p.eventually(label+" is "+value, fmt.Sprintf(`(e => e && is(e, %q))(control(%q))`, value, label))
}

// press presses a button.
func (p *page) press(text string) {
	p.t.Helper()
	p.eventually("press "+text, fmt.Sprintf(`press(top(), %q)`, text))
}

// choose presses an entry of the menu that is open.
func (p *page) choose(text string) {
	p.t.Helper()
	p.eventually("choose "+text, fmt.Sprintf(`press(all(document, '[role=menu]').at(-1), %q)`, text))
}

// pressBeside presses the button that is nearest to a text, or to a field with it, as in a row of a table.
func (p *page) pressBeside(text, button string) {
	p.t.Helper()
	p.eventually("press "+button+" beside "+text, fmt.Sprintf(`press(beside(%q, 'button', %q), %q)`, text, button, button))
}

// fillBeside sets the switch that is nearest to a text, and showsBeside waits until it is set so.
func (p *page) fillBeside(text, value string) {
	p.t.Helper()
	p.eventually("set the switch beside "+text+" to "+value, fmt.Sprintf(`(e => e && fill(all(e, '[role=switch]')[0], %q))(beside(%q, '[role=switch]'))`, value, text))
}

func (p *page) showsBeside(text, value string) {
	p.t.Helper()
	p.eventually("the switch beside "+text+" is "+value, fmt.Sprintf(`(e => e && is(all(e, '[role=switch]')[0], %q))(beside(%q, '[role=switch]'))`, value, text))
}

// dialog waits until a dialog with a text is on top, and noDialog until there is none.
func (p *page) dialog(text string) {
	p.t.Helper()
	p.eventually("the dialog "+text, fmt.Sprintf(`top() !== document.body && top().innerText.includes(%q)`, text))
}

func (p *page) noDialog() {
	p.t.Helper()
	p.eventually("the dialog is closed", `top() === document.body`)
}

// waitGone waits until the page does not show a text.
func (p *page) waitGone(text string) {
	p.t.Helper()
	p.until("until gone: "+text, fmt.Sprintf("!document.body.innerText.includes(%q)", text))
}

// evaluate is the text that an expression, or the promise that it gives, comes to.
func (p *page) evaluate(expression string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression, func(e *cdpruntime.EvaluateParams) { yes := true; e.AwaitPromise = &yes }))
	if err != nil {
		p.failed(expression, err)
	}
	return text
}

// wait waits for something outside of the page.
func (p *page) wait(what string, done func() bool) {
	p.t.Helper()
	for end := time.Now().Add(stepTimeout); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			p.failed(what, context.DeadlineExceeded)
		}
	}
}

// upload chooses a file in the hidden field of a selector.
func (p *page) upload(selector, name string, content []byte) {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.do("choose a file", chromedp.SetUploadFiles(chromedp.CSS(selector), []string{file}))
}
