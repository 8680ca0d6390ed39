// Package backoff provides policies that say how long to wait before the next attempt,
// and loops that retry by them. A [Policy] is a plain value without state, so one policy
// serves every goroutine of a program at once.
//
//	policy := backoff.Within(backoff.Exponential{Base: 50 * time.Millisecond, Cap: time.Second}, 10*time.Second)
//	err := backoff.Retry(ctx, policy, func(ctx context.Context) error {
//		return publish(ctx, event)
//	})
//
// # Policies
//
// Every policy starts from Base:
//
//   - [Constant] stays at Base.
//   - [Linear], [Fibonacci] and [Exponential] grow from it, in the end each faster than the
//     one before (Exponential with its default Factor).
//   - [Decorrelated] draws each wait at random between Base and three times the last wait.
//
// [Limit] bounds the attempts of any policy, [Within] bounds its time. A policy without
// either goes on until the context ends.
//
// A wait is first capped, then shortened at random by [Jitter], so no wait is longer than
// Cap. The arithmetic saturates: no attempt number and no duration makes a wait negative
// or zero. Jitter is on unless [NoJitter] turns it off.
//
// # Loops
//
// [Retry] runs a function until it succeeds. [Attempts] is the same as a range loop. A
// program with an event loop of its own takes the waits, one by one, from a [Sequence];
// Retry and Attempts are built on it.
//
// # Choosing a cap
//
// When many clients poll for one resource, the cap matters far more than the shape of the
// growth. As a rule of thumb, cap the wait at 0.2 × clients × the time for which each of
// them holds the resource: for 64 clients that hold a lock for 5 ms each, the cap is about
// 64 ms. Without jitter, clients that collided once collide again.
//
// # Caveats
//
//   - [Within] needs a clock, and a policy has none: [Sequence], [Retry] and [Attempts]
//     enforce the bound. Delay called by hand does not.
//   - A cap bounds the policy's waits only. An error's RetryAfter can make [Retry] wait
//     longer.
//   - Policies can be compared with == and used as map keys if the dynamic type of Rand
//     can be. The sources of math/rand/v2 are pointers, so they can. Such a source is not
//     safe for concurrent use; a nil Rand is.
//   - Retry cannot know whether a failed call took effect all the same. Retry only what
//     may be done twice.
package backoff
