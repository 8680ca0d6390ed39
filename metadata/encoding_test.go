package metadata_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// In a database whose encoding is not UTF-8, keys are of other lengths to the server
// than here, and in another order.
func TestKeysInTheOrderOfAnotherEncoding(t *testing.T) {
	db := pgtest.New(t)
	_, err := db.Pool().Exec(t.Context(), `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
	require.NoError(t, err)
	config := db.Pool().Config()
	config.ConnConfig.Database = "latin"
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer func() {
		pool.Close()
		_, err := db.Pool().Exec(t.Context(), `DROP DATABASE latin`)
		require.NoError(t, err)
	}()
	store, err := metadata.NewPostgres(pool, &metadata.Options{MergeInGo: true})
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Migrate(t.Context()))
	for _, patch := range []string{`{"éé":1,"zzz":1,"in":{"é":1,"yy":1,"zz":1}}`, `{"éé":2,"in":{"é":null,"zz":2}}`, `{"éé":null,"zzz":2,"in":{"é":2,"yy":null}}`} {
		_, err := store.Merge(t.Context(), "a", raw("%s", patch))
		require.NoError(t, err)
	}
	doc, err := store.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.JSONEq(t, `{"zzz":2,"in":{"é":2,"zz":2}}`, string(doc.Metadata))
}
