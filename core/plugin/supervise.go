package plugin

import (
	"context"
	"errors"
	"slices"
	"time"
)

// supervisor is what a unit's goroutine knows. It alone switches instances; what takes its time (a start, a question for
// health, a configuration) runs beside it, so that it can be told to stop or to do something else meanwhile.
type supervisor struct {
	u   *unit
	ctx context.Context // ends with the manager

	attempt    *attempt         // the start that runs; nil for none
	tried      *source          // what failed or was refused; nil to try at once
	again      <-chan time.Time // when to try it again; nil for never
	health     <-chan error     // answer of the check that runs; nil for none
	configured <-chan struct{}  // closed when the configuration that runs has ended; nil for none
	parked     bool
}

// attempt is a start.
type attempt struct {
	src    *source
	cancel context.CancelFunc
	done   chan arrival // has room for its end
}

// arrival is how an attempt ended.
type arrival struct {
	inst *instance
	err  error
}

// run is the unit's life. ctx ends with the manager.
func (u *unit) run(ctx context.Context) {
	defer close(u.done)
	s := &supervisor{u: u, ctx: ctx}
	defer s.stop()
	tick := time.NewTicker(u.m.o.CheckEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		w := u.want()
		if w.run {
			s.pursue(w)
		} else {
			s.park(w.gone)
		}
		if s.attempt == nil {
			u.dealtWith(w.asked)
		}
		if w.gone {
			return
		}
		s.wait(tick.C)
	}
}

// wait deals with the next thing that happens.
func (s *supervisor) wait(tick <-chan time.Time) {
	inst := s.u.current.Load()
	var exited <-chan struct{}
	if inst != nil {
		exited = inst.child.done
	}
	var arrived chan arrival
	if s.attempt != nil {
		arrived = s.attempt.done
	}
	select {
	case <-s.ctx.Done():
	case <-s.u.wake:
	case <-s.again:
		s.tried, s.again = nil, nil
	case a := <-arrived:
		s.arrived(a)
	case <-exited:
		s.crashed(inst, inst.child.explain(errEnded))
	case err := <-s.health:
		s.health = nil
		if err != nil && s.ctx.Err() == nil {
			s.crashed(inst, err)
		}
	case <-s.configured:
		s.configured = nil
	case <-tick:
		if inst != nil && s.health == nil {
			s.health = s.checkup(inst)
		}
	}
}

// pursue starts what is wanted and neither runs nor has been tried.
func (s *supervisor) pursue(w wanted) {
	s.parked = false
	if s.attempt != nil {
		if s.attempt.src.print == w.src.print {
			return
		}
		s.abandon()
	}
	inst := s.u.current.Load()
	fresh := s.tried == nil || s.tried.print != w.src.print
	switch {
	case w.again, w.retry:
		s.u.forgive()
		s.begin(w, inst)
	case (inst == nil || inst.src.print != w.src.print) && fresh:
		if s.tried != nil {
			s.u.forgive()
		}
		s.begin(w, inst)
	case inst != nil && s.configured == nil && string(inst.given()) != string(w.set):
		s.configured = s.configure(inst)
	}
}

// begin starts an instance beside old, which may be nil.
func (s *supervisor) begin(w wanted, old *instance) {
	u := s.u
	if old == nil {
		u.setState(StateStarting, nil)
	}
	s.tried, s.again = nil, nil
	u.follow(s.ctx, slices.Contains(grantsOf(w.src), "log"))
	ctx, cancel := context.WithTimeout(s.ctx, limitsOf(w.src).start())
	a := &attempt{src: w.src, cancel: cancel, done: make(chan arrival, 1)}
	s.attempt = a
	u.beside.Go(func() {
		defer cancel()
		inst, err := u.launch(ctx, w.src, w.set)
		if err != nil {
			inst = nil
		}
		a.done <- arrival{inst, err}
	})
}

// abandon ends a start whose result nobody wants any more.
func (s *supervisor) abandon() {
	a := s.attempt
	if a == nil {
		return
	}
	s.attempt = nil
	a.cancel()
	s.u.beside.Go(func() {
		if r := <-a.done; r.inst != nil {
			r.inst.end()
		}
	})
}

