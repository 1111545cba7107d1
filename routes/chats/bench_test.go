package chats_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth/session/sessiontest"
	"github.com/galleychat/galley/core/jsondoc"
	chatstore "github.com/galleychat/galley/core/store/chats"
	folderstore "github.com/galleychat/galley/core/store/folders"
	"github.com/galleychat/galley/core/store/storetest"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/routes/chats"
)

// bench is a server over SQLite, asked over HTTP by one client, as the load tests do.
type bench struct {
	store  *chatstore.Store
	server *httptest.Server
	user   *users.User
	token  string
	client *http.Client
}

func newBench(b *testing.B) *bench {
	s := sessiontest.New(b, storetest.SQLite(b))
	store, folderStore := chatstore.New(s.DB), folderstore.New(s.DB)
	rules := folderstore.NewAccess(folderStore, s.Access)
	s.Router.Mount("/api/v1/chats", chats.New(chats.Deps{Store: store, Access: chatstore.NewAccess(store, s.Access, rules, true), Grants: s.Access, Folders: folderStore,
		FolderRules: rules, Users: s.Users, Settings: s.Settings}))
	s.Router.Finish()
	out := &bench{store: store, server: httptest.NewServer(s.Router)}
	b.Cleanup(out.server.Close)
	out.user, out.token = s.User("Una", "admin")
	out.client = out.server.Client()
	return out
}

func (s *bench) call(b *testing.B, method, path string, body []byte) []byte {
	req, err := http.NewRequest(method, s.server.URL+path, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		b.Fatalf("%s %s: %d %.200s %v", method, path, res.StatusCode, out, err)
	}
	return out
}

// document is a chat of n messages, 40 of them 44 KB.
func (s *bench) document(n, size int) jsondoc.Doc {
	words := strings.Repeat(`Some plain words about rivers and \"locks\".\n`, size/46+1)
	var b strings.Builder
	b.WriteString(`{"title":"Long talk","models":["m"],"history":{"messages":{`)
	for i := range n {
		parent, children, role := "null", "", "user"
		if i > 0 {
			b.WriteByte(',')
			parent = fmt.Sprintf(`"message-%d"`, i-1)
		}
		if i+1 < n {
			children = fmt.Sprintf(`"message-%d"`, i+1)
		}
		more := fmt.Sprintf(`,"models":["m"],"user":{"id":"%s","name":"Una"}`, s.user.ID)
		if i%2 == 1 {
			role, more = "assistant", `,"model":"m","done":true`
		}
		fmt.Fprintf(&b, `"message-%d":{"id":"message-%d","parentId":%s,"childrenIds":[%s],"role":"%s","content":"%s","timestamp":%d,"user_id":"%s"%s}`,
			i, i, parent, children, role, words[:size], 1700000000+i, s.user.ID, more)
	}
	fmt.Fprintf(&b, `},"currentId":"message-%d"}}`, n-1)
	return jsondoc.Doc(b.String())
}

func (s *bench) insert(b *testing.B, count, n, size int) (id string) {
	for i := range count {
		c, err := s.store.Insert(b.Context(), chatstore.NewChat{UserID: s.user.ID, Doc: s.document(n, size), UpdatedAt: int64(1700000000 + i)})
		if err != nil {
			b.Fatal(err)
		}
		id = c.ID
	}
	return id
}

// cpu is the processor time of this process, client and server: unlike the clock it does not see other processes.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkHTTP(b *testing.B) {
	const text = 920 // 20 lines
	for _, tc := range []struct {
		name, method, path string
		chats, messages    int
		size               int
		body               func(s *bench) []byte
	}{
		{"get400", "GET", "/api/v1/chats/{id}", 1, 400, 2300, nil},
		{"get40", "GET", "/api/v1/chats/{id}", 1, 40, text, nil},
		{"list200", "GET", "/api/v1/chats/?page=1", 200, 4, 230, nil},
		{"list200x40", "GET", "/api/v1/chats/?page=1", 200, 40, text, nil},
		{"search200", "GET", "/api/v1/chats/search?text=plain", 200, 4, 230, nil},
		{"search200x40", "GET", "/api/v1/chats/search?text=plain", 200, 40, text, nil},
		{"search200x40none", "GET", "/api/v1/chats/search?text=absent", 200, 40, text, nil},
		{"create2", "POST", "/api/v1/chats/new", 1, 2, 100, func(s *bench) []byte { return jsondoc.Object("chat", s.document(2, 92)) }},
		{"update40", "POST", "/api/v1/chats/{id}", 1, 40, text, func(s *bench) []byte { return jsondoc.Object("chat", s.document(40, text)) }},
	} {
		b.Run(tc.name, func(b *testing.B) {
			s := newBench(b)
			path := strings.ReplaceAll(tc.path, "{id}", s.insert(b, tc.chats, tc.messages, tc.size))
			var body []byte
			if tc.body != nil {
				body = tc.body(s)
			}
			s.call(b, tc.method, path, body)
			b.ReportAllocs()
			before := cpu(b)
			b.ResetTimer()
			b.SetParallelism(2) // four clients on two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.call(b, tc.method, path, body)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}
