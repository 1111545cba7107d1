package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/store/users"
)

// TestCacheStaysSmall fills the cache with entries that are over: few are kept. What is good is kept.
func TestCacheStaysSmall(t *testing.T) {
	c := &cache{entries: map[string]*entry{}}
	now := time.Now()
	p := func(id string) *auth.Principal { return &auth.Principal{User: &users.User{ID: id}} }
	c.put("good", p("good"), now.Add(time.Hour), 0)
	for i := range 10 * sweepFrom {
		id := fmt.Sprint(i)
		c.put(id, p(id), now.Add(-time.Second), 0)
	}
	if n, m := len(c.entries), len(c.byUser); n > 2*sweepFrom || m != n {
		t.Errorf("%d entries of %d users are kept", n, m)
	}
	if c.get("good", now) == nil {
		t.Error("what is good was swept out")
	}
	for i := range maxEntries + 10 {
		id := fmt.Sprint("g", i)
		c.put(id, p(id), now.Add(time.Hour), 0)
	}
	if n := len(c.entries); n > maxEntries {
		t.Errorf("%d entries", n)
	}
	if c.get(fmt.Sprint("g", maxEntries+9), now) == nil {
		t.Error("the last one is not kept")
	}
	exp := p("e")
	exp.Claims.Expires = now.Unix()
	c.put("expired", exp, now.Add(time.Hour), 0)
	if c.get("expired", now) != nil {
		t.Error("a token outlives its expiry in the cache")
	}
}
