package metadata_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Who waits to write a document is told by the Lockers of its process, wherever that is
// asked: each way to write, and nothing when it has ended.
func TestWritersThatWaitAreTold(t *testing.T) {
	for name, write := range map[string]func(context.Context, *database, *metadata.Postgres) error{
		"Merge": func(ctx context.Context, _ *database, s *metadata.Postgres) error {
			_, err := s.Merge(ctx, "a", raw(`{"n":1}`))
			return err
		},
		"MergeMany": func(ctx context.Context, _ *database, s *metadata.Postgres) error {
			_, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "b", Patch: raw(`{"n":1}`)}})
			return err
		},
		"In": func(ctx context.Context, d *database, s *metadata.Postgres) error {
			tx, err := d.Pool().Begin(ctx)
			if err != nil {
				return err
			}
			defer tx.Rollback(context.WithoutCancel(ctx))
			_, err = s.In(tx).Merge(ctx, "a", raw(`{"n":1}`))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				store := d.migrated(t, nil)
				here, elsewhere := newLocker(t, d.Pool()), newLocker(t, d.Pool())
				held, err := elsewhere.Lock(t.Context(), store.Key("a"))
				require.NoError(t, err)
				writers := make(chan error, 3)
				for range cap(writers) {
					go func() { writers <- write(t.Context(), d, store) }()
				}
				var status lock.Status
				for _, l := range []*lock.Postgres{elsewhere, here} {
					require.Eventually(t, func() bool {
						status, err = l.Status(t.Context(), store.Key("a"))
						return assert.NoError(t, err) && status.WaitersHere == cap(writers)
					}, patience, time.Millisecond, "%s", status)
					require.Len(t, status.Waiting, cap(writers))
					assert.True(t, status.Waiting[0].Writing)
					assert.Positive(t, status.Waiting[0].Waited)
				}
				assert.NoError(t, held.Unlock())
				for range cap(writers) {
					assert.NoError(t, <-writers)
				}
				status, err = elsewhere.Status(t.Context(), store.Key("a"))
				require.NoError(t, err)
				assert.Equal(t, lock.Status{Key: store.Key("a")}, status)
			})
		})
	}
}
