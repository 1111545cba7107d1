package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/galleychat/galley/core/control"
	"github.com/galleychat/galley/core/store"
)

// RestoreOptions say what to restore, and where to.
type RestoreOptions struct {
	File           string
	DataDir        string // absolute
	DatabaseURL    string
	PostgresSchema string // DATABASE_SCHEMA
	Force          bool   // move what is there aside
	Progress       func(Progress)

	step func() error // called before each move, for tests
}

// Restored is what a restore has done.
type Restored struct {
	Head
	Manifest
	Kept      []string // where that is what was there before: a folder, a database
	Paths     int      // rows of files whose path was of another folder
	Told      []string // on rows that had to become Postgres'
	Completed bool     // it was one that had been interrupted, and the file was not looked at
}

// ErrOccupied says that there are data where a backup is to be restored.
var ErrOccupied = errors.New("there are data already: restore into an empty place, or with --force, which moves them aside")

// Verify reads a backup to its end, and says what is in it. The error is a [*DamagedError] where something is wrong with it.
func Verify(ctx context.Context, file string, progress func(Progress)) (*Head, *Manifest, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	return verifyFile(ctx, in, progress)
}

func verifyFile(ctx context.Context, in *os.File, progress func(Progress)) (*Head, *Manifest, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a file", in.Name())
	}
	c := &counted{r: in, total: info.Size(), tell: progress}
	return verify(ctx, c, func(int) {})
}

// counted tells how much of a file has been read.
type counted struct {
	r           io.Reader
	done, total int64
	tell        func(Progress)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.tell != nil {
		c.tell(Progress{Stage: "verify", Done: c.done, Total: c.total})
	}
	return n, err
}

// restoring is a restore under way.
type restoring struct {
	o        RestoreOptions
	head     *Head
	manifest *Manifest
	dir      string // of its own, in the data folder
	database string // file of the server's database; "" for Postgres
	staged   string // the backup's database
	paths    int
	notes    []string // on rows that had to become Postgres'
}

// Restore puts a backup where a server will find it.
func Restore(ctx context.Context, o RestoreOptions) (r *Restored, err error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	j := &restoring{o: o, dir: filepath.Join(o.DataDir, restoreDir)}
	if j.database, err = store.FileOf(o.DatabaseURL); err != nil {
		return nil, err
	}
	if j.database != "" {
		if j.database, err = filepath.Abs(j.database); err != nil {
			return nil, err
		}
	}
	if p, err := readPlan(o.DataDir); err != nil || p != nil {
		if err != nil {
			return nil, err
		}
		return j.resume(ctx, p)
	}
	in, err := os.Open(o.File)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if j.head, j.manifest, err = verifyFile(ctx, in, o.Progress); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	p, err := j.plan()
	if err != nil {
		return nil, err
	}
	if err := j.vacant(ctx, p); err != nil {
		return nil, err
	}
	unlock, err := j.begin()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := j.unpack(ctx, in); err != nil {
		return nil, errors.Join(err, j.abandon())
	}
	if err := j.idle(ctx); err != nil { // it was before, and unpacking took its time
		return nil, errors.Join(err, j.abandon())
	}
	if err := p.write(o.DataDir); err != nil {
		return nil, errors.Join(err, j.abandon())
	}
	if err := j.commit(ctx, p); err != nil {
		return nil, err
	}
	return &Restored{Head: *j.head, Manifest: *j.manifest, Kept: p.Kept, Paths: j.paths, Told: j.notes}, nil
}

// resume completes what was interrupted.
func (j *restoring) resume(ctx context.Context, p *plan) (r *Restored, err error) {
	unlock, err := j.lock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if p.Database != "" && p.Database != store.Redact(j.o.DatabaseURL) {
		return nil, fmt.Errorf("the restore that was interrupted is of the database %s: complete it with that DATABASE_URL", p.Database)
	}
	j.head = &p.Backup
	j.staged = filepath.Join(j.dir, databaseName)
	if err := j.commit(ctx, p); err != nil {
		return nil, err
	}
	return &Restored{Head: p.Backup, Kept: p.Kept, Told: j.notes, Completed: true}, nil
}

// commit does what the plan says, and removes it. Moves are not given up half way.
func (j *restoring) commit(ctx context.Context, p *plan) error {
	if p.Database != "" {
		if err := j.fillPostgres(ctx); err != nil {
			if untouched(err) {
				return errors.Join(err, os.Remove(planFile(j.o.DataDir)), j.abandon())
			}
			return errors.Join(err, Unfinished(j.o.DataDir))
		}
	}
	j.o.Progress(Progress{Stage: "put in place"})
	if err := p.perform(j.o.step); err != nil {
		return errors.Join(err, Unfinished(j.o.DataDir))
	}
	if err := os.Remove(planFile(j.o.DataDir)); err != nil {
		return err
	}
	return j.abandon()
}

