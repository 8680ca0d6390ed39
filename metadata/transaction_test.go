package metadata_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A merge in a transaction of the host's keeps others waiting for one statement, not two.
func TestMergeInTheHostsTransactionIsOneStatement(t *testing.T) {
	tr := new(tracer)
	pool := tr.open(t, pgtest.New(t).Pool().Config())
	store := must(metadata.NewPostgres(pool, nil))
	defer store.Close()
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := store.In(tx).Merge(t.Context(), "a", raw(`{"n":0}`)) // makes it
		return err
	}))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	sent := tr.count(";")
	doc, err := store.In(tx).Merge(t.Context(), "a", raw(`{"n":1}`))
	require.NoError(t, err)
	assert.Equal(t, metadata.Document{ID: "a", Metadata: raw(`{"n": 1}`), Version: 2, UpdatedAt: doc.UpdatedAt}, doc)
	assert.EqualValues(t, 3, sent.Load(), "SAVEPOINT, the merge, RELEASE")
	require.NoError(t, tx.Commit(t.Context()))
}

// What a write in a transaction of the host's allows a wait is no more once it is done,
// whatever became of it.
func TestTimeoutsOfTheHostsTransactionStay(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		d.exec(t, `INSERT INTO lockstore_metadata (id, metadata) SELECT id, '{"n":1}' FROM unnest('{a,b,refused,suppressed,taken}'::text[]) AS id;
			UPDATE lockstore_metadata SET metadata = jsonb_build_object('large', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 6000) AS i)) WHERE id = 'b';
			ALTER TABLE lockstore_metadata ADD CONSTRAINT refused CHECK (id <> 'refused' OR metadata = '{"n":1}');
			CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER suppress BEFORE UPDATE ON lockstore_metadata FOR EACH ROW WHEN (NEW.id = 'suppressed') EXECUTE FUNCTION suppress()`)
		held, err := newLocker(t, d.Pool()).Lock(ctx, store.Key("taken"))
		require.NoError(t, err)
		defer held.Unlock()
		for name, c := range map[string]struct {
			id, patch string
			want      error
		}{
			"stored":              {"a", `{"n":2}`, nil},
			"by the function":     {"a", `{"n":null,"m":{"a":{"b":1}}}`, nil},
			"no change":           {"a", `{"n":1}`, nil},
			"written otherwise":   {"a", `{"n":1.0}`, nil},
			"new":                 {"new", `{"n":1}`, nil},
			"of a large document": {"b", `{"n":{"m":1}}`, nil},
			"costly":              {"a", string(costlyPatch(1)), nil},
			"refused":             {"refused", `{"n":2}`, metadata.ErrRejected},
			"suppressed":          {"suppressed", `{"n":2}`, metadata.ErrRejected},
			"taken":               {"taken", `{"n":2}`, lock.ErrBusy},
		} {
			t.Run(name, func(t *testing.T) {
				tx, err := d.SQLX().BeginTxx(ctx, nil)
				require.NoError(t, err)
				defer tx.Rollback()
				_, err = tx.Exec("SET LOCAL lock_timeout = '7s'")
				require.NoError(t, err)
				wait, cancel := context.WithCancel(ctx)
				defer cancel()
				if c.want == lock.ErrBusy {
					waits := store.Stats().Waits
					go func() { waitForWaits(t, store, waits+2); cancel() }()
				}
				doc, err := store.In(tx).Merge(wait, c.id, raw("%s", c.patch))
				if c.want != nil {
					assert.ErrorIs(t, err, c.want)
				} else if assert.NoError(t, err) {
					got, err := store.In(tx).Get(ctx, c.id)
					assert.NoError(t, err)
					assert.Equal(t, doc, got)
				}
				var now string
				require.NoError(t, tx.QueryRow("SHOW lock_timeout").Scan(&now))
				assert.Equal(t, "7s", now)
			})
		}
	})
}

