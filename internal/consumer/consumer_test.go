// Package consumer is a host: a module of its own that uses every package of
// lockstore as any other module would.
package consumer

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/storetest"
	"example.com/lockstore/pgtest"

	_ "example.com/lockstore"
)

func TestHostUsesEveryPackage(t *testing.T) {
	db, ctx := pgtest.New(t), t.Context()
	locker, err := lock.NewPostgres(ctx, db.Pool(), &lock.PostgresOptions{
		Backoff: backoff.Within(backoff.Exponential{Base: 5 * time.Millisecond, Cap: 100 * time.Millisecond}, 10*time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close(context.Background())
	store, err := metadata.NewPostgres(db.SQLX(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	err = lock.Do(ctx, locker, store.Key("42"), func(ctx context.Context) error {
		doc, err := store.Merge(ctx, "42", json.RawMessage(`{"plan": "pro"}`))
		if err == nil && string(doc.Metadata) != `{"plan": "pro"}` {
			t.Errorf("metadata is %s", doc.Metadata)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A host can check implementations of its own.
func TestHostRunsTheConformanceSuites(t *testing.T) {
	locktest.Run(t, func(testing.TB) lock.Locker { return lock.NewMemory() })
	storetest.Run(t, func(t testing.TB) metadata.MetadataStore {
		store, err := metadata.NewMemory(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return store
	})
}
