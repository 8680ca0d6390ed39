// Package backoff says how long to wait before trying again, and does the
// trying. A [Policy] is a plain value without state, so one policy serves every
// goroutine of a program at once.
//
//	policy := backoff.Within(backoff.Exponential{Base: 50 * time.Millisecond, Cap: time.Second}, 10*time.Second)
//	err := backoff.Retry(ctx, policy, func(ctx context.Context) error {
//		return publish(ctx, event)
//	})
//
// # Policies
//
// Every policy starts from Base, its first wait: [Constant] stays there,
// [Linear], [Fibonacci] and [Exponential] grow from it ever faster, and
// [Decorrelated] walks at random above it. [Limit] bounds the attempts of any
// policy and [Within] bounds its time. Nothing is limited that was not asked to
// be: a bare policy goes on for ever, and the context ends it.
//
// Waits are capped first and then spread downward by [Jitter], so a Cap is a
// promise, and the arithmetic saturates, so no attempt number and no duration
// makes a wait negative or zero. Jitter is on unless [NoJitter] turns it off.
//
// # Loops
//
// [Retry] runs a function until it succeeds. [Attempts] is the same as a range
// loop. A program with an event loop of its own takes its waits, one by one, from
// a [Sequence]; both of the above are built on it.
//
// # Choosing a cap
//
// When many clients poll for one resource, the cap decides how well they do, far
// more than the shape of the growth. As a rule of thumb, cap the wait at 0.2 ×
// clients × the time each of them holds the resource: 64 clients that hold a lock
// for 5 ms each want a cap near 64 ms. Growth without jitter makes the clients
// that collided once collide again.
//
// # Caveats
//
//   - [Within] needs a clock, and a policy has none: the bound is kept by
//     [Sequence], [Retry] and [Attempts]. Delay called by hand does not keep it.
//   - A cap bounds the policy's waits only. An error's RetryAfter may ask [Retry]
//     for a longer one.
//   - Policies may be compared with ==, and used as map keys, as long as the
//     dynamic type of Rand may be: the sources of math/rand/v2 are pointers, and
//     are fine. Such a source is not safe for concurrent use; nil is.
//   - Retry cannot know whether a failed call had its effect all the same. Retry
//     only what may be done twice.
package backoff
