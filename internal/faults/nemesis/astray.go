package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/metadata"
)

// astray makes every second connection of a client lead to a database with an old copy of the
// documents.
var astray = fault{"connections lead astray", func(_ *nemesis, _ context.Context, c *client, d time.Duration) error {
	if err := c.order(astrayOrder, d); err != nil {
		return err
	}
	time.Sleep(d)
	return nil
}}

// A detour is a store whose pool can be made to lead to the wrong database. Its calls under a
// lock run where the lock is held, or fail; its other calls may run anywhere.
type detour struct {
	workload.Hosted
	led   atomic.Bool
	dials atomic.Int64 // while the pool is led astray
}

func newDetour(ctx context.Context, config *pgxpool.Config, elsewhere string, options *metadata.Options) (d *detour, err error) {
	d = new(detour)
	config = config.Copy()
	config.AfterConnect, config.MaxConns = nil, 3
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if d.led.Load() && d.dials.Add(1)%2 == 1 {
			c.Database = elsewhere
		}
		return nil
	}
	if d.Pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if d.Postgres, err = metadata.NewPostgres(d.Pool, options); err != nil {
		d.Pool.Close()
		return nil, fmt.Errorf("a store that is led astray: %w", err)
	}
	return d, nil
}

func (d *detour) close() {
	d.Postgres.Close()
	d.Pool.Close()
}

// lead closes all connections and makes new ones lead astray for a while. Those that are wrong
// at the end stay in the pool until the store notices.
func (d *detour) lead(lasts time.Duration) {
	d.led.Store(true)
	d.Pool.Reset()
	time.Sleep(lasts)
	d.led.Store(false)
}
