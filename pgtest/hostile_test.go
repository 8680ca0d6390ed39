//go:build darwin || dragonfly || freebsd || linux

package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// Attacks by the server's user and by the server's programs.

// programs is a directory with server programs that do something else before the real
// program runs, or beside it.
func programs(t *testing.T, before, behind string) string {
	t.Helper()
	bin, err := binDir()
	require.NoError(t, err)
	dir := cacheFor(t, nil)
	for _, name := range []string{"postgres", "initdb", "pg_config"} {
		script := fmt.Sprintf("#!/bin/sh\nfor arg; do case $arg in --pgdata=*) data=${arg#--pgdata=};; esac; done\n%s\n", before)
		if name == "initdb" {
			script += fmt.Sprintf("%s/initdb \"$@\" && { %s\n}\n", bin, behind)
		} else {
			script += fmt.Sprintf("exec %s/%s \"$@\"\n", bin, name)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

// inTime fails the test if the function hangs.
func inTime(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it hangs")
	}
}

const secret = "open sesame"

// secretFile is a file that only this user can read, in a directory that all can write to.
func secretFile(t *testing.T, root, text string) string {
	t.Helper()
	dir, err := os.MkdirTemp(root, "pgtest-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	path := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// plantPipe replaces a file by a pipe.
func plantPipe(path string) error {
	return errors.Join(os.RemoveAll(path), syscall.Mkfifo(path, 0o666))
}

// plantLink replaces a file or directory by a link.
func plantLink(to, path string) error {
	return errors.Join(os.RemoveAll(path), os.Symlink(to, path))
}

func TestWhatInitdbMakesLeadsToNothingOfOurs(t *testing.T) {
	s, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	where := filepath.Dir(s.Dir()) // no file is moved between file systems
	require.NoError(t, s.Close())
	cases := map[string]string{
		"a link to a file":      "ln -s $secret $data/stolen",
		"a link to a directory": "ln -s $(dirname $secret) $data/stolen",
		"a link for a file":     "rm $data/PG_VERSION; ln -s $secret $data/PG_VERSION",
		"a directory's link":    "mv $data $data.2; ln -s $(dirname $secret) $data",
		"a pipe":                "mkfifo $data/stolen",
	}
	if isRoot {
		cases["a file that was ours"] = "mv $secret $data/stolen"
	}
	for name, plant := range cases {
		t.Run(name, func(t *testing.T) {
			cache, path := cacheFor(t, nil), secretFile(t, where, secret)
			t.Setenv("PGTEST_CACHE", cache)
			t.Setenv("PGTEST_BINDIR", programs(t, "", "secret="+path+"; "+plant))
			inTime(t, func() {
				s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
				if !assert.Error(t, err) {
					s.Close()
				}
			})
			out, err := exec.Command("grep", "-r", secret, cache).CombinedOutput()
			assert.Error(t, err, "%s", out)
		})
	}
}

// victim is a process of this user or, if that is the server's user, of another one.
func victim(t *testing.T) (pid int, state func() string) {
	t.Helper()
	if isRoot {
		cmd := exec.Command("sleep", "3600")
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		pid = cmd.Process.Pid
	} else {
		out, err := exec.Command("ps", "-A", "-o", "pid=,uid=").Output()
		require.NoError(t, err)
		pid = 1 // if no other process is visible
		for line := range strings.Lines(string(out)) {
			var other, uid int
			if fmt.Sscan(line, &other, &uid); other > 1 && uid != os.Geteuid() {
				pid = other
				break
			}
		}
	}
	return pid, func() string {
		out, _ := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
		return strings.TrimRight(strings.TrimSpace(string(out)), "<NLsl+") // but not whether it runs or sleeps
	}
}

func TestServersUserHasNobodySignalled(t *testing.T) {
	srv := pgtest.New(t, pgtest.Dedicated()).Server()
	path := filepath.Join(srv.Dir(), "data", "postmaster.pid")
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, do := range map[string]func(context.Context) error{"stop": srv.Stop, "kill": srv.Kill, "pause": srv.Pause} {
		t.Run(name, func(t *testing.T) {
			pid, state := victim(t)
			before := state()
			_, rest, _ := strings.Cut(string(was), "\n")
			require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "%d\n%s", pid, rest), 0o600))
			defer os.WriteFile(path, was, 0o600)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			assert.Error(t, do(ctx))
			assert.Equal(t, before, state())
		})
	}
	require.NoError(t, srv.Resume())
}

func TestSweepHarmsNothingOutside(t *testing.T) {
	ours := func(t *testing.T) string { // must not be touched
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, 0o700))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
		for _, name := range []string{"alive", "postmaster.pid", "data/postmaster.pid", ".s.PGSQL.5432"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("1\n2\n3\n4\n5\n6\n7 8\n"), 0o600))
		}
		return dir
	}
	untouched := func(t *testing.T, dir string) {
		for _, name := range []string{"alive", "postmaster.pid", "data/postmaster.pid", ".s.PGSQL.5432"} {
			assert.FileExists(t, filepath.Join(dir, name))
		}
	}
	uid := serversID(t)
	for name, plant := range map[string]func(dir, ours string) error{
		"a pipe for the process id": func(dir, _ string) error { return plantPipe(dir + "/data/postmaster.pid") },
		"a pipe for a lock":         func(dir, _ string) error { return plantPipe(dir + "/alive") },
		"a link for the data":       func(dir, ours string) error { return plantLink(ours, dir+"/data") },
		"a link for a lock":         func(dir, ours string) error { return plantLink(ours+"/alive", dir+"/alive") },
		"a link for all":            func(dir, ours string) error { return plantLink(ours, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			ours, dir := ours(t), filepath.Join(cacheFor(t, nil), "server")
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "alive"), nil, 0o600))
			require.NoError(t, plant(dir, ours))
			require.NoError(t, exec.Command("chown", "-hR", strconv.Itoa(uid), dir).Run())
			inTime(t, func() { pgtest.SweepDir(dir) })
			untouched(t, ours)
		})
	}
	t.Run("a directory that comes and goes", func(t *testing.T) {
		ours, place := ours(t), cacheFor(t, nil)
		dir, aside := filepath.Join(place, "server"), filepath.Join(place, "aside")
		ctx, cancel := context.WithCancel(t.Context())
		swapped := make(chan struct{})
		go func() {
			defer close(swapped)
			for ctx.Err() == nil {
				os.Mkdir(aside, 0o700)
				os.Lchown(aside, uid, -1)
				os.Rename(aside, dir)
				os.Rename(dir, aside)
				os.Symlink(ours, dir)
				os.Remove(dir)
				syscall.Mkfifo(dir, 0o600)
				os.Remove(dir)
			}
		}()
		inTime(t, func() {
			for tries, met := 0, 0; tries < 3000 || met < 20; tries++ {
				if info, err := os.Lstat(dir); err == nil && info.IsDir() {
					met++
				}
				pgtest.SweepDir(dir)
			}
		})
		cancel()
		<-swapped
		untouched(t, ours)
	})
}

