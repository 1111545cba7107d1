package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store/users"
)

const (
	// maxPicture bounds a person's picture, in bytes, where PROFILE_IMAGE_MAX_DATA_URI_SIZE sets no lower bound: it is
	// read with every account.
	maxPicture     = 5 << 20
	pictureTimeout = 10 * time.Second
)

// picture gets the person's picture and gives it as a data URI; the default one where there is none to be had.
func (s *Service) picture(ctx context.Context, id *identity) string {
	name := config.OAuthPictureClaim.Get(s.Settings.Snapshot())
	if name == "" || s.Pictures == nil {
		return users.DefaultImage
	}
	address := id.provider.picture
	if id.claims.Has(name) {
		address = text(id.claims.Get(name))
	}
	if address == "" {
		return users.DefaultImage
	}
	data, err := s.fetchPicture(ctx, id, address)
	if err != nil {
		s.Log.WarnContext(ctx, "no picture of a person", "provider", id.provider.id, "error", err)
		return users.DefaultImage
	}
	return data
}

func (s *Service) fetchPicture(ctx context.Context, id *identity, address string) (string, error) {
	if strings.ContainsAny(address, "\\\t\n\r ") {
		return "", fmt.Errorf("%q is no address of a picture", address)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%q is no address of a picture", address)
	}
	ctx, cancel := context.WithTimeout(ctx, pictureTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	// The provider's own pictures may be for those only who have the token; nobody else is to see it.
	if address == id.provider.picture || slices.Contains(id.origins, u.Scheme+"://"+u.Host) {
		req.Header.Set("Authorization", "Bearer "+id.access)
	}
	resp, err := s.Pictures.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", address, resp.Status)
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	head := "data:" + strings.ToLower(strings.TrimSpace(kind)) + ";base64,"
	if err := users.CheckImageURL(head, s.Env.Images); err != nil {
		return "", err // before it is read
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPicture+1))
	if err != nil {
		return "", err
	}
	if len(body) > maxPicture {
		return "", errors.New("the picture is too large")
	}
	data := head + base64.StdEncoding.EncodeToString(body)
	return data, users.CheckImageURL(data, s.Env.Images)
}
