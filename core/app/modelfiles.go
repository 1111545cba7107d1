package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/files"
)

// modelFiles is the models' view of the files: their backgrounds, avatars and knowledge.
type modelFiles struct {
	a      *App
	folder *files.Folder
}

// Readable says whether a user may read a file; false too where it is gone.
func (m modelFiles) Readable(ctx context.Context, p *auth.Principal, id string) (bool, error) {
	f, err := m.a.Files.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil || p.IsAdmin() {
		return err == nil, err
	}
	return m.a.FileAccess.Can(ctx, p.User, f, files.Read)
}

// Content reads at most limit bytes of a file.
func (m modelFiles) Content(ctx context.Context, id string, limit int64) ([]byte, error) {
	f, err := m.a.Files.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if f.Path == nil {
		return nil, store.ErrNotFound
	}
	content, _, err := m.folder.Open(*f.Path)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(io.LimitReader(content, limit))
}

// SetType notes the media type of a file's content.
func (m modelFiles) SetType(ctx context.Context, id, mediaType string) error {
	_, err := m.a.Files.Update(ctx, id, files.Change{Meta: jsondoc.Object("content_type", jsondoc.Text(mediaType))})
	return err
}

// Add uploads a file for a user. Its text is not read.
func (m modelFiles) Add(ctx context.Context, p *auth.Principal, name string, content []byte) (string, error) {
	hash, err := files.Digest(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	f := files.Upload{UserID: p.ID, Name: name, ContentType: http.DetectContentType(content), Size: int64(len(content)), Hash: hash}.File()
	if err := m.folder.Keep(f, func(path string) error { return os.WriteFile(path, content, 0o644) }); err != nil {
		return "", err
	}
	if err := m.a.Files.Insert(ctx, f); err != nil {
		return "", errors.Join(err, m.folder.Remove(*f.Path))
	}
	return f.ID, nil
}
