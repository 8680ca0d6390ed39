//go:build darwin || dragonfly || freebsd || linux

package pgtest_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// Tests of what machines may have: odd environment variables, damaged files, programs that
// do not run, unusable directories.

// hostileEnv sets each variable of libpq and of the locale to a wrong or invalid value.
func hostileEnv(t *testing.T) {
	for name, value := range map[string]string{
		"PGHOST": "nowhere.invalid", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "nothing", "PGPASSWORD": "wrong",
		"PGPASSFILE": "/nonexistent", "PGSERVICE": "none such", "PGSERVICEFILE": "/nonexistent", "PGSYSCONFDIR": "/nonexistent",
		"PGOPTIONS": "-c search_path=elsewhere -c no_such.thing=1 -c nothing=2", "PGAPPNAME": "other", "PGTZ": "No/Where", "PGDATESTYLE": "German",
		"PGCLIENTENCODING": "LATIN1", "PGGEQO": "off", "PGCONNECT_TIMEOUT": "long", "PGTARGETSESSIONATTRS": "standby", "PGLOADBALANCEHOSTS": "random",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nonexistent", "PGSSLCERT": "/nonexistent", "PGSSLKEY": "/nonexistent", "PGSSLCERTMODE": "require",
		"PGSSLNEGOTIATION": "direct", "PGSSLSNI": "2", "PGGSSENCMODE": "require", "PGCHANNELBINDING": "require", "PGREQUIREAUTH": "none", "PGREQUIREPEER": "nobody",
		"PGMINPROTOCOLVERSION": "9", "PGMAXPROTOCOLVERSION": "8", "PGDATA": "/nonexistent", "PG_COLOR": "always", "PGCTLTIMEOUT": "0",
		"LC_ALL": "xx_XX.nonsense", "LC_COLLATE": "xx", "LANG": "xx", "TZ": "No/Where", "POSIXLY_CORRECT": "1", "CDPATH": "/tmp", "IFS": "/",
	} {
		t.Setenv(name, value)
	}
}

func TestVariablesOfLibpqChangeNothing(t *testing.T) {
	const facts = `SELECT concat_ws(' ', current_user, current_setting('application_name'), current_setting('timezone'), current_setting('search_path'),
		current_setting('client_encoding'), current_setting('datestyle'), (SELECT datcollate FROM pg_database WHERE datname = current_database()))`
	want := value[string](t, pgtest.New(t, pgtest.Dedicated()), facts)
	hostileEnv(t)
	t.Setenv("PGTEST_CACHE", filepath.Join(cacheFor(t, nil), "cache")) // initdb is run, too
	db := pgtest.New(t, pgtest.Dedicated(), fiftyTables)
	require.NoError(t, db.Server().Restart(t.Context()))
	assert.Equal(t, want, value[string](t, db, facts))
	var got string
	require.NoError(t, db.SQLX().Get(&got, facts))
	assert.Equal(t, want, got)

	s, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s, err = pgtest.Start(t.Context()) // joins
	require.NoError(t, err)
	require.NoError(t, s.Close())

	u, err := url.Parse(db.URL())
	require.NoError(t, err)
	assert.Equal(t, "postgres", u.User.Username())
	assert.Equal(t, url.Values{"host": {db.Server().Dir()}, "port": {"5432"}, "sslmode": {"disable"}}, u.Query())
}

func TestDamagedCacheIsMadeAnew(t *testing.T) {
	cache := filepath.Join(cacheFor(t, nil), "cache")
	t.Setenv("PGTEST_CACHE", cache)
	start := func(t *testing.T) {
		s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
		require.NoError(t, err)
		defer s.Close()
		db, err := s.New(t.Context())
		require.NoError(t, err)
		query(t, db, "CREATE TABLE here ()")
	}
	start(t)
	for name, damage := range map[string]func(cluster string) error{
		"a file is other":         func(c string) error { return os.WriteFile(c+"/data/base/4/1259", make([]byte, 1<<17), 0o600) },
		"the version is nonsense": func(c string) error { return os.WriteFile(c+"/data/PG_VERSION", []byte("x"), 0o600) },
		"the data are gone":       func(c string) error { return os.RemoveAll(c + "/data") },
		"the password is empty":   func(c string) error { return os.Truncate(c+"/password", 0) },
		"a link":                  func(c string) error { return errors.Join(os.Rename(c, c+".2"), os.Symlink(c+".2", c)) },
	} {
		t.Run(name, func(t *testing.T) {
			clusters, err := filepath.Glob(filepath.Join(cache, "cluster-????????????"))
			require.NoError(t, err)
			require.Len(t, clusters, 1)
			require.NoError(t, damage(clusters[0]))
			start(t)
		})
	}
}

