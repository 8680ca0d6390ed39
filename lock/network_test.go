package lock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

// through opens a pool that reaches the database by way of a bad network.
func through(t testing.TB, proxy *pgtest.Proxy) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	return newPool(t, config)
}

func TestBrokenConnectionIsLoss(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, harm := range map[string]func(*pgtest.Proxy){
		"reset":               (*pgtest.Proxy).Reset,
		"cut":                 (*pgtest.Proxy).Cut,
		"blackhole":           func(p *pgtest.Proxy) { p.Blackhole(pgtest.Both) },
		"blackhole to server": func(p *pgtest.Proxy) { p.Blackhole(pgtest.ToServer) },
		"blackhole to client": func(p *pgtest.Proxy) { p.Blackhole(pgtest.ToClient) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := pgtest.NewProxy(t, pgtest.New(t))
			locker := newPostgres(t, through(t, proxy), &lock.PostgresOptions{Silence: 300 * time.Millisecond})
			held := take(t, locker, lock.Name("k"))
			harm(proxy)
			await(t, held.Context().Done(), "loss")
			assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrLost)
			assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
			proxy.Restore()
			assert.NoError(t, take(t, locker, lock.Name("k")).Unlock(), "after the network is whole again")
		})
	}
}

// Unlock takes no context, but must not block forever.
func TestUnlockIntoABlackholeIsBounded(t *testing.T) {
	proxy := pgtest.NewProxy(t, pgtest.New(t))
	locker := newPostgres(t, through(t, proxy), &lock.PostgresOptions{Silence: 300 * time.Millisecond})
	held := take(t, locker, lock.Name("k"))
	proxy.Blackhole(pgtest.Both)
	unlocked := make(chan struct{})
	go func() {
		defer close(unlocked)
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	}()
	await(t, unlocked, "Unlock")
	proxy.Restore()
}

func TestBadNetworkIsOnlySlow(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, harm := range map[string]func(*pgtest.Proxy){
		"delay": func(p *pgtest.Proxy) { p.Delay(200*time.Microsecond, time.Millisecond) },
		"slice": func(p *pgtest.Proxy) { p.Slice(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := pgtest.NewProxy(t, pgtest.New(t))
			locker := newPostgres(t, through(t, proxy), nil)
			harm(proxy)
			locktest.Run(t, func(testing.TB) lock.Locker { return locker })
		})
	}
}

// One session could fill the lock table, at every client's expense. If it is full all the
// same, only the lock fails for which there was no room.
func TestFullLockTableFailsOnlyWhatDoesNotFit(t *testing.T) {
	db := pgtest.New(t, pgtest.Setting("max_connections", "10"), pgtest.Setting("max_locks_per_transaction", "10"))
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{MaxKeys: 100_000})
	mark := take(t, locker, lock.Name("mark"))
	var mu sync.Mutex
	var held []*lock.Held
	var refused atomic.Int64
	var group sync.WaitGroup
	for worker := range int64(8) {
		group.Go(func() {
			for i := int64(0); ; i++ {
				h, err := locker.Lock(t.Context(), lock.ID(i<<8|worker))
				if err != nil {
					assert.ErrorContains(t, err, "53200")
					refused.Add(1)
					return
				}
				mu.Lock()
				held = append(held, h)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	assert.Positive(t, refused.Load())
	assert.NoError(t, mark.Context().Err(), "the session is not lost")
	for _, h := range held {
		assert.NoError(t, h.Unlock())
	}
	assert.NoError(t, mark.Unlock())
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks), "locks left")
}

// A waiter is granted or canceled, whatever races: a lock is never orphaned.
func TestCancelRacesWithTheServer(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 150 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*37+worker*11)%300)*time.Microsecond)
				held, err := locker.Lock(ctx, lock.ID(int64(worker%4)))
				if err == nil {
					err = held.Unlock()
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					assert.NoError(t, err)
				}
				cancel()
			}
		})
	}
	group.Wait()
	for key := range int64(4) {
		assert.NoError(t, take(t, locker, lock.ID(key)).Unlock())
	}
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks), "locks left")
}

// If operations come one by one, their callers read what the server sends. They must neither
// wait longer for it than otherwise, nor miss it.
func TestCallersReadForThemselves(t *testing.T) {
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	locker := newPostgres(t, through(t, proxy), &lock.PostgresOptions{Silence: time.Hour})
	key := lock.Name("k")
	oneByOne := func() {
		for range 100 {
			require.NoError(t, take(t, locker, key).Unlock())
		}
	}
	t.Run("the server is silent", func(t *testing.T) {
		oneByOne()
		proxy.Blackhole(pgtest.Both)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := locker.Lock(ctx, key)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		proxy.Restore()
		oneByOne()
	})
	t.Run("the session ends", func(t *testing.T) {
		oneByOne()
		held := take(t, locker, key)
		backend, _ := held.Backend(key)
		require.NoError(t, db.Terminate(backend.PID))
		await(t, held.Context().Done(), "the loss to be told")
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
		oneByOne()
	})
	t.Run("others come in between", func(t *testing.T) {
		var group sync.WaitGroup
		for g := range 3 {
			group.Go(func() {
				for i := range 500 {
					held, err := locker.Lock(t.Context(), lock.Name("k", fmt.Sprint(g)))
					if !assert.NoError(t, err) || !assert.NoError(t, held.Unlock()) {
						return
					}
					time.Sleep(time.Duration(i%7) * 10 * time.Microsecond)
				}
			})
		}
		group.Wait()
	})
	t.Run("closed", func(t *testing.T) {
		oneByOne()
		require.NoError(t, locker.Close(t.Context()))
	})
}

// deaf is a connection whose end is not heard of.
type deaf struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *deaf) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		<-c.closed
	}
	return n, err
}

// Write does not tell either that nobody is there: a session looks for requests all the time.
func (c *deaf) Write(p []byte) (int, error) {
	_, _ = c.Conn.Write(p)
	return len(p), nil
}

func (c *deaf) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A server that ends a session says so, then releases its locks, and closes the connection at
// last. Holders learn of it from what it says.
func TestEndOfASessionIsKnownBeforeItsConnectionIsClosed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	config := db.Pool().Config()
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &deaf{Conn: conn, closed: make(chan struct{})}, err
	}
	pool := newPool(t, config)
	held := take(t, newPostgres(t, pool, &lock.PostgresOptions{Silence: 10 * patience}), lock.Name("k"))
	terminate(t, db.Pool(), held)
	await(t, held.Context().Done(), "loss")
	assert.ErrorContains(t, held.Unlock(), "57P01")
}
