package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
)

// A locker is a subject of the lock cases, opened in one process.
type locker interface {
	// lock waits until the caller holds the key with that number, and returns its unlock
	// function.
	lock(ctx context.Context, key int) (unlock func() error, err error)
	close() error
}

// A trier can also try to take a key without waiting.
type trier interface {
	locker
	// try's error matches errBusy if another caller holds the key.
	try(ctx context.Context, key int) (unlock func() error, err error)
}

var errBusy = errors.New("busy")

// A lockKind is a subject of the lock cases.
type lockKind struct {
	name string
	how  string
	open func(ctx context.Context, in *arena, s lockSetup) (locker, error)
}

// A lockSetup is the load that an opened locker must support.
type lockSetup struct {
	Keys  int // held at the same time
	Conns int // the maximum, for lockers that need one for each waiter or holder
}

// lockKinds are all subjects, in the order of the tables.
var lockKinds = []lockKind{
	lockstorePgx,
	pooledTry, pooledWait, oneConnection, transactionLock, rowLock,
	goPglock, cirelloPglock, gooseSession, gooseTable, redisLock, etcdLock,
	zep24, zep25,
	lockstoreSemaphore, leaseSemaphore,
}

func lockKindNamed(name string) (lockKind, error) {
	for _, k := range lockKinds {
		if k.name == name {
			return k, nil
		}
	}
	return lockKind{}, errors.New("no such lock: " + name)
}

// keyID returns the number of a key at the server, for subjects without named keys.
func keyID(key int) int64 { return 1_000_003 * int64(key+1) }

var lockstorePgx = lockKind{
	name: "lockstore (pgx)",
	how:  "lock.NewPostgres on a pgx pool; Lock, Held.Unlock",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		return openLockstore(ctx, in, s.Keys)
	},
}

type lockstoreLocks struct {
	*lock.Postgres
	keys []lock.Key
	pool *pgxpool.Pool
}

func openLockstore(ctx context.Context, in *arena, keys int, observers ...lock.Observer) (*lockstoreLocks, error) {
	pool, err := in.pool(ctx, 2)
	if err != nil {
		return nil, err
	}
	p, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{MaxKeys: max(keys, 1000), Observers: observers})
	if err != nil {
		pool.Close()
		return nil, err
	}
	l := &lockstoreLocks{p, make([]lock.Key, keys), pool}
	for i := range l.keys {
		l.keys[i] = lock.Name("key", fmt.Sprint(i))
	}
	return l, nil
}

func (l *lockstoreLocks) lock(ctx context.Context, key int) (func() error, error) {
	held, err := l.Lock(ctx, l.keys[key])
	if err != nil {
		return nil, err
	}
	return held.Unlock, nil
}

func (l *lockstoreLocks) try(ctx context.Context, key int) (func() error, error) {
	held, err := l.TryLock(ctx, l.keys[key])
	if errors.Is(err, lock.ErrBusy) {
		return nil, errBusy
	}
	if err != nil {
		return nil, err
	}
	return held.Unlock, nil
}

func (l *lockstoreLocks) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	defer l.pool.Close()
	return l.Close(ctx)
}
