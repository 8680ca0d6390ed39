package metadata

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A farSource takes 20 ms for each answer. Each document that it reads has another version.
type farSource struct{ reads, comparisons int64 }

func (s *farSource) look(_ context.Context, ids []string, seen func(i int, doc Document, mark string)) error {
	time.Sleep(20 * time.Millisecond)
	s.reads++
	for i, id := range ids {
		seen(i, Document{ID: id, Version: s.reads}, strconv.FormatInt(s.reads, 10))
	}
	return nil
}

func (s *farSource) differ(context.Context, []string, []string, func(int)) error {
	time.Sleep(20 * time.Millisecond)
	s.comparisons++
	return nil
}

// While a document changes all the time, the others are compared as often as otherwise; and
// comparisons leave time for reads.
func TestReadsAndComparisonsDoNotKeepEachOtherFromTheSource(t *testing.T) {
	for interval, want := range map[time.Duration]int64{100 * time.Millisecond: 50, time.Millisecond: 100} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, err := (&Options{WatchInterval: interval}).withDefaults()
				require.NoError(t, err)
				from := new(farSource)
				ws := newWatching(from, &o, make(chan struct{}), func(context.Context) (string, bool) { return "", true })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				go func() {
					for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
						ws.changed(o.key("a").Int64())
					}
				}()
				for range ws.watch(ctx, &documents{options: &o}, []string{"a", "b"}) {
				}
				assert.GreaterOrEqual(t, from.comparisons, want)
				assert.GreaterOrEqual(t, from.reads, int64(100))
			})
		})
	}
}
