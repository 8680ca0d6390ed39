package main

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/metadata"
)

// lockstore merges with a store over the application's own table. Merges that arrive while
// another is being made share a commit (group commit), and each writer gets its own answer.
type lockstore struct {
	pool  *pgxpool.Pool
	store *metadata.Postgres
}

// metadataOptions describes the table with the documents.
var metadataOptions = &metadata.Options{Table: metadata.Table{Name: "users", ID: "id", Column: "metadata"}}

// installLockstore creates what a store needs besides the application's table: the merge
// function. An application does this with its other migrations.
func installLockstore(ctx context.Context, db database) error {
	pool, err := db.pool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := metadata.NewPostgres(pool, metadataOptions)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Migrate(ctx)
}

func openLockstore(ctx context.Context, db database) (merger, error) {
	pool, err := db.pool(ctx)
	if err != nil {
		return nil, err
	}
	store, err := metadata.NewPostgres(pool, metadataOptions)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return lockstore{pool, store}, nil
}

func (l lockstore) merge(ctx context.Context, user string, patch json.RawMessage) error {
	_, err := l.store.Merge(ctx, user, patch)
	return err
}

func (l lockstore) close() error {
	l.store.Close()
	l.pool.Close()
	return nil
}
