package workload

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A Store is what is used of one: its Key is that of a document's lock. What
// else it can do is used, too: see Replacer, ManyMerger and Host.
type Store interface {
	metadata.MetadataStore
	Key(id string) lock.Key
}

// A Replacer stores a document in the place of another.
type Replacer interface {
	Replace(ctx context.Context, id string, document json.RawMessage) (metadata.Document, error)
}

// A ManyMerger merges into several documents by one call.
type ManyMerger interface {
	MergeMany(ctx context.Context, patches []metadata.Patch) ([]metadata.Result, error)
}

// A Host has transactions of its own, in which it can write.
type Host interface {
	Begin(ctx context.Context) (Tx, error)
}

// A Tx is such a transaction, and the store in it.
type Tx interface {
	metadata.MetadataStore
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// An Evicter can take a lock from its holder.
type Evicter interface {
	Evict(ctx context.Context, key lock.Key, grace time.Duration) error
}

// Hosted is a store with the pool of its host.
type Hosted struct {
	*metadata.Postgres
	Pool *pgxpool.Pool
	SQL  *sql.DB // if it is not nil, the store's, and what the host's transactions are of
}

// Begin implements [Host].
func (h Hosted) Begin(ctx context.Context) (Tx, error) {
	if h.SQL != nil {
		tx, err := h.SQL.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return nil, err
		}
		return sqlTx{h.In(tx), tx}, nil
	}
	tx, err := h.Pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		metadata.MetadataStore
		pgx.Tx
	}{h.In(tx), tx}, nil
}

// sqlTx is a transaction of database/sql.
type sqlTx struct {
	metadata.MetadataStore
	tx *sql.Tx
}

func (t sqlTx) Commit(context.Context) error   { return t.tx.Commit() }
func (t sqlTx) Rollback(context.Context) error { return t.tx.Rollback() }