func TestProgramsThatCannotBeUsedArePassedOver(t *testing.T) {
	bin, err := binDir()
	require.NoError(t, err)
	real, err := os.ReadFile(filepath.Join(bin, "postgres"))
	require.NoError(t, err)
	foreign := append([]byte{}, real[:1<<16]...)
	copy(foreign[18:], "\xf3\x00") // RISC-V
	script := func(text string) []byte { return []byte("#!/bin/sh\n" + text + "\n") }
	works := script("exec " + bin + "/postgres \"$@\"")
	for name, c := range map[string]struct {
		postgres, initdb []byte
		spoil            func(dir string) error
		says             string
	}{
		"nothing":                     {says: "no postgres"},
		"no initdb":                   {postgres: works, says: "no initdb"},
		"not executable":              {works, works, func(dir string) error { return os.Chmod(dir+"/postgres", 0o644) }, "permission denied"},
		"a link to nothing":           {nil, works, func(dir string) error { return os.Symlink("/nonexistent", dir+"/postgres") }, "no postgres"},
		"a directory":                 {nil, works, func(dir string) error { return os.Mkdir(dir+"/postgres", 0o755) }, "is a directory"},
		"empty":                       {[]byte{}, works, nil, "postgres --version"},
		"cut short":                   {real[:1<<12], works, nil, "postgres --version"},
		"of another processor":        {foreign, works, nil, "exec format error"},
		"a wrapper without HOME":      {script(`echo "needs $0: no home" >&2; exit 126`), works, nil, "no home"},
		"missing libraries":           {script("echo libpq.so.5: cannot open shared object file >&2; exit 127"), works, nil, "libpq.so.5"},
		"nonsense":                    {script("echo 42 is the answer"), works, nil, "answered"},
		"too old":                     {script("echo 'postgres (PostgreSQL) 9.6.24'"), works, nil, "version 9, "}, // older than 15, or not the one of PGTEST_VERSION
		"initdb that fails":           {works, script("echo share/postgres.bki is missing >&2; exit 1"), nil, "share/postgres.bki is missing"},
		"initdb that makes none":      {works, script("exit 0"), nil, "no such file or directory"},
		"closed to the server's user": {works, works, func(dir string) error { return os.Chmod(dir, 0o700) }, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "closed") && !isRoot {
				t.Skip("it is the same user")
			}
			dir := cacheFor(t, nil)
			for program, text := range map[string][]byte{"postgres": c.postgres, "initdb": c.initdb} {
				if text != nil {
					require.NoError(t, os.WriteFile(filepath.Join(dir, program), text, 0o755))
				}
			}
			if c.spoil != nil {
				require.NoError(t, c.spoil(dir))
			}
			t.Setenv("PGTEST_BINDIR", "")
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			pgtest.New(t, pgtest.Dedicated())
			t.Setenv("PGTEST_BINDIR", dir)
			_, err := pgtest.Start(t.Context(), pgtest.Dedicated())
			require.ErrorIs(t, err, pgtest.ErrNotFound, "asked for by name")
			assert.ErrorContains(t, err, "PGTEST_BINDIR "+dir)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestProgramsThatHaveCeasedToWorkArePassedOver(t *testing.T) {
	bin, err := binDir()
	require.NoError(t, err)
	root := cacheFor(t, nil)
	require.NoError(t, exec.Command("cp", "-r", filepath.Dir(bin), root+"/all").Run()) // with the files they need
	dir := root + "/all/bin"
	postgres := filepath.Join(dir, "postgres")
	t.Setenv("PGTEST_BINDIR", "")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	start := func() string {
		s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
		require.NoError(t, err)
		defer s.Close()
		return s.Bin()
	}
	require.Equal(t, dir, start())
	was, err := os.Stat(postgres)
	require.NoError(t, err)
	f, err := os.OpenFile(postgres, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 64), 0)
	require.NoError(t, errors.Join(err, f.Close(), os.Chtimes(postgres, was.ModTime(), was.ModTime())))
	assert.NotEqual(t, dir, start())
}

func TestContextLimitsTheStartAlsoIfAProgramHangs(t *testing.T) {
	for program, arguments := range map[string]string{"initdb": "", "postgres": "-D"} {
		t.Run(program, func(t *testing.T) {
			record := cacheFor(t, nil)
			require.NoError(t, os.Chmod(record, 0o777))
			t.Setenv("PGTEST_CACHE", cacheFor(t, nil))
			t.Setenv("PGTEST_BINDIR", programs(t, "case ${0##*/}:$1 in "+program+":"+arguments+"*) >"+record+"/hangs; sleep 60;; esac", "true"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			started := make(chan error, 1)
			go func() { _, err := pgtest.Start(ctx, pgtest.Dedicated()); started <- err }()
			require.Eventually(t, func() bool { _, err := os.Lstat(record + "/hangs"); return err == nil }, soon, 10*time.Millisecond)
			cancel()
			inTime(t, func() { assert.ErrorIs(t, <-started, context.Canceled) })
		})
	}
}

func TestServerThatStandsStillIsReplaced(t *testing.T) {
	t.Setenv("PGTEST_CACHE", cacheFor(t, nil))
	t.Setenv("PGTEST_LINGER", "1ms")
	still, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	pid := still.PID()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() {
		assert.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
		assert.NoError(t, still.Close())
	}()
	pgtest.SetJoinWait(t, time.Second)
	s, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, still.Dir(), s.Dir())
	require.NoError(t, s.Close())
}

func TestServerRunsInADirectoryOfAnyName(t *testing.T) {
	t.Setenv("PGTEST_KEEP", "1m")
	for _, name := range []string{
		`a b'c"d\ %20% :;`, "$HOME`id`(*)~ ", "-a@b?c#d&e=+f\tg", "\"ä漢\xff\\", " ",
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(cacheFor(t, nil), name)
			require.NoError(t, errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o777|os.ModeSticky)))
			pgtest.SetRunRoots(t, root)
			s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
			require.NoError(t, err)
			assert.Equal(t, root, filepath.Dir(s.Dir()))
			require.NoError(t, s.Kill(t.Context()))
			require.NoError(t, s.Restart(t.Context()))
			f := fakeTest(t, func(f *fakeTB) {
				db, err := s.New(t.Context())
				require.NoError(t, err)
				assert.NoError(t, db.SQLX().Ping())
				f.Errorf("failed")
				kept, err := pgtest.Keep(db)
				require.NoError(t, err)
				if psql, _, ok := strings.Cut(kept, " "); ok {
					if _, err := exec.LookPath(psql); err == nil {
						out, err := exec.Command("sh", "-c", kept+" -X -c SELECT").CombinedOutput()
						assert.NoError(t, err, "%s\n%s", kept, out)
					}
				}
			})
			assert.True(t, f.failed)
			require.NoError(t, s.Close())
			left, err := os.ReadDir(root)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestPlacesThatCannotBeUsedArePassedOver(t *testing.T) {
	dir := cacheFor(t, nil)
	good := filepath.Join(dir, "good")
	bad := []string{filepath.Join(dir, "none"), filepath.Join(dir, "a,b"), filepath.Join(dir, "a\nb"), filepath.Join(dir, strings.Repeat("long", 20)), filepath.Join(dir, "file")}
	for _, place := range append(bad[1:4:4], good) {
		require.NoError(t, os.Mkdir(place, 0o755))
	}
	require.NoError(t, os.WriteFile(bad[4], nil, 0o644))
	if isRoot {
		for name, mode := range map[string]os.FileMode{"closed": 0o700, "not for all": 0o755} {
			bad = append(bad, filepath.Join(dir, name))
			require.NoError(t, os.Mkdir(filepath.Join(dir, name), mode))
		}
	}
	require.NoError(t, os.Chmod(good, 0o777|os.ModeSticky))
	pgtest.SetRunRoots(t, append(bad, good)...)
	s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
	require.NoError(t, err)
	assert.Equal(t, good, filepath.Dir(s.Dir()))
	require.NoError(t, s.Close())

	pgtest.SetRunRoots(t, bad...)
	_, err = pgtest.Start(t.Context(), pgtest.Dedicated())
	for _, place := range bad {
		assert.ErrorContains(t, err, strings.Trim(strconv.Quote(place), `"`))
	}
}

func TestCacheIsMadeWhereItCanBe(t *testing.T) {
	t.Setenv("PGTEST_VERSION", "") // any that is installed
	for _, name := range []string{"PGTEST_CACHE", "XDG_CACHE_HOME", "HOME", "TMPDIR"} {
		t.Setenv(name, "")
	}
	readOnly := cacheFor(t, nil)
	require.NoError(t, os.Mkdir(filepath.Join(readOnly, "pgtest"), 0o555))
	for name, env := range map[string]map[string]string{
		"it cannot be written": {"XDG_CACHE_HOME": readOnly}, // except for root
		"nothing is set":       {},
		"a relative one":       {"XDG_CACHE_HOME": "relative", "HOME": "relative"},
		"no such directory":    {"HOME": "/proc/none", "TMPDIR": "/proc/none"},
		"a file":               {"HOME": "/dev/null", "TMPDIR": "/dev/null"},
		"PGTEST_CACHE is odd":  {"PGTEST_CACHE": filepath.Join(cacheFor(t, nil), strings.Repeat("long/", 50), `a 'b' "c" \ % $HOME, ä`)},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range env {
				t.Setenv(name, value)
			}
			s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
	t.Run("a relative PGTEST_CACHE", func(t *testing.T) {
		t.Chdir(cacheFor(t, nil))
		t.Setenv("PGTEST_CACHE", "some/cache")
		s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		assert.DirExists(t, "some/cache")
	})
}
