package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// database stands for the host's own pool.
func database(ctx context.Context) (pool *pgxpool.Pool, end func()) {
	server, err := pgtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	db, err := server.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return db.Pool(), func() {
		if err := errors.Join(db.Close(), server.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

// open stands for a process of the host: each has a Locker of its own.
func open(ctx context.Context, pool *pgxpool.Pool, opts *lock.PostgresOptions) *lock.Postgres {
	locker, err := lock.NewPostgres(ctx, pool, opts)
	if err != nil {
		log.Fatal(err)
	}
	return locker
}

func ExampleDo() {
	ctx := context.Background()
	pool, end := database(ctx)
	defer end()
	locker := open(ctx, pool, nil)
	defer locker.Close(ctx)

	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // for waiting and work
	defer cancel()
	err := lock.Do(ctx, locker, lock.Name("user", "42"), func(ctx context.Context) error {
		fmt.Println("nobody else is here")
		return nil
	})
	fmt.Println(err)
	// Output:
	// nobody else is here
	// <nil>
}

// Code that may be called with the lock or without uses the one in its context, or takes it.
func ExampleEnsure() {
	ctx := context.Background()
	locker, key := lock.NewMemory(), lock.Name("account", "7")
	book := func(ctx context.Context, what string) error {
		return lock.Ensure(ctx, locker, key, func(context.Context) error {
			fmt.Println("booked", what)
			return nil
		}, lock.WaitAtMost(time.Second))
	}
	fmt.Println(book(ctx, "a fee"))
	err := lock.Do(ctx, locker, key, func(ctx context.Context) error {
		_, err := locker.Lock(ctx, key)
		fmt.Println("asked again:", errors.Is(err, lock.ErrHeld))
		return errors.Join(book(ctx, "a debit"), book(ctx, "a credit"))
	})
	fmt.Println(err)
	// Output:
	// booked a fee
	// <nil>
	// asked again: true
	// booked a debit
	// booked a credit
	// <nil>
}

// The error for a busy key can say who holds it.
func ExamplePostgres_Status() {
	ctx := context.Background()
	pool, end := database(ctx)
	defer end()
	worker, service := open(ctx, pool, nil), open(ctx, pool, &lock.PostgresOptions{DescribeBusy: true})
	defer worker.Close(ctx)
	defer service.Close(ctx)

	key := lock.Name("user", "42")
	held, err := worker.Lock(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	_, err = service.TryLock(ctx, key)
	var busy *lock.BusyError
	if errors.As(err, &busy) && busy.Status != nil {
		h := busy.Status.Holders[0]
		fmt.Println(busy.Key, "is held by another process:", !h.InThisLocker && h.User != "")
	}
	if err := held.Unlock(); err != nil {
		log.Fatal(err)
	}
	status, err := service.Status(ctx, key)
	fmt.Println(len(status.Holders), "holders,", err)
	// Output:
	// user/42 is held by another process: true
	// 0 holders, <nil>
}

// An operator frees a key whose holder is stuck. Evict asks the holder first, and terminates
// its session only if it does not give the key up.
func ExamplePostgres_Evict() {
	ctx := context.Background()
	pool, end := database(ctx)
	defer end()
	worker, operator := open(ctx, pool, nil), open(ctx, pool, nil)
	defer worker.Close(ctx)
	defer operator.Close(ctx)

	key := lock.Name("user", "42")
	held, err := worker.Lock(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Evict(ctx, key, 5*time.Second); err != nil {
		log.Fatal(err)
	}
	<-held.Context().Done() // what the worker's work watches
	fmt.Println(errors.Is(context.Cause(held.Context()), lock.ErrEvicted))
	fmt.Println(errors.Is(held.Unlock(), lock.ErrLost))
	// Output:
	// true
	// true
}

// A leader works while it holds the lock, stops when the lock is lost, and competes again.
func ExampleLead() {
	ctx, stop := context.WithCancel(context.Background())
	pool, end := database(ctx)
	defer end()
	locker := open(ctx, pool, nil)
	defer locker.Close(context.Background())

	terms, last := 0, int64(0)
	err := lock.Lead(ctx, locker, lock.Name("leader"), nil, func(ctx context.Context, term int64) error {
		terms++
		fmt.Println("term", terms, "begins, after the last:", term > last)
		last = term
		if terms == 2 {
			stop() // shut down
		} else { // an accident
			held := lock.FromContext(ctx, lock.Name("leader"))
			backend, _ := held.Backend(held.Key())
			if _, err := pool.Exec(ctx, "SELECT pg_terminate_backend($1)", backend.PID); err != nil {
				log.Print(err)
			}
		}
		<-ctx.Done() // what its work watches
		fmt.Println("term", terms, "ends, lost:", errors.Is(context.Cause(ctx), lock.ErrLost))
		return ctx.Err()
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// term 1 begins, after the last: true
	// term 1 ends, lost: true
	// term 2 begins, after the last: true
	// term 2 ends, lost: false
	// true
}

// A job that is due in many processes at the same time runs in one of them. The others find
// that its lock is taken, or that it is done.
func ExampleTry_cron() {
	ctx := context.Background()
	locker := lock.NewMemory() // or a Postgres in each process
	done := map[string]bool{}  // kept in the database, and read under the lock
	runs := func(process, due string) {
		err := lock.Do(ctx, locker, lock.Name("report", due), func(context.Context) error {
			if !done[due] {
				done[due] = true
				fmt.Println(process, "reports on", due)
			}
			return nil
		}, lock.Try())
		if err != nil && !errors.Is(err, lock.ErrBusy) {
			log.Fatal(err)
		}
	}
	for _, due := range []string{"monday", "tuesday"} {
		runs("a", due)
		runs("b", due)
	}
	// Output:
	// a reports on monday
	// a reports on tuesday
}

// There are never more workers than permits, however many processes and goroutines compete.
func ExampleSemaphore() {
	ctx := context.Background()
	pool, end := database(ctx)
	defer end()
	var group sync.WaitGroup
	var inside, most, done atomic.Int64
	for range 2 { // processes
		locker := open(ctx, pool, nil)
		defer locker.Close(ctx)
		sem, err := lock.NewSemaphore(locker, lock.Name("geocoder"), 3)
		if err != nil {
			log.Fatal(err)
		}
		for range 8 {
			group.Go(func() {
				permit, err := sem.Acquire(ctx)
				if err != nil {
					log.Fatal(err)
				}
				defer permit.Unlock()
				for n := inside.Add(1); n > most.Load(); {
					most.Store(n)
				}
				done.Add(1) // the work; permit.Context() ends if the permit is lost
				inside.Add(-1)
			})
		}
	}
	group.Wait()
	fmt.Println(done.Load(), "have worked, never more than three at a time:", most.Load() <= 3)
	// Output: 16 have worked, never more than three at a time: true
}

// A system other than the database refuses the writes of an earlier holder, even if that
// holder does not know yet that its lock is lost.
func ExampleHeld_Fence() {
	ctx := context.Background()
	pool, end := database(ctx)
	defer end()
	locker := open(ctx, pool, nil)
	defer locker.Close(ctx)

	var seen int64 // kept by the system that is written to
	write := func(fence int64, text string) {
		if fence < seen {
			fmt.Println("refused:", text)
			return
		}
		seen = fence
		fmt.Println("written:", text)
	}

	var fences []int64
	for range 2 {
		err := lock.Do(ctx, locker, lock.Name("report"), func(ctx context.Context) error {
			fence, err := lock.FromContext(ctx, lock.Name("report")).Fence(ctx)
			fences = append(fences, fence)
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	write(fences[1], "by the second holder")
	write(fences[0], "by the first, late")
	// Output:
	// written: by the second holder
	// refused: by the first, late
}

func ExampleInTx() {
	ctx := context.Background()
	pool, end := database(ctx)
	defer end()

	tx, err := pool.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if err := lock.InTx(ctx, tx, lock.Name("user", "42")); err != nil {
		log.Fatal(err)
	}
	// What the transaction does now is exclusive under that key.
	fmt.Println(tx.Commit(ctx)) // unlocks
	// Output: <nil>
}
