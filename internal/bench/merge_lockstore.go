package main

import (
	"context"
	"encoding/json"
	"errors"

	"example.com/lockstore/metadata"
)

var storePgx = mergeKind{
	name:  "lockstore (pgx)",
	how:   "metadata.NewPostgres on a pgx pool; Merge",
	total: versions,
	open: func(ctx context.Context, in *arena, conns int) (merger, error) {
		pool, err := in.pool(ctx, conns)
		if err != nil {
			return nil, err
		}
		return openStore(pool, func() error { pool.Close(); return nil })
	},
}

var storeSQLX = mergeKind{
	name:  "lockstore (sqlx)",
	how:   "metadata.NewPostgres on a sqlx handle; Merge",
	total: versions,
	open: func(ctx context.Context, in *arena, conns int) (merger, error) {
		db, err := in.sqlx(conns)
		if err != nil {
			return nil, err
		}
		return openStore(db, db.Close)
	},
}

type store struct {
	*metadata.Postgres
	closeDB func() error
}

func openStore[D metadata.DB](db D, closeDB func() error) (*store, error) {
	p, err := metadata.NewPostgres(db, nil)
	if err != nil {
		return nil, errors.Join(err, closeDB())
	}
	return &store{p, closeDB}, nil
}

func (s *store) merge(ctx context.Context, id string, patch json.RawMessage) error {
	_, err := s.Merge(ctx, id, patch)
	return err
}

func (s *store) close() error {
	s.Close()
	return s.closeDB()
}