func TestServersProgramsAreRunAsItsUserWithNothingOfOurEnvironment(t *testing.T) {
	uid, record := serversID(t), cacheFor(t, nil)
	require.NoError(t, os.Chmod(record, 0o777))
	bin := programs(t, "{ echo uid=$(id -u); env; } >"+record+"/$(basename $0).$$", "true")
	for name, value := range map[string]string{"SOME_TOKEN": secret, "PGPASSWORD": secret, "LD_SOMETHING": secret} {
		t.Setenv(name, value)
	}
	t.Setenv("PGTEST_CACHE", cacheFor(t, nil))
	t.Setenv("PGTEST_BINDIR", bin)
	db := pgtest.New(t, pgtest.Dedicated())
	query(t, db, "CREATE TABLE env (line text); COPY env FROM PROGRAM 'env'")
	rows, err := db.Pool().Query(t.Context(), "TABLE env")
	require.NoError(t, err)
	server, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)

	t.Setenv("PGTEST_BINDIR", "")
	t.Setenv("PGTEST_VERSION", "99") // so that all places are tried
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("PGTEST_CACHE", cacheFor(t, nil))
	_, err = pgtest.Start(t.Context())
	require.ErrorIs(t, err, pgtest.ErrNotFound)

	records := map[string][]string{"server": append(server, fmt.Sprint("uid=", uid))}
	files, err := filepath.Glob(record + "/*")
	require.NoError(t, err)
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		records[filepath.Base(path)] = strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	seen := map[string]bool{}
	for of, lines := range records {
		program, _, _ := strings.Cut(of, ".")
		seen[program] = true
		assert.Contains(t, lines, fmt.Sprint("uid=", uid), of)
		for _, line := range lines {
			name, value, _ := strings.Cut(line, "=")
			assert.NotEqual(t, secret, value, "%s: %s", of, name)
			if !isRoot && name == "HOME" {
				continue
			}
			assert.Contains(t, []string{"uid", "PATH", "LC_ALL", "TZ", "PWD", "OLDPWD", "SHLVL", "_", // and what PostgreSQL sets itself:
				"PGDATA", "PGLOCALEDIR", "PGSYSCONFDIR", "PG_GRANDPARENT_PID", "PG_OOM_ADJUST_FILE", "PG_OOM_ADJUST_VALUE",
				"LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_MONETARY", "LC_NUMERIC", "LC_TIME"}, name, of)
		}
	}
	assert.Equal(t, map[string]bool{"server": true, "postgres": true, "initdb": true, "pg_config": true}, seen)
}

