package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

func TestDoTellsALossOnce(t *testing.T) {
	locker := newPostgres(t, pgtest.New(t).Pool(), nil)
	own := errors.New("own")
	for name, fn := range map[string]func(context.Context) error{
		"cause":   func(ctx context.Context) error { return context.Cause(ctx) },
		"wrapped": func(ctx context.Context) error { return fmt.Errorf("work: %w", context.Cause(ctx)) },
		"own":     func(context.Context) error { return own },
		"none":    func(context.Context) error { return nil },
	} {
		err := lock.Do(t.Context(), locker, lock.Name("k"), func(ctx context.Context) error {
			assert.NoError(t, locker.Evict(context.WithoutCancel(ctx), lock.Name("k"), patience))
			await(t, ctx.Done(), "loss")
			return fn(ctx)
		})
		assert.ErrorIs(t, err, lock.ErrEvicted, name)
		assert.Equal(t, 1, strings.Count(err.Error(), lock.ErrEvicted.Error()), "%s: %v", name, err)
		assert.Equal(t, name == "own", errors.Is(err, own), name)
	}
	assert.Equal(t, own, lock.Do(t.Context(), locker, lock.Name("k"), func(context.Context) error { return own }))
}
