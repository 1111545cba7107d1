package app

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/galleychat/galley/core/web"
)

// shareLinks leads addresses that other programs open to the page they mean: /watch?v=… of a video, and ?shared=…, by which
// phones share a text with the installed page (see the manifest).
func shareLinks(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.RawQuery != "" {
			if to := sharedPage(r.URL); to != "" {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// sharedPage is the page that an address means, "" if it is no such address.
func sharedPage(u *url.URL) string {
	watch := strings.HasSuffix(u.Path, "/watch")
	if !watch && !strings.Contains(u.RawQuery, "shared") {
		return ""
	}
	q := u.Query()
	var video, rest string
	if watch {
		video = firstFilled(q["v"])
	}
	if text := firstFilled(q["shared"]); text != "" {
		link := text
		if i := strings.IndexFunc(text, unicode.IsSpace); i >= 0 {
			link = text[:i]
		}
		if !strings.HasPrefix(link, "https://") || link == "https://" {
			rest = "q=" + url.QueryEscape(text)
		} else if id := videoID(link); id != "" {
			video = id
		} else {
			rest = "load-url=" + url.QueryEscape(link)
		}
	}
	if video != "" {
		video = "youtube=" + url.QueryEscape(video)
	}
	if video != "" && rest != "" {
		video += "&"
	}
	if video+rest == "" {
		return ""
	}
	return "/?" + video + rest
}

// firstFilled is the first value that is not empty: forms that leave a field empty do not mean it.
func firstFilled(values []string) string {
	if i := slices.IndexFunc(values, func(v string) bool { return v != "" }); i >= 0 {
		return values[i]
	}
	return ""
}

var videoHosts = []string{"youtu.be", "m.youtube.com", "youtube.com", "www.youtube.com", "www.youtube-nocookie.com", "vid.plus"}

// videoID is the id of a video's address, "" if it is not one.
func videoID(link string) string {
	u, err := url.Parse(link)
	if err != nil || !slices.Contains(videoHosts, u.Host) {
		return ""
	}
	id := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	if id == "watch" {
		id = firstFilled(u.Query()["v"])
	}
	if len([]rune(id)) != 11 {
		return ""
	}
	return id
}

// upgradesOnly refuses what asks for a WebSocket without being able to have one, with the reference's text: proxies that
// do not pass upgrades on are told apart by it.
func upgradesOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("transport") == "websocket" && !isUpgrade(r.Header) {
			web.WriteError(w, web.Fail(http.StatusBadRequest, "Invalid WebSocket upgrade request"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isUpgrade(h http.Header) bool {
	if !strings.EqualFold(strings.Join(h["Upgrade"], ", "), "websocket") {
		return false
	}
	for token := range strings.SplitSeq(strings.Join(h["Connection"], ","), ",") {
		if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
			return true
		}
	}
	return false
}
