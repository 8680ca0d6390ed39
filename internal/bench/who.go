package main

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"example.com/lockstore/lock"
)

// A whoKind is a way to find the waiters of a key: the number of calls that it reports, and of
// processes that did not answer.
type whoKind struct {
	name string
	how  string
	ask  func(ctx context.Context, in *arena, l *lock.Postgres) (calls, unanswered int, err error)
}

var whoByStatus = whoKind{
	name: "lockstore (pgx)",
	how:  "Postgres.Status",
	ask: func(ctx context.Context, _ *arena, l *lock.Postgres) (int, int, error) {
		s, err := l.Status(ctx, whoKey)
		return s.Waiters + s.WaitersHere, len(s.Unanswered), err
	},
}

// whoByHand uses only what the server knows.
var whoByHand = whoKind{
	name: "pg_locks",
	how:  "pg_locks and pg_stat_activity: sessions in the server's queue, of which a process has one",
	ask: func(ctx context.Context, in *arena, _ *lock.Postgres) (calls, unanswered int, err error) {
		err = in.monitor.QueryRow(ctx, `SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
			WHERE l.locktype = 'advisory' AND NOT l.granted AND l.classid::bigint << 32 | l.objid::bigint = $1`, whoKey.Int64()).Scan(&calls)
		return calls, 0, err
	},
}

var whoKey = lock.Name("who waits")

const whoProcesses, whoCalls = 4, 1000

// run makes processes wait for a key that this process holds, stops one of them if the case
// says so, and asks repeatedly.
func (k whoKind) run(stopped bool) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		l, err := openLockstore(ctx, in, 0)
		if err != nil {
			return nil, err
		}
		defer l.close()
		held, err := l.Lock(ctx, whoKey)
		if err != nil {
			return nil, err
		}
		connections := in.watch(ctx)
		c, err := startWorkers(ctx, whoProcesses, job{Arena: in, Role: "waits"})
		if err != nil {
			return nil, err
		}
		defer c.stop()
		for _, w := range c {
			if err := w.send("go"); err != nil {
				return nil, err
			}
			if _, err := w.answer(); err != nil { // all wait
				return nil, err
			}
		}
		time.Sleep(p.Warm + 200*time.Millisecond) // they wait as in a long wait
		want := whoProcesses * whoCalls
		if stopped {
			if err := c[0].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				return nil, err
			}
			defer c[0].cmd.Process.Signal(syscall.SIGCONT)
			want -= whoCalls
		}
		m = newMeasurement()
		for start := time.Now(); m.Ops == 0 || time.Since(start) < 2*p.Count; {
			asked := time.Now()
			calls, unanswered, err := k.ask(ctx, in, l.Postgres)
			if err != nil {
				return nil, err
			}
			took := time.Since(asked)
			if m.Ops++; m.Ops == 1 {
				m.Extra["the first time, ms"] = float64(took.Microseconds()) / 1000
			}
			m.Took += took
			m.Latency.record(took)
			m.Extra["waiters told"] = float64(calls)
			if k.name == whoByStatus.name && (calls < want || calls > want+1 || (unanswered == 1) != stopped) {
				m.fail(fmt.Errorf("%d waiters are told of and %d processes have not answered, of %d in %d", calls, unanswered, whoProcesses*whoCalls, whoProcesses))
			}
			time.Sleep(20 * time.Millisecond)
		}
		m.Conns = connections()
		return m, held.Unlock()
	}
}

// waitsRole makes many calls wait until its orders end.
func waitsRole(ctx context.Context, j job, coordinator *wire) error {
	l, err := openLockstore(ctx, j.Arena, 0)
	if err != nil {
		return err
	}
	defer l.close()
	if err := coordinator.ready(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var calls sync.WaitGroup
	for range whoCalls {
		calls.Go(func() {
			if held, err := l.Lock(ctx, whoKey); err == nil {
				_ = held.Unlock()
			}
		})
	}
	for l.Stats().Waiters < whoCalls {
		time.Sleep(time.Millisecond)
	}
	if err := coordinator.send(answer{}); err != nil {
		return err
	}
	_ = coordinator.receive(new(string))
	stop()
	calls.Wait()
	return nil
}

func whoCases() []testCase {
	cases := []testCase{{
		name: "who/4-processes", by: byMedian,
		asks: "4 processes with 1 000 calls each wait for a key: how long until that is told?",
	}, {
		name: "who/stopped", by: byMedian,
		asks: "the same, with one of them stopped",
	}}
	for i := range cases {
		for _, k := range []whoKind{whoByStatus, whoByHand} {
			cases[i].subjects = append(cases[i].subjects, subject{k.name, k.how, k.run(i == 1)})
		}
	}
	return cases
}
