package ollama

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

type embedForm struct {
	Model     string            `json:"model"`
	Input     texts             `json:"input"`
	Truncate  web.Opt[bool]     `json:"truncate"`
	Options   web.Opt[web.Dict] `json:"options"`
	KeepAlive web.Opt[duration] `json:"keep_alive"`
	Extra     web.Extra         `json:"-"`
}

type embeddingsForm struct {
	Model     string            `json:"model"`
	Prompt    string            `json:"prompt"`
	Options   web.Opt[web.Dict] `json:"options"`
	KeepAlive web.Opt[duration] `json:"keep_alive"`
}

type generateForm struct {
	Model     string              `json:"model"`
	Prompt    web.Opt[string]     `json:"prompt"`
	Suffix    web.Opt[string]     `json:"suffix"`
	Images    web.Opt[[]string]   `json:"images"`
	Format    web.Opt[dictOrText] `json:"format"`
	Options   web.Opt[web.Dict]   `json:"options"`
	System    web.Opt[string]     `json:"system"`
	Template  web.Opt[string]     `json:"template"`
	Context   web.Opt[[]int]      `json:"context"`
	Stream    web.Opt[bool]       `json:"stream"`
	Raw       web.Opt[bool]       `json:"raw"`
	KeepAlive web.Opt[duration]   `json:"keep_alive"`
}

type chatForm struct {
	Model     string              `json:"model"`
	Messages  []chatMessage       `json:"messages"`
	Format    web.Opt[dictOrText] `json:"format"`
	Options   web.Opt[web.Dict]   `json:"options"`
	Template  web.Opt[string]     `json:"template"`
	Stream    web.Opt[bool]       `json:"stream"`
	KeepAlive web.Opt[duration]   `json:"keep_alive"`
	Tools     web.Opt[[]web.Dict] `json:"tools"`
	Extra     web.Extra           `json:"-"`
}

type chatMessage struct {
	Role      string              `json:"role"`
	Content   web.Opt[string]     `json:"content"`
	ToolCalls web.Opt[[]web.Dict] `json:"tool_calls"`
	Images    web.Opt[[]string]   `json:"images"`
	Extra     web.Extra           `json:"-"`
}

// Validate implements web.Validator: a content that is sent as null needs tool calls beside it. The reference looks for
// them among the members it has read before content, where they never are.
func (m *chatMessage) Validate(loc web.Loc, raw jsondoc.Doc) web.Problems {
	if m.Content.Set && m.Content.Null {
		return web.Problems{web.ValueError(append(loc[:len(loc):len(loc)], "content"), jsondoc.Doc("null"),
			"At least one of 'content' or 'tool_calls' must be provided")}
	}
	return nil
}

type completionForm struct {
	Model  string    `json:"model"`
	Prompt string    `json:"prompt"`
	Extra  web.Extra `json:"-"`
}

type openaiChatForm struct {
	Model    string          `json:"model"`
	Messages []openaiMessage `json:"messages"`
	Extra    web.Extra       `json:"-"`
}

type openaiMessage struct {
	Role    string                `json:"role"`
	Content web.Null[textOrParts] `json:"content"`
	Extra   web.Extra             `json:"-"`
}

type openaiEmbeddingsForm struct {
	Model string      `json:"model"`
	Input jsondoc.Doc `json:"input"`
	Extra web.Extra   `json:"-"`
}

type responsesForm struct {
	Model string    `json:"model"`
	Extra web.Extra `json:"-"`
}

// Values of more than one kind, as they were sent.
type (
	texts       jsondoc.Doc // a text or a list of texts
	duration    jsondoc.Doc // seconds or a text such as "5m"
	dictOrText  jsondoc.Doc
	textOrParts jsondoc.Doc
)

func below(loc web.Loc, steps ...any) web.Loc { return append(loc[:len(loc):len(loc)], steps...) }

func notText(loc web.Loc, d jsondoc.Doc) web.Problem {
	return web.Problem{Type: "string_type", Loc: loc, Msg: "Input should be a valid string", Input: d}
}

// DecodeField implements web.Decoder.
func (v *texts) DecodeField(d jsondoc.Doc, loc web.Loc) web.Problems {
	*v = texts(d)
	if d.Kind() == '"' {
		return nil
	}
	var ps web.Problems
	if d.Kind() != '[' {
		ps = web.Problems{{Type: "list_type", Loc: below(loc, "list[str]"), Msg: "Input should be a valid list", Input: d}}
	}
	for i, e := range d.List() {
		if e.Kind() != '"' {
			ps = append(ps, notText(below(loc, "list[str]", i), e))
		}
	}
	if len(ps) == 0 {
		return nil
	}
	return append(ps, notText(below(loc, "str"), d))
}

// DecodeField implements web.Decoder.
func (v *duration) DecodeField(d jsondoc.Doc, loc web.Loc) web.Problems {
	*v = duration(d)
	if d.Kind() == '"' || d.Kind() == '0' {
		return nil
	}
	return web.Problems{{Type: "int_type", Loc: below(loc, "int"), Msg: "Input should be a valid integer", Input: d}, notText(below(loc, "str"), d)}
}

// DecodeField implements web.Decoder.
func (v *dictOrText) DecodeField(d jsondoc.Doc, loc web.Loc) web.Problems {
	*v = dictOrText(d)
	if d.Kind() == '"' || d.Kind() == '{' {
		return nil
	}
	return web.Problems{{Type: "dict_type", Loc: below(loc, "dict[any,any]"), Msg: "Input should be a valid dictionary", Input: d}, notText(below(loc, "str"), d)}
}

// DecodeField implements web.Decoder.
func (v *textOrParts) DecodeField(d jsondoc.Doc, loc web.Loc) web.Problems {
	*v = textOrParts(d)
	if d.Kind() == '"' || d.Kind() == '[' {
		return nil
	}
	return web.Problems{notText(below(loc, "str"), d), {Type: "list_type", Loc: below(loc, "list[OpenAIChatMessageContent]"), Msg: "Input should be a valid list", Input: d}}
}

// MarshalJSONTo writes the value.
func (v texts) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }

// MarshalJSONTo writes the value.
func (v duration) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }

// MarshalJSONTo writes the value.
func (v dictOrText) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }

// MarshalJSONTo writes the value.
func (v textOrParts) MarshalJSONTo(e *jsontext.Encoder) error { return jsondoc.Doc(v).MarshalJSONTo(e) }
