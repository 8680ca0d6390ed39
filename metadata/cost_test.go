package metadata_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
)

// A patch that waits is kept as text.
func TestWaitingPatchesHoldLittleMemory(t *testing.T) {
	for _, s := range jsonbtest.Shapes {
		_, patch := s.Of(256 << 10)
		if len(patch) < 100<<10 {
			continue
		}
		locker := lock.NewMemory()
		store := must(metadata.NewMemory(locker, nil))
		held := must(locker.Lock(t.Context(), store.Key("a")))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting []pending
		for range 8 {
			waiting = append(waiting, lineUp(ctx, merging(store, patch)))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		assert.LessOrEqual(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(2*8*len(patch)), s.Name)
		cancel()
		for _, p := range waiting {
			assert.ErrorIs(t, p.wait(t, s.Name).err, context.Canceled)
		}
		require.NoError(t, held.Unlock())
	}
}
