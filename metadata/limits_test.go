package metadata_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// short is a Timeout that hosts' transactions outlast in these tests.
const short = 3 * time.Second / 2

// eachBlocked runs a test for one merge of the document a and for several that
// share a commit, as one statement and in a transaction. Each is named by the
// member that it sets.
func eachBlocked(t *testing.T, test func(t *testing.T, tr *tracer, b *blocked, members []string)) {
	for name, c := range map[string]struct {
		inGo    bool
		members []string
	}{
		"a lone merge":       {false, []string{"one"}},
		"a lone merge in Go": {true, []string{"one"}},
		"several merges":     {false, []string{"one", "two", "three"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
				t.Parallel()
				test(t, tr, newBlocked(t, d, &metadata.Options{Timeout: short, MergeInGo: c.inGo}), c.members)
			})
		})
	}
}

func (b *blocked) begin(ctx context.Context, member string) pending {
	return begin(func() (metadata.Document, error) { return merging(b.store, `{"`+member+`":1}`)(ctx) })
}

// A row that a host's transaction keeps for longer than Timeout is waited for as
// long as the caller's context lives. That costs no connection.
func TestRowIsWaitedForBeyondTheTimeout(t *testing.T) {
	t.Parallel() // it mostly waits
	eachBlocked(t, func(t *testing.T, tr *tracer, b *blocked, members []string) {
		connects, calls := tr.connects.Load(), map[string]pending{}
		for _, m := range members {
			calls[m] = b.begin(t.Context(), m)
		}
		time.Sleep(2 * short) // the time that is tested
		for m, p := range calls {
			a, ended := p.within(0)
			require.False(t, ended, "%s: %v", m, a.err)
		}
		b.unblock()
		for m, p := range calls {
			a := p.wait(t, m)
			if assert.NoError(t, a.err, m) {
				assert.Contains(t, string(a.doc.Metadata), `"`+m+`": 1`)
			}
		}
		assert.Equal(t, int64(1+len(members)), b.document().Version)
		assert.LessOrEqual(t, tr.connects.Load()-connects, int64(2), "connections are not thrown away")
	})
}

// A caller whose context ends while a host's transaction keeps the row is told that
// the document is busy, and nothing is made.
func TestRowThatStaysLockedIsBusy(t *testing.T) {
	t.Parallel() // it mostly waits
	eachBlocked(t, func(t *testing.T, tr *tracer, b *blocked, members []string) {
		connects, calls := tr.connects.Load(), map[string]pending{}
		ctx, cancel := context.WithTimeout(t.Context(), 2*short)
		defer cancel()
		for _, m := range members {
			calls[m] = b.begin(ctx, m)
		}
		for m, p := range calls {
			a := p.wait(t, m)
			assert.ErrorIs(t, a.err, context.DeadlineExceeded, m)
			assert.ErrorIs(t, a.err, lock.ErrBusy, m)
			assert.NotErrorIs(t, a.err, metadata.ErrUnknownOutcome, m)
		}
		ended, _ := ctx.Deadline()
		assert.Less(t, time.Since(ended), 3*short, "about Timeout later at most")
		b.unblock()
		assert.Equal(t, int64(1), b.document().Version)
		assert.LessOrEqual(t, tr.connects.Load()-connects, int64(2), "connections are not thrown away")
		_, err := b.store.Merge(t.Context(), "a", raw(`{"next":1}`))
		assert.NoError(t, err)
	})
}

// The same within a transaction of the host's, which lives on.
func TestRowIsWaitedForInTheHostsTransaction(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, unblocked := range map[string]bool{"until it is free": true, "until the context ends": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDriver(t, func(t *testing.T, d *database) {
				t.Parallel()
				b := newBlocked(t, d, &metadata.Options{Timeout: short})
				_, err := b.store.Merge(t.Context(), "b", raw(`{}`))
				require.NoError(t, err)
				tx, commit := d.hostTx(t)
				in := b.store.In(tx)
				_, err = in.Merge(t.Context(), "b", raw(`{"before":1}`))
				require.NoError(t, err)

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				write := begin(func() (metadata.Document, error) { return merging(in, `{"in tx":1}`)(ctx) })
				time.Sleep(2 * short) // the time that is tested
				a, ended := write.within(0)
				require.False(t, ended, "%v", a.err)
				if unblocked {
					b.unblock()
					require.NoError(t, write.wait(t, "the write").err)
				} else {
					cancel()
					err := write.wait(t, "the write").err
					assert.ErrorIs(t, err, context.Canceled)
					assert.ErrorIs(t, err, lock.ErrBusy)
					assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
				}
				_, err = in.Merge(t.Context(), "b", raw(`{"after":1}`))
				require.NoError(t, err, "the transaction lives")
				require.NoError(t, commit())
				if !unblocked {
					b.unblock()
				}
				doc, err := b.store.Get(t.Context(), "b")
				require.NoError(t, err)
				assert.Equal(t, `{"after": 1, "before": 1}`, string(doc.Metadata))
				_, made := d.members(t)["in tx"]
				assert.Equal(t, unblocked, made)
			})
		})
	}
}

// A commit that takes longer than Timeout by itself, and waits for nobody, may have been
// made when it is given up.
func TestStatementThatTakesTooLong(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		store, hasty := d.migrated(t, nil), d.store(t, &metadata.Options{Timeout: 500 * time.Millisecond})
		_, err := store.Merge(t.Context(), "a", raw(`{"zero":0}`))
		require.NoError(t, err)
		d.exec(t, `CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.metadata ? 'slow' THEN PERFORM pg_sleep(10); END IF; RETURN NEW; END $$;
			CREATE CONSTRAINT TRIGGER linger AFTER UPDATE ON lockstore_metadata DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()`)
		for name, slow := range map[string]*metadata.Postgres{"one statement": hasty, "a transaction": hasty.IfVersion(1)} {
			_, err = slow.Merge(t.Context(), "a", raw(`{"slow":1}`))
			assert.ErrorIs(t, err, metadata.ErrUnknownOutcome, name)
			waitFor(t, d, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')`)
		}
		doc, err := store.Merge(t.Context(), "a", raw(`{"next":1}`))
		require.NoError(t, err)
		assert.Equal(t, `{"next": 1, "zero": 0}`, string(doc.Metadata))
	})
}

// However deep a host lets a patch be, it does not exhaust the stack.
func TestDepthIsBoundedWhateverIsAskedFor(t *testing.T) {
	memory := must(metadata.NewMemory(nil, &metadata.Options{MaxDepth: math.MaxInt, MaxPatchBytes: math.MaxInt}))
	_, err := memory.Merge(t.Context(), "a", json.RawMessage(`{"a":`+strings.Repeat("[", 4_000_000)))
	assert.ErrorIs(t, err, metadata.ErrInvalidPatch)
}
