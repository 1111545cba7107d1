package tools

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/web"
)

const (
	maxFetched = 8 << 20 // bytes
	fetchTime  = 5 * time.Minute
)

// httpURL is an address as pydantic takes and writes it.
type httpURL string

// DecodeField implements web.Decoder.
func (u *httpURL) DecodeField(raw jsondoc.Doc, loc web.Loc) web.Problems {
	bad := func(why string) web.Problems {
		return web.Problems{{Type: "url_parsing", Loc: loc, Msg: "Input should be a valid URL, " + why, Input: raw, Ctx: map[string]any{"error": why}}}
	}
	text, ok := raw.AsText()
	if !ok {
		return web.Problems{{Type: "url_type", Loc: loc, Msg: "URL input should be a string or URL", Input: raw}}
	}
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	scheme, rest, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return bad("input is empty")
	case !ok || !isScheme.MatchString(scheme):
		return bad("relative URL without a base")
	case !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https"):
		return web.Problems{{Type: "url_scheme", Loc: loc, Msg: "URL scheme should be 'http' or 'https'", Input: raw,
			Ctx: map[string]any{"expected_schemes": "'http' or 'https'"}}}
	case utf8.RuneCountInString(text) > 2083:
		return web.Problems{{Type: "url_too_long", Loc: loc, Msg: "URL should have at most 2083 characters", Input: raw, Ctx: map[string]any{"max_length": 2083}}}
	}
	parsed, err := url.Parse(strings.ToLower(scheme) + "://" + strings.TrimLeft(rest, `/\`))
	switch {
	case err != nil && strings.Contains(err.Error(), "port"):
		return bad("invalid port number")
	case err != nil:
		return bad("invalid international domain name")
	case parsed.Hostname() == "":
		return bad("empty host")
	}
	if _, err := strconv.ParseUint(parsed.Port(), 10, 16); err != nil && parsed.Port() != "" {
		return bad("invalid port number")
	}
	parsed.Host = strings.ToLower(parsed.Host)
	if parsed.Path == "" {
		parsed.Path = "/"
	}
	*u = httpURL(parsed.String())
	return nil
}

var (
	isScheme   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
	folderPage = regexp.MustCompile(`^https://github\.com/([^/]+)/([^/]+)/tree/([^/]+)/(.*)`)
	filePage   = regexp.MustCompile(`^https://github\.com/([^/]+)/([^/]+)/blob/([^/]+)/(.*)`)
)

// codeURL is where the code is that a page of GitHub shows.
func codeURL(u string) string {
	raw := func(m []string, path string) string {
		return "https://raw.githubusercontent.com/" + m[1] + "/" + m[2] + "/refs/heads/" + m[3] + "/" + path
	}
	if m := folderPage.FindStringSubmatch(u); m != nil {
		return raw(m, strings.TrimRight(m[4], "/")+"/main.py")
	}
	if m := filePage.FindStringSubmatch(u); m != nil {
		return raw(m, m[4])
	}
	return u
}

// nameOf is how a tool from an address is to be called: as its file, or as the folder of a file that has no name of its own.
func nameOf(u string) string {
	parts := strings.Split(strings.TrimRight(u, "/"), "/")
	file := parts[len(parts)-1]
	if name, ok := strings.CutSuffix(file, ".py"); ok && !strings.HasPrefix(file, "main.py") && !strings.HasPrefix(file, "index.py") && !strings.HasPrefix(file, "__init__.py") {
		return name
	}
	if len(parts) > 1 {
		return parts[len(parts)-2]
	}
	return "function"
}

type loadIn struct {
	Body struct {
		URL httpURL `json:"url"`
	}
}

type loadedCode struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

func (m *Module) loadURL(c *web.Call, in loadIn) (*loadedCode, error) {
	address := codeURL(string(in.Body.URL))
	content, err := m.fetch(c, address)
	if err != nil {
		if errors.As(err, new(*web.Error)) {
			return nil, err
		}
		return nil, web.Because(http.StatusInternalServerError, "[ERROR: Error fetching tool]", err)
	}
	return &loadedCode{nameOf(address), content}, nil
}

func (m *Module) fetch(c *web.Call, address string) (string, error) {
	ctx, cancel := context.WithTimeout(c.Context(), fetchTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := m.HTTP.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return "", web.Fail(res.StatusCode, "Failed to fetch the tool")
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxFetched+1))
	switch {
	case err != nil:
		return "", err
	case len(body) > maxFetched:
		return "", errors.New("the answer is too large")
	case len(body) == 0:
		return "", web.Fail(http.StatusBadRequest, "No data received from the URL")
	}
	return strings.ToValidUTF8(string(body), "\uFFFD"), nil
}
