package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
)

// plan is what a start writes into the table config.
type plan struct {
	put  map[string]jsontext.Value // rows that get another value
	seed map[string]jsontext.Value // rows that are missing
	gone []string                  // rows that are taken away
}

func (p plan) empty() bool { return len(p.put)+len(p.seed)+len(p.gone) == 0 }

// plan compares the rows with what the reference's start leaves behind (Config.rename_prefix, repair_config_rows,
// seed_defaults and migrate_access_control), in its order: keys of older versions are renamed, objects that were stored
// member by member are put together, every setting gets a row, and rules of access become grants.
func (s *Settings) plan(rows map[string]jsontext.Value) plan {
	rows = maps.Clone(rows)
	p := plan{put: map[string]jsontext.Value{}, seed: map[string]jsontext.Value{}}
	put := func(key string, raw jsontext.Value) { rows[key], p.put[key] = raw, raw }
	remove := func(key string) {
		delete(rows, key)
		delete(p.put, key)
		p.gone = append(p.gone, key)
	}
	renamePrefix(rows, "rag.web.", "web.", put, remove)
	joinObjects(rows, put, remove)
	for _, k := range []String{UIDefaultModels, UIDefaultPinnedModels} {
		if raw, ok := rows[k.Key()]; ok && raw.Kind() == '[' {
			put(k.Key(), joinModels(raw))
		}
	}
	for i := range definitions {
		key := definitions[i].Key
		if _, there := rows[key]; !there && !definitions[i].Unseeded && s.stored(key) {
			p.seed[key] = s.initial.slots[i].raw
		}
	}
	for k, inner := range map[JSON]string{ToolServerConnections: "config", EvaluationArenaModels: "meta"} {
		if list, changed := grants(jsondoc.Doc(rows[k.Key()]), inner); changed {
			put(k.Key(), jsontext.Value(list))
		}
	}
	return p
}

// grants rewrites the access_control of each of a list's objects, in the member inner, as access_grants. An object that
// had none there was open to all, which an empty list no longer says; the reference leaves it at that.
func grants(list jsondoc.Doc, inner string) (jsondoc.Doc, bool) {
	items := list.List()
	changed := false
	for i, item := range items {
		rules := item.Get(inner, "access_control")
		if rules == nil || item.Get(inner, "access_grants") != nil {
			continue
		}
		changed = true
		out := []jsondoc.Doc{}
		for _, permission := range []string{"read", "write"} {
			for _, kind := range []string{"group", "user"} {
				for _, id := range rules.Get(permission, kind+"_ids").List() {
					var b jsondoc.Builder
					b.Add("principal_type", kind)
					b.Raw("principal_id", id)
					b.Add("permission", permission)
					out = append(out, b.Done())
				}
			}
		}
		items[i] = item.Set(item.Get(inner).Delete("access_control").Set(jsondoc.Array(out...), "access_grants"), inner)
	}
	return jsondoc.Array(items...), changed
}

func renamePrefix(rows map[string]jsontext.Value, from, to string, put func(string, jsontext.Value), remove func(string)) {
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		rest, ok := strings.CutPrefix(key, from)
		if !ok {
			continue
		}
		raw := rows[key]
		remove(key)
		if _, there := rows[to+rest]; !there {
			put(to+rest, raw)
		}
	}
}

// flattened are the settings that older versions stored member by member, under the key or the variable's name.
var flattened = []struct {
	key   JSON
	alias string
}{
	{OpenAIAPIConfigs, "OPENAI_API_CONFIGS"},
	{OllamaAPIConfigs, "OLLAMA_API_CONFIGS"},
	{RAGMinerUParams, "MINERU_PARAMS"},
	{RAGDoclingParams, "DOCLING_PARAMS"},
	{WebSearchLinkupSearchParams, "LINKUP_SEARCH_PARAMS"},
	{ImageGenerationAutomatic1111APIParams, "AUTOMATIC1111_PARAMS"},
	{ImageGenerationOpenAIParams, "IMAGES_OPENAI_API_PARAMS"},
	{AudioTTSOpenAIParams, "AUDIO_TTS_OPENAI_PARAMS"},
	{AudioRealtimeInputParams, "AUDIO_REALTIME_INPUT_PARAMS"},
	{ModelsDefaultMetadata, "DEFAULT_MODEL_METADATA"},
	{ModelsDefaultParams, "DEFAULT_MODEL_PARAMS"},
	{TaskModelParams, "TASK_MODEL_PARAMS"},
	{UIDefaultInterfaceSettings, "DEFAULT_INTERFACE_SETTINGS"},
	{UserPermissions, "USER_PERMISSIONS"},
}

// connectionFields are the members of an OpenAI or Ollama connection, which tell where its key, an address with dots in
// old rows, ends.
var connectionFields = []string{
	"enable", "key", "prefix_id", "tags", "model_ids", "connection_type", "provider", "auth_type", "headers", "azure",
	"api_type", "api_version", "extra_params", "passthrough_params",
}

func joinObjects(rows map[string]jsontext.Value, put func(string, jsontext.Value), remove func(string)) {
	for _, f := range flattened {
		key := f.key.Key()
		object := map[string]any{}
		joined := false
		for _, row := range slices.Sorted(maps.Keys(rows)) {
			rest, ok := strings.CutPrefix(row, key+".")
			if !ok {
				rest, ok = strings.CutPrefix(row, f.alias+".")
			}
			if !ok {
				continue
			}
			path := strings.Split(rest, ".")
			if f.key == OpenAIAPIConfigs || f.key == OllamaAPIConfigs {
				if path = connectionPath(rest); path == nil {
					continue
				}
			}
			if !joined && rows[key].Kind() == '{' {
				_ = json.Unmarshal(rows[key], &object, lenient)
			}
			joined = true
			assign(object, path, rows[row])
			remove(row)
		}
		if !joined {
			continue
		}
		if raw, err := json.Marshal(object, json.Deterministic(true), lenient); err == nil {
			put(key, raw)
		}
	}
}

// connectionPath splits "0.tags" and "https://host/v1.headers.X" into the connection and the path of its member.
func connectionPath(rest string) []string {
	first, member, _ := strings.Cut(rest, ".")
	if member != "" && strings.Trim(first, "0123456789") == "" && first != "" {
		return append([]string{first}, strings.Split(member, ".")...)
	}
	at := -1
	for _, f := range connectionFields {
		at = max(at, strings.LastIndex(rest, "."+f))
	}
	if at <= 0 {
		return nil
	}
	return append([]string{rest[:at]}, strings.Split(rest[at+1:], ".")...)
}

func assign(object map[string]any, path []string, raw jsontext.Value) {
	for _, name := range path[:len(path)-1] {
		inner, ok := object[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			object[name] = inner
		}
		object = inner
	}
	object[path[len(path)-1]] = raw
}

// joinModels writes a list of model ids as the text with commas that it is today.
func joinModels(raw jsontext.Value) jsontext.Value {
	var items []jsontext.Value
	_ = json.Unmarshal(raw, &items, lenient)
	var ids []string
	for _, item := range items {
		id := item.String()
		if item.Kind() == '"' {
			id = unquote(item)
		}
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return appendQuote(nil, strings.Join(ids, ","))
}
