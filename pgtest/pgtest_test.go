package pgtest_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

var _ pgtest.TB = testing.TB(nil)

// soon limits each wait; the machine may be busy.
const soon = time.Minute

func TestNewGivesAFreshDatabase(t *testing.T) {
	for range 3 {
		db := pgtest.New(t)
		query(t, db, "CREATE TABLE here (n int)")
		var n int
		require.NoError(t, db.SQLX().GetContext(t.Context(), &n, "SELECT count(*) FROM here"))
		assert.Zero(t, n)
		assert.Same(t, db.Pool(), db.Pool())
		assert.Same(t, db.SQLX(), db.SQLX())
	}
}

func TestDatabaseIsDroppedWhenTheTestEnds(t *testing.T) {
	var db *pgtest.DB
	f := fakeTest(t, func(f *fakeTB) {
		db = pgtest.New(f)
		query(t, db, "CREATE TABLE here ()")
	})
	assert.False(t, f.failed, f.output.String())
	assert.Empty(t, f.output.String())
	db.Server().Settle()
	assert.False(t, exists(t, db.Server(), db.Name()))
	require.NoError(t, db.Close(), "a second time")
}

// The URL is also for lib/pq, whose tests are in internal/drivers.
func TestURLIsForPsqlToo(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("it is not installed")
	}
	out, err := exec.Command(psql, "-X", "-c", "SELECT", pgtest.New(t).URL()).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// exists reports whether a server has a database of that name.
func exists(t *testing.T, s *pgtest.Server, name string) (found bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&found))
	return found
}

var keptURL = regexp.MustCompile(`kept for \S+: \S*psql '(\S+)'`)

func TestFailedTestShowsTheLogAndKeepsItsDatabase(t *testing.T) {
	t.Setenv("PGTEST_KEEP", "1m")
	var db *pgtest.DB
	f := fakeTest(t, func(f *fakeTB) {
		db = pgtest.New(f)
		query(t, db, "CREATE TABLE evidence ()")
		_, err := db.Pool().Exec(t.Context(), "SELECT\n'no such', column_of_mine")
		require.Error(t, err)
		f.Errorf("failed")
	})
	out := f.output.String()
	assert.Contains(t, out, `ERROR:  column "column_of_mine" does not exist`)
	assert.Contains(t, out, "\t'no such', column_of_mine", "the statement goes on in a second line")
	match := keptURL.FindStringSubmatch(out)
	require.NotNil(t, match, out)
	conn, err := pgx.Connect(t.Context(), match[1])
	require.NoError(t, err)
	name := conn.Config().Database
	assert.Contains(t, name, "kept_testfailedtestshows")
	_, err = conn.Exec(t.Context(), "TABLE evidence")
	assert.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	drop(t, db.Server(), name)
}

func TestFailedTestIsKeptAlsoWithOpenConnections(t *testing.T) {
	pgtest.SetReleaseWait(t, time.Millisecond)
	t.Setenv("PGTEST_KEEP", "1m")
	var srv *pgtest.Server
	f := fakeTest(t, func(f *fakeTB) {
		db := pgtest.New(f)
		srv = db.Server()
		conn, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		t.Cleanup(conn.Release)
		f.Errorf("failed")
	})
	match := keptURL.FindStringSubmatch(f.output.String())
	require.NotNil(t, match, f.output.String())
	conn, err := pgx.Connect(t.Context(), match[1])
	require.NoError(t, err)
	name := conn.Config().Database
	require.NoError(t, conn.Close(t.Context()))
	drop(t, srv, name)
}

// drop drops a database that was kept.
func drop(t *testing.T, s *pgtest.Server, name string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "DROP DATABASE "+name+" WITH (FORCE)")
	require.NoError(t, err)
}

func TestConnectionThatIsNotReleasedFailsTheTest(t *testing.T) {
	pgtest.SetReleaseWait(t, 20*time.Millisecond)
	t.Setenv("PGTEST_KEEP", "0")
	f := fakeTest(t, func(f *fakeTB) {
		conn, err := pgtest.New(f).Pool().Acquire(t.Context())
		require.NoError(t, err)
		t.Cleanup(conn.Release)
	})
	assert.True(t, f.failed)
	assert.Contains(t, f.output.String(), "1 connections of the pool were not released")
}

