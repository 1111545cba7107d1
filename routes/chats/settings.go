package chats

import (
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/web"
)

type configOut struct {
	Model           string   `json:"CONTEXT_COMPACTION_MODEL"`
	Enable          bool     `json:"ENABLE_CONTEXT_COMPACTION"`
	Threshold       int      `json:"CONTEXT_COMPACTION_TOKEN_THRESHOLD"`
	Cap             int      `json:"CONTEXT_COMPACTION_TOKEN_CAP"`
	Retention       int      `json:"CONTEXT_COMPACTION_RETENTION_PERCENTAGE"`
	Template        string   `json:"CONTEXT_COMPACTION_PROMPT_TEMPLATE"`
	ToolPermissions bool     `json:"ENABLE_TOOL_PERMISSIONS"`
	ToolSearch      bool     `json:"ENABLE_TOOL_SEARCH"`
	DeferThreshold  int      `json:"TOOL_SEARCH_DEFER_THRESHOLD"`
	AlwaysLoaded    []string `json:"TOOL_SEARCH_ALWAYS_LOADED"`
	DeferBuiltin    bool     `json:"TOOL_SEARCH_DEFER_BUILTIN_TOOLS"`
}

func (m *Module) config(_ *web.Call, _ web.None) (configOut, error) {
	s := m.Settings.Snapshot()
	out := configOut{
		Model:           config.ChatContextCompactionModel.Get(s),
		Enable:          config.ChatContextCompactionEnable.Get(s),
		Threshold:       config.ChatContextCompactionTokenThreshold.Get(s),
		Retention:       config.ChatContextCompactionRetentionPercentage.Get(s),
		Template:        config.ChatContextCompactionPromptTemplate.Get(s),
		ToolPermissions: config.ChatToolPermissionsEnable.Get(s),
		ToolSearch:      config.ChatToolSearchEnable.Get(s),
		DeferThreshold:  config.ChatToolSearchDeferThreshold.Get(s),
		AlwaysLoaded:    append([]string{}, config.ChatToolSearchAlwaysLoaded.Get(s)...),
		DeferBuiltin:    config.ChatToolSearchDeferBuiltinTools.Get(s),
	}
	n, ok := config.ChatContextCompactionTokenCap.Int(s)
	if out.Cap = n; !ok {
		out.Cap = out.Threshold
	}
	return out, nil
}

type configIn struct {
	Body struct {
		Model           web.Opt[string] `json:"CONTEXT_COMPACTION_MODEL"`
		Enable          bool            `json:"ENABLE_CONTEXT_COMPACTION"`
		Threshold       web.Opt[int]    `json:"CONTEXT_COMPACTION_TOKEN_THRESHOLD"`
		Cap             web.Opt[int]    `json:"CONTEXT_COMPACTION_TOKEN_CAP"`
		Retention       web.Opt[int]    `json:"CONTEXT_COMPACTION_RETENTION_PERCENTAGE"`
		Template        string          `json:"CONTEXT_COMPACTION_PROMPT_TEMPLATE"`
		ToolPermissions bool            `json:"ENABLE_TOOL_PERMISSIONS" default:"false"`
		ToolSearch      bool            `json:"ENABLE_TOOL_SEARCH" default:"false"`
		DeferThreshold  int             `json:"TOOL_SEARCH_DEFER_THRESHOLD" default:"400"`
		AlwaysLoaded    []string        `json:"TOOL_SEARCH_ALWAYS_LOADED" default:"[]"`
		DeferBuiltin    bool            `json:"TOOL_SEARCH_DEFER_BUILTIN_TOOLS" default:"true"`
	}
}

func (m *Module) setConfig(c *web.Call, in configIn) (configOut, error) {
	f := in.Body
	start := m.Settings.Initial()
	threshold := config.ChatContextCompactionTokenThreshold.Get(start)
	if f.Threshold.Has() {
		threshold = f.Threshold.V
	}
	threshold = max(1, threshold)
	limit := f.Cap.Or(0)
	if limit == 0 {
		limit = threshold
	}
	retention := config.ChatContextCompactionRetentionPercentage.Get(start)
	if f.Retention.Has() {
		retention = f.Retention.V
	}
	loaded := []string{}
	for _, name := range f.AlwaysLoaded {
		if name = strings.TrimSpace(name); name != "" {
			loaded = append(loaded, name)
		}
	}
	err := m.Settings.Set(c.Context(), config.Changes{
		config.ChatContextCompactionModel.Key():               f.Model.Or(""),
		config.ChatContextCompactionEnable.Key():              f.Enable,
		config.ChatContextCompactionTokenThreshold.Key():      threshold,
		config.ChatContextCompactionTokenCap.Key():            max(1, limit),
		config.ChatContextCompactionRetentionPercentage.Key(): min(50, max(10, retention)),
		config.ChatContextCompactionPromptTemplate.Key():      f.Template,
		config.ChatToolPermissionsEnable.Key():                f.ToolPermissions,
		config.ChatToolSearchEnable.Key():                     f.ToolSearch,
		config.ChatToolSearchDeferThreshold.Key():             max(0, f.DeferThreshold),
		config.ChatToolSearchAlwaysLoaded.Key():               loaded,
		config.ChatToolSearchDeferBuiltinTools.Key():          f.DeferBuiltin,
	})
	if err != nil {
		return configOut{}, err
	}
	return m.config(c, web.None{})
}
