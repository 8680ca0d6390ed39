package faults_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Time limits of a client's calls, and of a connection to one of several hosts, which is less
// than a DSN can express.
const (
	clientPatience = 5 * time.Second
	hostPatience   = 500 * time.Millisecond
)

// A client uses a cluster by one of its addresses, as a process would: with lockstore over a
// pool, and by hand over another.
type client struct {
	name, url         string
	number            int
	merge, lock, hand successes
	trace             trace
	byHand            atomic.Int64 // increments of its row that were acknowledged
}

// successes are the times at which calls of a kind succeeded.
type successes struct {
	mu sync.Mutex
	at []time.Time
}

func (s *successes) add(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, at)
}

// after returns the first success after a time; zero: none.
func (s *successes) after(t time.Time) (first time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.at {
		if at.After(t) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

func (c *cluster) clients() []*client {
	hosts := ""
	for _, n := range c.nodes {
		hosts += "," + n.address
	}
	const options = "/app?sslmode=disable&connect_timeout=2"
	return []*client{
		{number: 0, name: "HAProxy", url: "postgres://app@" + lanAddress + ":5000" + options},
		{number: 1, name: fmt.Sprintf("hosts (%v each)", hostPatience), url: "postgres://app@" + hosts[1:] + options + "&target_session_attrs=read-write"},
	}
}

func (c *cluster) pool(ctx context.Context, url string, configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	c.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(c, err)
	config.MaxConns = 6
	if len(config.ConnConfig.Fallbacks) > 0 {
		config.ConnConfig.ConnectTimeout = hostPatience
	}
	for _, f := range configure {
		f(config)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(c, err)
	c.Cleanup(pool.Close)
	return pool
}

// work runs a client until ctx ends.
func (c *cluster) work(ctx context.Context, u *client, log *history.Log) {
	lasting := context.WithoutCancel(ctx)
	pool, byHand := c.pool(lasting, u.url, u.trace.of("lockstore")), c.pool(lasting, u.url, u.trace.of("by hand"))
	store, err := metadata.NewPostgres(pool, nil)
	require.NoError(c, err)
	defer store.Close()
	locker, err := lock.NewPostgres(ctx, pool, nil)
	require.NoError(c, err)
	recorder := history.NewRecorder(u.number, func(e history.Event) {
		log.Add(e)
		switch {
		case e.Outcome != history.OK || e.Kind == history.Get || e.Kind == history.Eviction:
		case e.Kind != history.Hold:
			u.merge.add(e.Return)
		case e.Until.IsZero() && e.Fence == 0: // just granted
			u.lock.add(e.Return)
		}
	})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() { u.increment(ctx, byHand) })
	}
	workload.Run(ctx, locker, workload.Hosted{Postgres: store, Pool: pool}, recorder, workload.Config{
		Process: u.number, Workers: 8, Hot: 4, Cold: 50, Patience: clientPatience, Pause: 2 * time.Millisecond, Rest: 20 * time.Millisecond, Grace: time.Second, Seed: 1,
	})
	group.Wait()
	bounded, cancel := context.WithTimeout(context.Background(), clientPatience)
	defer cancel()
	assert.NoError(c, locker.Close(bounded))
}

// increment increments a row by hand, without lockstore.
func (u *client) increment(ctx context.Context, pool *pgxpool.Pool) {
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), clientPatience)
		if _, err := pool.Exec(patient, "UPDATE by_hand SET n = n + 1 WHERE id = $1", u.number); err == nil {
			u.hand.add(time.Now())
			u.byHand.Add(1)
		}
		cancel()
	}
}

// mutant makes a client use unfenced reads for a while, on documents that no other client
// writes, and returns the violations.
func (c *cluster) mutant(u *client) []history.Violation {
	c.Helper()
	ctx := context.Background()
	pool := c.pool(ctx, u.url)
	standbys := c.pool(ctx, "postgres://app@"+c.nodes[0].address+","+c.nodes[1].address+","+c.nodes[2].address+"/app?target_session_attrs=standby")
	store, err := metadata.NewPostgres(pool, &metadata.Options{Table: metadata.Table{Name: "mutant", Version: "version", Create: true}})
	require.NoError(c, err)
	defer store.Close()
	locker, err := lock.NewPostgres(ctx, pool, nil)
	require.NoError(c, err)
	for _, n := range c.nodes {
		var standby bool
		require.NoError(c, n.ask("app", "SELECT pg_is_in_recovery()", &standby))
		if standby {
			require.NoError(c, n.ask("app", "SELECT pg_wal_replay_pause()"))
			defer n.ask("app", "SELECT pg_wal_replay_resume()")
		}
	}
	var log history.Log
	brief, stop := context.WithTimeout(ctx, 6*time.Second)
	defer stop()
	workload.Run(brief, locker, rawReader{workload.Hosted{Postgres: store, Pool: pool}, standbys, "mutant"}, history.NewRecorder(0, log.Add), workload.Config{
		Workers: 4, Hot: 1, Cold: 1, Patience: clientPatience, Grace: time.Hour, Seed: 1,
	})
	bounded, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	require.NoError(c, locker.Close(bounded))
	return history.CheckGuarded(log.Events())
}