// arrived takes over what a start has brought.
func (s *supervisor) arrived(r arrival) {
	u, a := s.u, s.attempt
	s.attempt = nil
	old := u.current.Load()
	err := r.err
	if err == nil {
		if err = u.take(r.inst); err != nil {
			u.beside.Go(r.inst.end)
		}
	}
	if err != nil {
		u.m.own(u, u.ID())
		if s.ctx.Err() == nil && (old != nil || !errors.Is(err, errDisabled)) {
			s.tried = a.src
			s.again = u.notStarted(err, old)
		}
		return
	}
	s.health = nil // that of the old one
	if old != nil {
		old.retire()
		u.beside.Go(func() { old.drain(s.ctx, old.limits().drain()) })
		u.m.nudge(u)
	}
}

// crashed ends an instance that failed and has it started anew after a while.
func (s *supervisor) crashed(inst *instance, err error) {
	u := s.u
	u.logger().Error("plugin failed", "error", err)
	s.health = nil
	if !u.current.CompareAndSwap(inst, nil) {
		return
	}
	u.setState(StateBackoff, err)
	u.m.withdraw(u)
	inst.end()
	if s.attempt != nil { // a new version is about to come
		u.setState(StateStarting, err)
		return
	}
	u.mu.Lock()
	s.tried = u.src
	u.mu.Unlock()
	s.again = u.backoff(err)
}

// park ends the current instance because the plugin is disabled or gone. For one that is gone it waits for its calls.
func (s *supervisor) park(gone bool) {
	u := s.u
	if s.parked && !gone {
		return
	}
	s.parked = true
	s.abandon()
	inst := u.current.Swap(nil)
	u.m.unpublish(u)
	s.tried, s.again, s.health = nil, nil, nil
	u.forgive()
	u.setWarning("")
	u.setState(StateDisabled, nil)
	if inst != nil {
		inst.retire()
		u.beside.Go(func() { inst.drain(s.ctx, inst.limits().drain()) })
	}
	if gone {
		u.m.release(u)
	}
	u.m.nudge(u)
	if gone {
		u.beside.Wait()
	}
}

// stop ends everything with the manager.
func (s *supervisor) stop() {
	u := s.u
	s.abandon()
	if inst := u.current.Swap(nil); inst != nil {
		u.m.unpublish(u)
		inst.end()
	}
	u.follow(s.ctx, false)
	u.beside.Wait()
}

// checkup asks a running instance for its health.
func (s *supervisor) checkup(inst *instance) <-chan error {
	answer := make(chan error, 1)
	s.u.beside.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.u.m.o.CheckTimeout)
		defer cancel()
		err := inst.check(ctx)
		if err != nil {
			select {
			case <-inst.child.done:
				err = inst.child.explain(errEnded)
			default:
			}
		}
		answer <- err
	})
	return answer
}

// configure gives an instance the configuration that was set meanwhile. One that it refuses is not in effect.
func (s *supervisor) configure(inst *instance) <-chan struct{} {
	u, done := s.u, make(chan struct{})
	u.beside.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(s.ctx, inst.limits().start())
		defer cancel()
		u.configuring.Lock()
		defer u.configuring.Unlock()
		u.mu.Lock()
		set := u.set
		u.mu.Unlock()
		if string(inst.given()) == string(set) {
			return
		}
		err := inst.configure(ctx, set)
		inst.mu.Lock()
		inst.set = set
		inst.mu.Unlock()
		if err != nil && s.ctx.Err() == nil {
			u.logger().Warn("configuration was not taken over", "error", err)
		}
	})
	return done
}

// take makes an instance the current one: its id, routes, models, filter and tools.
func (u *unit) take(inst *instance) error {
	if err := u.m.publish(u, inst); err != nil {
		return err
	}
	u.mu.Lock()
	u.started, u.contested = time.Now(), false
	u.mu.Unlock()
	u.setState(StateReady, nil)
	u.logger().Info("plugin is ready", "version", inst.what.GetVersion(), "pid", inst.child.pid, "sdk", inst.what.GetSdk())
	return nil
}
