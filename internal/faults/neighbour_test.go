package faults_test

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/neighbour"
)

// squatted is the rule that no object that others have created in the search path is used.
const squatted = "squatted"

// until runs do in the background until the test ends.
func (w *world) until(do func(ctx context.Context)) {
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(ctx)
	}()
	w.Cleanup(func() { stop(); <-done })
}

// beside lets a neighbour attack until the test ends.
func (w *world) beside(attacks ...string) {
	w.Helper()
	if w.neighbour == nil {
		n, err := neighbour.MoveIn(w.ctx, w.db.Pool())
		require.NoError(w, err)
		w.neighbour = n
		w.Cleanup(func() { assert.NoError(w, n.MoveOut(context.Background())) })
	}
	for _, name := range attacks {
		i := slices.IndexFunc(neighbour.Attacks, func(a neighbour.Attack) bool { return a.Name == name })
		require.GreaterOrEqual(w, i, 0, name)
		w.until(func(ctx context.Context) {
			times, err := w.neighbour.Attack(ctx, neighbour.Attacks[i])
			assert.NoError(w, err, name)
			assert.Positive(w, times, name)
		})
	}
}

// pathed returns a pool whose sessions have a search path.
func (w *world) pathed(path string) *pgxpool.Pool {
	w.Helper()
	return w.poolWith(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = path })
}

func (w *world) poolWith(set func(*pgxpool.Config)) *pgxpool.Pool {
	w.Helper()
	config, err := pgxpool.ParseConfig(w.db.URL())
	require.NoError(w, err)
	set(config)
	return w.open(config)
}
