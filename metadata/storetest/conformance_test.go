package storetest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/hidden"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/storetest"
	"example.com/lockstore/pgtest"
)

func TestMemoryConforms(t *testing.T) {
	storetest.Run(t, func(t testing.TB) metadata.MetadataStore {
		store, err := metadata.NewMemory(nil, &metadata.Options{MaxDocumentBytes: 1 << 20, Table: metadata.Table{Tokens: metadata.DefaultTokens}})
		require.NoError(t, err)
		return store
	})
}

func TestPostgresConforms(t *testing.T) {
	for name, open := range drivers(t, pgtest.New(t)) {
		for kind, inGo := range map[string]bool{"function": false, "merge in Go": true} {
			t.Run(name+"/"+kind, func(t *testing.T) { conforms(t, open, inGo) })
		}
	}
}

// conforms runs the suite on stores that are opened for each of its tests.
func conforms(t *testing.T, open opener, inGo bool) {
	storetest.Run(t, func(t testing.TB) metadata.MetadataStore {
		store, err := open(&metadata.Options{MergeInGo: inGo, MaxDocumentBytes: 1 << 20, Table: metadata.Table{Tokens: metadata.DefaultTokens}})
		require.NoError(t, err)
		t.Cleanup(store.Close)
		require.NoError(t, store.Migrate(t.Context()))
		return store
	})
}

// An opener opens a store.
type opener func(*metadata.Options) (*metadata.Postgres, error)

// drivers are all ways to a database, one of them by a driver of which nothing is known.
func drivers(t testing.TB, db *pgtest.DB) map[string]opener {
	unknown := hidden.Open(t, db)
	return map[string]opener{
		"pgx":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.Pool(), o) },
		"sqlx": func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.SQLX(), o) },
		"sql":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.SQLX().DB, o) },
		"any":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(unknown, o) },
	}
}
