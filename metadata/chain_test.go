package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/settings"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// overlapping has patches lined up whose commits, of one each, are under way at once, or
// would be.
func overlapping(t *testing.T, d *database, commits int, patches func(i int) string) *chain {
	c := newChain(t, d, metadata.Options{}, 1)
	for i := range 2 * commits { // two make a commit
		c.calls = append(c.calls, lineUp(t.Context(), merging(c.store, patches(i))))
	}
	return c
}

// finish has them go on, and returns what is told to each.
func (c *chain) finish(t *testing.T) []error {
	c.unblock()
	c.wg.Wait()
	errs := make([]error, len(c.calls))
	for i, p := range c.calls {
		errs[i] = p.wait(t, fmt.Sprint("call ", i)).err
	}
	return errs
}

// keyPatch sets a member of its own.
func keyPatch(i int) string { return fmt.Sprintf(`{"k%d":1}`, i+1) }

// Commits of a hot document do not wait for the answers to those before.
func TestCommitsOfAHotDocumentOverlap(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		var underWay, most atomic.Int64
		tr.always(sending, func() { most.Store(max(most.Load(), underWay.Add(1))) })
		tr.always(answered, func() { underWay.Add(-1) })
		c := overlapping(t, d, 9, keyPatch)
		for i, err := range c.finish(t) {
			assert.NoError(t, err, "call %d", i)
		}
		doc := c.document()
		assert.Equal(t, int64(2+18), doc.Version)
		assert.Equal(t, 1+18, strings.Count(string(doc.Metadata), `"k`))
		assert.GreaterOrEqual(t, most.Load(), int64(3))
	})
}

// What the database rejects of a commit under way fails alone, and what was sent behind it
// is made nevertheless.
func TestRejectedAmongCommitsUnderWay(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.migrated(t, nil)
		d.exec(t, `ALTER TABLE lockstore_metadata ADD CONSTRAINT no_bad CHECK (NOT metadata ? 'bad')`)
		const bad = 9
		c := overlapping(t, d, 9, func(i int) string {
			if i == bad {
				return `{"bad":1}`
			}
			return keyPatch(i)
		})
		for i, err := range c.finish(t) {
			if i == bad {
				assert.ErrorIs(t, err, metadata.ErrRejected)
			} else {
				assert.NoError(t, err, "call %d", i)
			}
		}
		doc := c.document()
		assert.Equal(t, int64(2+17), doc.Version)
		assert.Equal(t, 1+17, strings.Count(string(doc.Metadata), `"k`))
	})
}

// A Delete and what follows it come after the commits under way.
func TestDeleteAmongCommitsUnderWay(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		c := overlapping(t, d, 4, keyPatch)
		c.calls = append(c.calls, lineUp(t.Context(), func(ctx context.Context) (metadata.Document, error) {
			return metadata.Document{}, c.store.Delete(ctx, "a")
		}))
		for i := range 4 {
			c.calls = append(c.calls, lineUp(t.Context(), merging(c.store, keyPatch(100+i))))
		}
		for i, err := range c.finish(t) {
			assert.NoError(t, err, "call %d", i)
		}
		doc := c.document()
		assert.Equal(t, int64(4), doc.Version)
		assert.Equal(t, `{"k101": 1, "k102": 1, "k103": 1, "k104": 1}`, string(doc.Metadata))
	})
}

// A conflict that a predicted base shows is told only if the document is as predicted.
func TestConflictAmongCommitsUnderWay(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		d.migrated(t, nil)
		d.exec(t, `ALTER TABLE lockstore_metadata ADD CONSTRAINT no_bad CHECK (NOT metadata ? 'bad')`)
		c := overlapping(t, d, 2, keyPatch) // up to version 6
		c.calls = append(c.calls,
			lineUp(t.Context(), merging(c.store, `{"bad":1}`)), // would be 7
			lineUp(t.Context(), merging(c.store, `{"bad":2}`)), // would be 8
			lineUp(t.Context(), merging(c.store.IfVersion(6), `{"if 6":1}`)),
			lineUp(t.Context(), merging(c.store.IfVersion(8), `{"if 8":1}`)))
		errs := c.finish(t)
		assert.NoError(t, errs[6], "it is of version 6")
		assert.ErrorIs(t, errs[7], metadata.ErrConflict)
	})
}

