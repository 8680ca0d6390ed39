package lock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/settings"
	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

// Whatever a role or database has set for its sessions, a locker works as without: see package
// settings.
func TestPostgresConformsUnderAnySettings(t *testing.T) {
	t.Parallel() // it mostly waits
	for i, world := range settings.Worlds() {
		t.Run(world.Name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			require.NoError(t, world.Set(t.Context(), db.Pool()))
			locktest.Run(t, func(t testing.TB) lock.Locker {
				if i%2 == 0 {
					return newPostgres(t, db.SQLX(), nil)
				}
				return newPostgres(t, db.Pool(), nil)
			})
			locker := newPostgres(t, db.Pool(), nil)
			held, err := locker.Lock(t.Context(), lock.ID(1))
			require.NoError(t, err)
			status, err := locker.Status(t.Context(), lock.ID(1))
			require.NoError(t, err)
			require.Len(t, status.Holders, 1)
			require.True(t, status.Holders[0].InThisLocker)
			require.NoError(t, locker.Evict(t.Context(), lock.ID(1), time.Second))
			<-held.Context().Done()
		})
	}
}
