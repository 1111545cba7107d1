package users

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/galleychat/galley/core/config"
)

// DefaultImage is the picture of accounts that have none.
const DefaultImage = "/user.png"

var profileImage = regexp.MustCompile(`^/api/v1/users/[^/?#]+/profile/image$`)

// Errors of CheckImageURL, as the reference words them.
var (
	errImageHost = errors.New("Invalid profile image URL: HTTP(S) URLs must include a host.")
	errImageSize = errors.New("Invalid profile image URL: data URI is too large.")
	errImageURL  = errors.New("Invalid profile image URL: must be a known internal path, an HTTP(S) URL with a host, or a data:image URI (png/jpeg/gif/webp).")
)

// CheckImageURL says whether a text may be an account's picture: empty, one of a few paths of the server's own, an
// http(s) address, or data of an image type that the settings allow. Everything else is refused, since browsers load it
// with the viewer's credentials.
func CheckImageURL(text string, allowed config.ProfileImages) error {
	switch text {
	case "", DefaultImage, "/favicon.png", "/static/favicon.png":
		return nil
	}
	if profileImage.MatchString(text) {
		return nil
	}
	scheme, rest, _ := strings.Cut(text, ":")
	switch strings.ToLower(scheme) {
	case "http", "https":
		if !hasHost(rest) {
			return errImageHost
		}
		return nil
	case "data":
		kind, _, ok := strings.Cut(strings.ToLower(rest[:min(len(rest), 64)]), ";base64,")
		sub, image := strings.CutPrefix(kind, "image/")
		if !ok || !image || !slices.ContainsFunc(allowed.MIMETypes, func(t string) bool { return t[strings.LastIndexByte(t, '/')+1:] == sub }) {
			return errImageURL
		}
		if allowed.MaxDataURI > 0 && len(text) > allowed.MaxDataURI {
			return errImageSize
		}
		return nil
	}
	return errImageURL
}

// hasHost says whether what follows the scheme of an address names a host.
func hasHost(rest string) bool {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return false
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		return strings.IndexByte(inner, ']') > 0
	}
	host, _, _ := strings.Cut(rest, ":")
	return host != ""
}
