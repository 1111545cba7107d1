package app

import (
	"context"
	_ "embed"
	"encoding/xml"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/web"
)

type versionInfo struct {
	Version      string `json:"version"`
	DeploymentID string `json:"deployment_id"`
}

func (m *Module) version(*web.Call, web.None) (versionInfo, error) {
	return versionInfo{config.Version, m.Env.DeploymentID}, nil
}

type versions struct {
	Current string `json:"current"`
	Latest  string `json:"latest"`
}

// updates says that this version is the latest: the version that clients see is that of the interface, which moves with
// the program, and Galley asks nobody on the network for it.
func (m *Module) updates(*web.Call, web.None) (versions, error) {
	return versions{config.Version, config.Version}, nil
}

//go:embed changelog.txt
var changelogText string

// changes is the changelog in the form that the frontend shows.
var changes = parseChangelog(changelogText)

func (m *Module) changelog(*web.Call, web.None) (jsondoc.Doc, error) { return changes, nil }

// changelogEntry is one line of a section; Raw is its HTML.
type changelogEntry struct {
	Title   string `json:"title"`
	Content string `json:"content"`
	Raw     string `json:"raw"`
}

// parseChangelog reads versions ("## [1.2.3] - 2026-01-02"), their sections ("### Added") and entries ("- Title: text"),
// newest first; clients are shown the first five versions.
func parseChangelog(text string) jsondoc.Doc {
	const shown = 5
	var all, version jsondoc.Builder
	var number, section string
	var entries []changelogEntry
	n := 0
	endSection := func() {
		if section != "" {
			version.Add(section, entries)
		}
		section, entries = "", nil
	}
	endVersion := func() {
		endSection()
		if number != "" {
			all.Raw(number, version.Done())
		}
		version = jsondoc.Builder{}
	}
	for line := range strings.SplitSeq(text, "\n") {
		if head, ok := strings.CutPrefix(line, "## ["); ok {
			if n++; n > shown {
				break
			}
			endVersion()
			var date string
			number, date, _ = strings.Cut(head, "] - ")
			version.Add("date", strings.TrimSpace(date))
		} else if name, ok := strings.CutPrefix(line, "### "); ok {
			endSection()
			section = strings.ToLower(strings.TrimSpace(name))
		} else if entry, ok := strings.CutPrefix(line, "- "); ok {
			title, content, ok := strings.Cut(strings.TrimSpace(entry), ": ")
			if !ok {
				title, content = "", title
			}
			entries = append(entries, changelogEntry{title, content, "<li>" + html.EscapeString(strings.TrimSpace(entry)) + "</li>"})
		}
	}
	endVersion()
	return all.Done()
}

type usageInfo struct {
	ModelIDs  []string `json:"model_ids"`
	UserCount int      `json:"user_count"`
}

func (m *Module) usage(c *web.Call, _ web.None) (usageInfo, error) {
	if !m.Env.PublicActiveUsers && !c.IsAdmin() {
		return usageInfo{}, web.Fail(http.StatusForbidden, "Access denied. Only administrators can view usage statistics.")
	}
	n, err := m.Users.CountActive(c.Context())
	return usageInfo{m.Presence.ModelsInUse(), n}, err
}

// manifestTimeout bounds the fetching of a manifest from elsewhere.
const manifestTimeout = 10 * time.Second

