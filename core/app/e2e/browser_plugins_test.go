package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/galleychat/galley/core/plugin"
)

// TestBrowserPlugins goes through what people see of plugins in the unmodified frontend.
func TestBrowserPlugins(t *testing.T) {
	if os.Getenv("GALLEY_BROWSER") == "" {
		t.Skip("GALLEY_BROWSER is not set")
	}
	folder := t.TempDir()
	for _, kind := range []string{"talker", "adder", "editor"} {
		putPlugin(t, folder, kind, plugin.Manifest{})
	}
	s := start(t, "DATA_DIR="+dataWithFrontend(t), "PLUGINS_DIR="+folder, "ENABLE_OPENAI_API=false", "ENABLE_OLLAMA_API=false", "ENABLE_VERSION_UPDATE_CHECK=false")
	p := openBrowser(t, s.url)
	p.signUp()
	p.testPluginModel()
	p.testPluginTool()
	p.testPluginValves()
	p.testPluginRefusal()
	p.testPluginCrash()
	// what is dropped in while the page is open is there when it is loaded again
	putPlugin(t, folder, "late", plugin.Manifest{Name: "Latecomer"})
	p.until("the new plugin's tools are listed", p.fetched("/api/v1/tools/", `x.some(s => s.id === 'plugin:late')`))
	p.newChat()
	p.openTools()
	p.waitText("Latecomer")
	p.check()
}

// shotStill is shot once nothing moves any more and messages that come and go have gone.
func (p *page) shotStill(name string) {
	p.t.Helper()
	p.until("stand still", `!document.querySelector('[data-sonner-toast]') &&
		document.getAnimations().every(a => a.playState !== 'running' || a.effect.getTiming().iterations === Infinity)`)
	p.shot(name)
}

// fetched is an expression that asks the API and looks at the answer x.
func (p *page) fetched(path, expression string) string {
	return fmt.Sprintf(`fetch(%q, {headers: {Authorization: 'Bearer ' + localStorage.token}}).then(r => r.json()).then(x => %s)`, path, expression)
}

func (p *page) newChat() {
	p.t.Helper()
	p.do("open a new chat", chromedp.Navigate(p.base+"/"), visible("#chat-input"))
}

// click clicks the first visible element of a selector whose text or label contains a text.
func (p *page) click(selector, text string) {
	p.t.Helper()
	p.until("click "+text, fmt.Sprintf(`(() => {
		const found = [...document.querySelectorAll(%q)].find(e => e.offsetParent !== null && (e.innerText + ' ' + e.ariaLabel).includes(%q));
		found?.click();
		return !!found;
	})()`, selector, text))
}

// answer is an expression for the text of the last message, without its line breaks: the message's field sends some too.
const answer = `([...document.querySelectorAll('[role=log] [role=listitem]')].at(-1)?.innerText ?? '').replace(/\s+/g, ' ')`

// awaitAnswer waits until the last message contains a text and is complete.
func (p *page) awaitAnswer(text string) {
	p.t.Helper()
	p.until("the answer "+text, fmt.Sprintf(`(%s).includes(%q)`, answer, text))
	p.until("the end of the answer", `!document.querySelector('button[aria-label=Stop]')`)
}