func TestFailedTestShowsNoFileButTheServersLog(t *testing.T) {
	cases := map[string]func(dir, planted string) error{
		"a pipe": func(dir, _ string) error { return plantPipe(dir + "/log") },
		"a link": func(dir, planted string) error { return plantLink(planted, dir+"/log") },
		"another directory": func(dir, planted string) error {
			os.Rename(planted, filepath.Join(filepath.Dir(planted), "log"))
			os.Rename(dir, dir+".aside")
			return os.Symlink(filepath.Dir(planted), dir)
		},
	}
	if isRoot {
		cases["a file that was ours"] = func(dir, planted string) error { return os.Rename(planted, filepath.Join(dir, "log")) }
	}
	for name, plant := range cases {
		t.Run(name, func(t *testing.T) {
			var f *fakeTB
			inTime(t, func() {
				f = fakeTest(t, func(f *fakeTB) {
					db := pgtest.New(f, pgtest.Dedicated())
					dir := db.Server().Dir()
					path := secretFile(t, filepath.Dir(dir), strings.Repeat("\n", 1<<16)+"] "+db.Name()+": "+secret+"\n")
					f.Cleanup(func() { // between the report, which comes first, and the end of the server
						if _, err := os.Lstat(dir + ".aside"); err == nil {
							os.Remove(dir)
							os.Rename(dir+".aside", dir)
						}
					})
					f.cleanups[0], f.cleanups[1] = f.cleanups[1], f.cleanups[0]
					f.failed = true
					require.NoError(t, plant(dir, path))
					f.output.WriteString(strings.Join(pgtest.ServerLog(db), "\n"))
				})
			})
			assert.NotContains(t, f.output.String(), secret)
		})
	}
}

// TestServerIsHandedNoFileButItsOwn replaces the lock file, which the server inherits, by
// a file that the server's user cannot read.
func TestServerIsHandedNoFileButItsOwn(t *testing.T) {
	srv := pgtest.New(t, pgtest.Dedicated()).Server()
	alive := filepath.Join(srv.Dir(), "alive")
	require.NoError(t, os.Rename(alive, alive+".aside"))
	defer os.Rename(alive+".aside", alive)
	path := secretFile(t, filepath.Dir(srv.Dir()), secret)
	plant := os.Symlink
	if isRoot {
		plant = os.Rename
	}
	require.NoError(t, plant(path, alive))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	assert.Error(t, srv.Restart(ctx))
	assert.Eventually(t, func() bool { return srv.PID() == 0 }, soon, 10*time.Millisecond, "it is stopped, and not started again")
}

