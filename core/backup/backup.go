package backup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/galleychat/galley/core/store"
)

// Options say what to copy, and where to.
type Options struct {
	DataDir        string // absolute
	DatabaseURL    string
	PostgresSchema string // DATABASE_SCHEMA
	Version        string // of the program

	File     string    // to make; it must not be there
	Out      io.Writer // takes the backup in place of a file
	Compress string    // gzip, which "" means too, or none

	DatabaseOnly     bool
	WithoutSecretKey bool

	Progress func(Progress) // nil for none
}

// Progress tells how far the work is.
type Progress struct {
	Stage string
	Done  int64 // bytes
	Total int64 // 0 where it is not known
}

// Report is what a backup has become.
type Report struct {
	Head
	Manifest
	File    string
	Size    int64         // of the backup
	Took    time.Duration // all of it
	Remote  int           // uploads in an object storage, which are not in it
	Skipped []string      // links, sockets and the like, and names that are not UTF-8
}

// job is a backup that is being made.
type job struct {
	o       Options
	report  *Report
	stage   *stage
	list    *listing
	mode    fs.FileMode        // of the database
	uploads map[string]*upload // by name
	counter map[string]uint32  // of the other databases, before
	notes   []string           // on the copy of the rows
}

// upload is a file of the folder of uploads.
type upload struct {
	found
	named bool // by a row
	there bool // still, after the moment
}

// Make makes a backup.
func Make(ctx context.Context, o Options) (r *Report, err error) {
	begin := time.Now()
	if err := Unfinished(o.DataDir); err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	file, err := store.FileOf(o.DatabaseURL)
	if err != nil {
		return nil, err
	}
	out, err := newOutput(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.discard()) }()
	at := o.DataDir
	switch _, err := os.Stat(at); {
	case gone(err) && o.DatabaseOnly:
		at = os.TempDir()
	case err != nil:
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	j := &job{o: o, mode: 0o600, report: &Report{File: o.File}, counter: map[string]uint32{}}
	if j.stage, err = newStage(at); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.stage.close()) }()
	if err := j.run(ctx, file, out); err != nil {
		return nil, err
	}
	if err := out.keep(); err != nil {
		return nil, err
	}
	j.report.Size, j.report.Took = out.size, time.Since(begin)
	return j.report, nil
}

func (j *job) run(ctx context.Context, database string, out *output) error {
	m, err := j.database(ctx, database)
	if err != nil {
		return err
	}
	defer func() {
		if m != nil {
			_ = m.close()
		}
	}()
	head := Head{
		Format: format, Made: time.Now().UTC().Truncate(time.Second), Galley: j.o.Version, Dialect: "sqlite", DataDir: j.o.DataDir, DatabaseOnly: j.o.DatabaseOnly,
	}
	if database == "" {
		head.Dialect = "postgres"
	}
	if err := m.facts(ctx, &head); err != nil {
		return err
	}
	if !j.o.DatabaseOnly {
		if err := j.look(database, out); err != nil {
			return err
		}
		head.SecretKey = slices.ContainsFunc(j.list.plain, func(f found) bool { return f.entry.Name == ".webui_secret_key" })
	}
	j.report.Head = head
	w, err := newWriter(ctx, out, j.o.Compress, head)
	if err != nil {
		return err
	}
	if err := j.writeDatabase(ctx, w, m); err != nil {
		return err
	}
	if !j.o.DatabaseOnly {
		if err := j.match(ctx, m, w); err != nil {
			return err
		}
	}
	// Here the moment ends, so that the server's write-ahead log can be taken back.
	err = m.close()
	if m = nil; err != nil {
		return err
	}
	if !j.o.DatabaseOnly {
		if err := j.writeFiles(ctx, w); err != nil {
			return err
		}
	}
	w.manifest.Notes = j.notes
	if err := w.close(); err != nil {
		return err
	}
	j.report.Manifest = w.manifest
	return nil
}

