package metadata_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// patience bounds what should happen at once, for a slow machine's sake.
const patience = 20 * time.Second

// answer is what a call returned, or what it panicked with.
type answer struct {
	doc      metadata.Document
	err      error
	panicked any
}

// pending is a call that runs beside the test.
type pending chan answer

// begin makes a call beside the test.
func begin(call func() (metadata.Document, error)) pending {
	answers := make(pending, 1)
	go func() {
		var a answer
		defer func() {
			a.panicked = recover()
			answers <- a
		}()
		a.doc, a.err = call()
	}()
	return answers
}

// lineUp makes a call beside the test, and returns when it waits.
func lineUp(ctx context.Context, call func(context.Context) (metadata.Document, error)) pending {
	watched := newArriving(ctx)
	p := begin(func() (metadata.Document, error) { return call(watched) })
	<-watched.arrived
	return p
}

// merging is a call that merges a patch into the document a.
func merging(store metadata.MetadataStore, patch string) func(context.Context) (metadata.Document, error) {
	return func(ctx context.Context) (metadata.Document, error) { return store.Merge(ctx, "a", raw("%s", patch)) }
}

// wait returns what a call ended with.
func (p pending) wait(t testing.TB, what string) (a answer) {
	t.Helper()
	a, ok := p.within(patience)
	require.True(t, ok, "%s has not ended after %v", what, patience)
	return a
}

// within returns what a call ended with, if it ends in that time. It may be asked
// again.
func (p pending) within(limit time.Duration) (answer, bool) {
	select {
	case a := <-p:
		p <- a
		return a, true
	case <-time.After(limit):
		return answer{}, false
	}
}

// inTime has what ends a test fail it if it takes too long, rather than stop it.
func inTime(t testing.TB, end func(), failure string) {
	t.Helper()
	ended := make(chan struct{})
	go func() { end(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		assert.Fail(t, failure)
	}
}

// closeInTime closes a store. One that does not close fails the test, but does
// not stop it.
func closeInTime(t testing.TB, store *metadata.Postgres) {
	t.Helper()
	inTime(t, store.Close, "the store does not close")
}