func TestNothingFoundNamesEveryPlace(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("PGTEST_VERSION", "99")
	t.Setenv("PGTEST_BINDIR", "")
	f := fakeTest(t, func(f *fakeTB) { pgtest.New(f) })
	assert.True(t, f.failed)
	for _, place := range []string{"PostgreSQL 99", "PATH: ", "pg_config", "postgresql", "npm package", "install ", "PGTEST_BINDIR", "PGTEST_DSN"} {
		assert.Contains(t, f.output.String(), place)
	}
	_, err := pgtest.Start(t.Context())
	assert.ErrorIs(t, err, pgtest.ErrNotFound)
}

func TestEnvironmentIsChecked(t *testing.T) {
	for name, value := range map[string]string{
		"PGTEST_VERSION": "fifteen",
		"PGTEST_LINGER":  "30",
		"PGTEST_DSN":     "postgres://%zz",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			_, err := pgtest.Start(t.Context())
			assert.ErrorContains(t, err, name)
		})
	}
	t.Setenv("PGTEST_KEEP", "-1m")
	f := fakeTest(t, func(f *fakeTB) { pgtest.New(f) })
	assert.True(t, f.failed)
	assert.Contains(t, f.output.String(), "PGTEST_KEEP")
}

func TestCacheThatOthersCanWriteIsRefused(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"open":          func(dir string) error { return os.Mkdir(dir, 0o700) },
		"symbolic link": func(dir string) error { return os.Symlink(t.TempDir(), dir) },
		"file":          func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			require.NoError(t, make(dir))
			if name == "open" {
				require.NoError(t, os.Chmod(dir, 0o777))
			}
			t.Setenv("PGTEST_CACHE", dir)
			_, err := pgtest.Start(t.Context(), pgtest.Dedicated())
			assert.ErrorContains(t, err, "is not a directory that only we can write")
		})
	}
}

func TestDSNServerIsUsedAndLeftClean(t *testing.T) {
	const pass = `s3/cr@t +%'\` + "`" + `"?#[:&=ä`
	host := pgtest.New(t, pgtest.Dedicated(), pgtest.Setting("listen_addresses", "127.0.0.1"))
	query(t, host, `CREATE ROLE "a b" SUPERUSER LOGIN PASSWORD '`+strings.ReplaceAll(pass, "'", "''")+"'")
	cfg, err := pgx.ParseConfig(host.Server().URL())
	require.NoError(t, err)
	port := value[string](t, host, "SHOW port")
	login, quoted := url.UserPassword("a b", pass).String(), strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(pass)
	const inParis, list = "options=-c%20timezone=Europe/Paris", " user='a b' dbname=postgres port="
	socket := url.PathEscape(cfg.Host)
	for form, dsn := range map[string]string{
		"URL of ours":                 host.Server().URL(),
		"URL of ours with more":       host.Server().URL() + "&options=-c%20timezone%3DEurope%2FParis",
		"URL":                         "postgres://" + login + "@127.0.0.1:" + port + "/postgres",
		"URL with parameters":         "postgresql://" + login + "@127.0.0.1:" + port + "/postgres?a.b=+%25&" + strings.ReplaceAll(inParis, "c%20timezone=", "c%20timezone%3D"),
		"URL of parameters alone":     "postgres://?port=" + port + "&user=a%20b&dbname=postgres&host=127.0.0.1&password=" + strings.ReplaceAll(url.QueryEscape(pass), "+", "%20"),
		"URL of a directory":          "postgres://" + login + "@" + socket + ":" + port + "/postgres",
		"URL of a directory below":    "postgres://" + login + "@/postgres?port=" + port + "&host=" + socket,
		"URL of several hosts":        "postgres://" + login + "@127.0.0.1:1,127.0.0.1:" + port + "/postgres?target_session_attrs=read-write",
		"URL for a pool":              "postgres://" + login + "@127.0.0.1:" + port + "/postgres?pool_max_conns=3",
		"URL of an escaped database":  "postgres://" + login + "@127.0.0.1:" + port + "/%70ostgres",
		"keywords":                    "host=127.0.0.1" + list + port + " password='" + quoted + "'",
		"keywords of several hosts":   "host=127.0.0.1,127.0.0.1 port=1," + port + " user=a\\ b dbname=postgres password='" + quoted + "' ",
		"keywords with options":       "\n\thost = 127.0.0.1" + list + port + "\npassword = '" + quoted + "' options='-c a.b=c\\\\ d\\''",
		"keywords that end in escape": "host='" + cfg.Host + "'" + list + port + " password='" + quoted + `' a.b=\\\\`,
	} {
		t.Run(form, func(t *testing.T) {
			t.Setenv("PGTEST_DSN", dsn)
			s, err := pgtest.Start(t.Context())
			require.NoError(t, err)
			defer s.Close()
			db, err := s.New(t.Context())
			require.NoError(t, err)
			query(t, db, "CREATE TABLE here ()")
			assert.ErrorIs(t, s.Stop(t.Context()), pgtest.ErrShared)

			addresses := []string{db.URL()}
			if !strings.Contains(form, "several") { // a proxy is in front of the first
				addresses = append(addresses, pgtest.NewProxy(t, db).URL())
			}
			for _, address := range addresses {
				pool, err := pgxpool.New(t.Context(), address)
				require.NoError(t, err)
				var name, timezone string
				require.NoError(t, pool.QueryRow(t.Context(), "SELECT current_database(), current_setting('timezone')").Scan(&name, &timezone))
				pool.Close()
				assert.Equal(t, db.Name(), name)
				assert.Equal(t, strings.Contains(dsn, "Paris"), timezone == "Europe/Paris", timezone)
			}

			require.NoError(t, db.Close())
			assert.False(t, exists(t, host.Server(), db.Name()))
		})
	}
	t.Run("durable", func(t *testing.T) {
		t.Setenv("PGTEST_DSN", host.Server().URL())
		_, err := pgtest.Start(t.Context(), pgtest.Durable())
		assert.ErrorContains(t, err, "fsync off")
	})
}

