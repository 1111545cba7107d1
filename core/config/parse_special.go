package config

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// openAIURL is the address that stands for "OpenAI itself".
const openAIURL = "https://api.openai.com/v1"

// parseOpenAIURLs reads OPENAI_API_BASE_URLS, else OPENAI_API_BASE_URL without its trailing slash.
func (p *parser) parseOpenAIURLs(_ *Definition, _, _ string) (any, error) {
	return p.openAIURLs(), nil
}

func (p *parser) openAIURLs() []string {
	text := p.env.get("OPENAI_API_BASE_URLS", "")
	if text == "" {
		text = strings.TrimSuffix(p.env.get("OPENAI_API_BASE_URL", ""), "/")
	}
	urls := strings.Split(text, ";")
	for i, u := range urls {
		if u == "" {
			urls[i] = openAIURL
		} else {
			urls[i] = strings.TrimSpace(u)
		}
	}
	return urls
}

// parseOpenAIKeys reads OPENAI_API_KEYS, else OPENAI_API_KEY.
func (p *parser) parseOpenAIKeys(_ *Definition, _, _ string) (any, error) {
	return p.openAIKeys(), nil
}

func (p *parser) openAIKeys() []string {
	_, text, _ := p.env.firstFilled("OPENAI_API_KEYS", "OPENAI_API_KEY")
	return trimAll(text, ";")
}

// parseOpenAIKey reads a key of its own for a service, else takes the one that goes with OpenAI's own address.
func (p *parser) parseOpenAIKey(_ *Definition, name, text string) (any, error) {
	if name != "" {
		return text, nil
	}
	keys := p.openAIKeys()
	if i := slices.Index(p.openAIURLs(), openAIURL); i >= 0 && i < len(keys) {
		return keys[i], nil
	}
	return nil, nil
}

// parseOllamaURLs reads OLLAMA_BASE_URLS, else the single address.
func (p *parser) parseOllamaURLs(_ *Definition, _, _ string) (any, error) {
	text := p.env.get("OLLAMA_BASE_URLS", "")
	if text == "" {
		text = p.ollamaURL()
	}
	return trimAll(text, ";"), nil
}

// parseOllamaURL reads an address of its own for a service, else takes the single address of Ollama.
func (p *parser) parseOllamaURL(_ *Definition, name, text string) (any, error) {
	if name != "" {
		return text, nil
	}
	return p.ollamaURL(), nil
}

// ollamaURL is OLLAMA_BASE_URL, else OLLAMA_API_BASE_URL without /api. The container image of the reference sets ENV=prod
// and OLLAMA_BASE_URL=/ollama, which mean the host, the image's own Ollama or the cluster's service.
func (p *parser) ollamaURL() string {
	url := strings.TrimSuffix(p.env.get("OLLAMA_BASE_URL", ""), "/")
	if url == "" {
		url = strings.TrimSuffix(p.env.get("OLLAMA_API_BASE_URL", "http://localhost:11434/api"), "/api")
	}
	if p.env.get("ENV", "dev") != "prod" {
		return url
	}
	switch cluster := p.env.get("K8S_FLAG", "") != ""; {
	case cluster:
		return "http://ollama-service.open-webui.svc.cluster.local:11434"
	case url == "/ollama" && isTrue(p.env.get("USE_OLLAMA_DOCKER", "")):
		return "http://localhost:11434"
	case url == "/ollama":
		return "http://host.docker.internal:11434"
	}
	return url
}

// parseSignup closes registration where nobody signs in.
func (p *parser) parseSignup(_ *Definition, name, text string) (any, error) {
	if !p.auth {
		return false, nil
	}
	if name == "" {
		return nil, nil
	}
	return isTrue(text), nil
}

// parseRoles splits at OAUTH_ROLES_SEPARATOR, a comma by default.
func (p *parser) parseRoles(_ *Definition, name, text string) (any, error) {
	if name == "" {
		return nil, nil
	}
	separator := p.env.get("OAUTH_ROLES_SEPARATOR", ",")
	if separator == "" {
		return nil, &VarError{"OAUTH_ROLES_SEPARATOR", separator, "at least one character"}
	}
	roles := []string{}
	for role := range strings.SplitSeq(text, separator) {
		if role != "" {
			roles = append(roles, strings.TrimSpace(role))
		}
	}
	return roles, nil
}

// Banner is a notice at the top of the page, an element of ui.banners.
type Banner struct {
	I18N        map[string]map[string]string `json:"i18n"`
	ID          string                       `json:"id"`
	Type        string                       `json:"type"`
	Title       *string                      `json:"title"`
	Content     string                       `json:"content"`
	Dismissible bool                         `json:"dismissible"`
	Timestamp   int64                        `json:"timestamp"` // Unix seconds
}

// parseBanners reads WEBUI_BANNERS; one bad banner and there are none.
func (p *parser) parseBanners(d *Definition, name, text string) (any, error) {
	v, err := p.parseJSON(d, name, text)
	raw, ok := v.(jsontext.Value)
	if !ok {
		return nil, err
	}
	var fields []map[string]jsontext.Value
	var banners []Banner
	if err := json.Unmarshal(raw, &fields, lenient); err != nil {
		p.ignore(name, "is not a list of banners: "+err.Error())
		return nil, nil
	}
	for _, f := range fields {
		for _, required := range []string{"id", "type", "content", "dismissible", "timestamp"} {
			if k := f[required].Kind(); k == 0 || k == 'n' {
				p.ignore(name, "has a banner without "+required)
				return nil, nil
			}
		}
	}
	if err := json.Unmarshal(raw, &banners, lenient); err != nil {
		p.ignore(name, "is not a list of banners: "+err.Error())
		return nil, nil
	}
	return encodeBanners(banners)
}

// encodeBanners writes null, not {}, for banners without translations, as the reference does.
func encodeBanners(banners []Banner) (any, error) {
	out, err := json.Marshal(banners, json.FormatNilMapAsNull(true), lenient)
	return jsontext.Value(out), err
}

// parseObjects reads a list of objects.
func (p *parser) parseObjects(d *Definition, name, text string) (any, error) {
	v, err := p.parseJSON(d, name, text)
	raw, ok := v.(jsontext.Value)
	if !ok {
		return nil, err
	}
	var items []jsontext.Value
	if json.Unmarshal(raw, &items, lenient) != nil ||
		slices.ContainsFunc(items, func(v jsontext.Value) bool { return v.Kind() != '{' }) {
		p.ignore(name, "is not a list of objects")
		return nil, nil
	}
	return raw, nil
}

// parseBools reads an object whose values are true or false.
func (p *parser) parseBools(d *Definition, name, text string) (any, error) {
	v, err := p.parseJSON(d, name, text)
	raw, ok := v.(jsontext.Value)
	if !ok {
		return nil, err
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members, lenient); err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Kind() != 't' && m.Kind() != 'f' {
			p.ignore(name, "has a member that is neither true nor false")
			return nil, nil
		}
	}
	return raw, nil
}

// parsePermissions puts the USER_PERMISSIONS_… variables into the default permissions.
func (p *parser) parsePermissions(d *Definition, _, _ string) (any, error) {
	var groups map[string]map[string]bool
	if err := json.Unmarshal([]byte(d.Default), &groups); err != nil {
		return nil, err
	}
	changed := false
	for _, v := range permissionVars {
		if text, ok := p.env("USER_PERMISSIONS_" + v.name); ok {
			groups[v.group][v.permission] = isTrue(text)
			changed = true
		}
	}
	if !changed {
		return nil, nil
	}
	return groups, nil
}
