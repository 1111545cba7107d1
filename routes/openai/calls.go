package openai

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/filter"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/relay"
	"github.com/galleychat/galley/core/web"
)

func raw(d jsondoc.Doc) jsontext.Value { return jsontext.Value(d.Or(jsondoc.Doc("null"))) }

type dictIn struct {
	Body web.Dict
}

// chat runs a chat completion on an OpenAI-compatible connection.
func (m *Module) chat(c *web.Call, in dictIn) (web.Done, error) {
	if err := m.enabled(); err != nil {
		return web.Done{}, err
	}
	ctx, body := c.Context(), in.Body.Doc()
	asked := body.Text("model")
	c.ForModel(asked)
	model, err := m.relay.Resolve(ctx, c.Principal, asked)
	if err != nil {
		return web.Done{}, err
	}
	model, body, filters, err := m.relay.Inlet(c, model, body)
	if err != nil {
		return web.Done{}, err
	}
	caller := models.CallerOf(c.Principal)
	target, err := m.Registry.ResolveOf(ctx, llm.KindOpenAI, caller, model.ID)
	if errors.Is(err, llm.ErrModelNotFound) {
		// Models of plugins speak OpenAI's form too.
		if t, ok := m.Registry.Lookup(model.ID); ok && t.Kind == "" {
			target, err = t, nil
		}
	}
	if err != nil {
		return web.Done{}, relay.Failure(c, err, errNoModel)
	}
	caller.Meta = llm.CallMeta{ChatID: body.Text("metadata", "chat_id"), MessageID: body.Text("metadata", "message_id"), ModelID: asked}
	resp, err := target.Chat(ctx, &llm.Request{
		Body: raw(m.relay.Body(ctx, c.Principal, model, body)), Stream: body.Get("stream").Truthy(), Params: model.Params(), Caller: caller,
		Continue: body.Get("metadata", "assistant_message_id").Truthy(),
	})
	if err != nil {
		return web.Done{}, relay.Failure(c, err, errNoModel)
	}
	return web.Done{}, relay.Response(c, filters.Response(ctx, body, resp))
}

type responsesIn struct {
	Body struct {
		Model           string              `json:"model"`
		Input           web.Opt[listOrText] `json:"input"`
		Instructions    web.Opt[string]     `json:"instructions"`
		Stream          web.Opt[bool]       `json:"stream"`
		Temperature     web.Opt[float64]    `json:"temperature"`
		MaxOutputTokens web.Opt[int]        `json:"max_output_tokens"`
		TopP            web.Opt[float64]    `json:"top_p"`
		Tools           web.Opt[web.List]   `json:"tools"`
		ToolChoice      web.Opt[dictOrText] `json:"tool_choice"`
		Text            web.Opt[web.Dict]   `json:"text"`
		Truncation      web.Opt[string]     `json:"truncation"`
		Metadata        web.Opt[web.Dict]   `json:"metadata"`
		Store           web.Opt[bool]       `json:"store"`
		Reasoning       web.Opt[web.Dict]   `json:"reasoning"`
		Previous        web.Opt[string]     `json:"previous_response_id"`
		Extra           web.Extra           `json:"-"`
	}
}

// listOrText and dictOrText are values of two kinds.
type (
	listOrText jsondoc.Doc
	dictOrText jsondoc.Doc
)

// DecodeField implements web.Decoder.
func (v *listOrText) DecodeField(d jsondoc.Doc, loc web.Loc) web.Problems {
	*v = listOrText(d)
	return union(d, loc, '[', "list[any]", web.Problem{Type: "list_type", Msg: "Input should be a valid list"})
}

// DecodeField implements web.Decoder.
func (v *dictOrText) DecodeField(d jsondoc.Doc, loc web.Loc) web.Problems {
	*v = dictOrText(d)
	ps := union(d, loc, '{', "dict[any,any]", web.Problem{Type: "dict_type", Msg: "Input should be a valid dictionary"})
	slices.Reverse(ps) // declared the other way round
	return ps
}

