package app

import (
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/llm/openai"
)

// openLLM makes the registry of providers and keeps its connections those of the settings.
func (a *App) openLLM() error {
	o, err := llm.ClientOptionsFromEnv(func(name string) string {
		v, _ := a.Env.Lookup(name)
		return v
	})
	if err != nil {
		return &SettingError{Err: err}
	}
	a.clientTLS = o.TLS
	o.Refused = a.providerRefused
	o.Transport = a.Obs.Tracer.Transport
	o.Headers.SystemToken = a.systemToken
	var observer llm.Observer
	if a.Obs.Metrics != nil || a.audit != nil {
		observer = llmObserver{a.Obs.Metrics, a.audit}
	}
	a.LLM = llm.New(llm.Options{
		Client:   llm.NewClient(o),
		Backends: map[llm.Kind]llm.Backend{llm.KindOpenAI: openai.Backend, llm.KindOllama: ollama.Backend},
		Observer: observer, Log: a.Log, CacheTTL: a.Env.ModelsCache,
	})
	a.connect(a.Settings.Snapshot())
	a.Settings.OnChange(func(changed []string, snap *config.Snapshot) {
		if slices.ContainsFunc(changed, isConnection) {
			a.connect(snap)
		}
	})
	return nil
}

// isConnection says whether a setting describes connections to providers.
func isConnection(key string) bool {
	return strings.HasPrefix(key, "openai.") || strings.HasPrefix(key, "ollama.")
}

func (a *App) connect(s *config.Snapshot) {
	a.LLM.Configure(llm.Settings{
		OpenAIEnable: config.OpenAIEnable.Get(s), OpenAIURLs: config.OpenAIAPIBaseURLs.Get(s),
		OpenAIKeys: config.OpenAIAPIKeys.Get(s), OpenAIConfigs: config.OpenAIAPIConfigs.Raw(s),
		OllamaEnable: config.OllamaEnable.Get(s), OllamaURLs: config.OllamaBaseURLs.Get(s),
		OllamaConfigs: config.OllamaAPIConfigs.Raw(s),
	}.Connections())
}
