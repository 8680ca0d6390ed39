package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/bsm/redislock"
	"github.com/jackc/pgx/v5"

	"example.com/lockstore/lock"
)

// A leadership is a way to elect a leader: lead runs fn whenever this process leads, until ctx
// ends. It calls rest before it closes its connections.
type leadership struct {
	name string
	how  string
	lead func(ctx context.Context, in *arena, fn func(context.Context), rest func()) error
}

var leaderships = []leadership{lockstoreLead, handLead, redisLead, clientGoLead}

var lockstoreLead = leadership{
	name: "lockstore (pgx)",
	how:  "lock.Lead on a pgx pool",
	lead: func(ctx context.Context, in *arena, fn func(context.Context), rest func()) error {
		l, err := openLockstore(ctx, in, 0)
		if err != nil {
			return err
		}
		err = lock.Lead(ctx, l.Postgres, lock.Name("leader"), nil, func(ctx context.Context, _ int64) error {
			fn(ctx)
			return nil
		})
		rest()
		return errors.Join(err, l.close())
	},
}

// handLead is the least that does it, without a term.
var handLead = leadership{
	name: "floor: server wait",
	how:  "pg_advisory_lock and pg_advisory_unlock on a pgx connection",
	lead: func(ctx context.Context, in *arena, fn func(context.Context), rest func()) error {
		conn, err := pgx.Connect(ctx, in.DSN)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		defer rest()
		for {
			if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(1)"); err != nil {
				return err
			}
			fn(ctx)
			if _, err := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(1)"); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	},
}

// clientGoLead follows the documented algorithm and timings of Kubernetes' client-go
// (LeaseDuration 15 s, RetryPeriod 2 s with a jitter of 1.2, ReleaseOnCancel): a record counts
// as released if its observer has not seen it change for the lease's duration.
var clientGoLead = leadership{
	name: "client-go's rule",
	how:  "a lease of 15 s in a row, renewed and looked at every 2 s, given up by its holder at the end",
	lead: func(ctx context.Context, in *arena, fn func(context.Context), rest func()) error {
		const duration, retry = 15 * time.Second, 2 * time.Second
		pool, err := in.pool(ctx, 2)
		if err != nil {
			return err
		}
		defer pool.Close()
		defer rest()
		if _, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS bench_lease (id int PRIMARY KEY, renewals bigint NOT NULL, holder bigint NOT NULL);
			INSERT INTO bench_lease VALUES (1, 0, 0) ON CONFLICT DO NOTHING`); err != nil {
			return err
		}
		me, seen, at := rand.Int64(), int64(-1), time.Now()
		pause := func() bool {
			select {
			case <-ctx.Done():
				return false
			case <-time.After(retry + rand.N(retry*12/10)):
				return true
			}
		}
		for more := true; more; more = pause() {
			var renewals, holder int64
			if err := pool.QueryRow(ctx, "SELECT renewals, holder FROM bench_lease").Scan(&renewals, &holder); err != nil {
				return err
			}
			if renewals != seen {
				seen, at = renewals, time.Now()
			}
			if holder != 0 && time.Since(at) < duration {
				continue
			}
			take := func() bool {
				err := pool.QueryRow(ctx, "UPDATE bench_lease SET renewals = renewals + 1, holder = $1 WHERE renewals = $2 RETURNING renewals", me, seen).Scan(&seen)
				return err == nil
			}
			if !take() {
				continue
			}
			own, cancel := context.WithCancel(ctx)
			over := make(chan struct{})
			go func() { defer close(over); fn(own) }()
			for pause() && take() {
			}
			cancel()
			<-over
			_, err := pool.Exec(context.WithoutCancel(ctx), "UPDATE bench_lease SET renewals = renewals + 1, holder = 0 WHERE holder = $1", me)
			if err != nil {
				return err
			}
		}
		return ctx.Err()
	},
}

// redisLead is a lease that its holder refreshes, the usual way with redislock.
var redisLead = leadership{
	name: redisLock.name,
	how:  "github.com/bsm/redislock: a lease of 10 s, refreshed every 3 s, that others look at every 100 ms (LinearBackoff), released at the end",
	lead: func(ctx context.Context, in *arena, fn func(context.Context), rest func()) error {
		client, err := in.redisClient(ctx, 2)
		if err != nil {
			return err
		}
		defer client.Close()
		defer rest()
		for ctx.Err() == nil {
			lease, err := redislock.Obtain(ctx, client, "leader", 10*time.Second, &redislock.Options{RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond)})
			if errors.Is(err, redislock.ErrNotObtained) {
				continue
			}
			if err != nil {
				return err
			}
			own, cancel := context.WithCancel(ctx)
			over := make(chan struct{})
			go func() { defer close(over); fn(own) }()
			for tick := time.Tick(3 * time.Second); own.Err() == nil; {
				select {
				case <-tick:
					if lease.Refresh(ctx, 10*time.Second, nil) != nil {
						cancel()
					}
				case <-over:
					cancel()
				}
			}
			cancel()
			<-over
			if err := lease.Release(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, redislock.ErrLockNotHeld) {
				return err
			}
		}
		return ctx.Err()
	},
}

// succeed measures how long after the leader was killed, or told to end, another process leads.
func succeed(way leadership, killed bool) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		connections := in.watch(ctx)
		m = newMeasurement()
		stand := func() (*worker, chan grant, error) {
			c, err := startWorkers(ctx, 1, job{Arena: in, Role: "leader", Subject: way.name})
			if err != nil {
				return nil, nil, err
			}
			leads := make(chan grant, 1)
			go func() {
				var g grant
				if c[0].receive(&g) != nil {
					g.Error = "it ended without leading"
				}
				leads <- g
			}()
			return c[0], leads, c[0].send("go")
		}
		leader, leads, err := stand()
		if err != nil {
			return nil, err
		}
		defer func() { _ = workers{leader}.stop() }() // which may have been killed
		start := time.Now()
		<-leads
		for first := true; first || time.Since(start) < p.Warm+2*p.Count; first = false {
			next, leads, err := stand()
			if err != nil {
				return nil, err
			}
			// Long enough that the next one waits as in a long wait.
			time.Sleep(100*time.Millisecond + rand.N(50*time.Millisecond))
			given := time.Now()
			if killed {
				_ = leader.cmd.Process.Kill()
			} else {
				_ = leader.send("end")
			}
			g := <-leads
			_ = workers{leader}.stop()
			leader = next
			switch wait := time.Duration(g.At - given.UnixNano()); {
			case g.Error != "":
				m.fail(errors.New(g.Error))
			case wait < 0:
				m.Violations++
			default:
				m.Ops++
				m.Took += wait
				m.Latency.record(wait)
			}
		}
		m.Conns = connections()
		return m, nil
	}
}

// leaderRole leads until its orders end, and reports when its function first ran.
func leaderRole(ctx context.Context, j job, coordinator *wire) error {
	for _, way := range leaderships {
		if way.name != j.Subject {
			continue
		}
		if err := coordinator.ready(); err != nil {
			return err
		}
		ctx, stop := context.WithCancel(ctx)
		orders := make(chan struct{})
		go func() {
			defer close(orders)
			_ = coordinator.receive(new(string)) // to end
			stop()
			_ = coordinator.receive(new(string)) // that the next one leads
		}()
		err := way.lead(ctx, j.Arena, func(ctx context.Context) {
			_ = coordinator.send(grant{At: time.Now().UnixNano()})
			<-ctx.Done()
		}, func() {
			if ctx.Err() != nil {
				<-orders // on few cores, the end of a process takes longer than that of its term
			}
		})
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	return errors.New("no such way to lead: " + j.Subject)
}

func leadCases() []testCase {
	cases := []testCase{{
		name: "lead/killed", floor: handLead.name, by: byMedian,
		asks: "a process that leads is killed; how long until another's function runs?",
	}, {
		name: "lead/released", floor: handLead.name, by: byMedian,
		asks: "a process that leads is told to end, and does; how long until another's function runs?",
	}}
	for i := range cases {
		for _, way := range leaderships {
			cases[i].subjects = append(cases[i].subjects, subject{way.name, way.how, succeed(way, i == 0)})
		}
	}
	return cases
}
