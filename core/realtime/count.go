package realtime

import "sync"

// counter counts what runs. Unlike a sync.WaitGroup it may go up again while somebody waits: a session that ends on its
// own timer still has its hook to run when the server is closing.
type counter struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n is 0; nil while nobody waits
}

// Add counts n more.
func (c *counter) Add(n int) {
	c.mu.Lock()
	c.n += n
	if c.n == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	c.mu.Unlock()
}

// Done counts one less.
func (c *counter) Done() { c.Add(-1) }

// Wait returns once nothing runs.
func (c *counter) Wait() {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	<-idle
}
