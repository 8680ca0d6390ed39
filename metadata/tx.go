package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

// Tx is a [MetadataStore] in the host's own transaction: what it writes
// becomes true, and visible to others, when the host commits. It is for the
// goroutine that has the transaction.
//
// The first write of a document takes its lock, which is released with the
// transaction; until then other writers of the document wait. (A Merge that finds its row
// in others' hands takes a second one, to wait for them in turn.) A write that
// fails leaves the transaction as it was before (it is done behind a
// savepoint), so that the host can go on; only a lost connection does not. What
// Update's decide writes in the same transaction is undone with the Update.
type Tx struct{ documents }

var _ MetadataStore = (*Tx)(nil)

// In is the store in a host's transaction: a pgx.Tx, a *sql.Tx of any driver, or one of a
// library on top of these, such as a *sqlx.Tx, a bun.Tx, an *ent.Tx that has ExecContext,
// or gorm's tx.Statement.ConnPool: what embeds a *sql.Tx, or has its methods ExecContext,
// QueryContext, Commit and Rollback and sends what they are given.
// Operations on anything else fail with [ErrInvalidOptions]. Where the store
// is a view, so is the Tx.
func (p *Postgres) In(tx any) *Tx {
	q, err := pgdb.TxOf(p.pg.db, tx)
	if errors.Is(err, pgdb.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	d := p.documents
	d.engine = &hosted{p.pg, q, err}
	return &Tx{d}
}

// hosted is the engine behind a [Tx].
type hosted struct {
	*postgres
	q   pgdb.Querier
	err error // why there is no q
}

var _ engine = (*hosted)(nil)

func (h *hosted) usable() error {
	if h.err == nil && h.queue.isClosed() {
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

func (h *hosted) write(ctx context.Context, id string, w *write) (Document, error) {
	if err := h.usable(); err != nil {
		return Document{}, err
	}
	key := h.options.key(id)
	under, err := carriedBy(ctx, key)
	if err != nil {
		return Document{}, err
	}
	ended, err := under.writing()
	if err != nil {
		return Document{}, err
	}
	l := &line{key: lineKey{id, under.identity()}, lock: key}
	c := newCall(w, h.options.Backoff)
	c.under = under
	for {
		err := h.attempt(ctx, l, c)
		if err == nil {
			return c.doc, nil // the write ends with the host's transaction
		}
		if err == errUsed { // or the hold is lost, as the next look tells
			continue
		}
		var last *unsettled
		if err = h.failure(err, false); !errors.Is(err, errTaken) || w.decide != nil && errors.As(err, &last) {
			ended()
			return c.result(l.final(c, err))
		}
		if c.attempts++; c.attempts == 1 {
			h.queue.waits.begin(c, one(key, c.since))
			defer h.queue.waits.end(c)
		}
		h.counts.waits.Add(1)
		if err := l.pause(ctx, c, err, &h.queue); err != nil {
			ended()
			return Document{}, err
		}
	}
}

// attempt is a write behind a savepoint. It gives up the row with it when the
// lock is taken: whoever holds that may be about to write the row.
func (h *hosted) attempt(ctx context.Context, l *line, c *call) (err error) {
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
	if h.isOneStatement(l, c) && c.token == nil {
		if done, err = h.mergeHere(ctx, l, c); done || err != nil {
			return err
		}
	}
	if _, _, err := h.carryOut(ctx, session{h.q, h.q.QueryRow, h.bounded, nil, nil, nil}, l, h.gateOf(l, c), []*call{c}); err != nil {
		return err
	}
	done = c.err == nil
	return c.err
}

// turnOf is the number of a lock by which hosts' transactions take turns at a row. It is
// told from keys and guards by bits that are as good as drawn (the first of the SHA-256 of
// "lockstore turn").
func turnOf(key lock.Key) int64 { return key.Guard() ^ 0x5aa1813cc5eb8a7f }

// mergeHere is a merge in one statement. What it has not done, and has not failed of, is
// for carryOut.
//
// Who has waited for the row asks for the lock a few times: a server that ends a
// transaction gives up its rows, and wakes who waits for them, before its advisory locks.
func (h *hosted) mergeHere(ctx context.Context, l *line, c *call) (done bool, err error) {
	s := h.sql.mergeHere
	args := s.args(l.key.id, string(c.patch.text), l.lock.Int64(), c.patch.Flat, c.patch.Sets, c.patch.room, turnOf(l.lock))
	ask := func() (free bool, waited time.Duration, err error) {
		ctx, cancel := h.bounded(ctx)
		defer cancel()
		var micros int64
		var set bool
		c.doc, err = h.read(ctx, h.q, s, args, l.key.id, &free, &micros, &set)
		return free, time.Duration(micros) * time.Microsecond, err
	}
	free, err := insist(ask)
	if err == nil && !free {
		err = errTaken
	}
	return err == nil && c.doc.Metadata != nil, err
}

// insist asks for a lock, and again in a quarter of the time that the first answer has waited.
func insist(ask func() (free bool, waited time.Duration, err error)) (free bool, err error) {
	free, waited, err := ask()
	if waited < time.Millisecond { // for nobody
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
