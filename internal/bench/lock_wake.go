package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// wake measures how long after this process gives a key back another one has it.
func wake(kind lockKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		opened, err := kind.open(ctx, in, lockSetup{Keys: 1, Conns: 2})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		crew, err := hire(ctx, 1, job{Arena: in, Role: "wake", Subject: kind.name, Pace: p})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, crew.dismiss()) }()
		waiter := crew[0]
		if err := waiter.send("go"); err != nil {
			return nil, err
		}
		m = newMeasurement()
		connections := in.watch(ctx)
		start := time.Now()
		for first := true; first || time.Since(start) < p.Warm+2*p.Count; first = false {
			unlock, err := opened.lock(ctx, 0)
			if err != nil {
				return nil, err
			}
			if err := waiter.send("wait"); err != nil {
				return nil, err
			}
			// Long enough for the other to wait as it does when it waits for long,
			// and never twice the same, so that no two clocks march in step.
			time.Sleep(30*time.Millisecond + rand.N(20*time.Millisecond))
			given := time.Now()
			if err := unlock(); err != nil {
				return nil, err
			}
			var granted grant
			if err := waiter.receive(&granted); err != nil {
				return nil, err
			}
			if granted.Error != "" {
				m.fail(errors.New(granted.Error))
				continue
			}
			wait := time.Duration(granted.At - given.UnixNano())
			if wait < 0 { // before it was given back
				m.Violations++
				continue
			}
			m.Ops++
			m.Took += wait
			m.latency.record(wait)
		}
		m.Conns = connections()
		return m, nil
	}
}

// A grant is when the other process got the key, by the clock of the machine,
// sent when it has given it back.
type grant struct {
	At    int64
	Error string
}

// wakeRole takes the key whenever it is told to, and gives it back.
func wakeRole(ctx context.Context, j job, boss *wire) (err error) {
	kind, err := lockKindNamed(j.Subject)
	if err != nil {
		return err
	}
	opened, err := kind.open(ctx, j.Arena, lockSetup{Keys: 1, Conns: 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.close()) }()
	if err := boss.ready(); err != nil {
		return err
	}
	for boss.receive(new(string)) == nil {
		unlock, err := opened.lock(ctx, 0)
		g := grant{At: time.Now().UnixNano()}
		if err == nil {
			err = unlock()
		}
		if err != nil {
			g.Error = err.Error()
		}
		if err := boss.send(g); err != nil {
			return err
		}
	}
	return nil
}
