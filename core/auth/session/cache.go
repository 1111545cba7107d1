package session

import (
	"sync"
	"time"

	"github.com/galleychat/galley/core/auth"
)

// maxEntries bounds the cache; when it is full it begins anew, which costs one query per session.
const maxEntries = 20_000

// cache keeps who the bearers of credentials are.
type cache struct {
	mu      sync.RWMutex
	epoch   uint64 // counts changes of accounts, so that what was read before one is not kept after it
	entries map[string]*entry
	byUser  map[string]map[string]struct{} // tokens
}

type entry struct {
	p     *auth.Principal
	until time.Time
}

func (c *cache) get(token string, now time.Time) *auth.Principal {
	c.mu.RLock()
	e := c.entries[token]
	c.mu.RUnlock()
	if e == nil || now.After(e.until) {
		return nil
	}
	if exp := e.p.Claims.Expires; exp != 0 && now.Unix() >= exp {
		return nil
	}
	return e.p
}

// now is the epoch, to be read before the database is.
func (c *cache) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

func (c *cache) put(token string, p *auth.Principal, until time.Time, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	if len(c.entries) >= maxEntries || c.byUser == nil {
		c.entries, c.byUser = map[string]*entry{}, map[string]map[string]struct{}{}
	}
	c.entries[token] = &entry{p, until}
	if c.byUser[p.ID] == nil {
		c.byUser[p.ID] = map[string]struct{}{}
	}
	c.byUser[p.ID][token] = struct{}{}
}

// forget drops the credentials of an account; "" means of all.
func (c *cache) forget(userID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	if userID == "" {
		c.entries, c.byUser = map[string]*entry{}, map[string]map[string]struct{}{}
		return
	}
	for token := range c.byUser[userID] {
		delete(c.entries, token)
	}
	delete(c.byUser, userID)
}
