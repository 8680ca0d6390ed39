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

// A Store is a store of documents; Key is the key of a document's lock. A workload also uses the
// methods of Replacer, ManyMerger, Host, Watcher and Repeater, if the store has them, and those
// of Evicter, Leader and Limiter, if the locker has them.
type Store interface {
	metadata.MetadataStore
	Key(id string) lock.Key
}

// A Replacer replaces documents.
type Replacer interface {
	Replace(ctx context.Context, id string, document json.RawMessage) (metadata.Document, error)
}

// A ManyMerger merges into several documents with one call.
type ManyMerger interface {
	MergeMany(ctx context.Context, patches []metadata.Patch) ([]metadata.Result, error)
}

// A Host has its own transactions, in which it can write.
type Host interface {
	Begin(ctx context.Context) (Tx, error)
}

// A Tx is a transaction of a Host, and the store in it.
type Tx interface {
	metadata.MetadataStore
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// An Evicter can evict the holder of a lock.
type Evicter interface {
	Evict(ctx context.Context, key lock.Key, grace time.Duration) error
}

// Hosted is a store with the pool of its host.
type Hosted struct {
	*metadata.Postgres
	Pool *pgxpool.Pool
	SQL  *sql.DB // if not nil, the store's pool, and that of the host's transactions
}

// Begin begins a transaction of the host.
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
