package openai

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/internal/params"
	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

var paramCasts = map[string]params.Cast{
	"temperature": params.Float, "top_p": params.Float, "min_p": params.Float, "max_tokens": params.Int,
	"frequency_penalty": params.Float, "presence_penalty": params.Float, "reasoning_effort": params.Text,
	"stop": params.Stops,
}

func applyParams(body *rawjson.Object, p jsontext.Value) {
	if len(p) > 0 {
		params.Apply(body, params.Expand(p), paramCasts)
	}
}

func pipelineUser(c *llm.Caller) jsontext.Value {
	var o rawjson.Object
	o.SetString("name", c.Name)
	o.SetString("id", c.ID)
	o.SetString("email", c.Email)
	o.SetString("role", c.Role)
	return o.JSON()
}

var (
	bedrockPrefix = regexp.MustCompile(`^(?:[a-z-]+\.)?openai\.`)
	newModel      = regexp.MustCompile(`^(?:o\d+|gpt-(\d+))`)
)

// isNewModel reports whether the model is one of OpenAI's that know max_completion_tokens and the developer
// role: o1 and later, gpt-5 and later, also under Bedrock's names.
func isNewModel(model string) bool {
	m := newModel.FindStringSubmatch(bedrockPrefix.ReplaceAllString(strings.ToLower(model), ""))
	if m == nil {
		return false
	}
	if m[1] == "" {
		return true
	}
	n, err := strconv.Atoi(m[1])
	return err != nil || n >= 5 // a number too long for an int is large
}

// tokenLimit gives the limit of the answer the name that the model knows.
func tokenLimit(body *rawjson.Object, model, url string) {
	switch {
	case isNewModel(model):
		rename(body, "max_tokens", "max_completion_tokens")
		systemRole(body, model)
	case !strings.Contains(url, "api.openai.com"):
		rename(body, "max_completion_tokens", "max_tokens")
	}
	if body.Has("max_completion_tokens") {
		body.Delete("max_tokens")
	}
}

func rename(o *rawjson.Object, from, to string) {
	if v := o.Take(from); v != nil {
		o.Set(to, v)
	}
}

// systemRole renames the role of a leading system message.
func systemRole(body *rawjson.Object, model string) {
	messages, err := rawjson.Elems(body.Get("messages"))
	if err != nil || len(messages) == 0 {
		return
	}
	first, err := rawjson.Parse(messages[0])
	if role, _ := rawjson.String(first.Get("role")); err != nil || role != "system" {
		return
	}
	role := "developer"
	if m := strings.ToLower(model); strings.HasPrefix(m, "o1-mini") || strings.HasPrefix(m, "o1-preview") {
		role = "user"
	}
	first.SetString("role", role)
	messages[0] = first.JSON()
	body.Set("messages", rawjson.Array(messages))
}

// logitBias turns the "token:bias,token:bias" form into an object; biases are held between -100 and 100.
func logitBias(body *rawjson.Object) error {
	text, ok := rawjson.String(body.Get("logit_bias"))
	if !ok || text == "" {
		return nil
	}
	var o rawjson.Object
	for pair := range strings.SplitSeq(text, ",") {
		token, bias, ok := strings.Cut(pair, ":")
		n, err := strconv.Atoi(strings.TrimSpace(bias))
		if !ok || err != nil {
			return fmt.Errorf("%w: logit_bias %q", llm.ErrBadRequest, text)
		}
		o.Set(strings.TrimSpace(token), strconv.AppendInt(nil, int64(max(-100, min(n, 100))), 10))
	}
	body.Set("logit_bias", o.JSON())
	return nil
}

func endsWithAssistant(messages jsontext.Value) bool {
	list, err := rawjson.Elems(messages)
	if err != nil || len(list) == 0 {
		return false
	}
	last, _ := rawjson.Parse(list[len(list)-1]) // no object: no role
	role, _ := rawjson.String(last.Get("role"))
	return role == "assistant"
}

// flattenToolMessages leaves only the text of tool results: Chat Completions takes no images there.
func flattenToolMessages(body *rawjson.Object) {
	raw := body.Get("messages")
	if !bytes.Contains(raw, []byte(`"tool"`)) {
		return
	}
	messages, err := rawjson.Elems(raw)
	if err != nil {
		return
	}
	changed := false
	for i, raw := range messages {
		m, err := rawjson.Parse(raw)
		if role, _ := rawjson.String(m.Get("role")); err != nil || role != "tool" || !rawjson.IsArray(m.Get("content")) {
			continue
		}
		m.SetString("content", partsText(m.Get("content"), "", "input_text", "text"))
		messages[i] = m.JSON()
		changed = true
	}
	if changed {
		body.Set("messages", rawjson.Array(messages))
	}
}

// partsText joins the text of the content parts that have one of the types.
func partsText(content jsontext.Value, sep string, types ...string) string {
	parts, _ := rawjson.Elems(content) // no array: no parts
	var texts []string
	for _, raw := range parts {
		part, _ := rawjson.Parse(raw)
		typ, _ := rawjson.String(part.Get("type"))
		for _, t := range types {
			if t == typ {
				text, _ := rawjson.String(part.Get("text"))
				texts = append(texts, text)
				break
			}
		}
	}
	return strings.Join(texts, sep)
}

// azureKnown are the members that Azure's older API accepts.
var azureKnown = map[string]bool{
	"messages": true, "temperature": true, "role": true, "content": true, "contentPart": true,
	"contentPartImage": true, "enhancements": true, "dataSources": true, "n": true, "stream": true, "stop": true,
	"max_tokens": true, "presence_penalty": true, "frequency_penalty": true, "logit_bias": true, "user": true,
	"function_call": true, "functions": true, "tools": true, "tool_choice": true, "top_p": true, "log_probs": true,
	"top_logprobs": true, "response_format": true, "seed": true, "max_completion_tokens": true,
	"reasoning_effort": true,
}

func azureMembers(body *rawjson.Object, model, apiVersion string) {
	if isNewModel(model) {
		rename(body, "max_tokens", "max_completion_tokens")
		if t := body.Get("temperature"); t != nil {
			if f, err := strconv.ParseFloat(string(t), 64); err != nil || f != 1 {
				body.Delete("temperature")
			}
		}
	}
	kept := (*body)[:0]
	for _, m := range *body {
		if azureKnown[m.Name] || m.Name == "stream_options" && apiVersion >= "2024-09-01-preview" {
			kept = append(kept, m)
		}
	}
	*body = kept
}

// azureDeployment makes a model name fit to be one segment of a URL.
func azureDeployment(model string) (string, error) {
	if model == "" || strings.Contains(model, "..") || strings.ContainsAny(model, `/\`) {
		return "", llm.DetailError(http.StatusBadRequest,
			"Invalid model name: must not be empty or contain path separators or traversal sequences", nil)
	}
	return url.PathEscape(model), nil
}