func TestPlaceWhereOthersCanReplaceThingsIsRefused(t *testing.T) {
	cases := map[string]func(dir string) error{
		"open to all": func(dir string) error { return os.Chmod(dir, 0o777) },
	}
	if isRoot {
		cases["open to a group"] = func(dir string) error {
			return errors.Join(os.Chown(dir, -1, strangersID), os.Chmod(dir, 0o775))
		}
		cases["another user's"] = func(dir string) error { return os.Chown(dir, strangersID, -1) }
	}
	for name, open := range cases {
		t.Run(name, func(t *testing.T) {
			dir := cacheFor(t, nil)
			parent, link := filepath.Join(dir, "parent"), filepath.Join(dir, "link")
			place := filepath.Join(parent, "place")
			require.NoError(t, os.MkdirAll(place, 0o755))
			require.NoError(t, os.Symlink(place, link))
			resolved, err := pgtest.Resolve(link)
			require.NoError(t, err)
			require.Equal(t, place, resolved)
			require.NoError(t, open(parent))
			for _, path := range []string{place, link, parent} {
				_, err = pgtest.Resolve(path)
				assert.Error(t, err)
				t.Setenv("PGTEST_CACHE", filepath.Join(path, "some", "cache"))
				_, err = pgtest.Start(t.Context())
				assert.ErrorContains(t, err, "others can replace")
				assert.NoDirExists(t, filepath.Join(path, "some"))
			}
		})
	}
	sticky := cacheFor(t, nil)
	require.NoError(t, os.Chmod(sticky, 0o777|os.ModeSticky))
	_, err := pgtest.Resolve(sticky)
	assert.NoError(t, err)
}

func TestGuardRemovesWhatIsOursAlone(t *testing.T) {
	place := cacheFor(t, nil)
	path := func(name string) string { return filepath.Join(place, name) }
	for _, name := range []string{"made", "others", "elsewhere"} {
		require.NoError(t, os.MkdirAll(filepath.Join(path(name), "data"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(path(name), "data", ".file"), nil, 0o600))
	}
	require.NoError(t, os.Symlink(path("elsewhere"), path("link")))
	if isRoot {
		require.NoError(t, os.Chown(path("others"), strangersID, strangersID))
	}
	require.NoError(t, pgtest.Die(path("made"), path("link"), path("others"), path("gone")))
	assert.NoDirExists(t, path("made"))
	assert.FileExists(t, filepath.Join(path("elsewhere"), "data", ".file"))
	if isRoot {
		assert.FileExists(t, filepath.Join(path("others"), "data", ".file"))
	}
}

// TestDirectoryIsTakenFromItsOwnerAlone reads files in directories as root reads those of the
// server's user, with this user in the place of the server's.
func TestDirectoryIsTakenFromItsOwnerAlone(t *testing.T) {
	us := uint32(os.Geteuid())
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	for _, name := range []string{"file", "data"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600))
	}
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	text, err := pgtest.ReadOf(us, dir, "file")
	require.NoError(t, err)
	require.Equal(t, secret, string(text))
	for name, read := range map[string]func() ([]byte, error){
		"another user's directory": func() ([]byte, error) { return pgtest.ReadOf(us+1, dir, "file") },
		"a link":                   func() ([]byte, error) { return pgtest.ReadOf(us, dir, "link") },
		"a pipe":                   func() ([]byte, error) { return pgtest.ReadOf(us, dir, "pipe") },
		"a directory":              func() ([]byte, error) { return pgtest.ReadOf(us, dir, ".") },
		"a link to the directory": func() ([]byte, error) {
			link := filepath.Join(t.TempDir(), "link")
			require.NoError(t, os.Symlink(dir, link))
			return pgtest.ReadOf(us, link, "file")
		},
		"a directory open to others": func() ([]byte, error) {
			open := t.TempDir()
			require.NoError(t, os.Chmod(open, 0o750))
			require.NoError(t, os.WriteFile(filepath.Join(open, "file"), nil, 0o600))
			return pgtest.ReadOf(us, open, "file")
		},
	} {
		inTime(t, func() {
			text, err := read()
			assert.Error(t, err, "%s: %s", name, text)
		})
	}
}
