// Package drivers holds metadata against drivers of database/sql that the library itself
// does not know.
package drivers

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
	"github.com/ngrok/sqlmw"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/storetest"
	"example.com/lockstore/pgtest"
)

func init() {
	sql.Register("sqlmw over pgx", sqlmw.Driver(stdlib.GetDefaultDriver(), sqlmw.NullInterceptor{}))
	sql.Register("sqlmw over lib/pq", sqlmw.Driver(pq.Driver{}, sqlmw.NullInterceptor{}))
}

// drivers open a database.
var drivers = map[string]func(url string) (*sql.DB, error){
	"lib/pq":            func(url string) (*sql.DB, error) { return sql.Open("postgres", url) },
	"lib/pq, binary":    func(url string) (*sql.DB, error) { return sql.Open("postgres", with(url, "binary_parameters=yes")) },
	"otelsql over pgx":  func(url string) (*sql.DB, error) { return otelsql.Open("pgx", url) },
	"otelsql on lib/pq": func(url string) (*sql.DB, error) { return otelsql.Open("postgres", url) },
	"sqlmw over pgx":    func(url string) (*sql.DB, error) { return sql.Open("sqlmw over pgx", url) },
	"sqlmw over lib/pq": func(url string) (*sql.DB, error) { return sql.Open("sqlmw over lib/pq", url) },
	"bun's pgdriver":    pgdriverDB,
}

func pgdriverDB(url string) (*sql.DB, error) {
	c, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	network, address := pgconn.NetworkAddress(c.Host, c.Port)
	return sql.OpenDB(pgdriver.NewConnector(pgdriver.WithNetwork(network), pgdriver.WithAddr(address),
		pgdriver.WithUser(c.User), pgdriver.WithPassword(c.Password), pgdriver.WithDatabase(c.Database), pgdriver.WithInsecure(true))), nil
}

func with(url, setting string) string {
	if strings.Contains(url, "?") {
		return url + "&" + setting
	}
	return url + "?" + setting
}

// eachDriver runs a test with a host's database, and a store in it, over each driver.
func eachDriver(t *testing.T, opts *metadata.Options, test func(t *testing.T, db *pgtest.DB, host *sql.DB, store *metadata.Postgres)) {
	for name, open := range drivers {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			host, err := open(db.URL())
			require.NoError(t, err)
			t.Cleanup(func() { host.Close() })
			host.SetMaxOpenConns(8)
			store, err := metadata.NewPostgres(host, opts)
			require.NoError(t, err)
			t.Cleanup(store.Close)
			require.NoError(t, store.Migrate(t.Context()))
			test(t, db, host, store)
		})
	}
}

func TestStoreConforms(t *testing.T) {
	for kind, inGo := range map[string]bool{"function": false, "merge in Go": true} {
		t.Run(kind, func(t *testing.T) {
			eachDriver(t, &metadata.Options{MergeInGo: inGo, MaxDocumentBytes: 1 << 20, Table: metadata.Table{Tokens: metadata.DefaultTokens}}, func(t *testing.T, _ *pgtest.DB, _ *sql.DB, store *metadata.Postgres) {
				storetest.Run(t, func(testing.TB) metadata.MetadataStore { return store })
			})
		})
	}
}

// A refusal is reported as over pgx: with the name of what was violated, and without the data.
func TestRefusalsAreTold(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, db *pgtest.DB, host *sql.DB, store *metadata.Postgres) {
		ctx := t.Context()
		_, err := db.Pool().Exec(ctx, "ALTER TABLE lockstore_metadata ADD CONSTRAINT small CHECK (length(metadata::text) < 64)")
		require.NoError(t, err)
		large := json.RawMessage(fmt.Sprintf(`{"secret":%q}`, strings.Repeat("canary", 12)))
		refused := func(err error) {
			t.Helper()
			var rejected *metadata.RejectedError
			require.ErrorAs(t, err, &rejected)
			assert.Equal(t, "23514", rejected.SQLState)
			assert.Equal(t, "small", rejected.Constraint)
			assert.Equal(t, "lockstore_metadata", rejected.Table)
			assert.NotContains(t, fmt.Sprintf("%+v", err), "canary")
			assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
		}
		_, err = store.Merge(ctx, "a", large)
		refused(err)
		results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: large}, {ID: "b", Patch: json.RawMessage(`{"n":1}`)}})
		require.Error(t, err)
		refused(results[0].Err)
		require.NoError(t, results[1].Err)

		tx, err := host.BeginTx(ctx, nil)
		require.NoError(t, err)
		defer tx.Rollback()
		_, err = store.In(tx).Merge(ctx, "a", large)
		refused(err)
		_, err = store.In(tx).Merge(ctx, "a", json.RawMessage(`{"n":1}`))
		require.NoError(t, err, "the transaction goes on")
		require.NoError(t, tx.Commit())
		_, err = store.Get(ctx, "a")
		require.NoError(t, err)
	})
}

