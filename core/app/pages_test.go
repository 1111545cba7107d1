package app

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestShareLinks(t *testing.T) {
	page := shareLinks(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, c := range []struct{ method, address, want string }{
		{"GET", "/watch?v=abc", "/?youtube=abc"},
		{"GET", "/x/watch?v=&v=b", "/?youtube=b"},
		{"GET", "/watch", ""},
		{"GET", "/watch?w=abc", ""},
		{"GET", "/?v=abc", ""},
		{"HEAD", "/watch?v=abc", ""},
		{"GET", "/?shared=hello%20world%20%C3%A4%2B~*", "/?q=hello+world+%C3%A4%2B~%2A"},
		{"GET", "/?shared=", ""},
		{"GET", "/?unshared=x", ""},
		{"GET", "/x?shared=https://youtu.be/abcdefghijk%20x", "/?youtube=abcdefghijk"},
		{"GET", "/x?shared=https://www.youtube.com/watch?v%3Dabcdefghijk", "/?youtube=abcdefghijk"},
		{"GET", "/x?shared=https://www.youtube.com/watch?v%3Dshort", "/?load-url=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3Dshort"},
		{"GET", "/x?shared=https://example.com/a?b=c", "/?load-url=https%3A%2F%2Fexample.com%2Fa%3Fb%3Dc"},
		{"GET", "/x?shared=http://example.com", "/?q=http%3A%2F%2Fexample.com"},
		{"GET", "/watch?v=abc&shared=hi", "/?youtube=abc&q=hi"},
	} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(c.method, c.address, nil))
		if got := w.Header().Get("Location"); got != c.want || (w.Code == http.StatusTemporaryRedirect) != (c.want != "") {
			t.Errorf("%s %s: %d %q, want %q", c.method, c.address, w.Code, got, c.want)
		}
	}
}

func TestUpgradesOnly(t *testing.T) {
	h := upgradesOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, c := range []struct {
		query, upgrade, connection string
		status                     int
	}{
		{"transport=websocket", "", "", 400},
		{"transport=websocket", "websocket", "keep-alive", 400},
		{"transport=websocket", "h2c", "Upgrade", 400},
		{"transport=websocket", "WebSocket", "keep-alive, Upgrade", 204},
		{"transport=polling", "", "", 204},
		{"", "", "", 204},
	} {
		r := httptest.NewRequest("GET", "/ws/socket.io/?"+c.query, nil)
		r.Header.Set("Upgrade", c.upgrade)
		r.Header.Set("Connection", c.connection)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || c.status == 400 && w.Body.String() != `{"detail":"Invalid WebSocket upgrade request"}` {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
}
