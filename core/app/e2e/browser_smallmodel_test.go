package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// smallModelPatience is how long the small model may take to answer on a busy machine.
const smallModelPatience = 3 * time.Minute

// TestBrowserSmallModel has a person chat with a real model, whose server GALLEY_SMALL_MODEL names by its URL (see
// deployments/smallmodel). What it says is its own affair; that it says something is not.
func TestBrowserSmallModel(t *testing.T) {
	model := os.Getenv("GALLEY_SMALL_MODEL")
	if model == "" {
		t.Skip("GALLEY_SMALL_MODEL is not set")
	}
	d := newDesk(t, "OPENAI_API_BASE_URL="+model, "ENABLE_TITLE_GENERATION=false", "ENABLE_TAGS_GENERATION=false", "ENABLE_FOLLOW_UP_GENERATION=false")
	d.newChat()
	d.until("a model is chosen", `document.querySelector('#model-selector-model-button')?.ariaLabel.startsWith('Selected model')`)
	d.say("What is the capital of France?")
	const text = `([...document.querySelectorAll('[role=log] [role=listitem]')].at(-1)?.querySelector('[id^=response-content-container]')?.innerText ?? '').trim()`
	began := time.Now()
	for d.evaluate(fmt.Sprintf(`String(!document.querySelector('button[aria-label=Stop]') && %s !== '')`, text)) != "true" {
		if time.Since(began) > smallModelPatience {
			t.Fatal("no answer")
		}
		time.Sleep(100 * time.Millisecond)
	}
	said := d.evaluate(text)
	t.Logf("after %v: %s", time.Since(began).Round(time.Millisecond), said)
	d.shotStill("small-model")
	d.do("reload", chromedp.Reload())
	d.until("it is kept", fmt.Sprintf(`%s === %q`, text, said))
	d.check()
}
