package metadata_test

import (
	"context"
	"encoding/json"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// allocates is how many bytes do allocates. Others may, too: the least of some tries is.
func allocates(do func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// Reading a patch takes few bytes for each of its own, and applying it not many more.
func TestPatchesTakeLittleMemory(t *testing.T) {
	if slowdown > 1 {
		t.Skip("the race detector has pools forget what they have")
	}
	store := must(metadata.NewMemory(nil, nil))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range shapes {
		of, by := s.of(256 << 10)
		document, patch := json.RawMessage(of), json.RawMessage(by)
		read := allocates(func() {
			_, err := store.Merge(ended, "a", patch)
			require.ErrorIs(t, err, context.Canceled, s.name)
		})
		assert.LessOrEqual(t, read, uint64(10*len(patch)+1000), s.name)
		merge := allocates(func() {
			_, err := metadata.MergePatch(document, patch)
			require.NoError(t, err, s.name)
		})
		assert.LessOrEqual(t, merge, uint64(32*(len(document)+len(patch))), s.name)
		t.Logf("%-28s reading %.1f, merging %.1f", s.name, float64(read)/float64(len(patch)), float64(merge)/float64(len(document)+len(patch)))
	}
}

// A patch that waits is kept as text.
func TestWaitingPatchesHoldLittleMemory(t *testing.T) {
	for _, s := range shapes {
		_, patch := s.of(256 << 10)
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
		assert.LessOrEqual(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(2*8*len(patch)), s.name)
		cancel()
		for _, p := range waiting {
			assert.ErrorIs(t, p.wait(t, s.name).err, context.Canceled)
		}
		require.NoError(t, held.Unlock())
	}
}
