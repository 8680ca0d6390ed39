package pgtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

func TestNewGivesAFreshDatabase(t *testing.T) {
	for range 3 {
		db := pgtest.New(t)
		_, err := db.Pool().Exec(t.Context(), "CREATE TABLE here (n int)")
		require.NoError(t, err)
		var n int
		require.NoError(t, db.SQLX().GetContext(t.Context(), &n, "SELECT count(*) FROM here"))
		assert.Zero(t, n)
	}
}
