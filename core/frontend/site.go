package frontend

import (
	"fmt"
	"net/http"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Options says where a [Site] finds its files. All fields may be empty.
type Options struct {
	DataDir   string // data directory; installations are looked up below Dir(DataDir)
	BuildDir  string // FRONTEND_BUILD_DIR: a built frontend to prefer to an installed one
	StaticDir string // files to lay over /static/*, e.g. an own custom.css or logo.png
}

// Site serves the installed frontend, or the built-in page while there is none. It
// is the handler for requests that no API route took; see the package comment.
// It keeps nothing in memory but folder handles and the embedded page.
type Site struct {
	opts    Options
	overlay *folder
	tree    atomic.Pointer[tree]
}

// New opens the frontend that [Find] names. None is no error: the built-in page is
// served, and a frontend installed later appears without a restart.
func New(o Options) (*Site, error) {
	s := &Site{opts: o}
	if o.StaticDir != "" && isDir(o.StaticDir) {
		var err error
		if s.overlay, err = openFolder(o.StaticDir); err != nil {
			return nil, fmt.Errorf("open static folder: %w", err)
		}
	}
	return s, s.Reload()
}

// Reload looks for a frontend again and switches to it, for instance after another
// version was installed. Requests under way keep the files they opened.
func (s *Site) Reload() error {
	dir := Find(s.opts.DataDir, s.opts.BuildDir)
	if dir == "" {
		s.tree.Store(nil)
		return nil
	}
	t, err := openTree(dir)
	if err != nil {
		return fmt.Errorf("open frontend: %w", err)
	}
	s.tree.Store(t)
	return nil
}

// Path is the folder of the frontend being served, "" for the built-in page.
func (s *Site) Path() string {
	if t := s.tree.Load(); t != nil {
		return t.path
	}
	return ""
}

// ServeHTTP answers GET and HEAD with a file and other methods with 405.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeDetail(w, http.StatusMethodNotAllowed)
		return
	}
	// The mount is chosen by the path as sent and the dots are resolved inside it:
	// /static/../index.html is a path outside the static folder, not the index.
	switch p := r.URL.Path; {
	case strings.HasPrefix(p, "/static/"):
		s.ServeStatic(w, r, strings.TrimPrefix(p, "/static/"))
	case strings.HasPrefix(p, pagePrefix):
		servePageAsset(w, r, strings.TrimPrefix(p, pagePrefix))
	default:
		s.serveApp(w, r)
	}
}

// ServeStatic answers with the file /static/name: the operator's own, else that of
// the frontend, else a neutral embedded one, else 404. Handlers use it for images
// that stand in for a missing one ("user.png", "favicon.png").
func (s *Site) ServeStatic(w http.ResponseWriter, r *http.Request, name string) {
	name, ok := relative(name)
	if !ok {
		writeDetail(w, http.StatusNotFound)
		return
	}
	if s.overlay != nil && s.overlay.serve(w, r, name) {
		return
	}
	if t := s.tree.Load(); t != nil {
		for _, f := range t.static {
			if f.serve(w, r, name) {
				return
			}
		}
	}
	if !serveFallback(w, r, name) {
		writeDetail(w, http.StatusNotFound)
	}
}

// serveApp answers with a file of the application, for unknown paths with its index.
func (s *Site) serveApp(w http.ResponseWriter, r *http.Request) {
	name, ok := relative(r.URL.Path)
	t := s.loaded()
	if t != nil {
		if rest, found := strings.CutPrefix(r.URL.Path, "/pyodide/"); found && t.pyodide != nil {
			servePyodide(w, r, t.pyodide, rest)
			return
		}
		if ok && t.build.serve(w, r, name) {
			return
		}
	}
	if strings.HasSuffix(name, ".js") {
		writeDetail(w, http.StatusNotFound)
		return
	}
	if t != nil && t.build.serve(w, r, "index.html") {
		return
	}
	// Without its index the folder is gone: removed, or repaired by a new one in its place.
	if t != nil && s.tree.CompareAndSwap(t, nil) {
		if t = s.loaded(); t != nil && t.build.serve(w, r, "index.html") {
			return
		}
	}
	servePage(w, r)
}

// servePyodide answers from the Python runtime. Sandboxed frames load it, whose
// origin is opaque, hence the header.
func servePyodide(w http.ResponseWriter, r *http.Request, f *folder, name string) {
	name, ok := relative(name)
	h := w.Header()
	named := h["Access-Control-Allow-Origin"] != nil // by CORS: the frame's own, which may send credentials
	if !named {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	if !ok || !f.serve(w, r, name) {
		if !named {
			h.Del("Access-Control-Allow-Origin")
		}
		writeDetail(w, http.StatusNotFound)
	}
}

// loaded returns the open frontend and looks for one if there was none yet.
func (s *Site) loaded() *tree {
	if t := s.tree.Load(); t != nil {
		return t
	}
	dir := Find(s.opts.DataDir, s.opts.BuildDir)
	if dir == "" {
		return nil
	}
	t, err := openTree(dir)
	if err != nil {
		return nil
	}
	s.tree.CompareAndSwap(nil, t)
	return s.tree.Load()
}

// tree is an opened frontend.
type tree struct {
	path    string
	build   *folder
	static  []*folder // in order of precedence
	pyodide *folder   // nil when the build has none
}

// openTree opens an installation or a bare build folder.
func openTree(dir string) (*tree, error) {
	base, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{path: dir, build: base}
	build := dir
	if isInstallation(dir) {
		base.zipped = gzipDir
		build = filepath.Join(dir, buildDir)
		t.build = base.sub(buildDir)
	}
	// The reference copies build/static over its own static folder at start-up.
	t.static = []*folder{t.build.sub("static")}
	if t.build != base {
		t.static = append(t.static, base.sub(staticDir))
	}
	if isDir(filepath.Join(build, "pyodide")) {
		t.pyodide = t.build.sub("pyodide")
	}
	return t, nil
}

// relative turns a request path into a clean name below a mount; ok is false if it
// leads out of it. Such a name is still good for asking what it ends in.
func relative(p string) (name string, ok bool) {
	name = path.Clean(strings.TrimLeft(p, "/"))
	return name, name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsRune(name, 0)
}
