package main

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgxpool"
)

// concat merges with one UPDATE. It is correct within the limits of ||, which neither deletes
// keys nor merges nested objects. It is the baseline: every writer queues for the row, on a
// connection.
type concat struct{ pool *pgxpool.Pool }

func openConcat(ctx context.Context, db database) (merger, error) {
	pool, err := db.pool(ctx)
	return concat{pool}, err
}

func (c concat) merge(ctx context.Context, user string, patch json.RawMessage) error {
	_, err := c.pool.Exec(ctx, "UPDATE users SET metadata = metadata || $2::jsonb WHERE id = $1", user, patch)
	return err
}

func (c concat) close() error {
	c.pool.Close()
	return nil
}
