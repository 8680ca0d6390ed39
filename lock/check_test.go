package lock_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/standbys"
	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// checked returns the values that Check reports, by setting.
func checked(t *testing.T, locker *lock.Postgres) map[string]string {
	findings, err := locker.Check(t.Context())
	require.NoError(t, err)
	values := make(map[string]string)
	for _, f := range findings {
		values[f.Setting] = f.Value
		assert.NotEmpty(t, f.Want, f.Setting)
		assert.NotEmpty(t, f.Why, f.Setting)
	}
	return values
}

func TestCheckFindsALockTableThatIsTooSmall(t *testing.T) {
	db := pgtest.New(t)
	for keys, small := range map[int]bool{1_000_000: true, 10: false} {
		found := checked(t, newPostgres(t, db.Pool(), &lock.PostgresOptions{MaxKeys: keys}))
		_, told := found["max_locks_per_transaction"]
		assert.Equal(t, small, told, "%d keys: %v", keys, found)
		assert.NotContains(t, found, "SessionPooler")
	}
}

// After a failover only that is kept for which a standby was waited, and a commit learns
// whether it was. The host's role, or its database, may have switched either off.
func TestCheckFindsCommitsThatWaitForNoStandby(t *testing.T) {
	db := pgtest.New(t, pgtest.Dedicated())
	check := func() map[string]string { return checked(t, newPostgres(t, db.Pool(), nil)) }
	alter := func(setting string) {
		_, err := db.Pool().Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s SET %s", pgx.Identifier{db.Name()}.Sanitize(), setting))
		require.NoError(t, err)
		db.Pool().Reset()
	}
	alter("synchronous_commit = local")
	alter("client_min_messages = error")
	alone := check()
	assert.NotContains(t, alone, "synchronous_commit")
	assert.NotContains(t, alone, "client_min_messages")

	alter("synchronous_commit = on")
	standbys.Require(t, db.Pool(), "absent")
	defer standbys.Require(t, db.Pool(), "")
	set := func(name, value string) *lock.Postgres {
		config := db.Pool().Config()
		config.ConnConfig.RuntimeParams[name] = value
		pool := newPool(t, config)
		return newPostgres(t, pool, nil)
	}
	found := check()
	assert.NotContains(t, found, "synchronous_commit")
	assert.Equal(t, "error", found["client_min_messages"])
	for value, want := range map[string]bool{"off": true, "local": true, "remote_write": false, "on": false, "remote_apply": false} {
		found := checked(t, set("synchronous_commit", value))
		assert.Equal(t, want, found["synchronous_commit"] == value, value)
	}
	assert.NotContains(t, checked(t, set("client_min_messages", "warning")), "client_min_messages")
}

// The pool connects in ways that make a failover slow, or lead to the wrong server.
func TestCheckFindsHowThePoolConnects(t *testing.T) {
	db := pgtest.New(t)
	u, err := url.Parse(db.URL())
	require.NoError(t, err)
	several := *u
	q := u.Query()
	q.Set("host", q.Get("host")+","+q.Get("host"))
	q.Set("port", q.Get("port")+",1")
	several.RawQuery = q.Encode()
	for name, c := range map[string]struct {
		url  string
		want map[string]string
		ping string // over pgx alone
	}{
		"one host":                         {u.String(), map[string]string{}, "0"},
		"one host, and a timeout":          {u.String() + "&pool_ping_timeout=1s", map[string]string{}, ""},
		"one host, with TLS and without":   {u.String() + "&pool_ping_timeout=1s&sslmode=prefer", map[string]string{}, ""},
		"several hosts":                    {several.String() + "&pool_ping_timeout=1s", map[string]string{"target_session_attrs": "any", "connect_timeout": "0"}, ""},
		"several hosts, slowly":            {several.String() + "&pool_ping_timeout=1s&target_session_attrs=read-write&connect_timeout=2", map[string]string{"connect_timeout": "2"}, ""},
		"several hosts, as they should be": {several.String() + "&pool_ping_timeout=1s&target_session_attrs=read-write&connect_timeout=1", map[string]string{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := pgxpool.ParseConfig(c.url)
			require.NoError(t, err)
			pool := newPool(t, config)
			sql := stdlib.OpenDB(*config.ConnConfig)
			t.Cleanup(func() { sql.Close() })
			settings := []string{"target_session_attrs", "connect_timeout"}
			assert.Equal(t, c.want, only(checked(t, newPostgres(t, sql, nil)), settings...), "database/sql")
			if c.ping != "" {
				c.want = map[string]string{"pool_ping_timeout": c.ping}
			}
			assert.Equal(t, c.want, only(checked(t, newPostgres(t, pool, nil)), append(settings, "pool_ping_timeout")...), "pgx")
		})
	}
}

// only returns the entries of a map with some keys.
func only(all map[string]string, keys ...string) map[string]string {
	some := make(map[string]string)
	for _, k := range keys {
		if v, ok := all[k]; ok {
			some[k] = v
		}
	}
	return some
}