// testPluginModel chooses a model of a plugin and has it answer, think, and be stopped.
func (p *page) testPluginModel() {
	p.t.Helper()
	p.click("#model-selector-model-button", "Talker")
	p.until("both models are listed", `document.querySelectorAll('#model-selector-list [role=option]').length === 2`)
	p.shotStill("plugin-models")
	p.click("#model-selector-list [role=option]", "Talker Small")
	p.until("it is chosen", `document.querySelector('#model-selector-model-button').ariaLabel.includes('Talker Small')`)
	p.say("good day")
	p.awaitAnswer("You said: good day")
	p.waitText("Echo Title") // its tasks are done too

	// reasoning is folded away
	p.say("think about lunch")
	p.awaitAnswer("You said: think about lunch")
	const thought = "Let me weigh this carefully."
	p.until("the thought is hidden", fmt.Sprintf(`!document.body.innerText.includes(%q)`, thought))
	p.click("[role=log] button", "Thought for")
	p.waitText(thought)

	// stop, while words come
	p.say("an endless tale")
	p.until("the first words", fmt.Sprintf(`(%s).includes('on and on on and on')`, answer))
	p.until("more words", fmt.Sprintf(`(window.before ??= (%s).length) < (%s).length`, answer, answer))
	p.click("button", "Stop")
	p.until("it has stopped", `!document.querySelector('button[aria-label=Stop]')`)
	p.until("the plugin is told", p.fetched("/api/v1/plugins/talker/stopped", `x > 0`))
	p.say("and now this")
	p.awaitAnswer("You said: and now this")
	p.do("reload", chromedp.Reload())
	p.awaitAnswer("You said: and now this")
	p.waitText("on and on")
}

// openTools opens the menu of tools.
func (p *page) openTools() {
	p.t.Helper()
	p.click("#integration-menu-button", "Integrations")
	p.click("[role=menuitem]", "Tools")
}

// testPluginTool switches a plugin's tools on and has the model call one.
func (p *page) testPluginTool() {
	p.t.Helper()
	p.newChat()
	p.openTools()
	p.click("[role=menuitemcheckbox]", "Calculator")
	p.until("it is on", `!!document.querySelector('button[aria-label="Available Tools"]')`)
	p.closeMenu()
	p.say("what is the sum")
	p.waitText("Adding numbers") // while it runs
	p.awaitAnswer(`"sum": 42`)
	p.toolCallShown()
	p.shotStill("plugin-tool-call")
	p.do("reload", chromedp.Reload())
	p.awaitAnswer(`"sum": 42`)
	p.toolCallShown()
}

// closeMenu closes a menu by a click into the message's field.
func (p *page) closeMenu() {
	p.t.Helper()
	p.do("close the menu", chromedp.Click(chromedp.CSS("#chat-input")))
	p.until("the menu is closed", `!document.querySelector('[role=menuitemcheckbox]')`)
}

// toolCallShown opens the call of the tool in an answer and looks for its parts.
func (p *page) toolCallShown() {
	p.t.Helper()
	p.waitText("Added numbers")
	p.waitText("The tool says")
	p.click("[role=log] [role=button]", "add")
	for _, part := range []string{"19", "23", "42"} {
		p.until("the call has "+part, fmt.Sprintf(`(document.querySelector('[id$=tool-call]')?.innerText ?? '').includes(%q)`, part))
	}
}

// openPipelines opens the page of pipelines in the administrator's settings.
func (p *page) openPipelines() {
	p.t.Helper()
	p.do("open the settings", chromedp.Navigate(p.base+"/admin/settings/pipelines"))
	p.until("the plugins are listed", `[...document.querySelectorAll('select#pipeline option')].some(e => e.innerText.includes('Editor (filter)'))`)
	p.until("the form is there", `!!document.querySelector('form select:not([id])')`)
}

// Valves of the editor, as the form names them. A valve that is null has a button but no field.
const valve = `((label) => {
	const of = [...document.querySelectorAll('form button[id$="-control"]')].map(button => {
		let row = button;
		while (row.parentElement && row.parentElement.querySelectorAll('button[id$="-control"]:not([role=switch])').length < 2) row = row.parentElement;
		return {button, row};
	}).find(v => v.button.role !== 'switch' && v.row.innerText.trim().startsWith(label));
	return of && {...of, field: of.row.querySelector('input, select, [role=switch]')};
})`

