package backup

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// What this package leaves in a data folder while it works, and behind.
const (
	stagePrefix  = ".galley-backup-"  // folders of a backup that is being made
	restoreDir   = ".galley-restore"  // of a restore
	keptPrefix   = "before-restore-"  // folders with what was there before a restore
	backupPrefix = "galley-backup"    // backups themselves, and the entries of this package
	keptInfix    = ".before-restore-" // a database that was not in the data folder
)

// leftOut are the names, below a data folder, of what backups never hold; "*" as in path.Match.
var leftOut = []string{
	// the database, which has an entry of its own
	databaseName + "-*",
	// of a moment
	"galley.sock", ".db-download-*", ".webui_secret_key-*", "uploads/upload-*", "uploads/model-*", "plugin-data/galley-run-*", "plugins/.galley-*",
	// of this package
	stagePrefix + "*", restoreDir, keptPrefix + "*", "*" + keptInfix + "*", backupPrefix + "*",
	// to be had again: the interface, packages of Python, models for embedding, speech and counting tokens, spoken answers
	// (and recordings that were written down, which nothing reads any more)
	"frontend", "python", "cache/embedding", "cache/whisper", "cache/tiktoken", "cache/audio",
	// of file systems
	"lost+found",
}

// isLeftOut says whether a name below the data folder, or a folder it is in, is left out.
func isLeftOut(name string) bool {
	for ; name != "."; name = path.Dir(name) {
		for _, pattern := range leftOut {
			if ok, _ := path.Match(pattern, name); ok && !isUpload(pattern, name) {
				return true
			}
		}
	}
	return false
}

// isUpload says whether a name that looks like that of a temporary upload is somebody's file: those begin with an id and "_",
// where temporary ones have digits only, or have an extension.
func isUpload(pattern, name string) bool {
	return pattern == "uploads/upload-*" && strings.Trim(strings.TrimPrefix(name, "uploads/upload-"), "0123456789") != ""
}

// mayHold says whether a backup may have an entry of a name. Nothing else is ever written.
func mayHold(name string, dir bool) bool {
	if !fs.ValidPath(name) || name == "." || len(name) > 4096 || strings.ContainsFunc(name, func(r rune) bool { return r == 0 || r == '\\' && filepath.Separator == '\\' }) {
		return false
	}
	if name == databaseName {
		return !dir
	}
	return !isLeftOut(name) && !strings.HasPrefix(name, databaseName+"/")
}

// found is a file or a folder to be copied.
type found struct {
	entry  Entry
	source string // where its content is
}

// listing walks a data folder.
type listing struct {
	dir       string
	database  string      // path of the server's database, with its companions left out as well
	secretKey bool        // whether to take it
	exclude   os.FileInfo // nil for none
	skipped   []string    // left out for what they are, or how they are named
	plain     []found
	databases []found // SQLite, by their content
}

// uploads is the folder whose files nobody changes.
const uploads = "uploads"

// read lists the folder but for its uploads, which are linked.
func (l *listing) read() error { return l.walk(".", l.dir) }

// walk lists what is in a folder at a path: links are followed at the top only, where people put them to have uploads on
// another disk.
func (l *listing) walk(name, at string) error {
	entries, err := os.ReadDir(at)
	if gone(err) && name != "." {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		below, source := path.Join(name, e.Name()), filepath.Join(at, e.Name())
		if isLeftOut(below) || below == databaseName || below == uploads || l.ofDatabase(source) || below == ".webui_secret_key" && !l.secretKey {
			continue
		}
		if !mayHold(below, false) { // such as names that are not UTF-8
			l.skipped = append(l.skipped, strconv.Quote(below))
			continue
		}
		info, err := e.Info()
		if err == nil && info.Mode()&fs.ModeSymlink != 0 && name == "." {
			info, err = os.Stat(source)
		}
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		f := found{entryOf(below, info), source}
		switch {
		case info.IsDir():
			l.plain = append(l.plain, f)
			if err := l.walk(below, source); err != nil {
				return err
			}
		case !info.Mode().IsRegular():
			l.skipped = append(l.skipped, below)
		case l.exclude != nil && os.SameFile(l.exclude, info):
		case isSQLite(source):
			l.databases = append(l.databases, f)
		case ofOther(below, at):
		default:
			l.plain = append(l.plain, f)
		}
	}
	return nil
}

// ofDatabase says whether a path is that of the server's database or of a file that stands beside it.
func (l *listing) ofDatabase(path string) bool {
	if l.database == "" {
		return false
	}
	rest, ok := strings.CutPrefix(path, l.database)
	return ok && slices.Contains([]string{"", "-wal", "-shm", "-journal"}, rest)
}

// ofOther says whether a file stands beside an SQLite database and goes with it.
func ofOther(name, dir string) bool {
	for _, end := range []string{"-wal", "-shm", "-journal"} {
		if main, ok := strings.CutSuffix(path.Base(name), end); ok && main != "" && isSQLite(filepath.Join(dir, main)) {
			return true
		}
	}
	return false
}

func entryOf(name string, info fs.FileInfo) Entry {
	e := Entry{Name: name, Mode: info.Mode() & (fs.ModeDir | fs.ModePerm), Modified: info.ModTime().Unix()}
	if !info.IsDir() {
		e.Size = info.Size()
	}
	return e
}

// isSQLite looks at how a file begins.
func isSQLite(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 16)
	_, err = io.ReadFull(f, head)
	return err == nil && bytes.Equal(head, []byte("SQLite format 3\x00"))
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
