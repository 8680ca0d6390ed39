package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/waiting"
	"example.com/lockstore/lock"
)

// Tx is a [MetadataStore] in the host's own transaction: what it writes becomes permanent, and
// visible to others, when the host commits. It is for the goroutine that uses the transaction,
// and not safe for concurrent use.
//
// The first write of a document takes its lock, which is released with the transaction. Until
// then other writers of the document wait. (A Merge that finds its row locked takes a second
// lock, which orders those that wait for the row.)
//
// Each write has a savepoint: after a failed write the transaction is as it was before, and the
// host can go on, unless the connection was lost. What decide of an Update writes in the same
// transaction is undone if the Update fails.
type Tx struct{ documents }

var _ MetadataStore = (*Tx)(nil)

// In returns the store in a host's transaction, which the host commits or rolls back. A view of
// the store gives a view. tx is one of
//
//   - a pgx.Tx;
//   - a *sql.Tx of any driver;
//   - a transaction of a library on top of these, such as a *sqlx.Tx, a bun.Tx, an *ent.Tx that
//     has ExecContext, or gorm's tx.Statement.ConnPool: it embeds a *sql.Tx, or has its methods
//     ExecContext, QueryContext, Commit and Rollback and sends what they are given.
//
// With anything else, operations fail with [ErrInvalidOptions].
func (p *Postgres) In(tx any) *Tx {
	q, err := pgdb.TxOf(p.pg.db, tx)
	if errors.Is(err, pgdb.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	d := p.documents
	d.engine = &hosted{p.pg, q, err}
	return &Tx{d}
}

// A hosted is the engine behind a [Tx].
type hosted struct {
	*postgres
	q   pgdb.Querier
	err error // why there is no q
}

var _ engine = (*hosted)(nil)

func (h *hosted) usable() error {
	if h.err == nil && h.queues.isClosed() {
		return ErrClosed
	}
	return h.failure(h.err, false)
}

func (h *hosted) get(ctx context.Context, id string) (Document, error) {
	if err := h.usable(); err != nil {
		return Document{}, err
	}
	return h.getFrom(ctx, h.q, id)
}

// write implements [engine]: write.go without a queue and without a commit of its own.
func (h *hosted) write(ctx context.Context, id string, w *write) (Document, error) {
	if err := h.usable(); err != nil {
		return Document{}, err
	}
	key := h.options.key(id)
	under, err := holdsIn(ctx, key)
	if err != nil {
		return Document{}, err
	}
	ended, err := under.writing()
	if err != nil {
		return Document{}, err
	}
	wq := &waitQueue{key: queueKey{id, under.identity()}, lock: key}
	c := newCall(w, h.options.Backoff)
	c.under = under
	for {
		err := h.attempt(ctx, wq, c)
		if err == nil {
			return c.doc, nil // the write ends with the host's transaction
		}
		if err == errUsed { // or the hold was lost: the next attempt finds out
			continue
		}
		var last *unsettled
		if err = h.failure(err, false); !errors.Is(err, errTaken) || w.decide != nil && errors.As(err, &last) {
			ended()
			return c.result(wq.final(c, err))
		}
		if c.attempts++; c.attempts == 1 {
			h.queues.waits.begin(c, func() []waiting.Call { return []waiting.Call{{Key: key, Since: c.since}} })
			defer h.queues.waits.end(c)
		}
		h.counts.waits.Add(1)
		if err := wq.pause(ctx, c, err, &h.queues); err != nil {
			ended()
			return Document{}, err
		}
	}
}

// attempt writes behind a savepoint. If the lock is taken, it rolls back to the savepoint and
// so releases the row: the lock's holder may be about to write the row.
func (h *hosted) attempt(ctx context.Context, wq *waitQueue, c *call) (err error) {
	if err := h.exec(ctx, "SAVEPOINT lockstore"); err != nil {
		return err
	}
	done := false
	defer func() {
		var failed error
		if done {
			failed = h.exec(ctx, "RELEASE SAVEPOINT lockstore")
		}
		if !done || failed != nil {
			undone := h.exec(ctx, "ROLLBACK TO SAVEPOINT lockstore")
			if undone == nil {
				undone = h.exec(ctx, "RELEASE SAVEPOINT lockstore")
			}
			failed = errors.Join(failed, undone)
		}
		if err == nil {
			err = failed
		}
	}()
	if err := h.fit(ctx, h.q); err != nil {
		return err
	}
	if h.isOneStatement(wq, c) && c.token == nil {
		if done, err = h.mergeHere(ctx, wq, c); done || err != nil {
			return err
		}
	}
	if _, _, err := h.carryOut(ctx, session{h.q, h.q.QueryRow, h.bounded, nil, nil, nil}, wq, h.preconditionOf(wq, c.under), []*call{c}); err != nil {
		return err
	}
	done = c.err == nil
	return c.err
}

// rowOrderLock is the number of the advisory lock that orders the waiters for a row, of hosts'
// transactions. It differs from keys and guards by bits that are as good as random (the first
// of the SHA-256 of "lockstore turn").
func rowOrderLock(key lock.Key) int64 { return key.Guard() ^ 0x5aa1813cc5eb8a7f }

// mergeHere is a merge in one statement. If it neither merges nor fails, carryOut does the
// merge.
//
// A transaction that has waited for the row asks for the lock a few times: a server that ends
// a transaction releases its rows, and wakes their waiters, before its advisory locks.
func (h *hosted) mergeHere(ctx context.Context, wq *waitQueue, c *call) (done bool, err error) {
	s := h.sql.mergeHere
	q := query{s, s.args(wq.key.id, string(c.patch.text), wq.lock.Int64(), c.patch.Flat, c.patch.Sets, c.patch.room, rowOrderLock(wq.lock))}
	ask := func() (free bool, waited time.Duration, err error) {
		ctx, cancel := h.bounded(ctx)
		defer cancel()
		var micros int64
		var set bool
		c.doc, err = h.read(ctx, h.q, q, wq.key.id, &free, &micros, &set)
		return free, time.Duration(micros) * time.Microsecond, err
	}
	free, err := insist(ask)
	if err == nil && !free {
		err = errTaken
	}
	return err == nil && c.doc.Metadata != nil, err
}

// insist asks for a lock, and again for a quarter of the time that the first answer has taken.
func insist(ask func() (free bool, waited time.Duration, err error)) (free bool, err error) {
	free, waited, err := ask()
	if waited < time.Millisecond { // it waited for no transaction
		return free, err
	}
	end := time.Now().Add(waited / 4)
	for n := 0; !free && err == nil && n < 8 && time.Now().Before(end); n++ {
		free, _, err = ask()
	}
	return free, err
}

func (h *hosted) exec(ctx context.Context, sql string) error {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	_, err := h.q.Exec(ctx, sql)
	return err
}
