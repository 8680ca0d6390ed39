package main

import (
	"context"
	"errors"
	"sync"
	"time"

	avast "github.com/avast/retry-go/v5"
	cenkalti "github.com/cenkalti/backoff/v7"
	"github.com/jackc/pgx/v5/pgxpool"
	sethvargo "github.com/sethvargo/go-retry"

	"example.com/lockstore/backoff"
)

// All policies are the same if the library can express it: full jitter, 5 ms doubling to 100 ms.
const (
	backoffBase = 5 * time.Millisecond
	backoffCap  = 100 * time.Millisecond
)

func backoffCases() []testCase {
	return []testCase{{
		name: "backoff/next-delay",
		asks: "what does the next wait cost, exponential with jitter and a cap?",
		by:   byRate, fine: true,
		subjects: []subject{
			pure("lockstore Policy", "backoff.Exponential.Delay", func() func() error {
				policy, attempt, wait := backoff.Default(), 0, time.Duration(0)
				return func() error {
					attempt = attempt%8 + 1
					wait, _ = policy.Delay(attempt, wait)
					return reasonable(wait)
				}
			}),
			pure("lockstore Sequence", "backoff.Start, Sequence.Next", func() func() error {
				sequence := backoff.Start(backoff.Default())
				return func() error {
					wait, _ := sequence.Next()
					return reasonable(wait)
				}
			}),
			pure("cenkalti/backoff", "github.com/cenkalti/backoff/v7: ExponentialBackOff.NextBackOff", func() func() error {
				b := newCenkalti()
				return func() error { return reasonable(b.NextBackOff()) }
			}),
			pure("go-retry", "github.com/sethvargo/go-retry: WithFullJitter(WithCappedDuration(NewExponential))", func() func() error {
				b := newSethvargo()
				return func() error {
					wait, _ := b.Next()
					return reasonable(wait)
				}
			}),
			pure("avast/retry-go", "github.com/avast/retry-go/v5: FullJitterBackoffDelay", func() func() error {
				retrier, attempt := newAvast(), uint(0)
				return func() error {
					attempt = (attempt + 1) % 8
					return reasonable(avast.FullJitterBackoffDelay(attempt, nil, retrier))
				}
			}),
		},
	}, {
		name: "backoff/retry-succeeds",
		asks: "what does a retry loop cost whose first attempt succeeds?",
		by:   byRate, fine: true,
		subjects: []subject{
			pure("lockstore Retry", "backoff.Retry with a policy made once, which has no state", func() func() error {
				var policy backoff.Policy = backoff.Default()
				return func() error {
					return backoff.Retry(context.Background(), policy, func(context.Context) error { return nil })
				}
			}),
			pure("cenkalti/backoff", "backoff.Retry with a new ExponentialBackOff, which has state", func() func() error {
				return func() error {
					_, err := cenkalti.Retry(context.Background(), func() (int, error) { return 0, nil }, cenkalti.WithBackOff(newCenkalti()))
					return err
				}
			}),
			pure("go-retry", "retry.Do with a new backoff, which has state", func() func() error {
				return func() error {
					return sethvargo.Do(context.Background(), newSethvargo(), func(context.Context) error { return nil })
				}
			}),
			pure("avast/retry-go", "Retrier.Do, made once, as its documentation says", func() func() error {
				retrier := newAvast()
				return func() error { return retrier.Do(func() error { return nil }) }
			}),
		},
	}, {
		name:  "backoff/64-clients",
		asks:  "64 clients want one lock at once and keep it for 5 ms each, which takes 320 ms at best: how long until all had it, by what they do while it is busy? Ops are clients, the time is each client's wait",
		floor: "floor: server queue", by: byRate,
		subjects: []subject{
			clients("lockstore Retry", "backoff.Retry, the default policy: full jitter, 5 ms to 100 ms", func(ctx context.Context, try func(context.Context) error) error {
				return backoff.Retry(ctx, backoff.Default(), try)
			}),
			clients("floor: server queue", "no policy: pg_advisory_lock, each client on a connection", nil),
			clients("cenkalti, same policy", "backoff.Retry, 5 ms to 100 ms, factor 2, its jitter of ±100 %", func(ctx context.Context, try func(context.Context) error) error {
				_, err := cenkalti.Retry(ctx, func() (int, error) { return 0, try(ctx) }, cenkalti.WithBackOff(newCenkalti()))
				return err
			}),
			clients("cenkalti, its defaults", "backoff.Retry with NewExponentialBackOff: 500 ms × 1.5 ± 50 %", func(ctx context.Context, try func(context.Context) error) error {
				_, err := cenkalti.Retry(ctx, func() (int, error) { return 0, try(ctx) })
				return err
			}),
			clients("go-retry, same policy", "retry.Do with full jitter, 5 ms to 100 ms", func(ctx context.Context, try func(context.Context) error) error {
				return sethvargo.Do(ctx, newSethvargo(), func(ctx context.Context) error { return sethvargo.RetryableError(try(ctx)) })
			}),
			clients("avast, same policy", "Retrier.Do with FullJitterBackoffDelay, 5 ms to 100 ms, until it succeeds", func(ctx context.Context, try func(context.Context) error) error {
				return newAvast(avast.Context(ctx)).Do(func() error { return try(ctx) })
			}),
			clients("avast, its defaults", "Retrier.Do: 10 attempts, 100 ms doubling, plus up to 100 ms", func(ctx context.Context, try func(context.Context) error) error {
				return avast.New(avast.Context(ctx)).Do(func() error { return try(ctx) })
			}),
			clients("no jitter", "backoff.Exponential, 5 ms doubling to 100 ms, NoJitter", func(ctx context.Context, try func(context.Context) error) error {
				return backoff.Retry(ctx, backoff.Exponential{Cap: backoffCap, Jitter: backoff.NoJitter}, try)
			}),
			clients("zep-v0.25", "7 retries, 200 ms doubling to 10 s, no jitter", func(ctx context.Context, try func(context.Context) error) error {
				return backoff.Retry(ctx, zepRule25, try)
			}),
		},
	}}
}

