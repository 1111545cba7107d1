package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// newKeyedModels is a server for OpenAI's and Ollama's clients: the former needs the key "good-key" for its two models.
func newKeyedModels(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good-key" {
			answer(w, http.StatusUnauthorized, `{"error": {"message": "no such key"}}`)
			return
		}
		answer(w, http.StatusOK, `{"object": "list", "data": [{"id": "alpha", "object": "model", "owned_by": "x"}, {"id": "beta", "object": "model", "owned_by": "x"}]}`)
	})
	for path, body := range map[string]string{
		"version": `{"version": "0.9.1"}`,
		"ps":      `{"models": []}`,
		"tags": `{"models": [{"name": "llama:1b", "model": "llama:1b", "modified_at": "2026-01-01T00:00:00Z", "size": 1, "digest": "d",
			"details": {"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "1B", "quantization_level": "Q4"}}]}`,
	} {
		mux.HandleFunc("GET /api/"+path, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, body) })
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// offered waits until the models in a chat's list are those.
func (p *page) offered(models ...string) {
	p.t.Helper()
	p.newChat()
	p.until("the models are "+strings.Join(models, " "), p.fetched("/api/models", fmt.Sprintf("x.data.filter(m => !m.arena && !m.info?.meta?.hidden).map(m => m.id).sort().join() === %q", strings.Join(models, ","))))
	p.click("#model-selector-model-button", "")
	p.eventually("they are listed", fmt.Sprintf(`(l => l.length === %d && %s)(all(document, '#model-selector-list [role=option]'))`, len(models), listed(models)))
}

func listed(models []string) string {
	parts := []string{"true"}
	for _, m := range models {
		parts = append(parts, fmt.Sprintf("l.some(e => e.innerText.toLowerCase().includes(%q))", m))
	}
	return strings.Join(parts, " && ")
}

// testConnections adds a provider with a key, a prefix and one of its models, switches it off and removes it.
func (d *desk) testConnections(t *testing.T, other string) {
	url := other + "/v1"
	d.settings("admin:connections", "Connections")
	d.press("Add Connection")
	d.dialog("Connection Type")
	d.fill("API Base URL", url+"/")
	d.fill("API Key", "bad-key")
	d.press("Verify Connection")
	d.waitText("OpenAI: ")
	d.tolerate("/openai/verify", 401)
	d.fill("API Key", "good-key")
	d.press("Verify Connection")
	d.waitText("Server connection verified")
	d.press("Advanced")
	d.fill("Prefix ID", "second")
	d.fill("Add a model ID", "beta")
	d.press("Add")
	d.waitText("beta")
	d.press("Save")
	d.waitText("OpenAI API settings updated")
	d.offered(browserModel, "second.beta")

	d.settings("admin:connections", "Connections")
	d.showsBeside(url, "true")
	d.shotStill("admin-connections")
	d.pressBeside(url, "Configure")
	d.dialog("Edit Connection")
	d.shows("API Base URL", url)
	d.shows("API Key", "good-key")
	d.press("Advanced")
	d.shows("Prefix ID", "second")
	d.waitText("beta")
	d.press("Remove beta from list.")
	d.fill("Prefix ID", "other")
	d.press("Save")
	d.waitText("OpenAI API settings updated")
	d.offered(browserModel, "other.alpha", "other.beta")

	d.settings("admin:connections", "Connections")
	d.fillBeside(url, "false")
	d.waitText("OpenAI API settings updated")
	d.settings("admin:connections", "Connections")
	d.showsBeside(url, "false")
	d.offered(browserModel)

	d.settings("admin:connections", "Connections")
	d.pressBeside(url, "Configure")
	d.dialog("Edit Connection")
	d.press("Delete")
	d.dialog("Are you sure")
	d.press("Delete")
	d.waitText("OpenAI API settings updated")
	d.settings("admin:connections", "Connections")
	d.eventually("one is left", `all(top(), 'input[readonly]').length === 1`)

	// direct connections are a switch that saves itself
	d.fill("Direct Connections", "true")
	d.waitText("Connections settings updated")
	d.settings("admin:connections", "Connections")
	d.shows("Direct Connections", "true")
}

func (d *desk) testOllama(t *testing.T, other string) {
	d.settings("admin:connections", "Connections")
	d.fill("Ollama API", "true")
	d.waitText("Ollama API settings updated")
	d.settings("admin:connections", "Connections")
	d.shows("Ollama API", "true")
	d.pressBeside(other, "Configure")
	d.dialog("Edit Connection")
	d.press("Verify Connection")
	d.waitText("Server connection verified")
	d.press("Advanced")
	d.fill("Prefix ID", "home")
	d.press("Save")
	d.waitText("Ollama API settings updated")
	d.offered(browserModel, "home.llama:1b")
	d.settings("admin:connections", "Connections")
	d.pressBeside(other, "Manage")
	d.dialog("Manage Ollama")
	d.press("Close")
	d.fillBeside(other, "false")
	d.waitText("Ollama API settings updated")
	d.offered(browserModel)
	d.settle()
	d.tolerate("/ollama/api/version", 500) // the reference has none either, with every server off
	d.settings("admin:connections", "Connections")
	d.showsBeside(other, "false")
	d.fill("Ollama API", "false")
	d.waitText("Ollama API settings updated")
}

