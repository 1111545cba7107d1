package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/outbound"
	"github.com/galleychat/galley/core/store/files"
)

// inlineImages is the turn engine's way to images.
type inlineImages struct {
	a     *App
	guard outbound.Guard
	http  *http.Client
}

// imageTime is how long an image on the internet may take to come.
const imageTime = 30 * time.Second

// maxImage bounds an image, in bytes, where the operator does not.
const maxImage = 64 << 20

func (a *App) inlineImages() inlineImages {
	guard := outbound.FromEnv(a.Env)
	return inlineImages{a, guard, guard.Client(nil, false)}
}

// uploadAddress matches the address of an upload's content.
var uploadAddress = regexp.MustCompile(`^/api/v1/files/([^/?#]+)/content(?:[?#]|$)`)

// Inline implements turn.Images.
func (i inlineImages) Inline(ctx context.Context, p *auth.Principal, address string) (string, bool) {
	var data []byte
	var kind string
	var err error
	switch m := uploadAddress.FindStringSubmatch(address); {
	case strings.HasPrefix(address, "http"):
		data, kind, err = i.fetch(ctx, address)
	case m != nil:
		data, kind, err = i.upload(ctx, p, m[1])
	default:
		data, kind, err = i.upload(ctx, p, address)
	}
	if err != nil {
		i.a.Log.DebugContext(ctx, "an image of a message was not read", "error", err)
	}
	if err != nil || kind == "" {
		return "", false
	}
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data), true
}

// limit is the most that an image may have, in bytes.
func (i inlineImages) limit() int64 {
	if mb, ok := config.RAGFileMaxSize.Int(i.a.Settings.Snapshot()); ok && mb > 0 {
		return int64(mb) << 20
	}
	return maxImage
}

// fetch reads an image from the internet.
func (i inlineImages) fetch(ctx context.Context, address string) ([]byte, string, error) {
	if err := i.guard.Check(ctx, address); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, imageTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := i.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	data, err := read(resp.Body, i.limit())
	if err != nil || resp.StatusCode != http.StatusOK || data == nil {
		return nil, "", err
	}
	kind := resp.Header.Get("Content-Type")
	if kind == "" {
		kind = "image/png"
	}
	return data, kind, nil
}

// upload reads an upload that the person may read.
func (i inlineImages) upload(ctx context.Context, p *auth.Principal, id string) ([]byte, string, error) {
	f, err := i.a.Files.Get(ctx, id)
	if err != nil || f.Path == nil {
		return nil, "", err
	}
	if !p.IsAdmin() {
		if ok, err := i.a.FileAccess.Can(ctx, p.User, f, files.Read); err != nil || !ok {
			return nil, "", err
		}
	}
	content, _, err := i.a.Uploads.Open(*f.Path)
	if err != nil {
		return nil, "", err
	}
	defer content.Close()
	data, err := read(content, max(i.limit(), maxImage))
	if err != nil || data == nil {
		return nil, "", err
	}
	kind, _, _ := strings.Cut(mime.TypeByExtension(strings.ToLower(filepath.Ext(*f.Path))), ";")
	if kind == "" {
		kind = f.ContentType()
	}
	return data, kind, nil
}

// read reads all there is, nil where that is more than a limit.
func read(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(data)) > limit {
		return nil, err
	}
	return data, err
}

// Keep implements turn.Images.
func (i inlineImages) Keep(ctx context.Context, p *auth.Principal, data string) (address, id string, err error) {
	head, body, _ := strings.Cut(strings.TrimPrefix(data, "data:"), ",")
	kind, _, _ := strings.Cut(head, ";")
	content, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		return "", "", err
	}
	hash, err := files.Digest(bytes.NewReader(content))
	if err != nil {
		return "", "", err
	}
	name := "generated-image.png"
	if _, format, _ := strings.Cut(kind, "/"); format != "" {
		name = "generated-image." + format
	}
	f := files.Upload{UserID: p.ID, Name: name, ContentType: kind, Size: int64(len(content)), Hash: hash}.File()
	if err := i.a.Uploads.Keep(f, func(path string) error { return os.WriteFile(path, content, 0o644) }); err != nil {
		return "", "", err
	}
	if err := i.a.Files.Insert(ctx, f); err != nil {
		return "", "", errors.Join(err, i.a.Uploads.Remove(*f.Path))
	}
	return "/api/v1/files/" + f.ID + "/content", f.ID, nil
}
