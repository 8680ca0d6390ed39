package main

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5/pgxpool"
)

// concat leaves everything to one UPDATE. It is correct as far as || goes, which
// neither deletes keys nor looks into nested objects, and it is the floor: every
// writer queues for the row, on a connection.
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
