package config

import "sync"

// dispatcher calls subscribers in the order of events, without a lock held meanwhile.
type dispatcher struct {
	mu          sync.Mutex
	subscribers []*subscriber
	queue       []event
	running     bool
}

type subscriber struct {
	f func([]string, *Snapshot)
}

type event struct {
	changed []string
	snap    *Snapshot
}

func (d *dispatcher) subscribe(f func([]string, *Snapshot)) (cancel func()) {
	sub := &subscriber{f: f}
	d.mu.Lock()
	defer d.mu.Unlock()
	// A new slice, since run walks over the old one without the lock.
	d.subscribers = append(append([]*subscriber(nil), d.subscribers...), sub)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		var rest []*subscriber
		for _, s := range d.subscribers {
			if s != sub {
				rest = append(rest, s)
			}
		}
		d.subscribers = rest
	}
}

// add queues an event; run delivers it.
func (d *dispatcher) add(changed []string, snap *Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.subscribers) > 0 {
		d.queue = append(d.queue, event{changed, snap})
	}
}

// run delivers what is queued, unless another goroutine (or a caller further up, where a subscriber changes settings) is
// doing so: that one delivers it then.
func (d *dispatcher) run() {
	d.mu.Lock()
	if d.running {
		d.mu.Unlock()
		return
	}
	d.running = true
	for len(d.queue) > 0 {
		e := d.queue[0]
		d.queue = d.queue[1:]
		subscribers := d.subscribers
		d.mu.Unlock()
		for _, s := range subscribers {
			s.f(e.changed, e.snap)
		}
		d.mu.Lock()
	}
	d.running = false
	d.mu.Unlock()
}
