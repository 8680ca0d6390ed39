package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

// DB is a host's connection pool, of pgx or of database/sql (sqlx) with any driver for
// PostgreSQL. See Drivers in the package documentation for what differs.
type DB interface {
	*pgxpool.Pool | *sql.DB | *sqlx.DB
}

// Postgres is a [MetadataStore] in a table of a PostgreSQL database.
//
// Its methods are safe for concurrent use. Its views, such as that of [Postgres.Privileged],
// are cheap and share everything with it.
type Postgres struct {
	documents
	pg *postgres
}

var _ MetadataStore = (*Postgres)(nil)

// NewPostgres returns a store on a host's pool. nil options mean the defaults. It sends
// nothing to the server: what is missing there is reported by the first operation
// ([ErrSchema]). The error matches [ErrInvalidOptions].
func NewPostgres[P DB](db P, opts *Options) (*Postgres, error) {
	opened, err := pgdb.Open(db)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	p, err := newPostgres(pgdb.UTF8(opened), opts)
	if err == nil {
		p.pg.queues.waits.db = p.pg.db
	}
	if err == nil && !p.options.NoHints {
		connect := p.options.Connect
		if connect == nil {
			connect = pgdb.Connector(db)
		}
		p.pg.hints = newHints(p.pg, connect)
		p.pg.watching.setWatched = p.pg.hints.setWatched
	}
	return p, err
}

func newPostgres(db pgdb.DB, opts *Options) (*Postgres, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	pg := &postgres{db: db, options: &o, sql: newStatements(&o), counts: new(counts)}
	pg.defaultTable = opts == nil || opts.Table.Name == ""
	pg.queues.byKey, pg.queues.connQueues = map[queueKey]*waitQueue{}, map[string]*connQueue{}
	pg.reads.of, pg.reads.most = map[readKey]*busyReads{}, mostReads
	pg.fits.Store(pg.defaultTable)
	pg.queues.closing = make(chan struct{})
	pg.reads.closing = pg.queues.closing
	pg.watching = newWatching(&tables{postgres: pg}, &o, pg.queues.closing, pg.audience)
	return &Postgres{documents{engine: pg, options: &o, counts: pg.counts}, pg}, nil
}

// Privileged returns a view of the store that may change the keys of [Options].Protect.
func (p *Postgres) Privileged() *Postgres {
	view := *p
	view.privileged = true
	return &view
}

// IfVersion returns a view of the store whose writes fail with [ErrConflict], and change
// nothing, unless the document has this version when they get to it (compare-and-swap).
// Version 0 is that of a document about to be created. The error is a [*VersionError]. Without a
// [Table].Version, writes fail with [ErrUnsupported].
//
// With the error, writes also return the document, to decide on again; it has no Metadata if
// there is no document. If this process has written the document, this can be its state of up to
// 10 ms ago, without what other processes have written since.
func (p *Postgres) IfVersion(version int64) *Postgres {
	view := *p
	view.version = &version
	return &view
}

// Close closes the store: later calls fail with [ErrClosed], and so do calls that wait for a
// document's lock. It blocks until no statement of a write is on its way. It leaves the pool
// open. Closing again does nothing.
func (p *Postgres) Close() {
	p.pg.queues.close()
	p.pg.hints.close()
}

// postgres is the engine behind a [Postgres] and its views.
type postgres struct {
	db      pgdb.DB
	options *Options
	sql     statements
	queues  queues
	reads   reads
	counts  *counts

	watching *watching
	hints    *hints // nil: there are none

	defaultTable bool        // which Migrate creates
	fits         atomic.Bool // the table was found fit
}

// statements are the SQL of one table.
type statements struct {
	get, getMany             reading
	merge, saveOn            storing
	used                     statement // tokens
	mergeOnce                statement // merge.once, without removing old tokens
	mergeHere                statement // in the host's transaction
	find, findAll            pages     // findAll finds rows without a document, too
	mergeMany, mergeManyFree statement // of small documents
	mergeFree, mergeBusy     statement
	createMany               statement
	taking, under, underAll  preconditionSQL
	watch                    []watchStatements
}

func newStatements(o *Options) statements {
	expand := func(text string) statement {
		return o.Table.expand(strings.NewReplacer("{patience}", o.patience(2), "{keep}", milliseconds(o.KeepTokens)).Replace(text))
	}
	lone := func(text string) string {
		return merging(text, mostOfOne, "t.{column}", "{1}::{text}::{jsonb}", "{3}::boolean", "{4}::boolean", "{5}::bigint")
	}
	free := func(most, busy string) statement {
		return expand(merging(strings.ReplaceAll(mergeFreeSQL, "{busy}", busy), most, "metadata", "patch", "flat", "", "room"))
	}
	one := func(text string) storing { return newStoring(expand, lone(text), 6, "_stored", "_stored.version") }
	return statements{
		get:       newReading(expand, getSQL, 1),
		getMany:   newReading(expand, getManySQL, 1),
		find:      newPages(expand, "t.{column}"),
		findAll:   newPages(expand, "coalesce(t.{column}, '{}')"),
		merge:     storing{one(mergeSQL).plain, one(mergeOnceSQL).once},
		mergeOnce: one(strings.Replace(mergeOnceSQL, "{aged}", "", 1)).once,
		mergeHere: expand(strings.ReplaceAll(lone(mergeHereSQL), "{patience}", o.patience(4))),
		mergeMany: expand(merging(mergeManySQL, mostOfMany, "t.{column}", "p.patch", "p.flat", "p.sets", "p.room")),

		mergeManyFree: free(mostOfMany, ""),
		mergeFree:     free(mostOfFew, ""),
		mergeBusy:     free(mostOfFew, busySQL),

		createMany: expand(createManySQL),
		taking:     newPreconditionSQL(expand, tryLockSQL, "true", 0),
		under:      newPreconditionSQL(expand, tryLockSQL, stillHeldSQL, 4),
		underAll:   newPreconditionSQL(expand, tryLockUnderSQL, allHeldSQL, 1),
		saveOn:     newStoring(expand, saveOnSQL, 6, "_stored", "_stored.version"),
		used:       expand(usedSQL),

		watch: newWatchStatements(expand),
	}
}

