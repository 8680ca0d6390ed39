package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/metadata"
)

// Tenants write each other's documents, over few connections that a hook prepares for each
// caller. A store that shares commits across rights is rejected.
func TestRights(t *testing.T) {
	same := func(context.Context) string { return "" }
	for name, c := range map[string]struct {
		principal func(context.Context) string
		hidden    bool // that connections are prepared
		crosses   bool
	}{
		"nothing is shared":                        {nil, false, false},
		"tenants share":                            {workload.TenantOf, false, false},
		"tenants share, over database/sql":         {workload.TenantOf, true, false},
		"mutant: all are told to be the same":      {same, false, true},
		"mutant: nobody sees, or tells them apart": {nil, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			role := "tenants_" + w.db.Name()
			w.exec("CREATE ROLE " + role + "; " + workload.Settle("public", role))
			t.Cleanup(func() {
				_, err := w.db.Pool().Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
				assert.NoError(t, err)
			})
			options := &metadata.Options{Table: workload.Tenancy, Principal: c.principal}
			store := w.tenancy(role, c.hidden, options)
			var log history.Log
			ctx, stop := context.WithTimeout(w.ctx, 2*time.Second)
			defer stop()
			workload.Rights(ctx, store, history.NewRecorder(0, log.Add), 16, workload.Config{Patience: patience})
			trespasses := one[int](w, workload.Trespasses("public"))
			found := history.CheckRights(log.Events())
			t.Logf("%d events, %d members of others; %+v", len(log.Events()), trespasses, store.Stats())
			assert.Equal(t, c.crosses, trespasses > 0)
			assert.Equal(t, c.crosses, len(found) > 0, "%v", found)
		})
	}
}

// tenancy is a store on two connections, which are prepared for their callers in a way that
// the store can see, or cannot.
func (w *world) tenancy(role string, hidden bool, o *metadata.Options) *metadata.Postgres {
	config := w.db.Pool().Config()
	config.MaxConns, config.PrepareConn = 2, workload.Prepare
	config.ConnConfig.RuntimeParams["role"] = role
	pool := w.open(config)
	if !hidden {
		return w.store(pool, o)
	}
	db := stdlib.OpenDBFromPool(pool)
	w.Cleanup(func() { assert.NoError(w, db.Close()) })
	store, err := metadata.NewPostgres(db, o)
	require.NoError(w, err)
	w.Cleanup(store.Close)
	return store
}