func union(d jsondoc.Doc, loc web.Loc, kind jsontext.Kind, name string, other web.Problem) web.Problems {
	if d.Kind() == kind || d.Kind() == '"' {
		return nil
	}
	at := func(step string) web.Loc { return append(loc[:len(loc):len(loc)], step) }
	other.Loc, other.Input = at(name), d
	return web.Problems{other, {Type: "string_type", Loc: at("str"), Msg: "Input should be a valid string", Input: d}}
}

// MarshalJSONTo writes the value.
func (v listOrText) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }

// MarshalJSONTo writes the value.
func (v dictOrText) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }

// responses passes a request of the Responses API on to the connection that serves the model, else to the first.
func (m *Module) responses(c *web.Call, in responsesIn) (web.Done, error) {
	ctx, id := c.Context(), in.Body.Model
	c.ForModel(id)
	if err := m.Catalog.RowAccess(ctx, c.Principal, id); errors.Is(err, models.ErrNotFound) {
		return web.Done{}, relay.ErrNoAccess
	} else if err != nil {
		return web.Done{}, err
	}
	p, err := m.serving(c, id)
	if err != nil {
		return web.Done{}, err
	}
	if m.Filters != nil {
		if err := m.relay.Allow(c, id, jsondoc.Of(in.Body)); err != nil {
			return web.Done{}, err
		}
	}
	conn := p.Connection()
	out := jsondoc.Obj{}
	jsondoc.Of(in.Body).Each(func(name string, v jsondoc.Doc) bool {
		if !v.IsNull() {
			out.Set(name, v)
		}
		return true
	})
	jsondoc.Doc(in.Body.Extra).Each(func(name string, v jsondoc.Doc) bool {
		if !v.IsNull() {
			out.Set(name, v)
		}
		return true
	})
	out.Set("model", jsondoc.Text(conn.Upstream(id)))
	path := "/responses"
	switch {
	case conn.Config.Azure && azureV1.MatchString(conn.URL):
		conn.URL = strings.TrimRight(conn.URL, "/")
		p = m.provider(conn)
	case conn.Config.Azure:
		path = "/openai/deployments/" + url.PathEscape(conn.Upstream(id)) + "/responses?api-version=" + azureVersion(&conn)
	}
	resp, err := p.Do(ctx, http.MethodPost, path, out.Doc(), in.Body.Stream.V, models.CallerOf(c.Principal))
	if err != nil {
		return web.Done{}, relay.Unreachable(err)
	}
	return web.Done{}, relay.Answer(c, p, conn.Upstream(id), resp)
}

func azureVersion(conn *llm.Connection) string {
	if conn.Config.HasAPIVersion {
		return conn.Config.APIVersion
	}
	return "2023-03-15-preview"
}

// serving is the connection that serves a model, the first where none does.
func (m *Module) serving(c *web.Call, id string) (llm.Connected, error) {
	index := 0
	if id != "" {
		t, err := m.Registry.ResolveOf(c.Context(), llm.KindOpenAI, models.CallerOf(c.Principal), id)
		switch {
		case err == nil:
			index = t.Index
		case !errors.Is(err, llm.ErrModelNotFound):
			return nil, err
		}
	}
	p, ok := m.connection(index)
	if !ok {
		return nil, web.Fail(http.StatusNotFound, "Connection not found")
	}
	return p, nil
}