// lock keeps other restores away.
func (j *restoring) lock() (unlock func() error, err error) {
	f, err := os.Open(j.dir)
	if err != nil {
		return nil, err
	}
	if !flock(f) {
		return nil, errors.Join(fmt.Errorf("another restore into %s is running", j.o.DataDir), f.Close())
	}
	return f.Close, nil
}

// begin makes the folder for what is unpacked, and clears it of what one that was interrupted has left.
func (j *restoring) begin() (unlock func() error, err error) {
	if err := os.Mkdir(j.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if unlock, err = j.lock(); err != nil {
		return nil, err
	}
	if err := j.clear(); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

func (j *restoring) clear() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(j.dir, e.Name())); err != nil {
			return err
		}
	}
	if !j.beside() {
		return nil
	}
	if err := os.Remove(j.besideName()); err != nil && !gone(err) {
		return err
	}
	return nil
}

// abandon removes what was unpacked, or is left of it.
func (j *restoring) abandon() error {
	err := os.RemoveAll(j.dir)
	if j.beside() {
		if gone := os.Remove(j.besideName()); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// beside says whether the server's database is on another disk than the data folder, so that it is unpacked beside its
// place and not in the data folder.
func (j *restoring) beside() bool {
	return j.database != "" && device(filepath.Dir(j.database)) != device(j.o.DataDir)
}

func (j *restoring) besideName() string {
	return filepath.Join(filepath.Dir(j.database), restoreDir+"-"+filepath.Base(j.database))
}

func device(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}

// plan says what will be moved: first what is there, its database before all, last the backup's database, so that no
// server finds a database whose files are not those.
func (j *restoring) plan() (*plan, error) {
	p := &plan{Backup: *j.head}
	if j.database != "" {
		if err := os.MkdirAll(filepath.Dir(j.database), 0o755); err != nil {
			return nil, fmt.Errorf("database folder: %w", err)
		}
	} else {
		p.Database = store.Redact(j.o.DatabaseURL)
	}
	j.staged = filepath.Join(j.dir, databaseName)
	if j.beside() {
		j.staged = j.besideName()
	}
	stamp, err := j.stamp()
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(j.dir, "old") // for empty folders
	if j.o.Force {
		kept = filepath.Join(j.o.DataDir, keptPrefix+stamp)
	}
	p.Moves = j.oldDatabase(kept, stamp)
	if !j.head.DatabaseOnly {
		old, err := j.oldFiles(kept)
		if err != nil {
			return nil, err
		}
		p.Moves = append(p.Moves, old...)
		for _, name := range units(j.manifest.Entries) {
			p.Moves = append(p.Moves, move{From: filepath.Join(j.dir, "new", name), To: filepath.Join(j.o.DataDir, name)})
		}
	}
	if j.o.Force {
		p.Kept = keptIn(p.Moves, kept)
	}
	if j.database != "" {
		p.Moves = append(p.Moves, move{From: j.staged, To: j.database})
	}
	return p, nil
}

// stamp is what the names of things that are moved aside end with, as no earlier restore's do.
func (j *restoring) stamp() (string, error) {
	base := time.Now().UTC().Format("20060102-150405")
	for n := 1; ; n++ {
		stamp := base
		if n > 1 {
			stamp += fmt.Sprint("-", n)
		}
		folder, err := exists(filepath.Join(j.o.DataDir, keptPrefix+stamp))
		if err != nil {
			return "", err
		}
		file, err := exists(j.database + keptInfix + stamp)
		if err != nil || !folder && !file {
			return stamp, err
		}
	}
}

// keptIn are the places that things are moved aside to: a folder, and what does not go into it.
func keptIn(moves []move, dir string) (out []string) {
	for _, m := range moves {
		to := m.To
		if strings.HasPrefix(to, dir+"/") {
			to = dir
		}
		if m.Old && !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	return out
}

// oldDatabase moves the database that is there, and the files that go with it.
func (j *restoring) oldDatabase(kept, stamp string) (moves []move) {
	if j.database == "" {
		return nil
	}
	for _, end := range []string{"", "-wal", "-shm", "-journal"} {
		if ok, _ := exists(j.database + end); !ok {
			continue
		}
		to := filepath.Join(kept, filepath.Base(j.database)+end)
		if filepath.Dir(j.database) != j.o.DataDir {
			to = j.database + keptInfix + stamp + end
		}
		moves = append(moves, move{From: j.database + end, To: to, Old: true})
	}
	return moves
}

// oldFiles moves what is in the data folder and could be in a backup. Of the cache that is one folder at a time, as it
// keeps those that are not.
func (j *restoring) oldFiles(kept string) (moves []move, err error) {
	l := &listing{dir: j.o.DataDir, database: j.database}
	for _, dir := range []string{".", "cache"} {
		entries, err := os.ReadDir(filepath.Join(j.o.DataDir, dir))
		if gone(err) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			from := filepath.Join(j.o.DataDir, name)
			if isLeftOut(name) || name == databaseName || l.ofDatabase(from) || name == "cache" && e.IsDir() || name == ".webui_secret_key" && !j.head.SecretKey {
				continue
			}
			if info, err := os.Lstat(from); err == nil && info.IsDir() && device(from) != device(j.o.DataDir) {
				return nil, fmt.Errorf("%s is a disk of its own and cannot be renamed: restore into a folder that is on one disk", from)
			}
			moves = append(moves, move{From: from, To: filepath.Join(kept, name), Old: true})
		}
	}
	return moves, nil
}

// units are what is renamed of a backup: what is at its top, and below its cache.
func units(entries []Entry) []string {
	var out []string
	seen := map[string]bool{databaseName: true, "cache": true}
	for _, e := range entries {
		parts := strings.SplitN(e.Name, "/", 3)
		unit := parts[0]
		if unit == "cache" && len(parts) > 1 {
			unit = path.Join(parts[:2]...)
		}
		if !seen[unit] {
			seen[unit] = true
			out = append(out, unit)
		}
	}
	return out
}

// vacant says whether what is to be restored has its place, and that nobody uses it.
func (j *restoring) vacant(ctx context.Context, p *plan) error {
	if err := j.idle(ctx); err != nil {
		return err
	}
	if j.database == "" {
		if err := j.emptyPostgres(ctx); err != nil {
			return err
		}
	}
	if !j.o.Force {
		for _, m := range p.Moves {
			if full, err := holdsData(m.From); m.Old && (full || err != nil) {
				return errors.Join(fmt.Errorf("%s: %w", m.From, ErrOccupied), err)
			}
		}
	}
	need := j.manifest.Bytes()
	if free := freeSpace(j.o.DataDir); free >= 0 && free < need {
		return fmt.Errorf("%s has %d MB free, the backup needs %d", j.o.DataDir, free>>20, need>>20+1)
	}
	return nil
}

// holdsData says whether there is a file with something in it.
func holdsData(at string) (full bool, err error) {
	err = filepath.WalkDir(at, func(_ string, e fs.DirEntry, err error) error {
		if gone(err) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		full = true
		return fs.SkipAll
	})
	return full, err
}

// ErrServing says that a server uses what is to be replaced.
var ErrServing = errors.New("a server is using it: stop that first")

// idle looks whether a server runs on the data folder or the database.
func (j *restoring) idle(ctx context.Context) error {
	client, err := control.Connect(ctx, j.o.DataDir)
	switch {
	case err == nil:
		client.CloseIdleConnections()
		return fmt.Errorf("%s: %w", j.o.DataDir, ErrServing)
	case !errors.Is(err, control.ErrNoServer):
		return fmt.Errorf("%s: %w", j.o.DataDir, err)
	}
	if j.database == "" {
		return nil
	}
	if ok, err := exists(j.database); err != nil || !ok {
		return err
	}
	// Whoever has a database with a write-ahead log open keeps others from having it for themselves.
	db, err := sql.Open("sqlite", store.FileURI(j.database)+"?mode=rw&_pragma=busy_timeout(0)&_pragma=locking_mode(EXCLUSIVE)&_txlock=exclusive")
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if code := sqliteCode(err); code == 5 || code == 6 { // SQLITE_BUSY, SQLITE_LOCKED
		return fmt.Errorf("%s: %w", j.database, ErrServing)
	}
	if err != nil { // broken, or something else: it is going to be moved aside
		return ctx.Err()
	}
	return tx.Rollback()
}

// unpack writes what is in the backup into the restore's folder, checks it, and has the disk keep it.
func (j *restoring) unpack(ctx context.Context, in *os.File) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := newReader(ctx, in)
	if err != nil {
		return err
	}
	fresh := filepath.Join(j.dir, "new")
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(fresh)
	if err != nil {
		return err
	}
	defer root.Close()
	var done int64
	total := j.manifest.Bytes()
	tell := func(n int) {
		done += int64(n)
		j.o.Progress(Progress{Stage: "unpack", Done: done, Total: total})
	}
	for _, want := range j.manifest.Entries {
		e, _, err := r.next()
		if err != nil {
			return err
		}
		if e == nil || e.Name != want.Name || e.Size != want.Size {
			return damaged("it was changed while it was read")
		}
		if err := j.unpackEntry(root, r, e, tell); err != nil {
			return err
		}
		if *e != want {
			return damaged("it was changed while it was read")
		}
	}
	for _, e := range j.manifest.Entries { // last, so that a folder nobody may write to can be filled
		if e.Mode.IsDir() {
			if err := root.Chmod(e.Name, e.Mode.Perm()); err != nil {
				return err
			}
		}
	}
	if err := j.adapt(ctx); err != nil {
		return err
	}
	if err := j.own(fresh); err != nil {
		return err
	}
	return syncDisk(fresh)
}

func (j *restoring) unpackEntry(root *os.Root, r *reader, e *Entry, tell func(int)) error {
	if e.Mode.IsDir() {
		return root.MkdirAll(e.Name, 0o755)
	}
	var f *os.File
	var err error
	if e.Name == databaseName {
		f, err = os.OpenFile(j.staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	} else {
		if dir := path.Dir(e.Name); dir != "." {
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		f, err = root.OpenFile(e.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	if err = r.content(e, f, tell); err == nil {
		err = f.Chmod(e.Mode.Perm())
	}
	if err = errors.Join(err, f.Close()); err != nil || e.Name == databaseName {
		return err
	}
	at := time.Unix(e.Modified, 0)
	return root.Chtimes(e.Name, at, at)
}

// adapt checks the database and has its rows name the uploads' new places.
func (j *restoring) adapt(ctx context.Context) error {
	j.o.Progress(Progress{Stage: "check the database"})
	found, verdict, err := examine(ctx, j.staged)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return damaged("its database: %v", err)
	case verdict != "ok":
		return damaged("its database: %s", verdict)
	case found.Schema > store.OwnVersion():
		found.Format, found.Galley = format, j.head.Galley
		return found.check()
	}
	// Without a log, so that the database is one file when it is closed; what opens it switches that back.
	db, err := sql.Open("sqlite", store.FileURI(j.staged)+"?mode=rw&_pragma=journal_mode(MEMORY)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	err = j.movePaths(ctx, db)
	return errors.Join(err, db.Close())
}

// examine looks at a database: of which version it is, and what SQLite says of its state.
func examine(ctx context.Context, file string) (h Head, verdict string, err error) {
	m, err := openMoment(ctx, file)
	if err != nil {
		return h, "", err
	}
	if err = m.facts(ctx, &h); err == nil {
		err = m.conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	}
	return h, verdict, errors.Join(err, m.close())
}

// movePaths changes the paths of uploads that are in the backup, and of those that were in the folder it is of.
func (j *restoring) movePaths(ctx context.Context, db *sql.DB) error {
	there := map[string]bool{}
	for _, e := range j.manifest.Entries {
		if path.Dir(e.Name) == uploads {
			there[e.Name] = true
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	last := ""
	for {
		rows, err := tx.QueryContext(ctx, "SELECT id, path FROM file WHERE path IS NOT NULL AND id > ? ORDER BY id LIMIT 1000", last)
		part, err := store.Collect(rows, err, func(r *sql.Rows) (l Lost, err error) {
			err = r.Scan(&l.ID, &l.Path)
			return
		})
		if err != nil {
			return err
		}
		if len(part) == 0 {
			return tx.Commit()
		}
		for _, l := range part {
			last = l.ID
			to := j.newPath(l.Path, there)
			if to == l.Path {
				continue
			}
			if _, err := tx.ExecContext(ctx, "UPDATE file SET path = ? WHERE id = ?", to, l.ID); err != nil {
				return err
			}
			j.paths++
		}
	}
}

func (j *restoring) newPath(old string, there map[string]bool) string {
	if strings.Contains(old, "://") {
		return old
	}
	if there[uploadName(old)] {
		return filepath.Join(j.o.DataDir, uploads, filepath.Base(old))
	}
	if rest, ok := strings.CutPrefix(old, strings.TrimSuffix(j.head.DataDir, "/")+"/"); ok && j.head.DataDir != "" {
		return filepath.Join(j.o.DataDir, rest)
	}
	return old
}

// own gives what root has unpacked to the account that the data folder belongs to.
func (j *restoring) own(fresh string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	give := func(at, like string) error {
		info, err := os.Stat(like)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid == 0 && st.Gid == 0 {
			return nil
		}
		return filepath.WalkDir(at, func(p string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(p, int(st.Uid), int(st.Gid))
		})
	}
	if err := give(fresh, j.o.DataDir); err != nil || j.database == "" {
		return err
	}
	return give(j.staged, filepath.Dir(j.database))
}