// Of commits under way when the connection is cut, those are unknown that may have been
// made; nothing is made twice, and nothing lost that was acknowledged.
func TestConnectionIsCutWithCommitsUnderWay(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		c := overlapping(t, d, 9, func(i int) string { return fmt.Sprintf(`{"k%d":1,"n":%d}`, i+1, i) })
		tr.once(sending, saving, func() {
			host, err := d.Pool().Begin(context.Background())
			require.NoError(t, err)
			t.Cleanup(func() { host.Rollback(context.Background()) })
			_, err = host.Exec(context.Background(), "SELECT FROM lockstore_metadata WHERE id = 'a' FOR UPDATE")
			require.NoError(t, err)
			cut := func() {
				d.exec(t, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
					WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle in transaction'`)
				assert.NoError(t, host.Rollback(context.Background()))
			}
			for range 3 {
				next := cut
				cut = func() { tr.once(sending, saving, next) }
			}
			cut()
		})
		unknown := 0
		errs := c.finish(t)
		doc := c.document()
		for i, err := range errs {
			switch {
			case err == nil:
				assert.Contains(t, string(doc.Metadata), fmt.Sprintf(`"k%d": 1`, i+1))
			case errors.Is(err, metadata.ErrUnknownOutcome):
				unknown++
			default:
				assert.ErrorIs(t, err, metadata.ErrUnavailable, "call %d", i)
				assert.NotContains(t, string(doc.Metadata), fmt.Sprintf(`"k%d": 1`, i+1))
			}
		}
		assert.GreaterOrEqual(t, unknown, 3*2)
		assert.Equal(t, int64(1+strings.Count(string(doc.Metadata), `"k`)), doc.Version, "each counts once")
	})
}

// A notice that comes with a commit may say that it was not waited for. One of the host's
// triggers says something else.
func TestCommitsUnderWayThatComeWithNotices(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.migrated(t, nil)
		d.exec(t, `CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hear'; RETURN NULL; END $$;
			CREATE CONSTRAINT TRIGGER say AFTER UPDATE ON lockstore_metadata DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION say()`)
		c := overlapping(t, d, 9, keyPatch)
		for i, err := range c.finish(t) {
			assert.NoError(t, err, "call %d", i)
		}
		assert.Equal(t, int64(2+18), c.document().Version)
	})
}

// Where hosts or their poolers do without prepared statements, commits do not overlap.
func TestHotDocumentInEveryQueryMode(t *testing.T) {
	for _, mode := range settings.QueryModes {
		t.Run(mode.String(), func(t *testing.T) {
			db := pgtest.New(t)
			config := db.Pool().Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			var prepared atomic.Int64
			config.ConnConfig.Tracer = preparing{&prepared}
			d := onPool(db, newPool(t, config))
			c := overlapping(t, d, 9, keyPatch)
			for i, err := range c.finish(t) {
				assert.NoError(t, err, "call %d", i)
			}
			assert.Equal(t, int64(2+18), c.document().Version)
			if mode != pgx.QueryExecModeCacheStatement {
				assert.Zero(t, prepared.Load())
			} else {
				assert.NotZero(t, prepared.Load())
			}
		})
	}
}

// preparing counts statements that are prepared by name.
type preparing struct{ n *atomic.Int64 }

func (preparing) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (preparing) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (p preparing) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	if data.Name == data.SQL {
		p.n.Add(1)
	}
	return ctx
}
func (preparing) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// A connection on which answers are under way is not left to others: here its user's hook
// panics.
func TestPanicWithCommitsUnderWay(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		c := overlapping(t, d, 9, keyPatch)
		tr.once(sending, saving, func() {
			tr.once(sending, saving, func() { tr.once(answered, saving, func() { panic("the host's tracer") }) })
		})
		c.unblock()
		c.wg.Wait()
		panics := 0
		for i, p := range c.calls {
			a := p.wait(t, fmt.Sprint("call ", i))
			switch {
			case a.panicked != nil:
				panics++
			case a.err != nil:
				assert.ErrorIs(t, a.err, metadata.ErrUnknownOutcome)
			}
		}
		assert.Equal(t, 1, panics)
		doc, err := c.store.Merge(t.Context(), "a", raw(`{"after":1}`))
		require.NoError(t, err)
		assert.Equal(t, int64(2+strings.Count(string(doc.Metadata), `"k`)), doc.Version)
		closeInTime(t, c.store)
	})
}
