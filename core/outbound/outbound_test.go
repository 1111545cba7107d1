package outbound

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestCheck(t *testing.T) {
	open, closed := Guard{Local: true, Filter: []string{"!8.8.4.0/24"}}, Guard{Filter: []string{"!1.1.1.1", "example.com", "8.8.8.8", "8.8.4.4"}}
	for _, tc := range []struct {
		url          string
		open, closed bool
	}{
		{"https://8.8.8.8/x", true, true}, {"http://1.1.1.1", true, false}, {"http://9.9.9.9", true, false}, {"http://8.8.4.4", false, true},
		{"http://127.0.0.1:80/", true, false}, {"http://10.1.2.3/", true, false}, {"http://169.254.169.254/", false, false}, {"http://[::1]/", true, false},
		{"http://[64:ff9b::a9fe:a9fe]/", false, false}, {"http://[::ffff:127.0.0.1]/", true, false}, {"http://[2002:a9fe:a9fe::]/", false, false},
		{"ftp://8.8.8.8", false, false}, {"http://", false, false}, {"nothing", false, false}, {"http://127.0.0.1\\@8.8.8.8", false, false},
		{"http://metadata.google.internal/", false, false},
	} {
		if err := open.Check(t.Context(), tc.url); (err == nil) != tc.open {
			t.Errorf("%s where private addresses are open: %v", tc.url, err)
		}
		if err := closed.Check(t.Context(), tc.url); (err == nil) != tc.closed {
			t.Errorf("%s: %v", tc.url, err)
		}
	}
}

func TestClient(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/here", http.StatusFound)
		}
	}))
	defer s.Close()
	for _, tc := range []struct {
		name      string
		guard     Guard
		redirects bool
		path      string
		status    int // 0: refused
		asked     int
	}{
		{"private", Guard{}, false, "/", 0, 0},
		{"private let pass", Guard{Local: true}, false, "/", 200, 1},
		{"filtered address", Guard{Local: true, Filter: []string{"!127.0.0.0/8"}}, false, "/", 0, 0},
		{"other hosts only", Guard{Local: true, Filter: []string{"example.com"}}, false, "/", 0, 0},
		{"redirect", Guard{Local: true}, false, "/away", 302, 1},
		{"redirect followed", Guard{Local: true}, true, "/away", 200, 2},
	} {
		asked = 0
		status := 0
		resp, err := tc.guard.Client(nil, tc.redirects).Get(s.URL + tc.path)
		if err == nil {
			status = resp.StatusCode
			_ = resp.Body.Close()
		}
		if status != tc.status || asked != tc.asked {
			t.Errorf("%s: %d after %d requests (%v)", tc.name, status, asked, err)
		}
	}
}
