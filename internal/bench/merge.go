package main

import (
	"context"
	"encoding/json"
	"errors"

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

// mergeKinds returns all subjects, in the order of the tables.
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
		pool, err := in.pool(ctx, conns)
		if err != nil {
			return nil, err
		}
		return openStore(pool, nil, func() error { pool.Close(); return nil })
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
		return openStore(db, nil, db.Close)
	},
}

type store struct {
	*metadata.Postgres
	closeDB func() error
}

func openStore[D metadata.DB](db D, o *metadata.Options, closeDB func() error) (*store, error) {
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