// Values are stored and returned unchanged, in one document and in many at once.
func TestValuesAreExact(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, _ *pgtest.DB, _ *sql.DB, store *metadata.Postgres) {
		ctx := t.Context()
		var patches []metadata.Patch
		for _, text := range []string{`ü`, `"`, `\`, `'`, `{}`, `,`, `$1`, `?`, `NULL`, ` a `, "\t", "\U0001f600", `\x41`, `''; --`} {
			value, err := json.Marshal(map[string]string{text: text})
			require.NoError(t, err)
			patches = append(patches, metadata.Patch{ID: "id " + text, Patch: value})
		}
		_, err := store.MergeMany(ctx, patches)
		require.NoError(t, err)
		var ids []string
		for _, p := range patches {
			ids = append(ids, p.ID)
			doc, err := store.Merge(ctx, p.ID, json.RawMessage(`{"more":1}`))
			require.NoError(t, err)
			assert.Equal(t, int64(2), doc.Version)
			assert.False(t, doc.UpdatedAt.IsZero())
		}
		many, err := store.GetMany(ctx, ids...)
		require.NoError(t, err)
		found := 0
		for doc, err := range store.Find(ctx, json.RawMessage(`{"more":1}`), nil) {
			require.NoError(t, err)
			assert.Equal(t, doc, many[doc.ID])
			found++
		}
		assert.Equal(t, len(patches), found)
		for _, p := range patches {
			want := p.Patch[:len(p.Patch)-1]
			assert.JSONEq(t, string(want)+`,"more":1}`, string(many[p.ID].Metadata))
		}
	})
}

// Connections that the server has ended are passed over: no later merge has an unknown outcome.
func TestStaleConnectionsArePassedOver(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, db *pgtest.DB, host *sql.DB, store *metadata.Postgres) {
		ctx := t.Context()
		host.SetMaxIdleConns(8)
		for range 3 {
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					_, err := store.Merge(ctx, fmt.Sprint("doc ", i), json.RawMessage(`{"n":1}`))
					assert.NoError(t, err)
				})
			}
			wg.Wait()
			end(t, db)
			_, err := store.Get(ctx, "doc 1")
			require.NoError(t, err)
			end(t, db)
			_, err = store.MergeMany(ctx, []metadata.Patch{{ID: "doc 1", Patch: json.RawMessage(`{"n":2}`)}})
			require.NoError(t, err)
			end(t, db)
			_, err = store.Merge(ctx, "doc 1", json.RawMessage(`{"n":3}`))
			require.NoError(t, err)
			end(t, db)
		}
	})
}

// end has the server end all other sessions of the database, and waits for that.
func end(t *testing.T, db *pgtest.DB) {
	t.Helper()
	_, err := db.Pool().Exec(t.Context(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	require.NoError(t, err)
}

// What a session that ends may have committed is unknown, and is not sent again.
func TestLostAnswersAreUnknownAndNothingIsDoneTwice(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, db *pgtest.DB, host *sql.DB, store *metadata.Postgres) {
		ctx := t.Context()
		_, err := store.Merge(ctx, "a", json.RawMessage(`{"n":0}`))
		require.NoError(t, err)
		_, err = db.Pool().Exec(ctx, `CREATE SEQUENCE tries;
			CREATE FUNCTION fall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				PERFORM nextval('tries'); PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL;
			END $$;
			CREATE CONSTRAINT TRIGGER fall AFTER UPDATE ON lockstore_metadata DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fall()`)
		require.NoError(t, err)
		tries := func() (n int) {
			require.NoError(t, db.Pool().QueryRow(ctx, "SELECT last_value FROM tries WHERE is_called UNION ALL SELECT 0 LIMIT 1").Scan(&n))
			return n
		}
		_, err = store.Merge(ctx, "a", json.RawMessage(`{"n":1}`))
		assert.ErrorIs(t, err, metadata.ErrUnknownOutcome)
		assert.Equal(t, 1, tries())
		_, err = store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return json.RawMessage(`{"n":2}`), nil })
		assert.ErrorIs(t, err, metadata.ErrUnknownOutcome)
		assert.Equal(t, 2, tries())
		_, err = db.Pool().Exec(ctx, "DROP TRIGGER fall ON lockstore_metadata")
		require.NoError(t, err)
		doc, err := store.Merge(ctx, "a", json.RawMessage(`{"m":1}`))
		require.NoError(t, err)
		assert.JSONEq(t, `{"n":0,"m":1}`, string(doc.Metadata))
	})
}

// In and InTx accept the transactions of libraries on top of database/sql.
func TestTransactionsOfLibraries(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, _ *pgtest.DB, host *sql.DB, store *metadata.Postgres) {
		ctx := t.Context()
		err := bun.NewDB(host, pgdialect.New()).RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if err := lock.InTx(ctx, tx, store.Key("bun")); err != nil {
				return err
			}
			_, err := store.In(tx).Merge(ctx, "bun", json.RawMessage(`{"?":"?0"}`))
			return err
		})
		require.NoError(t, err)
		doc, err := store.Get(ctx, "bun")
		require.NoError(t, err)
		assert.JSONEq(t, `{"?":"?0"}`, string(doc.Metadata))
	})
}
