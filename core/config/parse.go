package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// LookupFunc finds a variable of the environment, as os.LookupEnv does.
type LookupFunc func(name string) (value string, ok bool)

// get is os.getenv(name, fallback).
func (f LookupFunc) get(name, fallback string) string {
	if v, ok := f(name); ok {
		return v
	}
	return fallback
}

// first is the first of the names that is set, even to "".
func (f LookupFunc) first(names []string) (name, value string, ok bool) {
	for _, name := range names {
		if v, ok := f(name); ok {
			return name, v, true
		}
	}
	return "", "", false
}

// firstFilled is the first of the names that is set to something.
func (f LookupFunc) firstFilled(names ...string) (name, value string, ok bool) {
	for _, name := range names {
		if v, ok := f(name); ok && v != "" {
			return name, v, true
		}
	}
	return "", "", false
}

// isTrue is the reference's rule for switches: "true" in any case, and nothing else.
func isTrue(s string) bool { return strings.EqualFold(s, "true") }

// VarError says that a variable of the environment has a value that cannot be used.
type VarError struct {
	Name  string // the variable
	Value string // what it holds
	Want  string // what it should hold
}

func (e *VarError) Error() string {
	return fmt.Sprintf("%s=%q: want %s", e.Name, e.Value, e.Want)
}

// pythonInt is int(text): spaces around and single underscores between digits are allowed.
func pythonInt(s string) (int64, bool) {
	s, ok := withoutUnderscores(strings.TrimSpace(s))
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// pythonFloat is float(text), but for infinities and NaN, which JSON cannot hold.
func pythonFloat(s string) (float64, bool) {
	s, ok := withoutUnderscores(strings.TrimSpace(s))
	if !ok || strings.ContainsAny(s, "xX") {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

func withoutUnderscores(s string) (string, bool) {
	if !strings.Contains(s, "_") {
		return s, true
	}
	for i := range len(s) {
		if s[i] == '_' && (i == 0 || i == len(s)-1 || !isDigit(s[i-1]) || !isDigit(s[i+1])) {
			return "", false
		}
	}
	return strings.ReplaceAll(s, "_", ""), true
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// split cuts at the separator and trims the parts; those that are empty then are dropped.
func split(s, separator string) []string {
	out := []string{}
	for part := range strings.SplitSeq(s, separator) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// trimAll cuts at the separator and trims the parts, keeping empty ones.
func trimAll(s, separator string) []string {
	parts := strings.Split(s, separator)
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// parser reads the initial values of the settings.
type parser struct {
	env  LookupFunc
	auth bool // WEBUI_AUTH
	log  *slog.Logger
}

// parseFuncs are the ways in which the text of a setting's variable is read. A nil value means the default. Each is
// called whether or not a variable is set; name is "" when none is.
var parseFuncs map[string]func(p *parser, d *Definition, name, text string) (any, error)

func init() {
	plain := func(f func(d *Definition, name, text string) (any, error)) func(*parser, *Definition, string, string) (any, error) {
		return func(_ *parser, d *Definition, name, text string) (any, error) {
			if name == "" {
				return nil, nil
			}
			return f(d, name, text)
		}
	}
	list := func(f func(string) []string) func(*parser, *Definition, string, string) (any, error) {
		return plain(func(_ *Definition, _, text string) (any, error) { return f(text), nil })
	}
	parseFuncs = map[string]func(*parser, *Definition, string, string) (any, error){
		"bool":   plain(func(_ *Definition, _, text string) (any, error) { return isTrue(text), nil }),
		"int":    plain(parseInt),
		"optint": plain(parseInt),
		"float":  plain(parseFloat),
		"string": plain(func(_ *Definition, _, text string) (any, error) { return text, nil }),
		"lower":  plain(func(_ *Definition, _, text string) (any, error) { return strings.ToLower(text), nil }),
		"csv":    list(func(s string) []string { return split(s, ",") }),
		"fields": list(func(s string) []string { return strings.Split(s, ",") }),
		"items":  list(func(s string) []string { return trimAll(s, ",") }),
		"json":   (*parser).parseJSON,

		"banners":     (*parser).parseBanners,
		"bools":       (*parser).parseBools,
		"objects":     (*parser).parseObjects,
		"ollama_url":  (*parser).parseOllamaURL,
		"ollama_urls": (*parser).parseOllamaURLs,
		"openai_key":  (*parser).parseOpenAIKey,
		"openai_keys": (*parser).parseOpenAIKeys,
		"openai_urls": (*parser).parseOpenAIURLs,
		"permissions": (*parser).parsePermissions,
		"roles":       (*parser).parseRoles,
		"share":       plain(parseShare),
		"signup":      (*parser).parseSignup,
	}
}

// initial reads every setting's variable. The error names every variable that cannot be used.
func (p *parser) initial() (*Snapshot, error) {
	var errs []error
	snap := &Snapshot{}
	for i := range definitions {
		d := &definitions[i]
		raw, err := p.value(d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		snap.slots[i] = decodeSlot(i, raw, nil)
	}
	return snap, errors.Join(errs...)
}

func (p *parser) value(d *Definition) (jsontext.Value, error) {
	name, text, _ := p.env.first(d.Env)
	if d.Type == TypeInt || d.Type == TypeFloat || d.parse == "optint" {
		// The reference fails on "" for most numbers and means the default for some; a compose file that passes on an
		// empty variable means the default.
		name, text, _ = p.env.firstFilled(d.Env...)
	}
	v, err := parseFuncs[d.parse](p, d, name, text)
	if err != nil || v == nil {
		return jsontext.Value(d.Default), err
	}
	if raw, ok := v.(jsontext.Value); ok {
		return raw, nil
	}
	return json.Marshal(v, json.Deterministic(true), lenient)
}

func parseInt(d *Definition, name, text string) (any, error) {
	n, ok := pythonInt(text)
	if !ok {
		return nil, &VarError{name, text, "a whole number"}
	}
	if d.min != 0 && n < d.min {
		return nil, &VarError{name, text, fmt.Sprintf("a whole number of at least %d, or nothing", d.min)}
	}
	if d.clamp != [2]int64{} {
		n = min(max(n, d.clamp[0]), d.clamp[1])
	}
	return n, nil
}

func parseFloat(_ *Definition, name, text string) (any, error) {
	n, ok := pythonFloat(text)
	if !ok {
		return nil, &VarError{name, text, "a number"}
	}
	return n, nil
}

// parseShare reads who may share with a new group: "members", or yes or no.
func parseShare(_ *Definition, _, text string) (any, error) {
	if text = strings.ToLower(strings.TrimSpace(text)); text == "members" {
		return text, nil
	}
	return text == "true", nil
}

// parseJSON reads JSON of the setting's type. The reference starts with the default when it cannot, with a warning.
func (p *parser) parseJSON(d *Definition, name, text string) (any, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	raw := jsontext.Value(text)
	if err := raw.Compact(lenient); err != nil {
		p.ignore(name, "is not JSON: "+err.Error())
		return nil, nil
	}
	if !fits(d.Type, raw) {
		p.ignore(name, "is not "+d.Type.String())
		return nil, nil
	}
	return raw, nil
}

// ignore warns of a variable that the default stands in for. Its value may be a secret and is not logged.
func (p *parser) ignore(name, why string) {
	p.log.Warn("variable ignored, its default is used", "variable", name, "reason", why)
}
