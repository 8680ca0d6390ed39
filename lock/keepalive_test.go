package lock

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// The server gives up a connection that is cut off after twice Silence, in whole seconds and
// rounded up. Keepalives tell it of an idle one. The client knows before that.
func TestServerKeepsACutOffConnectionForTwiceSilence(t *testing.T) {
	config, err := pgx.ParseConfig(pgtest.New(t, pgtest.Dedicated(), pgtest.Setting("listen_addresses", "127.0.0.1")).URL())
	require.NoError(t, err)
	config.Host = "127.0.0.1" // over a unix socket these settings do nothing
	for _, silence := range []time.Duration{300 * time.Millisecond, time.Second, 5 * time.Second, 7700 * time.Millisecond} {
		t.Run(silence.String(), func(t *testing.T) {
			conn, err := pgx.ConnectConfig(t.Context(), config)
			require.NoError(t, err)
			defer conn.Close(t.Context())
			o := (&PostgresOptions{Silence: silence}).withDefaults()
			_, _, err = prepare(t.Context(), conn, &o)
			require.NoError(t, err)
			setting := func(name, unit string) time.Duration {
				var value string
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT setting FROM pg_settings WHERE name = $1", name).Scan(&value))
				d, err := time.ParseDuration(fmt.Sprint(value, unit))
				require.NoError(t, err)
				return d
			}
			idle := setting("tcp_keepalives_idle", "s") + setting("tcp_keepalives_interval", "s")
			user := setting("tcp_user_timeout", "ms")
			assert.LessOrEqual(t, idle, max(2*silence+time.Second, 2*time.Second))
			assert.Less(t, user, idle, "or it would be probed once more")
			assert.Greater(t, user, silence+silence/3, "the client knows first")
			assert.Equal(t, time.Nanosecond, setting("tcp_keepalives_count", "ns"))
		})
	}
}
