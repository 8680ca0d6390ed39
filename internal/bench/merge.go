package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/metadata"
)

// A merger is a subject of the merge cases, opened in one process.
type merger interface {
	// merge merges patch, whose values are flat, into the document with that id. Nil
	// acknowledges the merge.
	merge(ctx context.Context, id string, patch json.RawMessage) error
	close() error
}

// A mergeKind is a subject of the merge cases. All write the same table, a store's default one.
type mergeKind struct {
	name string
	how  string

	// total reads a number that each merge increases by one, based on what it had read, so that
	// lost merges are missing in it. Nil: there is none.
	total func(ctx context.Context, in *arena) (int64, error)

	open func(ctx context.Context, in *arena, conns int) (merger, error)
}

// mergeKinds are all subjects, in the order of the tables.
var mergeKinds = []mergeKind{
	storePgx, storeSQLX, concat, forUpdate, compareAndSwap, zepMerge24, zepMerge25,
}

func mergeKindNamed(name string) (mergeKind, error) {
	for _, k := range mergeKinds {
		if k.name == name {
			return k, nil
		}
	}
	return mergeKind{}, errors.New("no such merge: " + name)
}

var storePgx = mergeKind{
	name:  "lockstore (pgx)",
	how:   "metadata.NewPostgres on a pgx pool; Merge",
	total: versions,
	open: func(ctx context.Context, in *arena, conns int) (merger, error) {
		return openStore(ctx, in, conns, nil)
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
		return newStore(db, nil, db.Close)
	},
}

// A store is a store that closes its pool, too.
type store struct {
	*metadata.Postgres
	closeDB func() error
}

// openStore opens a store on a pgx pool.
func openStore(ctx context.Context, in *arena, conns int, o *metadata.Options) (*store, error) {
	pool, err := in.pool(ctx, conns)
	if err != nil {
		return nil, err
	}
	return newStore(pool, o, closing(pool))
}

func newStore[D metadata.DB](db D, o *metadata.Options, closeDB func() error) (*store, error) {
	p, err := metadata.NewPostgres(db, o)
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

func closing(pool *pgxpool.Pool) func() error { return func() error { pool.Close(); return nil } }

// A writeFunc is a way to write a document.
type writeFunc func(ctx context.Context, id string, patch json.RawMessage) error

// opened is a merger made of functions.
type opened struct {
	write writeFunc
	end   func() error
}

func (o opened) merge(ctx context.Context, id string, patch json.RawMessage) error {
	return o.write(ctx, id, patch)
}
func (o opened) close() error { return o.end() }

// byStore returns a way to write with a store on a pool.
func byStore(way func(*metadata.Postgres, *pgxpool.Pool) writeFunc) func(context.Context, *arena, int) (merger, error) {
	return func(ctx context.Context, in *arena, conns int) (merger, error) {
		pool, err := in.pool(ctx, conns)
		if err != nil {
			return nil, err
		}
		s, err := newStore(pool, nil, closing(pool))
		if err != nil {
			return nil, err
		}
		return opened{way(s.Postgres, pool), s.close}, nil
	}
}

// byHand returns a way to write with a pool alone.
func byHand(way func(*pgxpool.Pool) writeFunc) func(context.Context, *arena, int) (merger, error) {
	return func(ctx context.Context, in *arena, conns int) (merger, error) {
		pool, err := in.pool(ctx, conns)
		if err != nil {
			return nil, err
		}
		return opened{way(pool), closing(pool)}, nil
	}
}
