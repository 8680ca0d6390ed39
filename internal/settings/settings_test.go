package settings

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// Each setting of the server's that a role can have is in a world, or has a reason why not.
func TestEverySettingIsDecidedOn(t *testing.T) {
	decided := map[string]bool{}
	worlds, harmless := parse()
	for _, w := range worlds {
		for _, s := range w.settings {
			decided[s[0]] = true
		}
	}
	for _, name := range harmless {
		assert.False(t, decided[name], "%s is there twice", name)
		decided[name] = true
	}
	rows, err := pgtest.New(t).Pool().Query(t.Context(), `SELECT name FROM pg_settings
		WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend') AND name NOT LIKE '%.%'`)
	require.NoError(t, err)
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		assert.True(t, decided[name], "%s is not decided on", name)
	}
	require.NoError(t, rows.Err())
}

// What a world sets is what sessions have.
func TestWorldsAreSet(t *testing.T) {
	for _, w := range Worlds() {
		db := pgtest.New(t)
		require.NoError(t, w.Set(t.Context(), db.Pool()), w.Name)
		pool, err := pgxpool.NewWithConfig(t.Context(), db.Pool().Config())
		require.NoError(t, err)
		defer pool.Close()
		var set []string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(array_agg(name), '{}') FROM pg_settings WHERE source = 'database'`).Scan(&set), w.Name)
		known := 0
		for _, s := range w.settings {
			for _, name := range set {
				if strings.EqualFold(name, s[0]) {
					known++
				}
			}
		}
		assert.GreaterOrEqual(t, known, len(w.settings)-2, w.Name)
	}
}