// passthrough sends any other request on, if the operator allows it.
func (m *Module) passthrough(c *web.Call, _ web.None) (web.Done, error) {
	if !m.Env.OpenAIPassthrough {
		return web.Done{}, web.Fail(http.StatusForbidden, "Direct API passthrough is disabled. Set ENABLE_OPENAI_API_PASSTHROUGH=True to enable.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.W, c.R.Body, llm.MaxBodySize))
	if err != nil {
		return web.Done{}, web.Because(http.StatusBadRequest, "There was an error parsing the body", err)
	}
	payload, bad := jsondoc.Check(body)
	if bad != nil || payload.Kind() != '{' {
		payload = nil
	}
	p, err := m.serving(c, payload.Text("model"))
	if err != nil {
		return web.Done{}, err
	}
	body, filters, err := m.inlet(c, payload, body)
	if err != nil {
		return web.Done{}, err
	}
	conn := p.Connection()
	path := "/" + c.R.PathValue("path")
	switch {
	case conn.Config.Azure && azureV1.MatchString(conn.URL):
		conn.URL = strings.TrimRight(conn.URL, "/")
		p = m.provider(conn)
		if q := c.R.URL.RawQuery; q != "" {
			path += "?" + q
		}
	case conn.Config.Azure:
		path = "/openai/deployments/" + url.PathEscape(conn.Upstream(payload.Text("model"))) + path + "?api-version=" + azureVersion(&conn)
	}
	if len(body) == 0 {
		body = nil
	}
	resp, err := p.Do(c.Context(), c.R.Method, path, body, payload.Get("stream").Truthy(), models.CallerOf(c.Principal))
	if err != nil {
		return web.Done{}, relay.Unreachable(err)
	}
	return web.Done{}, relay.FilteredAnswer(c, p, payload.Text("model"), resp, filters, body)
}

// inlet has filters look at a request that is passed through, if it asks a model for an answer. One in OpenAI's chat form
// they may change, but for its model: its connection has been chosen by that.
func (m *Module) inlet(c *web.Call, payload jsondoc.Doc, body []byte) ([]byte, *filter.Filters, error) {
	path := c.R.PathValue("path")
	switch {
	case m.Filters == nil || payload == nil || strings.HasSuffix(path, "embeddings"):
		return body, nil, nil
	case strings.HasSuffix(path, "chat/completions"):
		f := m.relay.FiltersOf(c, payload.Text("model"), payload)
		if f == nil {
			return body, nil, nil
		}
		changed, err := f.Inlet(c.Context(), payload)
		if err != nil {
			return nil, nil, err
		}
		if model := payload.Get("model"); model != nil {
			changed = changed.Set(model, "model")
		}
		return changed, f, nil
	case payload.Get("messages") == nil && payload.Get("prompt") == nil && payload.Get("input") == nil:
		return body, nil, nil
	}
	return body, nil, m.relay.Allow(c, payload.Text("model"), payload)
}

// openAIURL is the address that speech is asked of.
const openAIURL = "https://api.openai.com/v1"

// speech reads a text aloud by OpenAI's own API; equal requests are answered from the cache.
func (m *Module) speech(c *web.Call, _ web.None) (web.Done, error) {
	if ok, err := m.Access.HasOrAdmin(c.Context(), c.Principal.User, "chat.tts"); err != nil || !ok {
		return web.Done{}, either(err, errForbidden)
	}
	index := slices.Index(config.OpenAIAPIBaseURLs.Get(m.Settings.Snapshot()), openAIURL)
	p, ok := m.connection(max(index, 0))
	if index < 0 || !ok {
		return web.Done{}, web.Fail(http.StatusUnauthorized, "OpenAI API was not found")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.W, c.R.Body, 1<<20))
	if err != nil {
		return web.Done{}, web.Because(http.StatusBadRequest, "There was an error parsing the body", err)
	}
	sum := sha256.Sum256(body)
	file := filepath.Join(m.Env.CacheDir(), "audio", "speech", hex.EncodeToString(sum[:])+".mp3")
	if _, err := os.Stat(file); err == nil {
		http.ServeFile(c.W, c.R, file)
		return web.Done{}, nil
	}
	resp, err := p.Do(c.Context(), http.MethodPost, "/audio/speech", body, false, models.CallerOf(c.Principal))
	if err != nil {
		return web.Done{}, relay.Unreachable(err)
	}
	audio, err := llm.ReadBody(resp)
	if err != nil {
		return web.Done{}, relay.Unreachable(err)
	}
	if resp.StatusCode >= 400 {
		detail := llm.ServerConnectionError
		if e := jsondoc.Doc(audio).Get("error"); jsondoc.Valid(audio) == nil && e != nil {
			detail = "External: " + relay.PythonValue(e)
		}
		return web.Done{}, web.Fail(resp.StatusCode, detail)
	}
	if err := keep(file, audio, body); err != nil {
		c.Log.Warn("speech was not cached", "err", err)
	}
	c.Header().Set("Content-Type", "audio/mpeg")
	_, err = io.Copy(c.W, bytes.NewReader(audio))
	return web.Done{}, err
}

// keep stores a spoken text with its request.
func keep(file string, audio, request []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp := file + ".part"
	if err := os.WriteFile(temp, audio, 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(file, ".mp3")+".json", request, 0o644)
}

func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