// testModels has three models; an ordinary person sees what became of them.
func (d *desk) testModels(t *testing.T) {
	d.account("Moe Models", "moe@contract.test", "user")
	for _, id := range []string{"preset-a", "preset-b"} {
		d.post("/api/v1/models/create", fmt.Sprintf(`{"id": %q, "name": %q, "base_model_id": %q, "meta": {}, "params": {}, "is_active": true, "access_grants": []}`, id, strings.ToUpper(id), browserModel))
	}
	menu := func(model, entry, toast string) {
		t.Helper()
		d.eventually("the menu of "+model, fmt.Sprintf(`press(document.getElementById(%q), 'More Options')`, "model-item-"+model))
		d.choose(entry)
		d.waitText(toast)
	}
	openModels := func() {
		t.Helper()
		d.settings("admin:models", "Models")
		d.eventually("the models are listed", `all(top(), '#model-list > div').length === 3`)
	}
	openModels()
	for _, model := range []string{browserModel, "preset-a", "preset-b"} {
		menu(model, "Make Public", "")
	}
	menu("preset-a", "Hide Model", "Model preset-a is now hidden")
	menu("preset-b", "Set as Selected Model", "Model added to selected models")
	menu("preset-b", "Set as Pinned Model", "Model added to pinned models")
	openModels()
	d.eventually("it is marked", `document.getElementById('model-item-preset-b').innerText.includes('Selected') && document.getElementById('model-item-preset-b').innerText.includes('Pinned')`)

	q := d.as("moe@contract.test")
	q.waitText("PRESET-B") // chosen by itself
	q.offered(browserModel, "preset-b")

	// the order
	d.dragModel("preset-b", browserModel)
	d.press("Save")
	d.eventually("it is saved", `all(top(), 'button').find(e => says(e, 'Save')).disabled`)
	d.settle()
	openModels()
	d.eventually("the order is kept", `all(top(), '#model-list > div')[0].id === 'model-item-preset-b'`)
	q.until("for everybody", q.fetched("/api/models", `x.data[0].id === 'preset-b'`))

	// one is switched off, and one changed
	d.fillBeside("PRESET-B", "false")
	d.until("it is off", d.fetched("/api/models", `!x.data.some(m => m.id === 'preset-b')`))
	openModels()
	d.showsBeside("PRESET-B", "false")
	d.eventually("edit", fmt.Sprintf(`press(document.getElementById(%q), 'Edit')`, "model-item-"+browserModel))
	d.fill("Model Name", "Parrot")
	d.fill("System Prompt", "Say it again.")
	d.press("Save & Update")
	d.waitText("Model updated successfully")
	openModels()
	d.waitText("Parrot")
	d.eventually("edit again", fmt.Sprintf(`press(document.getElementById(%q), 'Edit')`, "model-item-"+browserModel))
	d.waitText("Say it again.")
	q.open("/")
	q.waitText("Parrot") // the one that is left
}

// dragModel drags one model to the place of another, as the list's script sees a mouse do it.
func (d *desk) dragModel(from, to string) {
	d.t.Helper()
	d.eventually("drag "+from, fmt.Sprintf(`(async () => {
		const item = document.getElementById('model-item-' + %q), target = document.getElementById('model-item-' + %q);
		const handle = item.querySelector('.model-item-handle');
		const box = target.getBoundingClientRect();
		const at = {bubbles: true, cancelable: true, button: 0, clientX: box.x + 20, clientY: box.y + 2, dataTransfer: new DataTransfer()};
		const from = handle.getBoundingClientRect();
		const frame = () => new Promise(requestAnimationFrame);
		handle.dispatchEvent(new PointerEvent('pointerdown', {...at, clientX: from.x + 2, clientY: from.y + 2, pointerType: 'mouse'}));
		await frame();
		item.dispatchEvent(new DragEvent('dragstart', {...at, clientX: from.x + 2, clientY: from.y + 2}));
		for (let i = 0; i < 5; i++) {
			await new Promise(r => setTimeout(r, 50)); // the list's script moves things by a timer
			target.dispatchEvent(new DragEvent('dragenter', at));
			target.dispatchEvent(new DragEvent('dragover', at));
		}
		item.dispatchEvent(new DragEvent('drop', at));
		item.dispatchEvent(new DragEvent('dragend', at));
		await frame();
		return document.querySelector('#model-list > div').id === item.id;
	})()`, from, to))
}

func (d *desk) testEvaluations(t *testing.T) {
	d.settings("admin:evaluations", "Evaluations")
	d.fill("Arena Models", "true")
	d.press("Add Arena Model")
	d.dialog("Add Arena Model")
	d.fill("Model Name", "Duel")
	d.fill("Model ID", "duel")
	d.fill("Enter description", "Two of them")
	d.press("Save")
	d.save()
	d.settings("admin:evaluations", "Evaluations")
	d.shows("Arena Models", "true")
	d.waitText("Duel")
	d.newChat()
	d.click("#model-selector-model-button", "")
	d.waitText("Duel")
	d.open("/admin/evaluations/leaderboard")
	d.waitText("Leaderboard")
	d.open("/admin/evaluations/feedback")
	d.waitText("Feedback")
}
