package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/store"
	stored "github.com/galleychat/galley/core/store/files"
	"github.com/galleychat/galley/routes/files"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// pluginFiles has plugins read and write the files of users.
type pluginFiles struct{ a *App }

func fileInfo(f *stored.File) *pb.FileInfo {
	info := &pb.FileInfo{Id: f.ID, UserId: f.UserID, Name: f.Name(), ContentType: f.ContentType()}
	info.Size, _ = f.Meta.Int("size")
	if f.CreatedAt != nil {
		info.CreatedAt = *f.CreatedAt
	}
	return info
}

// Get implements plugin.FileService.
func (s pluginFiles) Get(ctx context.Context, id string) (*pb.FileInfo, error) {
	f, err := s.a.Files.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return fileInfo(f), nil
}

// readPart is how much of a file is read at a time.
const readPart = 256 << 10

// Read implements plugin.FileService. A file whose content has gone is not found.
func (s pluginFiles) Read(ctx context.Context, id string, part func([]byte) error) error {
	f, err := s.a.Files.Get(ctx, id)
	if err != nil {
		return err
	}
	if f.Path == nil {
		return store.ErrNotFound
	}
	content, _, err := s.a.Uploads.Open(*f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return store.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer content.Close()
	buf := make([]byte, readPart)
	for ctx.Err() == nil {
		n, err := io.ReadFull(content, buf)
		if n > 0 {
			if err := part(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Write implements plugin.FileService: it stores what an upload stores whose text is not to be read.
func (s pluginFiles) Write(ctx context.Context, info *pb.FileInfo, next func() ([]byte, error)) (made *pb.FileInfo, err error) {
	if _, err := s.a.Users.ByID(ctx, info.GetUserId()); err != nil {
		return nil, err
	}
	tmp, err := s.a.Uploads.Temp()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stored.Discard(tmp)) }()
	size, hash, err := s.receive(tmp, next)
	if err != nil {
		return nil, err
	}
	f := stored.Upload{UserID: info.GetUserId(), Name: info.GetName(), ContentType: info.GetContentType(), Size: size, Hash: hash}.File()
	if err := s.a.Uploads.Keep(f, func(path string) error { return os.Rename(tmp.Name(), path) }); err != nil {
		return nil, err
	}
	if err := s.a.Files.Insert(ctx, f); err != nil {
		return nil, errors.Join(err, s.a.Uploads.Remove(*f.Path))
	}
	return fileInfo(f), nil
}

// receive writes a content as it comes and gives its size and its hash.
func (s pluginFiles) receive(to *os.File, next func() ([]byte, error)) (size int64, hash jsondoc.Doc, err error) {
	snap := s.a.Settings.Snapshot()
	sum := sha256.New()
	for {
		part, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, nil, err
		}
		if size += int64(len(part)); size > 0 {
			if err := files.CheckSize(snap, size); err != nil { // before all of it has come
				return 0, nil, err
			}
		}
		_, _ = sum.Write(part) // it cannot fail
		if _, err := to.Write(part); err != nil {
			return 0, nil, err
		}
	}
	if err := files.CheckSize(snap, size); err != nil {
		return 0, nil, err
	}
	return size, jsondoc.Text(hex.EncodeToString(sum.Sum(nil))), to.Chmod(0o644)
}