func newCenkalti() *cenkalti.ExponentialBackOff {
	b := cenkalti.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = backoffBase, backoffCap, 2, 1
	b.Reset()
	return b
}

func newSethvargo() sethvargo.Backoff {
	return sethvargo.WithFullJitter(sethvargo.WithCappedDuration(backoffCap, sethvargo.NewExponential(backoffBase)))
}

func newAvast(more ...avast.Option) *avast.Retrier {
	return avast.New(append([]avast.Option{
		avast.UntilSucceeded(), avast.Delay(backoffBase), avast.MaxDelay(backoffCap), avast.DelayType(avast.FullJitterBackoffDelay),
	}, more...)...)
}

// errPastCap is the error of a wait that was longer than the cap.
var errPastCap = errors.New("a wait past the cap")

func reasonable(wait time.Duration) error {
	switch {
	case wait < 0:
		return errors.New("a negative wait")
	case wait > backoffCap:
		return errPastCap
	}
	return nil
}

// pure returns a subject that needs no server.
func pure(name, how string, prepare func() func() error) subject {
	return subject{name, how, func(ctx context.Context, _ *arena, p pace) (*measurement, error) {
		do := prepare()
		var calls, pastCap int64
		m := repeatFast(ctx, p, func() error {
			calls++
			err := do()
			if err == errPastCap {
				pastCap++
				return nil
			}
			return err
		})
		if pastCap > 0 {
			m.Extra["waits past the cap, %"] = 100 * float64(pastCap) / float64(calls)
		}
		m.Extra["allocations"] = allocations(func() { do() })
		return m, nil
	}}
}

// clients returns a subject of the case with one lock: a way to retry. Nil waits in the server.
func clients(name, how string, retry func(context.Context, func(context.Context) error) error) subject {
	return subject{name, how, func(ctx context.Context, in *arena, p pace) (*measurement, error) {
		n, section := 64, 5*time.Millisecond
		if p.Quick {
			n = 16
		}
		pool, err := in.pool(ctx, n)
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		if err := warm(ctx, pool, n); err != nil {
			return nil, err
		}
		bounded, cancel := context.WithTimeout(ctx, 4*p.patience())
		defer cancel()
		floor, g, rec := pooled{pool, waitLockSQL}, newGuard(1), newRecorder()
		connections := in.watch(ctx)
		m, errs := newMeasurement(), make([]error, n)
		start := time.Now()
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() {
				var unlock func() error
				if retry == nil {
					unlock, errs[i] = floor.lock(bounded, 0)
				} else {
					errs[i] = retry(bounded, func(ctx context.Context) (err error) {
						unlock, err = floor.try(ctx, 0)
						return err
					})
				}
				if errs[i] != nil {
					return
				}
				rec.record(i, time.Since(start))
				seen := g.enter(0)
				time.Sleep(section)
				g.leave(0, seen)
				errs[i] = unlock()
			})
		}
		group.Wait()
		m.Took = time.Since(start)
		m.Conns = connections()
		m.Latency = rec.sum()
		m.Ops = m.Latency.TotalCount()
		m.fail(errs...)
		m.Violations = g.violations(m.Ops)
		m.Extra["until all had it, ms"] = m.Took.Seconds() * 1000
		return m, nil
	}}
}

// warm opens all connections of a pool.
func warm(ctx context.Context, pool *pgxpool.Pool, conns int) error {
	for range conns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
	}
	return nil
}