const getSQL = `SELECT {key}, {row} FROM {table} AS t WHERE {match}`

func (p *postgres) get(ctx context.Context, id string) (Document, error) {
	read := func() (Document, error) {
		if p.queues.isClosed() { // since the call began
			return Document{}, ErrClosed
		}
		return p.getFrom(ctx, p.db, id)
	}
	key := readKey{id: id}
	switch {
	case p.options.MaxBatch == 1 || len(lock.AllFromContext(ctx)) > 0:
		return read()
	case p.options.Principal != nil:
		key.principal = p.options.Principal(ctx)
	case p.db.PreparesForCaller():
		return read()
	}
	return p.reads.get(ctx, key, read)
}

// getFrom is get on q.
func (p *postgres) getFrom(ctx context.Context, q pgdb.Querier, id string) (doc Document, err error) {
	if err := p.fit(ctx, q); err != nil {
		return Document{}, err
	}
	under, err := serverHoldsOf(ctx, func(k lock.Key) bool { return p.options.key(id).Int64() == k.Int64() })
	if err != nil {
		return Document{}, err
	}
	err = p.readAll(ctx, q, p.sql.get, under, func(found Document) { doc = found }, id)
	if err == nil && doc.Metadata == nil {
		err = ErrNotFound
	}
	return doc, err
}

// read sends a query that returns {row}, and more columns behind it.
func (p *postgres) read(ctx context.Context, on pgdb.Querier, q query, id string, more ...any) (Document, error) {
	doc := Document{ID: id}
	var updated nullTime
	err := on.QueryRow(ctx, append([]any{(*[]byte)(&doc.Metadata), &doc.Version, &updated.at}, more...), q.text, q.args...)
	if errors.Is(err, pgdb.ErrNoRows) {
		return Document{}, ErrNotFound
	}
	doc.UpdatedAt = updated.time()
	return doc, err
}

// failure turns an error of the database into one of this package. sent says that the statement
// may have committed.
func (p *postgres) failure(err error, sent bool) error {
	var e *pgdb.Error
	switch code := pgdb.Code(err); {
	case err == nil:
		return nil
	case isOurs(err):
		return err
	case pgdb.IsStandby(err):
		return fmt.Errorf("%w: %w", ErrStandby, err)
	case errors.Is(err, pgdb.ErrElsewhere):
		return fmt.Errorf("%w: %w", ErrUnknownHold, err)
	case code == pgdb.ReadOnly:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case sent && pgdb.Uncertain(err):
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	case errors.Is(err, pgdb.ErrSession):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case pgdb.Unavailable(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case code == "", !errors.As(err, &e):
		return err
	case code == pgdb.LockNotAvailable:
		return fmt.Errorf("%w: %w", errTaken, err)
	case isOfSchema(e):
		return fmt.Errorf("%w: %w; run Migrate, or look at Options.Table", ErrSchema, err)
	case isOfData(e):
		return &RejectedError{SQLState: e.Code, Schema: e.Schema, Table: e.Table, Constraint: e.Constraint, Cause: err}
	}
	return fmt.Errorf("metadata: %w", err)
}

// isOfSchema reports whether the server has refused what a statement of the store says: it
// names what there is not, or writes to what cannot be written, such as an expression of a view.
func isOfSchema(e *pgdb.Error) bool {
	switch e.Code {
	case "42P01", "42703", "42883", "42804", "42846", "3F000":
		return e.Positioned
	case "0A000", "55000":
		return !e.Inside
	}
	return false
}

// isOfData reports whether the server has refused what a write stores, or the write itself.
// That can be with any code, from within a trigger, or with one for errors in SQL, where the
// data is SQL to an expression of the table.
func isOfData(e *pgdb.Error) bool {
	switch pgdb.Class(e) {
	case "08", "25", "28", "3D", "3F", "40", "53", "57", "58":
		return false
	case "42":
		return e.Code == "42501" || !e.Positioned
	case "55", "XX":
		return e.Inside
	}
	return true
}

// isOurs reports whether an error of a statement is one of this package already.
func isOurs(err error) bool {
	for _, ours := range []error{errTaken, ErrNotFound, ErrConflict, ErrRejected, ErrSchema, ErrUnknownOutcome, ErrUnavailable, ErrWrongServer, lock.ErrBusy, lock.ErrLost} {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}