func TestSettingsHold(t *testing.T) {
	db := pgtest.New(t, pgtest.Setting("max_connections", "17"), pgtest.Setting("application_name", "it's"),
		pgtest.Setting("listen_addresses", "127.0.0.1"))
	assert.Equal(t, "17", value[string](t, db, "SHOW max_connections"))
	cfg, err := pgx.ParseConfig(db.URL())
	require.NoError(t, err)
	cfg.Host = "127.0.0.1"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var name string
	require.NoError(t, conn.QueryRow(t.Context(), "SHOW application_name").Scan(&name))
	assert.Equal(t, "it's", name)

	cfg.Password = "another"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	assert.ErrorContains(t, err, "28P01", "whoever does not know the password stays out")
}

func TestSettingsAreWhatTheyWereGivenAs(t *testing.T) {
	values := []string{
		"", " ", "'", `"`, `\`, `\\`, `c:\new`, `c:\dir\`, `\'`, `it''s`, `'; fsync = 'on`, "a\nfsync = on", "\r\n", "\t\b\x01", "# no comment",
		"%d %%", "$user", "a, \"b c\"", "ä 漢 🐘", "-c x=y", "{{linger}}", `\101`, strings.Repeat(`\'`+"\n", 1000),
	}
	var opts []pgtest.Option
	for i, value := range values {
		opts = append(opts, pgtest.Setting(fmt.Sprint("my.V", i), value))
	}
	db := pgtest.New(t, append(opts, pgtest.Setting("Max_Connections", "17"))...)
	for i, want := range values {
		assert.Equal(t, want, value[string](t, db, fmt.Sprint("SHOW my.v", i)))
	}
	assert.Equal(t, "17", value[string](t, db, "SHOW max_connections"))
	assert.Equal(t, "off", value[string](t, db, "SHOW fsync"))
}

func TestSettingThatCannotBeWrittenIsRefused(t *testing.T) {
	for _, opt := range []pgtest.Option{
		pgtest.Setting("", "1"), pgtest.Setting("a b", "1"), pgtest.Setting("fsync = on\nport", "1"), pgtest.Setting("my.v", "a\x00b"),
	} {
		_, err := pgtest.Start(t.Context(), opt)
		assert.ErrorContains(t, err, "pgtest: Setting(")
	}
}

