package session

import (
	"sync"
	"time"

	"github.com/galleychat/galley/core/auth"
)

// Bounds of the cache. From sweepFrom entries on, those that are over are swept out whenever their number has doubled;
// maxEntries that are all good make it begin anew, which costs one query per session.
const (
	sweepFrom  = 1024
	maxEntries = 20_000
)

// cache keeps who the bearers of credentials are. Entries are few, as they last seconds: a principal can hold a picture.
type cache struct {
	mu      sync.RWMutex
	epoch   uint64 // counts changes of accounts, so that what was read before one is not kept after it
	entries map[string]*entry
	byUser  map[string]map[string]struct{} // tokens
	sweepAt int
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
	if len(c.entries) >= max(c.sweepAt, sweepFrom) {
		c.sweep()
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

// sweep drops the entries that are over. mu is held.
func (c *cache) sweep() {
	now := time.Now()
	for token, e := range c.entries {
		if !now.After(e.until) {
			continue
		}
		delete(c.entries, token)
		tokens := c.byUser[e.p.ID]
		delete(tokens, token)
		if len(tokens) == 0 {
			delete(c.byUser, e.p.ID)
		}
	}
	c.sweepAt = 2 * len(c.entries)
}
