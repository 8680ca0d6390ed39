package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
)

// hanging receives a value when the strategy stuck has begun.
var hanging = make(chan struct{}, 1)

// faultyStrategies are strategies whose faults the program must detect.
var faultyStrategies = []strategy{
	{name: "forgetful", promises: true, open: openFaulty(forget)},
	{name: "overwriting", promises: true, open: openFaulty(overwrite)},
	{name: "leaky", promises: true, open: openFaulty(leak)},
	{name: "refusing", promises: true, open: openFaulty(refuse)},
	{name: "stuck", open: openFaulty(hang)},
	{name: "crashing", open: openFaulty(crash)},
	{name: "unopenable", open: func(context.Context, database) (merger, error) {
		return nil, errors.New("no way in")
	}},
}

// A faulty merger merges wrongly.
type faulty struct {
	concat
	once sync.Once
	how  func(ctx context.Context, f *faulty, user string, patch json.RawMessage) error
}

func openFaulty(merge func(context.Context, *faulty, string, json.RawMessage) error) func(context.Context, database) (merger, error) {
	return func(ctx context.Context, db database) (merger, error) {
		pool, err := db.pool(ctx)
		return &faulty{concat: concat{pool}, how: merge}, err
	}
}

func (f *faulty) merge(ctx context.Context, user string, patch json.RawMessage) error {
	return f.how(ctx, f, user, patch)
}

// forget acknowledges every merge, but executes only the first.
func forget(ctx context.Context, f *faulty, user string, patch json.RawMessage) (err error) {
	f.once.Do(func() { err = f.concat.merge(ctx, user, patch) })
	return err
}

// overwrite keeps only the last merge.
func overwrite(ctx context.Context, f *faulty, user string, patch json.RawMessage) error {
	_, err := f.pool.Exec(ctx, "UPDATE users SET metadata = $2 WHERE id = $1", user, patch)
	return err
}

// leak merges correctly, but leaks a lock.
func leak(ctx context.Context, f *faulty, user string, patch json.RawMessage) (err error) {
	f.once.Do(func() { _, err = f.pool.Exec(ctx, "SELECT pg_try_advisory_lock(42)") })
	return errors.Join(err, f.concat.merge(ctx, user, patch))
}

// refuse always returns an error.
func refuse(context.Context, *faulty, string, json.RawMessage) error {
	return errors.New("not today")
}

// hang blocks until its context ends.
func hang(ctx context.Context, f *faulty, _ string, _ json.RawMessage) error {
	f.once.Do(func() { hanging <- struct{}{} })
	<-ctx.Done()
	return context.Cause(ctx)
}

// crash ends its process.
func crash(context.Context, *faulty, string, json.RawMessage) error {
	os.Exit(3)
	return nil
}