// setValve gives a valve a value as somebody does who types it, or flips its switch.
func (p *page) setValve(label, value string) {
	p.t.Helper()
	p.until("set "+label, fmt.Sprintf(`(() => {
		const v = %s(%q);
		if (!v) return false;
		if (!v.field) { v.button.click(); return false; } // from None to a value
		if (v.field.role === 'switch') { v.field.click(); return true; }
		v.field.value = %q;
		for (const event of ['input', 'change']) v.field.dispatchEvent(new Event(event, {bubbles: true}));
		return true;
	})()`, valve, label, value))
}

// awaitValve waits until the form shows a value.
func (p *page) awaitValve(label, value string) {
	p.t.Helper()
	p.until(label+" is "+value, fmt.Sprintf(`(() => {
		const field = %s(%q)?.field;
		return field && (field.role === 'switch' ? String(field.ariaChecked ?? field.dataset.state) : field.value) === %q;
	})()`, valve, label, value))
}

// testPluginValves changes each kind of valve and sees what comes of it.
func (p *page) testPluginValves() {
	p.t.Helper()
	p.openPipelines()
	p.awaitValve("Ending", "none")
	p.setValve("Prefix", "Edited: ")
	p.setValve("Words", "4")
	p.setValve("Capitals", "")
	p.setValve("Ending", "please")
	p.setValve("Hidden words", "red, blue")
	p.click("form button", "Save")
	p.waitText("Valves updated successfully")
	for range 2 {
		p.awaitValve("Prefix", "Edited: ")
		p.awaitValve("Words", "4")
		p.awaitValve("Capitals", "true")
		p.awaitValve("Ending", "please")
		p.awaitValve("Hidden words", "red, blue")
		p.openPipelines()
	}
	p.until("see all valves", `(document.querySelector('select#pipeline').scrollIntoView(), true)`)
	p.shotStill("plugin-pipelines")
	p.newChat()
	p.say("the blue sky")
	p.awaitAnswer("You said: Edited: THE *** SKY please")

	// back to nothing, and what the plugin refuses
	p.openPipelines()
	p.setValve("Words", "-1")
	p.click("form button", "Save")
	p.waitText("must be at least 0")
	p.tolerate("/api/v1/pipelines/editor/valves/update", 400)
	p.openPipelines()
	p.awaitValve("Words", "4")
	p.setValve("Capitals", "")
	p.setValve("Ending", "none")
	p.click("form button", "Save")
	p.waitText("Valves updated successfully")
	p.newChat()
	p.say("the blue sky")
	p.awaitAnswer("You said: Edited: the *** sky")
}

// testPluginRefusal says what the filter refuses.
func (p *page) testPluginRefusal() {
	p.t.Helper()
	p.say("now this is far too long")
	p.awaitAnswer("6 words are too many, 4 are allowed.")
	p.shotStill("plugin-refusal")
	p.do("reload", chromedp.Reload())
	p.awaitAnswer("6 words are too many, 4 are allowed.")
	p.say("short again")
	p.awaitAnswer("You said: Edited: short again")
}

// testPluginCrash has the model's process end in the middle of an answer.
func (p *page) testPluginCrash() {
	p.t.Helper()
	p.say("now crash")
	p.awaitAnswer("dark and stormy night")
	p.awaitAnswer("the plugin talker has ended")
	p.shotStill("plugin-crash")
	p.until("the model is back", p.fetched("/api/models", `x.data.some(m => m.id === 'talker-large')`))
	p.do("reload", chromedp.Reload())
	p.awaitAnswer("the plugin talker has ended")
	p.say("good evening")
	p.awaitAnswer("You said: Edited: good evening")
}

// tolerate takes a failed request back that was meant to fail; it is an error if it did not.
func (p *page) tolerate(path string, status int) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, problem := range p.problems {
		if strings.Contains(problem, path) && strings.HasSuffix(problem, fmt.Sprintf(": %d", status)) {
			p.problems = append(p.problems[:i], p.problems[i+1:]...)
			return
		}
	}
	p.t.Errorf("%s did not answer %d", path, status)
}
