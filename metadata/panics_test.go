package metadata_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// panicking is an observer that panics when it is told of a commit, once.
type panicking struct{ armed atomic.Bool }

func (*panicking) CommitStart(ctx context.Context, _ metadata.CommitStart) context.Context {
	return ctx
}

func (o *panicking) CommitEnd(_ context.Context, e metadata.CommitEnd) {
	if e.Err == nil && o.armed.CompareAndSwap(true, false) {
		panic("the host's observer")
	}
}

// logged has a trigger write down each change of a document, so that a patch that is
// applied twice is seen twice.
const logged = `CREATE TABLE changes (id text, last text);
	CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO changes VALUES (NEW.id, NEW.metadata->>'last'); RETURN NEW; END $$;
	CREATE TRIGGER log_change AFTER UPDATE ON `

// toldOfPanic checks what calls were told that shared a commit which was made, and after
// which the host's code panicked: one of them by that panic, and none of them what is
// untrue.
func toldOfPanic(t *testing.T, calls map[string]pending) {
	t.Helper()
	panics := 0
	for last, p := range calls {
		switch a := p.wait(t, last); {
		case a.panicked != nil:
			panics++
			assert.Contains(t, a.panicked, "the host's", "%s", last)
		case a.err == nil:
			assert.Contains(t, string(a.doc.Metadata), `"last": "`+last+`"`)
		default:
			assert.ErrorIs(t, a.err, metadata.ErrUnknownOutcome, "%s", last)
		}
	}
	assert.Equal(t, 1, panics)
}

// The host's code panics after the server has confirmed a commit that several
// writes of one document share. That goes on in the call that ran it. The others
// are not told what is untrue, and nothing is made again.
func TestPanicAfterASharedCommit(t *testing.T) {
	for name, panics := range map[string]func(*panicking){
		"of the tracer":   func(*panicking) { panic("the host's tracer") },
		"of the observer": func(o *panicking) { o.armed.Store(true) },
	} {
		test := func(t *testing.T, committing string) {
			eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
				o := new(panicking)
				b := newBlocked(t, d, &metadata.Options{Observers: []metadata.Observer{o}})
				if committing == saving {
					share(t, b.store)
				}
				reported := make(chan struct{})
				first := begin(func() (metadata.Document, error) {
					defer close(reported)
					return merging(b.store, `{"last":"first"}`)(t.Context())
				})
				waitForRow(t, d)
				calls := map[string]pending{}
				for _, last := range []string{"leader", "second", "third", "fourth"} {
					calls[last] = lineUp(t.Context(), merging(b.store, `{"last":"`+last+`"}`))
				}
				tr.once(answered, committing, func() {
					<-reported // else the observer could panic when it is told of the first commit
					panics(o)
				})
				b.unblock()
				require.NoError(t, first.wait(t, "the first").err)
				toldOfPanic(t, calls)
				after, err := b.store.Merge(t.Context(), "a", raw(`{"last":"after"}`))
				require.NoError(t, err, "the store works")
				assert.Equal(t, int64(1+1+4+1), after.Version, "each change counts once")
				closeInTime(t, b.store)
			})
		}
		t.Run(name, func(t *testing.T) { test(t, saving) })
		t.Run(name+", in a transaction", func(t *testing.T) { test(t, "commit;") })
	}
}

// The same where writes of different documents share a connection and a commit.
func TestPanicAfterACommitOfSeveralDocuments(t *testing.T) {
	for name, arm := range map[string]func(*tracer, *panicking){
		"of the tracer":   func(tr *tracer, _ *panicking) { tr.once(answered, "UPDATE", func() { panic("the host's tracer") }) },
		"of the observer": func(tr *tracer, o *panicking) { o.armed.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, driver := range []string{"pgx", "sqlx"} {
				d, tr, o := pgtest.New(t), new(tracer), new(panicking)
				config := d.Pool().Config()
				config.MaxConns = 1
				pool := tr.open(t, config)
				store, err := openOn(pool, driver, &metadata.Options{Observers: []metadata.Observer{o}})
				require.NoError(t, err)
				require.NoError(t, store.Migrate(t.Context()))
				ids := []string{"a", "b", "c", "d"}
				for _, id := range ids {
					_, err := store.Merge(t.Context(), id, raw(`{}`))
					require.NoError(t, err)
				}
				(&database{DB: d}).exec(t, logged+"lockstore_metadata FOR EACH ROW EXECUTE FUNCTION log_change()")
				conn, err := pool.Acquire(t.Context())
				require.NoError(t, err)
				calls := map[string]pending{}
				for _, id := range ids {
					calls[id] = lineUp(t.Context(), func(ctx context.Context) (metadata.Document, error) {
						return store.Merge(ctx, id, raw(`{"last":%q}`, id))
					})
				}
				arm(tr, o)
				conn.Release()
				toldOfPanic(t, calls)
				var changes, documents int
				require.NoError(t, d.Pool().QueryRow(t.Context(), "SELECT count(*), count(DISTINCT id) FROM changes").Scan(&changes, &documents))
				assert.Equal(t, len(ids), changes)
				assert.Equal(t, len(ids), documents)
				_, err = store.Merge(t.Context(), "a", raw(`{"last":"after"}`))
				require.NoError(t, err, "the store works")
				closeInTime(t, store)
			}
		})
	}
}