// manifest describes the page as an application to be installed.
func (m *Module) manifest(c *web.Call, _ web.None) (jsondoc.Doc, error) {
	if url := m.Env.PWAManifestURL; url != "" {
		ctx, cancel := context.WithTimeout(c.Context(), manifestTimeout)
		defer cancel()
		resp, err := m.Providers.Client().Send(ctx, llm.Outgoing{Method: http.MethodGet, URL: url})
		if err != nil {
			return nil, fmt.Errorf("EXTERNAL_PWA_MANIFEST_URL: %w", err)
		}
		body, err := llm.ReadBody(resp)
		if err == nil && (resp.StatusCode >= http.StatusBadRequest || jsondoc.Valid(body) != nil) {
			err = fmt.Errorf("answered %s, not JSON", resp.Status)
		}
		if err != nil {
			return nil, fmt.Errorf("EXTERNAL_PWA_MANIFEST_URL: %w", err)
		}
		return jsondoc.Doc(body), nil
	}
	type icon struct {
		Src     string `json:"src"`
		Type    string `json:"type"`
		Sizes   string `json:"sizes"`
		Purpose string `json:"purpose"`
	}
	var b jsondoc.Builder
	b.Add("name", m.Env.Name)
	b.Add("short_name", m.Env.Name)
	b.Add("description", m.Env.Name+": talk to language models, your own or others'.")
	b.Add("start_url", "/")
	b.Add("display", "standalone")
	b.Add("background_color", "#343541")
	b.Add("icons", []icon{{"/static/logo.png", "image/png", "500x500", "any"}, {"/static/logo.png", "image/png", "500x500", "maskable"}})
	b.Raw("share_target", jsondoc.Doc(`{"action":"/","method":"GET","params":{"text":"shared"}}`))
	return b.Done(), nil
}

// openSearch lets browsers offer new chats as a search engine.
func (m *Module) openSearch(*web.Call, web.None) (web.Raw, error) {
	name, url := escapeXML(m.Env.Name), escapeXML(config.WebUIURL.Get(m.Settings.Snapshot()))
	body := fmt.Sprintf(`<OpenSearchDescription xmlns="http://a9.com/-/spec/opensearch/1.1/" xmlns:moz="http://www.mozilla.org/2006/browser/search/">
<ShortName>%s</ShortName>
<Description>Search %s</Description>
<InputEncoding>UTF-8</InputEncoding>
<Image width="16" height="16" type="image/x-icon">%s/static/favicon.png</Image>
<Url type="text/html" method="get" template="%s/?q={searchTerms}"/>
<moz:SearchForm>%s</moz:SearchForm>
</OpenSearchDescription>
`, name, name, url, url, url)
	return web.Raw{Type: "application/xml", Body: []byte(body)}, nil
}

func escapeXML(s string) string {
	var b strings.Builder
	if xml.EscapeText(&b, []byte(s)) != nil {
		return "" // a Builder does not fail
	}
	return b.String()
}

type cachedIn struct {
	Path string `path:"path"`
}

// inlineTypes are the kinds of cached files that a browser shows itself; all others are downloads, since pages among
// them would run with this origin's rights.
var inlineTypes = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".bmp": "image/bmp",
	".svg": "image/svg+xml", ".ico": "image/vnd.microsoft.icon", ".tiff": "image/tiff", ".tif": "image/tiff", ".avif": "image/avif", ".heic": "image/heic",
	".mp3": "audio/mpeg", ".wav": "audio/x-wav", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg", ".aac": "audio/aac", ".m4a": "audio/mp4", ".flac": "audio/flac",
	".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".mpeg": "video/mpeg", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo",
}

// cached serves a file of the folder cache in the data folder, and nothing that lies outside of it.
func (m *Module) cached(c *web.Call, in cachedIn) (web.Done, error) {
	missing := func(err error) error { return web.Because(http.StatusNotFound, "File not found", err) }
	if !fs.ValidPath(in.Path) {
		return web.Done{}, missing(nil)
	}
	root, err := os.OpenRoot(filepath.Join(m.Env.DataDir, "cache"))
	if err != nil {
		return web.Done{}, missing(err)
	}
	defer root.Close()
	f, err := root.Open(filepath.FromSlash(in.Path))
	if err != nil {
		return web.Done{}, missing(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return web.Done{}, missing(err)
	}
	h := c.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	name := path.Base(in.Path)
	kind, inline := inlineTypes[strings.ToLower(path.Ext(name))]
	if !inline {
		kind = "application/octet-stream"
		h.Set("Content-Disposition", `attachment; filename="`+strings.NewReplacer(`"`, "", `\`, "", "\r", "", "\n", "").Replace(name)+`"`)
	}
	if kind == "image/svg+xml" {
		h.Set("Content-Security-Policy", "sandbox") // a drawing may hold scripts
	}
	h.Set("Content-Type", kind)
	http.ServeContent(c.W, c.R, "", info.ModTime(), f)
	return web.Done{}, nil
}
