package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A lockLoad is what callers repeat: lock a key, hold it for a moment, unlock it.
type lockLoad struct {
	Processes int           // 0: this one
	Callers   int           // per process
	Keys      int           // caller n takes key n modulo Keys
	Section   time.Duration // slept while holding the key
	Conns     int           // see lockSetup

	// Waits says that callers wait for each other. Then the time from request to grant is
	// measured instead of the whole cycle.
	Waits bool
}

func (l lockLoad) setup() lockSetup { return lockSetup{Keys: l.Keys, Conns: l.Conns} }

// run runs a subject under this load.
func (l lockLoad) run(kind lockKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		if l.Processes > 0 {
			return l.runProcesses(ctx, in, kind, p)
		}
		opened, err := kind.open(ctx, in, l.setup())
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		g := newGuard(l.Keys)
		connections := in.watch(ctx)
		m, grants := l.drive(ctx, opened, g, p)
		m.Conns = connections()
		m.Violations = g.violations(grants)
		return m, in.noteLeftLocks(ctx, m)
	}
}

// runProcesses is run with several processes, each of which opens the locker.
func (l lockLoad) runProcesses(ctx context.Context, in *arena, kind lockKind, p pace) (m *measurement, err error) {
	g, file, err := createGuard(l.Keys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	all, err := startWorkers(ctx, l.Processes, job{Arena: in, Role: "lock", Subject: kind.name, Lock: l, Guard: file, Pace: p})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.stop()) }()
	connections := in.watch(ctx)
	reports, err := work[lockReport](all)
	conns := connections()
	if err != nil {
		return nil, err
	}
	m = newMeasurement()
	var grants int64
	least := 1.0
	for _, r := range reports {
		m.add(r.Measurement)
		grants += r.Grants
		if part, ok := r.Measurement.Extra[idealShare]; ok { // shared by all processes
			m.Extra[idealShare] += part
		}
	}
	for _, r := range reports {
		least = min(least, quotient(float64(r.Measurement.Ops), float64(m.Ops)))
	}
	m.Conns = conns
	m.Violations = g.violations(grants)
	m.Extra["least share of a process, %"] = 100 * least
	l.describeWaits(m)
	return m, in.noteLeftLocks(ctx, m)
}

// A lockReport is the report of a process of a lock case.
type lockReport struct {
	Measurement *measurement
	Grants      int64
}

// lockRole is the role of a process in a lock case.
func lockRole(ctx context.Context, j job, coordinator *wire) (err error) {
	kind, err := lockKindNamed(j.Subject)
	if err != nil {
		return err
	}
	g, err := openGuard(j.Guard, j.Lock.Keys)
	if err != nil {
		return err
	}
	opened, err := kind.open(ctx, j.Arena, j.Lock.setup())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.close()) }()
	if err := coordinator.ready(); err != nil {
		return err
	}
	m, grants := j.Lock.drive(ctx, opened, g, j.Pace)
	return coordinator.report(lockReport{m, grants})
}

// drive runs the callers for the pace, and returns their measurement and the number of grants,
// warming up included.
func (l lockLoad) drive(ctx context.Context, lk locker, g *guard, p pace) (m *measurement, grants int64) {
	from := time.Now().Add(p.Warm)
	until := from.Add(p.Count)
	if l.Waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	rec := newRecorder()
	callers := make([]caller, l.Callers)
	var group sync.WaitGroup
	for n := range callers {
		callers[n] = caller{lockLoad: l, number: n, from: from, until: until}
		group.Go(func() { callers[n].cycle(ctx, lk, g, rec) })
	}
	group.Wait()
	m = newMeasurement()
	m.Took, m.Latency = p.Count, rec.sum()
	var slept time.Duration
	for _, c := range callers {
		m.Ops += c.ops
		m.Cut = max(m.Cut, c.cut)
		m.fail(c.errs...)
		slept += c.slept
		grants += c.grants
	}
	if _, ok := lk.(permitter); l.Section > 0 && (l.Keys == 1 || ok) {
		m.Extra[idealShare] = 100 * quotient(slept.Seconds(), p.Count.Seconds()*float64(l.Keys))
	}
	l.describeWaits(m)
	return m, grants
}

// idealShare is the share of the available time in which the keys were held.
const idealShare = "of the ideal, %"

// A caller is one goroutine of a load, with its results.
type caller struct {
	lockLoad
	number      int
	from, until time.Time // the measured time

	ops    int64
	grants int64 // including those outside the measured time
	slept  time.Duration
	cut    time.Duration
	errs   []error
}

// cycle locks and unlocks the key until the time is over.
func (c *caller) cycle(ctx context.Context, lk locker, g *guard, rec *recorder) {
	key := c.number % c.Keys
	for asked := time.Now(); asked.Before(c.until) && ctx.Err() == nil; asked = time.Now() {
		var unlock func() error
		var err error
		if p, ok := lk.(permitter); ok {
			key, unlock, err = p.permit(ctx)
		} else {
			unlock, err = lk.lock(ctx, key)
		}
		granted := time.Now()
		if err != nil {
			if ctx.Err() != nil { // the run is over
				c.cut = granted.Sub(asked)
				return
			}
			c.fail(granted, err)
			continue
		}
		c.grants++
		seen := g.enter(key)
		if c.Section > 0 {
			time.Sleep(c.Section)
		}
		g.leave(key, seen)
		left := time.Now()
		err = unlock()
		done := time.Now()
		switch {
		case err != nil:
			c.fail(done, err)
			continue
		case granted.Before(c.from) || done.After(c.until):
			continue
		}
		c.ops++
		c.slept += left.Sub(granted)
		if c.Waits {
			rec.record(c.number, granted.Sub(asked))
		} else {
			rec.record(c.number, done.Sub(asked))
		}
	}
}

// fail records an error. It waits a moment, so that a subject that always fails does not slow
// down the others.
func (c *caller) fail(at time.Time, err error) {
	if at.After(c.from) && at.Before(c.until) {
		c.errs = append(c.errs, err)
	}
	time.Sleep(time.Millisecond)
}

// describeWaits describes how fair the waits for one key were.
func (l lockLoad) describeWaits(m *measurement) {
	if l.Waits && m.Ops > 0 {
		m.Extra["longest wait / mean"] = quotient(float64(m.longest()), float64(m.Latency.mean()))
	}
}

// noteLeftLocks reports locks that are left after all were released. The subject is still
// open: closing its connections would release them. The server needs a moment to end a
// canceled wait.
func (in *arena) noteLeftLocks(ctx context.Context, m *measurement) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		n, err := in.leftLocks(ctx)
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(deadline) {
			m.Extra["locks left behind"] = float64(n)
			return nil
		}
	}
}
