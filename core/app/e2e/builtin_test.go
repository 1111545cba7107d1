package e2e

import (
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestBrowserBuiltInPage goes the same way where no frontend is installed: the built-in page does the main job.
func TestBrowserBuiltInPage(t *testing.T) {
	if os.Getenv("GALLEY_BROWSER") == "" {
		t.Skip("GALLEY_BROWSER is not set")
	}
	s := start(t, "DATA_DIR="+t.TempDir(), "OPENAI_API_BASE_URL="+newModels(t).URL+"/v1", "OPENAI_API_KEY=k", "ENABLE_OLLAMA_API=false")
	p := openBrowser(t, s.url)
	p.do("open the page", chromedp.Navigate(s.url+"/"), visible("#sign-password"))
	p.until("the form of the first account", `document.querySelector('#sign-name')?.offsetParent != null`)
	p.do("sign up",
		typeInto("#sign-name", "Contract Admin"),
		typeInto("#sign-email", adminEmail),
		typeInto("#sign-password", adminPass+kb.Enter))
	p.do("the chat's form", visible("#input"))
	p.waitText(browserModel)
	p.do("ask", typeInto("#input", "a walk in the park"), typeInto("#input", kb.Enter))
	p.waitText("You said: a walk in the park")
	p.shot("built-in-page")
	p.do("reload", chromedp.Reload())
	p.waitText("You said: a walk in the park")
	p.check()
}
