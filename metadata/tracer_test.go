package metadata_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// tracer is a host's tracer. It runs a test's code at moments that only the
// driver knows.
type tracer struct {
	mu    sync.Mutex
	hooks []hook
	each  [releasing + 1]func() // set before it is used

	connects atomic.Int64 // connections that were begun
}

type hook struct {
	at   moment
	text string // of the statement, which ends with a semicolon
	do   func()
}

type moment int

const (
	sending   moment = iota // a statement, or a batch that has it, is about to be sent
	answered                // it has been answered, and was not refused
	releasing               // a connection goes back to the pool
)

// always has the tracer call do whenever something comes to the moment.
func (tr *tracer) always(at moment, do func()) {
	tr.each[at] = do
}

// once has the tracer call do when next a statement that contains the text comes
// to the moment.
func (tr *tracer) once(at moment, text string, do func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.hooks = append(tr.hooks, hook{at, text, do})
}

// count counts the statements, and batches, that contain the text from now on.
func (tr *tracer) count(text string) *atomic.Int64 {
	var n atomic.Int64
	var again func()
	again = func() {
		n.Add(1)
		tr.once(sending, text, again)
	}
	tr.once(sending, text, again)
	return &n
}

func (tr *tracer) reached(at moment, sql string) {
	tr.mu.Lock()
	var due func()
	for i, h := range tr.hooks {
		if h.at == at && strings.Contains(sql, h.text) {
			due, tr.hooks = h.do, append(tr.hooks[:i:i], tr.hooks[i+1:]...)
			break
		}
	}
	tr.mu.Unlock()
	if each := tr.each[at]; each != nil {
		each()
	}
	if due != nil {
		due()
	}
}

// tracedSQL is the context key of what a statement's end is not told: its text.
type tracedSQL struct{}

func (tr *tracer) start(ctx context.Context, sql string) context.Context {
	tr.reached(sending, sql)
	return context.WithValue(ctx, tracedSQL{}, sql)
}

func (tr *tracer) end(ctx context.Context, err error) {
	if sql, ok := ctx.Value(tracedSQL{}).(string); ok && err == nil {
		tr.reached(answered, sql)
	}
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return tr.start(ctx, data.SQL+";")
}

func (tr *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	tr.end(ctx, data.Err)
}

func (tr *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	var all strings.Builder
	for _, q := range data.Batch.QueuedQueries {
		all.WriteString(q.SQL + ";\n")
	}
	return tr.start(ctx, all.String())
}

func (tr *tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (tr *tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	tr.end(ctx, data.Err)
}

func (tr *tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	tr.connects.Add(1)
	return ctx
}

func (tr *tracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) {}

func (tr *tracer) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { tr.reached(releasing, "") }

// open opens a pool of that configuration, in which it traces. A connection that
// is not given back to the pool fails the test.
func (tr *tracer) open(t testing.TB, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	config.ConnConfig.Tracer = tr
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { inTime(t, pool.Close, "a connection is in use still") })
	return pool
}

// eachTraced is [eachDriver] with a tracer in the store's pool; that of the
// database itself has none.
func eachTraced(t *testing.T, test func(t *testing.T, d *database, tr *tracer)) {
	for _, driver := range []string{"pgx", "sqlx"} {
		t.Run(driver, func(t *testing.T) {
			db, tr := pgtest.New(t), new(tracer)
			pool := tr.open(t, db.Pool().Config())
			test(t, &database{db, func(o *metadata.Options) (*metadata.Postgres, error) { return openOn(pool, driver, o) }}, tr)
		})
	}
}

// openOn makes a store on a pool, over one driver or the other.
func openOn(pool *pgxpool.Pool, driver string, o *metadata.Options) (*metadata.Postgres, error) {
	if driver == "pgx" {
		return metadata.NewPostgres(pool, o)
	}
	return metadata.NewPostgres(stdlib.OpenDBFromPool(pool), o)
}