// database opens the moment that the backup is of. Uploads are linked before, and once more when it begins.
func (j *job) database(ctx context.Context, file string) (*moment, error) {
	if err := j.link(ctx); err != nil {
		return nil, err
	}
	m, err := j.moment(ctx, file)
	if err != nil || file == "" { // of a Postgres database it began long ago
		return m, err
	}
	if err := j.link(ctx); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (j *job) moment(ctx context.Context, file string) (*moment, error) {
	staged := filepath.Join(j.stage.dir, databaseName)
	if file == "" {
		j.o.Progress(Progress{Stage: "copy the database"})
		if err := j.copyPostgres(ctx, staged); err != nil {
			return nil, fmt.Errorf("copy the database: %w", err)
		}
		return openMoment(ctx, staged)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	j.mode = info.Mode().Perm()
	wal, err := logged(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", file, err)
	}
	if wal {
		return openMoment(ctx, file)
	}
	j.o.Progress(Progress{Stage: "copy the database"})
	if err := copySQLite(ctx, file, staged); err != nil {
		return nil, fmt.Errorf("copy the database: %w", err)
	}
	return openMoment(ctx, staged)
}

// link links the uploads that are not linked yet.
func (j *job) link(ctx context.Context) error {
	if j.o.DatabaseOnly {
		return nil
	}
	return j.stage.link(ctx, j.o.DataDir)
}

// look finds what is to be copied.
func (j *job) look(database string, out *output) error {
	if database != "" {
		var err error
		if database, err = filepath.Abs(database); err != nil {
			return err
		}
	}
	j.list = &listing{dir: j.o.DataDir, database: database, secretKey: !j.o.WithoutSecretKey, exclude: out.file()}
	if err := j.list.read(); err != nil {
		return err
	}
	for _, f := range j.list.databases {
		j.counter[f.source] = changes(f.source)
	}
	j.uploads = map[string]*upload{}
	if j.stage.linked == nil {
		return eachUpload(context.Background(), j.o.DataDir, func(name, source string, e fs.DirEntry) error {
			info, err := e.Info()
			if gone(err) {
				return nil
			}
			if err != nil {
				return err
			}
			j.uploads[name] = &upload{found: found{entryOf(name, info), source}}
			return nil
		})
	}
	for name, e := range j.stage.linked {
		j.uploads[name] = &upload{found: found{entry: e, source: j.stage.place(name)}}
	}
	j.stage.linked = map[string]Entry{} // there may be a hundred thousand
	return nil
}

func (j *job) writeDatabase(ctx context.Context, w *writer, m *moment) error {
	total := m.bytes()
	if j.list != nil {
		for _, f := range slices.Concat(j.list.plain, j.list.databases) {
			total += f.entry.Size
		}
		for _, u := range j.uploads {
			total += u.entry.Size
		}
	}
	stage := "database"
	w.tell = func(done int64) { j.o.Progress(Progress{Stage: stage, Done: min(done, total), Total: total}) }
	pages, err := m.reader(ctx)
	if err != nil {
		return err
	}
	defer pages.Close()
	short, err := w.add(Entry{Name: databaseName, Mode: j.mode, Size: m.bytes(), Modified: j.report.Made.Unix()}, pages)
	if err == nil && short {
		err = errors.New("the database ended before all of its pages were read")
	}
	stage = "files"
	return err
}

// match marks the uploads that rows name, and finds rows whose upload is not there. Uploads that were deleted before the
// moment, though they were linked, are forgotten.
func (j *job) match(ctx context.Context, m *moment, w *writer) error {
	err := m.eachFile(ctx, func(row Lost) error {
		if strings.Contains(row.Path, "://") {
			j.report.Remote++
		} else if u := j.uploads[uploadName(row.Path)]; u != nil {
			u.named = true
		} else {
			w.manifest.Missing = append(w.manifest.Missing, row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = eachUpload(ctx, j.o.DataDir, func(name, _ string, _ fs.DirEntry) error {
		if u := j.uploads[name]; u != nil {
			u.there = true
		}
		return nil
	})
	maps.DeleteFunc(j.uploads, func(_ string, u *upload) bool { return !u.named && !u.there })
	return err
}

// uploadName is the name of an upload by its row's path, which servers find by its last part.
func uploadName(at string) string { return path.Join(uploads, filepath.Base(at)) }

func (j *job) writeFiles(ctx context.Context, w *writer) error {
	for _, f := range j.list.plain {
		if err := j.writeFile(w, f); err != nil {
			return err
		}
	}
	for _, f := range j.list.databases {
		if err := j.writeOther(ctx, w, f); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(j.uploads)) {
		u := j.uploads[name]
		switch err := j.writeFile(w, u.found); {
		case gone(err) && u.named:
			id, _, _ := strings.Cut(path.Base(name), "_")
			w.manifest.Missing = append(w.manifest.Missing, Lost{ID: id, Name: path.Base(name), Path: name})
		case err != nil && !gone(err):
			return err
		}
	}
	j.report.Skipped = j.list.skipped
	return nil
}

// writeFile copies a file or a folder. One that is gone by now is fs.ErrNotExist for uploads; others are of no matter.
func (j *job) writeFile(w *writer, f found) error {
	if f.entry.Mode.IsDir() {
		_, err := w.add(f.entry, nil)
		return err
	}
	in, err := os.Open(f.source)
	if err != nil {
		if gone(err) && !strings.HasPrefix(f.entry.Name, uploads+"/") {
			return nil
		}
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	short, err := w.add(entryOf(f.entry.Name, info), in)
	if short {
		w.manifest.Changed = append(w.manifest.Changed, f.entry.Name)
	}
	return err
}

// writeOther copies a database of something else than the server: of one moment, or as it is found where SQLite cannot
// read it.
func (j *job) writeOther(ctx context.Context, w *writer, f found) error {
	staged := filepath.Join(j.stage.dir, "other.db")
	defer os.Remove(staged)
	copied := f
	switch err := copySQLite(ctx, f.source, staged); {
	case err == nil:
		copied.source = staged
	case ctx.Err() != nil:
		return ctx.Err()
	case gone(err):
		return nil
	case sqliteCode(err) == 13: // SQLITE_FULL
		return fmt.Errorf("copy %s: %w", f.source, err)
	}
	info, err := os.Stat(copied.source)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := os.Open(copied.source)
	if err != nil {
		return err
	}
	defer in.Close()
	e := f.entry
	e.Size = info.Size()
	short, err := w.add(e, in)
	if err == nil && (short || copied.source == f.source || changes(f.source) != j.counter[f.source]) {
		w.manifest.Changed = append(w.manifest.Changed, e.Name)
	}
	return err
}

// changes is SQLite's count of what was written to a database with a rollback journal, and says little of others.
func changes(file string) uint32 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	var head [28]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(head[24:])
}

// output is where a backup goes. A file gets its name when it is whole.
type output struct {
	w    *bufio.Writer
	name string
	temp *os.File // nil for a stream
	size int64
	safe int64 // how much of it is on the disk

	stream *os.File // a file that a stream goes to
}

const partSuffix = ".part"

func newOutput(o Options) (*output, error) {
	out := &output{name: o.File}
	if o.Out != nil {
		out.w = bufio.NewWriterSize(o.Out, 1<<20)
		out.stream, _ = o.Out.(*os.File)
		return out, nil
	}
	if _, err := os.Lstat(o.File); err == nil {
		return nil, fmt.Errorf("%s is there already, and is not overwritten", o.File)
	}
	dir := filepath.Dir(o.File)
	if err := sweep(filepath.Join(dir, stagePrefix+"*"+partSuffix)); err != nil {
		return nil, err
	}
	var err error
	if out.temp, err = os.CreateTemp(dir, stagePrefix+"*"+partSuffix); err != nil { // of mode 0600
		return nil, err
	}
	if !flock(out.temp) {
		return nil, errors.Join(fmt.Errorf("%s cannot be locked", out.temp.Name()), out.discard())
	}
	out.w = bufio.NewWriterSize(out.temp, 1<<20)
	return out, nil
}

// syncEvery is how much is written before the disk has to have it: a server's writes wait for no more than that.
const syncEvery = 64 << 20

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.size += int64(n)
	if err == nil && o.temp != nil && o.size-o.safe > syncEvery {
		err, o.safe = o.temp.Sync(), o.size
	}
	return n, err
}

// file is what is written, which is not to be copied; nil for none.
func (o *output) file() os.FileInfo {
	f := o.temp
	if f == nil {
		f = o.stream
	}
	if f == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	return info
}

// keep gives the file its name, unless there is one of that name by now.
func (o *output) keep() error {
	if err := o.w.Flush(); err != nil || o.temp == nil {
		return err
	}
	if err := o.temp.Sync(); err != nil {
		return err
	}
	switch err := os.Link(o.temp.Name(), o.name); {
	case err == nil:
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s is there by now, and is not overwritten", o.name)
	default: // a file system without hard links
		if err := os.Rename(o.temp.Name(), o.name); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(o.name))
}

// discard removes what has no name yet.
func (o *output) discard() error {
	if o.temp == nil {
		return nil
	}
	err := os.Remove(o.temp.Name())
	if gone(err) {
		err = nil
	}
	return errors.Join(err, o.temp.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
