package metadata_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/standbys"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A commit waits for a standby, and there is none, until the wait is cancelled. The server
// then says that the commit was made, and warns that a standby may not have it.
func TestCancelledWaitForAStandbyIsAnUnknownOutcome(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t, pgtest.Dedicated())
	for driver, open := range map[string]func(*metadata.Options) (*metadata.Postgres, error){
		"pgx":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.Pool(), o) },
		"sqlx": func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.SQLX(), o) },
	} {
		d := &database{db, open}
		one := func(ctx context.Context, s *metadata.Postgres) error {
			_, err := s.Merge(ctx, "a", raw(`{"n":2}`))
			return err
		}
		for name, c := range map[string]struct {
			opts  metadata.Options
			write func(context.Context, *metadata.Postgres) error
		}{
			"alone": {write: one},
			"in Go": {metadata.Options{MergeInGo: true}, one},
			"several documents": {write: func(ctx context.Context, s *metadata.Postgres) error {
				results, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":3}`)}, {ID: "b", Patch: raw(`{"n":3}`)}})
				for _, r := range results {
					assert.ErrorIs(t, r.Err, metadata.ErrUnknownOutcome)
				}
				return err
			}},
			"deleted": {write: func(ctx context.Context, s *metadata.Postgres) error { return s.Delete(ctx, "a") }},
		} {
			t.Run(driver+" "+name, func(t *testing.T) {
				store := d.migrated(t, &c.opts)
				for _, id := range []string{"a", "b"} {
					_, err := store.Merge(t.Context(), id, raw(`{"n":1}`))
					require.NoError(t, err)
				}
				standbys.Require(t, d.Pool(), "absent")
				defer standbys.Require(t, d.Pool(), "")
				failed := make(chan error, 1)
				go func() { failed <- c.write(t.Context(), store) }()
				waitFor(t, d, `SELECT count(pg_cancel_backend(pid)) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
				assert.ErrorIs(t, <-failed, metadata.ErrUnknownOutcome)
			})
		}
	}
}

// A commit with a notice of another kind is as good as any.
func TestNoticesAtACommitAreNoUnknownOutcome(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		d.exec(t, `CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'the host''s'; RETURN NULL; END $$;
			CREATE CONSTRAINT TRIGGER warn AFTER INSERT OR UPDATE ON lockstore_metadata DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn()`)
		_, err := store.Merge(t.Context(), "a", raw(`{"n":1}`))
		require.NoError(t, err)
		_, err = store.MergeMany(t.Context(), []metadata.Patch{{ID: "a", Patch: raw(`{"n":2}`)}})
		require.NoError(t, err)
	})
}
