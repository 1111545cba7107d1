package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are the uploaded files.
type Files struct {
	Folder  string `json:"folder"`
	Rows    int64  `json:"rows"`    // that name a content
	Found   int64  `json:"found"`   // whose content is there
	Bytes   int64  `json:"bytes"`   // of those
	Missing int64  `json:"missing"` // whose content is not there
	Remote  int64  `json:"remote"`  // of those missing, kept by another storage than the folder: S3, Google's or Azure's
	Alone   int64  `json:"alone"`   // contents in the folder that no row names
}

// uploads looks for the contents of files, and for contents without a file.
func (c *checker) uploads(ctx context.Context) error {
	f := &c.report.Files
	f.Folder = c.o.Uploads
	rows, err := c.db.Query(ctx, "SELECT id, path FROM file WHERE path IS NOT NULL AND path <> ''")
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}
	defer rows.Close()
	// Of names only hashes are kept, a few bytes for each.
	seed, named := maphash.MakeSeed(), map[uint64]struct{}{}
	var missing, remote []string
	for rows.Next() {
		var id string
		var path sql.RawBytes
		if err := rows.Scan(&id, &path); err != nil {
			return fmt.Errorf("files: %w", err)
		}
		f.Rows++
		name := filepath.Base(string(path))
		named[maphash.String(seed, name)] = struct{}{}
		info, err := os.Stat(filepath.Join(f.Folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			info, err = os.Stat(string(path))
		}
		if err == nil && info.Mode().IsRegular() {
			f.Found++
			f.Bytes += info.Size()
			continue
		}
		f.Missing++
		ids := &missing
		if strings.Contains(string(path), "://") {
			f.Remote++
			ids = &remote
		}
		if len(*ids) < examples {
			*ids = append(*ids, id)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("files: %w", err)
	}
	if f.Remote > 0 {
		c.warn("files.remote", f.Remote, remote, "files in S3, Google Cloud Storage or Azure, which this version does not read: copy them into %s", f.Folder)
	}
	if n := f.Missing - f.Remote; n > 0 {
		where := "whose content is not in " + f.Folder
		if _, err := os.Stat(f.Folder); err != nil {
			where = "without content: there is no folder " + f.Folder + "; DATA_DIR, or --data-dir, names the one above it"
		}
		c.warn("files.missing", n, missing, "files %s", where)
	}
	return c.alone(ctx, named, seed)
}

// alone counts the contents that no row names.
func (c *checker) alone(ctx context.Context, named map[uint64]struct{}, seed maphash.Seed) error {
	f := &c.report.Files
	dir, err := os.Open(f.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}
	defer dir.Close()
	var names []string
	for ctx.Err() == nil {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			if _, ok := named[maphash.String(seed, e.Name())]; ok || !e.Type().IsRegular() {
				continue
			}
			if f.Alone++; len(names) < examples {
				names = append(names, e.Name())
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}
	if f.Alone > 0 {
		c.note("files.alone", f.Alone, names, "files in %s that no row names", f.Folder)
	}
	return ctx.Err()
}
