package backoff_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/lockstore/backoff"
)

// show prints the waits of a policy until it gives up.
func show(p backoff.Policy) {
	seq := backoff.Start(p)
	for wait, ok := seq.Next(); ok; wait, ok = seq.Next() {
		fmt.Print(wait, " ")
	}
	fmt.Println()
}

// Three retries, 200 ms apart: four attempts in all. Without jitter, clients that collide
// collide again. The program examples/hotuser measures this rule as zep-v0.24.
func ExampleConstant() {
	show(backoff.Limit(backoff.Constant{
		Base:   200 * time.Millisecond,
		Jitter: backoff.NoJitter,
	}, 4))
	// Output: 200ms 200ms 200ms
}

// Seven retries, 200 ms apart at first, doubling up to 10 s: zep-v0.25 in the program
// examples/hotuser.
func ExampleExponential() {
	show(backoff.Limit(backoff.Exponential{
		Base:   200 * time.Millisecond,
		Cap:    10 * time.Second,
		Jitter: backoff.NoJitter,
	}, 8))
	// Output: 200ms 400ms 800ms 1.6s 3.2s 6.4s 10s
}

func ExampleLinear() {
	show(backoff.Limit(backoff.Linear{Base: time.Second, Cap: 3 * time.Second, Jitter: backoff.NoJitter}, 6))
	// Output: 1s 2s 3s 3s 3s
}

func ExampleFibonacci() {
	show(backoff.Limit(backoff.Fibonacci{Base: time.Second, Jitter: backoff.NoJitter}, 8))
	// Output: 1s 1s 2s 3s 5s 8s 13s
}

// A source with a fixed seed makes the waits repeatable, for tests and simulations.
func ExampleDecorrelated() {
	show(backoff.Limit(backoff.Decorrelated{
		Base: 100 * time.Millisecond,
		Cap:  time.Second,
		Rand: rand.NewPCG(1, 2),
	}, 4))
	// Output: 253.874654ms 507.848977ms 805.985202ms
}

func ExampleRetry() {
	policy := backoff.Within(backoff.Exponential{Base: time.Millisecond}, 10*time.Second)
	calls := 0
	err := backoff.Retry(context.Background(), policy, func(context.Context) error {
		if calls++; calls < 3 {
			return errors.New("connection refused")
		}
		return nil
	})
	fmt.Println(calls, err)
	// Output: 3 <nil>
}

func ExampleAttempts() {
	policy := backoff.Limit(backoff.Constant{Base: time.Millisecond}, 2)
	for n, err := range backoff.Attempts(context.Background(), policy) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println("attempt", n, "failed")
	}
	// Output:
	// attempt 1 failed
	// attempt 2 failed
	// backoff: gave up
}

func ExamplePermanent() {
	errDenied := errors.New("permission denied")
	err := backoff.Retry(context.Background(), nil, func(context.Context) error {
		return backoff.Permanent(errDenied)
	})
	fmt.Println(err)
	// Output: permission denied
}

// An event loop takes the waits, and uses a timer of its own.
func ExampleSequence() {
	seq := backoff.Start(backoff.Limit(backoff.Constant{Base: time.Millisecond}, 3))
	for {
		wait, ok := seq.Next()
		if !ok {
			fmt.Println("give up")
			return
		}
		<-time.After(wait)
		fmt.Println("try again")
	}
	// Output:
	// try again
	// try again
	// give up
}
