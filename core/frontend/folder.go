package frontend

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
)

// folder is a part of the file system that requests may read.
type folder struct {
	root   *os.Root
	dir    string // slash-separated folder inside root
	zipped string // folder inside root with the gzip twins of root's files; "" if none
}

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root: root, dir: "."}, nil
}

// sub is the folder name inside f; it need not exist.
func (f *folder) sub(name string) *folder {
	return &folder{f.root, path.Join(f.dir, name), f.zipped}
}

// serve answers with the file name and reports whether there is one. A file that
// cannot be opened, for whatever reason, counts as absent: the path came from outside.
func (f *folder) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	file, info := f.open(path.Join(f.dir, name))
	if file == nil {
		return false
	}
	defer file.Close()
	h := w.Header()
	h.Set("Content-Type", contentType(name))
	if strings.HasSuffix(name, ".html") {
		// The index names the hashed files of its build and must not outlive it.
		h.Set("Cache-Control", "no-cache")
	}
	if f.zipped != "" && info.Size() >= minGzip && compressible(name) {
		h.Add("Vary", "Accept-Encoding") // besides what CORS says
		if twin, zinfo := f.twin(r, name); twin != nil {
			defer twin.Close()
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Length", strconv.FormatInt(zinfo.Size(), 10))
			h.Set("ETag", etag(info, "-gzip"))
			http.ServeContent(w, r, name, info.ModTime(), twin)
			return true
		}
	}
	h.Set("ETag", etag(info, ""))
	http.ServeContent(w, r, name, info.ModTime(), file)
	return true
}

// twin opens the compressed form of a file if the client takes it. Requests for a
// range and those with a precondition that may fail get the plain form, as ranges
// and lengths are counted in it.
func (f *folder) twin(r *http.Request, name string) (*os.File, fs.FileInfo) {
	for _, h := range []string{"Range", "If-Match", "If-Unmodified-Since"} {
		if r.Header.Get(h) != "" {
			return nil, nil
		}
	}
	if !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		return nil, nil
	}
	return f.open(path.Join(f.zipped, f.dir, name))
}

func (f *folder) open(name string) (*os.File, fs.FileInfo) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, nil
	}
	return file, info
}

// etag is made of modification time and size, as in the reference.
func etag(info fs.FileInfo, suffix string) string {
	return fmt.Sprintf(`"%x-%x%s"`, info.ModTime().UnixNano(), info.Size(), suffix)
}

// acceptsGzip reads the Accept-Encoding header: gzip or * with a weight above zero.
func acceptsGzip(values []string) bool {
	any := false
	for _, item := range strings.Split(strings.Join(values, ","), ",") {
		coding, params, _ := strings.Cut(item, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(params)), "q="); ok {
			weight, _ = strconv.ParseFloat(q, 64)
		}
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip":
			return weight > 0
		case "*":
			any = weight > 0
		}
	}
	return any
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// writeDetail writes the API's error body for a status that its text explains.
func writeDetail(w http.ResponseWriter, status int) {
	body := `{"detail":"` + http.StatusText(status) + `"}`
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the client may be gone; there is no one else to tell
}
