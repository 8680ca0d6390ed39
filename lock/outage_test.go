package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// While the server is down, every operation fails with the same sentinel. Those that wait do
// so until their context ends, and match both errors.
func TestOperationsDuringAnOutage(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t, pgtest.Dedicated())
	opts := &lock.PostgresOptions{DescribeBusy: true}
	lockers := map[string]*lock.Postgres{"pgx": newPostgres(t, db.Pool(), opts), "sqlx": newPostgres(t, db.SQLX(), opts)}
	key := lock.Name("k")
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	var held []*lock.Held
	for name, l := range lockers {
		held = append(held, take(t, l, lock.Name("held", name)))
	}
	require.NoError(t, db.Server().Stop(t.Context()))
	for _, h := range held {
		await(t, h.Context().Done(), "loss")
		_, err := h.Fence(t.Context())
		assert.ErrorIs(t, err, lock.ErrLost)
		assert.ErrorIs(t, h.Unlock(), lock.ErrLost)
	}
	for name, l := range lockers {
		for what, operation := range map[string]func(context.Context) error{
			"Lock":    func(ctx context.Context) error { _, err := l.Lock(ctx, key); return err },
			"RLock":   func(ctx context.Context) error { _, err := l.RLock(ctx, key); return err },
			"LockAll": func(ctx context.Context) error { _, err := l.LockAll(ctx, key, lock.Name("other")); return err },
			"Do": func(ctx context.Context) error {
				return lock.Do(ctx, l, key, func(context.Context) error { return nil })
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			err := operation(ctx)
			cancel()
			var busy *lock.BusyError
			if assert.ErrorAs(t, err, &busy, "%s: %s", name, what) {
				assert.Contains(t, []lock.Key{key, lock.Name("other")}, busy.Key)
				assert.Nil(t, busy.Status)
			}
			assert.ErrorIs(t, err, lock.ErrUnavailable, "%s: %s", name, what)
			assert.ErrorIs(t, err, context.DeadlineExceeded, "%s: %s", name, what)
			assert.NotErrorIs(t, err, lock.ErrBusy, "%s: %s", name, what)
		}
		for what, operation := range map[string]func(context.Context) error{
			"TryLock":  func(ctx context.Context) error { _, err := l.TryLock(ctx, key); return err },
			"TryRLock": func(ctx context.Context) error { _, err := l.TryRLock(ctx, key); return err },
			"Status":   func(ctx context.Context) error { _, err := l.Status(ctx, key); return err },
			"List":     func(ctx context.Context) error { _, err := l.List(ctx, ""); return err },
			"Check":    func(ctx context.Context) error { _, err := l.Check(ctx); return err },
			"Evict":    func(ctx context.Context) error { return l.Evict(ctx, key, 0) },
		} {
			assert.ErrorIs(t, operation(t.Context()), lock.ErrUnavailable, "%s: %s", name, what)
		}
	}
	_, err = lock.NewPostgres(t.Context(), db.Pool(), nil)
	assert.ErrorIs(t, err, lock.ErrUnavailable)
	_, err = lock.NewPostgres(t.Context(), db.SQLX(), nil)
	assert.ErrorIs(t, err, lock.ErrUnavailable)
	assert.ErrorIs(t, lock.InTx(t.Context(), tx, key), lock.ErrUnavailable)

	require.NoError(t, db.Server().Restart(t.Context()))
	for _, l := range lockers {
		assert.NoError(t, take(t, l, key).Unlock())
	}
}

// A refusal by the server is not an outage.
func TestRefusalsAreNoOutage(t *testing.T) {
	config, err := pgx.ParseConfig(pgtest.New(t).URL())
	require.NoError(t, err)
	config.Database = "nowhere"
	_, err = lock.NewPostgres(t.Context(), openSQL(t, config), nil)
	var state interface{ SQLState() string }
	require.True(t, errors.As(err, &state), "%v", err)
	assert.Equal(t, "3D000", state.SQLState())
	assert.NotErrorIs(t, err, lock.ErrUnavailable)
}
