package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/core/store/files/plaintext"
	"github.com/galleychat/galley/core/store/users"
)

// errEmptyText is the reason of a file that has no text.
var errEmptyText = errors.New(textEmpty) //nolint:staticcheck // shown to users

// errAbsent is the reason of a file whose content has gone.
var errAbsent = errors.New(textAbsent) //nolint:staticcheck // shown to users

// process reads a file's text and keeps it with the file, or the reason why there is none. actor has uploaded it.
func (m *Module) process(ctx context.Context, actor *users.User, f *files.File) {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return
	}
	if err := m.read(ctx, actor, f); err != nil && ctx.Err() == nil {
		m.Log.ErrorContext(ctx, "file was not processed", "file", f.ID, "error", err)
	}
}

func (m *Module) read(ctx context.Context, actor *users.User, f *files.File) error {
	if _, err := m.Files.Update(ctx, f.ID, files.Change{Data: jsondoc.Object("status", jsondoc.Text(files.Processing))}); err != nil {
		return err
	}
	done, err := m.index(ctx, f)
	if kind := errKind(""); !errors.As(err, &kind) && (done != nil || err != nil) { // else nobody has tried to read it
		m.processed(ctx, actor, f, err)
	}
	var r reason
	if errors.As(err, &r) {
		return nil // kept with the file
	}
	return err
}

// processed tells that a file's text was read, or why it was not.
func (m *Module) processed(ctx context.Context, actor *users.User, f *files.File, err error) {
	e := events.Event{Name: "retrieval.content.processed", Actor: actor, SubjectType: "file", SubjectID: f.ID}
	collection := jsondoc.Text("file-" + f.ID)
	if err != nil {
		e.Name = "retrieval.content.process_failed"
		e.Data = events.Pairs{"collection_name", collection, "filename", f.Filename, "message", f.Filename + ": " + err.Error()}
	} else {
		if config.RAGBypassEmbeddingAndRetrieval.Get(m.Settings.Snapshot()) {
			collection = nil
		}
		e.Data = events.Pairs{"collection_name", collection, "filename", f.Filename}
	}
	m.Events.Publish(ctx, e)
}

// reason is why a file has no text; it is kept with the file.
type reason struct{ error }

func (r reason) Unwrap() error { return r.error }

// index reads a file's text and keeps it, or the reason why there is none, which it returns too. The file is nil where
// the kind of file has no text, which is no error.
func (m *Module) index(ctx context.Context, f *files.File) (*files.File, error) {
	text, found, err := m.extract(f)
	if err == nil && !found {
		_, err = m.Files.Update(ctx, f.ID, files.Change{Data: completed()})
		return nil, err
	}
	if err == nil {
		if f, err := m.keep(ctx, f.ID, text); !errors.Is(err, errEmptyText) {
			return f, err
		}
		err = errEmptyText
	}
	data := jsondoc.Object("status", jsondoc.Text(files.Failed)).Set(jsondoc.Text(err.Error()), "error")
	if errors.Is(err, errEmptyText) {
		data = data.Set(jsondoc.Text(text), "content")
	}
	if _, failed := m.Files.Update(ctx, f.ID, files.Change{Data: data, Clear: true}); failed != nil {
		return nil, failed
	}
	return nil, reason{err}
}

func completed() jsondoc.Doc {
	return jsondoc.Object("status", jsondoc.Text(files.Completed)).Set(nil, "error")
}

// keep stores a file's text; errEmptyText where it is but white space.
func (m *Module) keep(ctx context.Context, id, text string) (*files.File, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errEmptyText
	}
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	change := files.Change{Hash: &hash, Data: completed().Set(jsondoc.Text(text), "content")}
	if !config.RAGBypassEmbeddingAndRetrieval.Get(m.Settings.Snapshot()) {
		change.Meta = jsondoc.Object("collection_name", jsondoc.Text("file-"+id)) // where an index keeps the file's parts
	}
	return m.Files.Update(ctx, id, change)
}

// errKind is the reason of a file whose kind has no text.
type errKind string

func (e errKind) Error() string { return "File type " + string(e) + " is not supported for processing" }

// extract reads a file's text. Videos have none, which is no error.
func (m *Module) extract(f *files.File) (text string, found bool, err error) {
	if f.Path == nil || *f.Path == "" {
		return f.Content(), true, nil
	}
	file, info, err := m.Folder.Open(*f.Path)
	if err != nil {
		m.Log.Warn("content of a file cannot be read", "file", f.ID, "error", err) // it names paths, so users are not told
		return "", false, errAbsent
	}
	defer file.Close()
	head := make([]byte, plaintext.HeadSize)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", false, err
	}
	head = head[:n]
	kind := f.ContentType()
	media := strings.HasPrefix(kind, "image/") || strings.HasPrefix(kind, "video/")
	switch {
	case media && plaintext.Is(head): // TypeScript is taken for video/mp2t
		kind = "text/plain"
	case m.isSpeech(kind):
		return "", false, errKind(kind)
	case strings.HasPrefix(kind, "video/"):
		return "", false, nil
	case media:
		return "", false, errKind(kind)
	}
	if !plaintext.Readable(f.Filename, kind, head) {
		return "", false, plaintext.ErrFormat
	}
	content := make([]byte, info.Size())
	copy(content, head)
	if _, err := io.ReadFull(file, content[n:]); err != nil {
		return "", false, err
	}
	text, err = plaintext.Extract(f.Filename, kind, content)
	return text, true, err
}

// isSpeech says whether the setting has files of this type transcribed, which Galley cannot do.
func (m *Module) isSpeech(kind string) bool {
	kind, _, _ = strings.Cut(strings.ToLower(kind), ";")
	main, _, _ := strings.Cut(kind, "/")
	list := config.AudioSTTSupportedContentTypes.Get(m.Settings.Snapshot())
	any := false
	for _, want := range list {
		if want = strings.TrimSpace(want); strings.Contains(want, "/") {
			any = true
			if want == kind || want == main+"/*" || want == "*/*" {
				return kind != ""
			}
		}
	}
	return !any && (main == "audio" || kind == "video/webm")
}