func TestBadSettingShowsTheServersWords(t *testing.T) {
	_, err := pgtest.Start(t.Context(), pgtest.Setting("max_connections", "many"))
	assert.ErrorContains(t, err, `invalid value for parameter "max_connections": "many"`)
}

func TestDurableServerWritesThrough(t *testing.T) {
	for name, opts := range map[string][]pgtest.Option{
		"shared":    {pgtest.Durable()},
		"dedicated": {pgtest.Durable(), pgtest.Dedicated()},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t, opts...)
			for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit", "autovacuum"} {
				assert.Equal(t, "on", value[string](t, db, "SHOW "+setting), setting)
			}
			assert.False(t, strings.HasPrefix(db.Server().Dir(), "/dev/shm/"))
		})
	}
	assert.Equal(t, "off", value[string](t, pgtest.New(t), "SHOW fsync"))
}

func TestDownloadIsForbiddenOffline(t *testing.T) {
	t.Setenv("PGTEST_CACHE", filepath.Join(t.TempDir(), "cache"))
	t.Setenv("PGTEST_OFFLINE", "1")
	_, looked, ok := pgtest.Download(t.Context(), 17)
	assert.False(t, ok)
	assert.Contains(t, strings.Join(looked, "\n"), "PGTEST_OFFLINE forbids")
}

func TestArchiveThatIsNotTheTrustedOneIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ npm, want string }{
		"other archive": {"#!/bin/sh\necho other >other.tgz\n", "not the one that is trusted"},
		"no archive":    {"#!/bin/sh\nexit 0\n", "0 archives"},
		"npm fails":     {"#!/bin/sh\necho no network >&2\nexit 1\n", "no network"},
	} {
		t.Run(name, func(t *testing.T) {
			bin, cache := t.TempDir(), filepath.Join(t.TempDir(), "cache")
			require.NoError(t, os.WriteFile(filepath.Join(bin, "npm"), []byte(c.npm), 0o700))
			t.Setenv("PATH", bin+":/bin:/usr/bin")
			t.Setenv("PGTEST_CACHE", cache)
			_, looked, ok := pgtest.Download(t.Context(), 17)
			assert.False(t, ok)
			assert.Contains(t, strings.Join(looked, "\n"), c.want)
			left, err := filepath.Glob(filepath.Join(cache, "postgresql-*"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestTerminateEndsABackendOfTheDatabase(t *testing.T) {
	db, other := pgtest.New(t), pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	pid := conn.PgConn().PID()
	require.Error(t, other.Terminate(pid), "of another database")
	require.NoError(t, conn.Ping(t.Context()))
	require.NoError(t, db.Terminate(pid))
	assert.Error(t, conn.Ping(t.Context()))
	assert.Error(t, db.Terminate(pid), "it is gone")
}

func TestLocksShowsHoldersAndWaiters(t *testing.T) {
	db, other := pgtest.New(t), pgtest.New(t)
	connect := func(db *pgtest.DB) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), db.URL()+"&application_name=tester")
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	holder, waiter := connect(db), connect(db)
	for conn, sql := range map[*pgx.Conn]string{
		holder:         "SELECT pg_advisory_lock(-7), pg_advisory_lock_shared(1, -2)",
		connect(other): "SELECT pg_advisory_lock(99)",
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() { waiter.Exec(ctx, "SELECT pg_advisory_lock(-7)") })
	defer waiting.Wait()
	defer cancel()
	require.Eventually(t, func() bool { return len(db.Locks(t)) == 3 }, soon, time.Millisecond)
	held, waits := holder.PgConn().PID(), waiter.PgConn().PID()
	want := []pgtest.Lock{
		{PID: held, Application: "tester", Key: -7, Mode: "ExclusiveLock", Granted: true},
		{PID: waits, Application: "tester", Key: -7, Mode: "ExclusiveLock"},
		{PID: held, Application: "tester", Key: 1<<32 | 0xfffffffe, TwoKeys: true, Mode: "ShareLock", Granted: true},
	}
	if waits < held {
		want[0], want[1] = want[1], want[0]
	}
	assert.Equal(t, want, db.Locks(t), "by key, and then by process id")
}
