package llm

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/llm/internal/rawjson"
)

// ServerConnectionError is the detail that clients see when a provider cannot be reached; the text is part of
// the HTTP contract.
const ServerConnectionError = "Open WebUI: Server Connection Error"

// ErrModelNotFound reports that no connection serves the model asked for. Errors that wrap it carry the id, see
// [ModelNotFoundError].
var ErrModelNotFound = errors.New("llm: model not found")

// ErrBadRequest reports a request body that a provider's conversion cannot read.
var ErrBadRequest = errors.New("llm: bad request body")

// ModelNotFoundError is an [ErrModelNotFound] with the id asked for.
type ModelNotFoundError struct{ ID string }

func (e *ModelNotFoundError) Error() string { return fmt.Sprintf("llm: model %q not found", e.ID) }

// Is makes errors.Is(err, ErrModelNotFound) true.
func (e *ModelNotFoundError) Is(target error) bool { return target == ErrModelNotFound }

// UpstreamError is an answer of at least 400 from a provider, or (with Err set and Status 500) a provider that
// could not be reached. Status, Body, ContentType and the Retry fields are what the caller is to be answered.
type UpstreamError struct {
	Status       int
	Body         []byte
	ContentType  string // "application/json" or "text/plain; charset=utf-8"
	RetryAfter   string // Retry-After header of the provider, "" if none
	RetryAfterMS string // Retry-After-Ms header, "" if none
	Upstream     []byte // the provider's own body, before any rewriting; nil if it was not reached
	UpstreamType string // its media type
	Err          error  // transport error, nil if the provider answered
}

func (e *UpstreamError) Error() string {
	if e.Err != nil {
		return "llm: provider unreachable: " + e.Err.Error()
	}
	return fmt.Sprintf("llm: provider answered %d: %s", e.Status, e.Message())
}

// Unwrap returns the transport error, if any.
func (e *UpstreamError) Unwrap() error { return e.Err }

// Header returns the headers of the answer: Content-Type and what the provider said about retrying.
func (e *UpstreamError) Header() http.Header {
	h := http.Header{"Content-Type": {e.ContentType}}
	if e.RetryAfter != "" {
		h.Set("Retry-After", e.RetryAfter)
	}
	if e.RetryAfterMS != "" {
		h.Set("Retry-After-Ms", e.RetryAfterMS)
	}
	return h
}

// Message returns the human-readable text inside Body: the string found by following "error", "message" and
// "detail" downwards, else the plain body. A chat turn shows only this.
func (e *UpstreamError) Message() string {
	fallback := fmt.Sprintf("Provider returned HTTP %d", e.Status)
	v := jsontext.Value(bytes.TrimSpace(e.Body))
	if !v.IsValid(jsonOptions...) {
		if s := strings.TrimSpace(string(e.Body)); s != "" {
			return s
		}
		return fallback
	}
	for rawjson.IsObject(v) {
		o, err := rawjson.Parse(v)
		if err != nil {
			return string(v)
		}
		var next jsontext.Value
		for _, key := range []string{"error", "message", "detail"} {
			if next = o.Get(key); next != nil {
				break
			}
		}
		if next == nil {
			return string(v)
		}
		v = next
	}
	return rawjson.Text(v)
}

// NewUpstreamError returns the error for an answer of a provider whose body is passed on as it is: JSON objects
// and arrays as JSON, everything else as text. sse says that the answer had the media type text/event-stream,
// in which case text is wrapped in an OpenAI error object.
func NewUpstreamError(status int, h http.Header, body []byte, sse bool) *UpstreamError {
	e := &UpstreamError{
		Status: status, Upstream: body, UpstreamType: h.Get("Content-Type"), Body: body, ContentType: "application/json",
		RetryAfter: h.Get("Retry-After"), RetryAfterMS: h.Get("Retry-After-Ms"),
	}
	v := jsontext.Value(bytes.TrimSpace(body))
	valid := len(v) > 0 && v.IsValid(jsonOptions...)
	switch {
	case valid && (sse || IsJSONType(h.Get("Content-Type")) && (v.Kind() == '{' || v.Kind() == '[')):
		e.Body = v
	case sse:
		e.Body = fmt.Appendf(nil, `{"error":{"message":%s,"code":%d}}`, rawjson.Quote(string(body)), status)
	default:
		e.ContentType = "text/plain; charset=utf-8"
		if valid && v.Kind() == '"' && IsJSONType(h.Get("Content-Type")) {
			s, _ := rawjson.String(v)
			e.Body = []byte(s)
		}
	}
	return e
}

// DetailError returns an error that is answered as {"detail": detail} with status.
func DetailError(status int, detail string, cause error) *UpstreamError {
	body := append([]byte(`{"detail":`), rawjson.Quote(detail)...)
	return &UpstreamError{Status: status, Body: append(body, '}'), ContentType: "application/json", Err: cause}
}

// IsJSONType reports whether a Content-Type names JSON (application/json or application/…+json).
func IsJSONType(contentType string) bool {
	mt, _, _ := strings.Cut(contentType, ";")
	mt = strings.ToLower(strings.TrimSpace(mt))
	return mt == "application/json" || strings.HasPrefix(mt, "application/") && strings.HasSuffix(mt, "+json")
}

// Tokens are the token counts of one call; zero means that the provider did not say.
type Tokens struct{ Prompt, Completion int }

// UsageTokens reads the counts of a usage object in the OpenAI, Responses, Ollama or llama.cpp form.
func UsageTokens(usage []byte) Tokens {
	o, err := rawjson.Parse(usage)
	if err != nil {
		return Tokens{}
	}
	first := func(names ...string) int {
		for _, n := range names {
			if v := o.Get(n); rawjson.Truthy(v) {
				if f, err := strconv.ParseFloat(string(v), 64); err == nil {
					return int(f)
				}
			}
		}
		return 0
	}
	t := Tokens{
		Prompt:     first("input_tokens", "prompt_tokens", "prompt_eval_count"),
		Completion: first("output_tokens", "completion_tokens", "eval_count", "predicted_n"),
	}
	if t.Prompt == 0 {
		t.Prompt = first("prompt_n") + first("cache_n")
	}
	return t
}