// Writers of one document in transactions of their own, beside others, wait for each
// other, and then merge into what is there then.
func TestTransactionsOfOneDocumentLoseNothing(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		const writers, each = 12, 12
		ctx, store, other := t.Context(), d.migrated(t, nil), d.store(t, nil)
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for n := range each {
					patch := raw(`{"writer %d":%d}`, w, n)
					var err error
					switch w % 4 {
					case 0:
						_, err = other.Merge(ctx, "a", patch)
					case 1:
						err = pgx.BeginFunc(ctx, d.Pool(), func(tx pgx.Tx) error {
							_, err := store.In(tx).Merge(ctx, "a", patch)
							return err
						})
					case 2:
						tx := must(d.SQLX().BeginTxx(ctx, nil))
						_, err = store.In(tx).Merge(ctx, "a", patch)
						assert.NoError(t, tx.Commit())
					case 3: // which has the row before it merges
						err = pgx.BeginFunc(ctx, d.Pool(), func(tx pgx.Tx) error {
							_, err := store.In(tx).Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"updates":%d}`, n), nil })
							if err == nil {
								_, err = store.In(tx).Merge(ctx, "a", raw(`{"updates":null,"writer %d":%d}`, w, n))
							}
							return err
						})
					}
					assert.NoError(t, err)
				}
			})
		}
		all.Wait()
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		var last map[string]int
		require.NoError(t, json.Unmarshal(doc.Metadata, &last))
		assert.Len(t, last, writers)
		assert.Equal(t, writers*each, strings.Count(string(doc.Metadata), ": 11")*each, string(doc.Metadata))
		assert.EqualValues(t, writers*each+writers/4*each, doc.Version)
	})
}

// A transaction that has the row already, by whatever it has done before, merges into it
// though others have come who wait for the row.
func TestTransactionThatHasTheRowDoesNotQueueForIt(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		for name, before := range map[string]func(tx pgx.Tx) error{
			"by hand": func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE lockstore_metadata SET metadata = '{"by":"hand"}' WHERE id = 'a'`)
				return err
			},
			"Update": func(tx pgx.Tx) error {
				_, err := store.In(tx).Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"by":"Update"}`), nil })
				return err
			},
			"Replace":  func(tx pgx.Tx) error { _, err := store.In(tx).Replace(ctx, "a", raw(`{"by":"Replace"}`)); return err },
			"Merge":    func(tx pgx.Tx) error { _, err := store.In(tx).Merge(ctx, "a", raw(`{"by":"Merge"}`)); return err },
			"the lock": func(tx pgx.Tx) error { return lock.InTx(ctx, tx, store.Key("a")) },
			"nothing":  func(pgx.Tx) error { return nil },
		} {
			_, err := store.Replace(ctx, "a", raw(`{"of":"%s"}`, name))
			require.NoError(t, err)
			tx, err := d.Pool().Begin(ctx)
			require.NoError(t, err)
			require.NoError(t, before(tx), name)
			var others sync.WaitGroup
			for n := range 2 {
				others.Go(func() {
					other := must(d.SQLX().BeginTxx(ctx, nil))
					_, err := store.In(other).Merge(ctx, "a", raw(`{"other %d":1}`, n))
					assert.NoError(t, err, name)
					assert.NoError(t, other.Commit())
				})
			}
			switch name {
			case "the lock":
				waitForWaits(t, store, store.Stats().Waits+2)
			case "nothing":
				others.Wait()
			default:
				waitFor(t, d, `SELECT count(*) >= 2 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
			}
			_, err = store.In(tx).Merge(ctx, "a", raw(`{"first":1}`))
			assert.NoError(t, err, name)
			assert.NoError(t, tx.Commit(ctx))
			others.Wait()
			doc, err := store.Get(ctx, "a")
			require.NoError(t, err)
			for _, key := range []string{`"first": 1`, `"other 0": 1`, `"other 1": 1`} {
				assert.Contains(t, string(doc.Metadata), key, name)
			}
		}
	})
}

// What a merge waits for, one after the other, is less than its statement may take: or else
// the host would lose its transaction.
func TestWaitsOfAMergeLeaveTheHostsTransaction(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		t.Parallel()
		const part = 1700 * time.Millisecond
		ctx, store := t.Context(), d.migrated(t, &metadata.Options{Timeout: 4 * time.Second})
		_, err := store.Merge(ctx, "a", raw(`{"n":0}`))
		require.NoError(t, err)
		var others sync.WaitGroup
		holds := func(lock string, args ...any) <-chan struct{} { // for a part, once it has it
			tx := must(d.Pool().Begin(ctx))
			has := make(chan struct{})
			others.Go(func() {
				_, err := tx.Exec(ctx, lock, args...)
				assert.NoError(t, err)
				close(has)
				time.Sleep(part)
				assert.NoError(t, tx.Commit(ctx))
			})
			return has
		}
		const byHand = `UPDATE lockstore_metadata SET updated_at = now() WHERE id = 'a'`
		<-holds(`WITH row_order AS MATERIALIZED (SELECT pg_advisory_xact_lock($1)) UPDATE lockstore_metadata SET updated_at = now() FROM row_order WHERE id = 'a'`, metadata.RowOrderLock(store.Key("a")))
		for n := range 2 {
			holds(byHand)
			waitFor(t, d, `SELECT count(*) > $1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`, n)
		}
		tx := must(d.SQLX().BeginTxx(ctx, nil))
		defer tx.Rollback()
		_, err = store.In(tx).Merge(ctx, "a", raw(`{"n":1}`))
		assert.NoError(t, err)
		_, err = tx.Exec("SELECT")
		assert.NoError(t, err)
		assert.NoError(t, tx.Commit())
		others.Wait()
	})
}

// A document that another transaction is making, or one whose lock is held on purpose, is
// not waited for in the server, which would say so in its log.
func TestWhatHasNoRowToWaitForIsPolled(t *testing.T) {
	t.Parallel() // it mostly waits
	d := overPgx(t)
	ctx, store := t.Context(), d.migrated(t, &metadata.Options{Timeout: 2 * time.Second})
	_, err := store.Merge(ctx, "held", raw(`{"n":0}`))
	require.NoError(t, err)
	held, err := newLocker(t, d.Pool()).Lock(ctx, store.Key("held"))
	require.NoError(t, err)
	log := serverLog(t, d)
	first := must(d.Pool().Begin(ctx))
	_, err = store.In(first).Merge(ctx, "new", raw(`{"by":"first"}`))
	require.NoError(t, err)
	for id, release := range map[string]func() error{"new": func() error { return first.Commit(ctx) }, "held": held.Unlock} {
		waits := store.Stats().Waits
		done := make(chan error, 1)
		go func() {
			done <- pgx.BeginFunc(ctx, d.Pool(), func(tx pgx.Tx) error {
				_, err := store.In(tx).Merge(ctx, id, raw(`{"second":true}`))
				return err
			})
		}()
		waitForWaits(t, store, waits+5)
		time.Sleep(time.Second) // more than a wait in the server may take
		assert.NoError(t, release(), id)
		assert.NoError(t, <-done, id)
	}
	assert.Empty(t, log())
}
