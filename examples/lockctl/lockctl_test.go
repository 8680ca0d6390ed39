package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// answer is the result of a call.
type answer struct {
	status         int
	stdout, stderr string
}

// with runs the program with a database and what it reads from stdin.
func with(t *testing.T, dsn, stdin string, terminal bool, args ...string) answer {
	t.Helper()
	var out, errs bytes.Buffer
	c := &call{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, terminal: terminal, env: func(name string) string {
		return map[string]string{"LOCKSTORE_DSN": dsn}[name]
	}}
	return answer{c.run(t.Context(), args), out.String(), errs.String()}
}

func newLocker(t *testing.T, db *pgtest.DB) *lock.Postgres {
	l, err := lock.NewPostgres(t.Context(), db.Pool(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close(context.Background())) })
	return l
}

func TestKeyIsSeenAndFreed(t *testing.T) {
	db := pgtest.New(t)
	l := newLocker(t, db)
	held, err := l.Lock(t.Context(), lock.Name("user", "42"))
	require.NoError(t, err)
	b, _ := held.Backend(held.Key())
	shared, err := l.RLock(t.Context(), lock.ID(7))
	require.NoError(t, err)
	defer shared.Unlock()

	assert.Equal(t, answer{3, "user/43\tfree\t\t\t\t\t\t0\n", ""}, with(t, db.URL(), "", false, "who", "user/43"))
	who := with(t, db.URL(), "", false, "who", "user/42")
	assert.Zero(t, who.status, who.stderr)
	fields := strings.Split(strings.TrimSuffix(who.stdout, "\n"), "\t")
	require.Len(t, fields, 8, who.stdout)
	assert.Equal(t, []string{"user/42", "exclusive"}, fields[:2])
	assert.Contains(t, with(t, db.URL(), "", true, "who", "#7").stdout, "shared")

	var keys []shown
	locks := with(t, db.URL(), "", false, "locks", "-json")
	require.NoError(t, json.Unmarshal([]byte(locks.stdout), &keys), locks.stderr)
	require.Len(t, keys, 1, "that of the namespace")
	assert.Equal(t, held.Key().Int64(), keys[0].ID)
	assert.Equal(t, b.PID, keys[0].Holders[0].PID)
	table := with(t, db.URL(), "", true, "locks").stdout
	assert.Regexp(t, `^KEY +MODE +PID +USER +APPLICATION +ADDRESS +CONNECTED +WAITING\nuser/42 +exclusive +\d+ .* ago +0\n$`, table)
	assert.Equal(t, answer{0, "", ""}, with(t, db.URL(), "", false, "locks", "-namespace", "other"))

	waits, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := l.Lock(waits, held.Key()); left <- err }()
	require.Eventually(t, func() bool { return l.Stats().Waiters == 1 }, 20*time.Second, time.Millisecond)
	assert.Regexp(t, `^user/42\texclusive\t\d+\t.*\t1\nuser/42\twaits exclusive\t\d+\t.*\t\d+\.\ds\n$`, with(t, db.URL(), "", false, "who", "user/42").stdout)
	require.NoError(t, json.Unmarshal([]byte(with(t, db.URL(), "", false, "who", "-json", "user/42").stdout), &keys))
	assert.Equal(t, 1, keys[0].Waiters)
	require.Len(t, keys[0].Waiting, 1)
	assert.Equal(t, b.PID, keys[0].Waiting[0].PID)
	leave()
	assert.Error(t, <-left)

	evicted := with(t, db.URL(), "", false, "evict", "-grace", "1m", "-timeout", "30s", "user/42")
	assert.Zero(t, evicted.status, evicted.stderr)
	assert.Contains(t, evicted.stdout, "user/42\texclusive\t")
	<-held.Context().Done()
	assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrEvicted)
	assert.Equal(t, answer{3, "", "user/42 is free\n"}, with(t, db.URL(), "", false, "evict", "user/42"))
}

// Names of roles, keys and applications may contain control sequences for a terminal.
func TestNamesDoNothingToATerminal(t *testing.T) {
	db := pgtest.New(t)
	l := newLocker(t, db)
	held, err := l.Lock(t.Context(), lock.Name("\x1b[2J\n\u202e"))
	require.NoError(t, err)
	defer held.Unlock()
	for _, terminal := range []bool{false, true} {
		got := with(t, db.URL(), "", terminal, "who", "\x1b[2J\n\u202e")
		assert.Zero(t, got.status)
		assert.NotContains(t, got.stdout, "\x1b")
		assert.Contains(t, got.stdout, `\u202e`)
	}
}

// watched is a call that runs until it is interrupted.
type watched struct {
	*bufio.Scanner // of its lines
	interrupt      func()
	status         chan int
}

func watch(t *testing.T, db *pgtest.DB, terminal bool, args ...string) *watched {
	ctx, interrupt := context.WithCancel(t.Context())
	t.Cleanup(interrupt)
	r, w := io.Pipe()
	c := &call{stdout: w, stderr: io.Discard, terminal: terminal, env: func(string) string { return db.URL() }}
	status := make(chan int, 1)
	go func() {
		status <- c.run(ctx, args)
		w.Close()
	}()
	return &watched{bufio.NewScanner(r), interrupt, status}
}

// sees reads lines until ok returns true.
func (w *watched) sees(t *testing.T, ok func(line string) bool) {
	t.Helper()
	for w.Scan() {
		if ok(w.Text()) {
			return
		}
	}
	t.Fatal("it ended")
}

// ends interrupts the call.
func (w *watched) ends(t *testing.T) {
	t.Helper()
	w.interrupt()
	for w.Scan() {
	}
	assert.Zero(t, <-w.status)
}

func TestWatchLooksAgainUntilInterrupted(t *testing.T) {
	db := pgtest.New(t)
	l := newLocker(t, db)
	looks := watch(t, db, false, "locks", "-watch", "-every", "1ms", "-json")
	sees := func(n int) {
		looks.sees(t, func(line string) bool {
			var keys []shown
			require.NoError(t, json.Unmarshal([]byte(line), &keys))
			return len(keys) == n
		})
	}
	sees(0)
	held, err := l.Lock(t.Context(), lock.Name("a"))
	require.NoError(t, err)
	sees(1)
	plain := watch(t, db, false, "locks", "-watch", "-every", "1ms")
	painted := watch(t, db, true, "locks", "-watch", "-every", "1ms")
	for range 2 {
		plain.sees(t, func(line string) bool {
			assert.NotContains(t, line, "\x1b")
			return strings.HasPrefix(line, "a\texclusive\t")
		})
		painted.sees(t, func(line string) bool {
			return strings.HasPrefix(line, "\x1b[H\x1b[2J") && strings.HasSuffix(line, ", 1 keys")
		})
		painted.sees(t, func(line string) bool { return strings.HasPrefix(line, "a ") })
	}
	plain.ends(t)
	painted.ends(t)
	require.NoError(t, held.Unlock())
	sees(0)
	looks.ends(t)
}

func TestDocumentIsWatchedUntilInterrupted(t *testing.T) {
	db := pgtest.New(t)
	require.Equal(t, answer{}, with(t, db.URL(), "", false, "migrate", "up"))
	plain := watch(t, db, false, "docs", "watch", "ann")
	full := watch(t, db, false, "docs", "watch", "-json", "ann")
	terminal := watch(t, db, true, "docs", "watch", "ann")
	is := func(w *watched, want string) {
		t.Helper()
		require.True(t, w.Scan())
		assert.Regexp(t, want, w.Text())
	}
	is(plain, `^null$`)
	is(full, `^{"id":"ann","metadata":null,"version":0}$`)
	is(terminal, `^\d\d:\d\d:\d\d, no document$`)
	for n := 1; n <= 2; n++ {
		assert.Zero(t, with(t, db.URL(), "", false, "docs", "merge", "ann", fmt.Sprintf(`{"n":%d}`, n)).status)
		is(plain, fmt.Sprintf(`^{"n":%d}$`, n))
		is(full, fmt.Sprintf(`^{"id":"ann","metadata":{"n":%d},"updated_at":".*","version":%d}$`, n, n))
		is(terminal, fmt.Sprintf(`^\d\d:\d\d:\d\d, version %d$`, n))
		is(terminal, `^{$`)
		is(terminal, fmt.Sprintf(`^  "n": %d$`, n))
		is(terminal, `^}$`)
	}
	_, err := db.Pool().Exec(t.Context(), `DELETE FROM lockstore_metadata`)
	require.NoError(t, err)
	is(plain, `^null$`)
	is(terminal, `no document$`)
	for _, w := range []*watched{plain, full, terminal} {
		w.ends(t)
	}
	unreachable := with(t, "host=127.0.0.1 port=1", "", false, "docs", "watch", "ann")
	assert.Equal(t, 1, unreachable.status)
	assert.Contains(t, unreachable.stderr, "server unavailable")
	assert.Equal(t, 1, with(t, db.URL(), "", false, "docs", "watch", "-table", "none", "ann").status)
}

func TestDocumentsAndTheirTable(t *testing.T) {
	db := pgtest.New(t)
	missing := with(t, db.URL(), "", false, "check")
	assert.Equal(t, 3, missing.status)
	assert.Contains(t, missing.stdout, "table \"lockstore_metadata\"\tmissing from")
	assert.Contains(t, with(t, db.URL(), "", true, "check").stdout, "• table \"lockstore_metadata\" is missing")
	require.Equal(t, answer{}, with(t, db.URL(), "", false, "migrate", "up"))
	assert.NotContains(t, with(t, db.URL(), "", false, "check").stdout, "lockstore_")

	assert.Equal(t, answer{3, "", "lockctl: \"ann\": metadata: not found\n"}, with(t, db.URL(), "", false, "docs", "get", "ann"))
	assert.Equal(t, answer{0, "{\"plan\":\"<pro>\"}\n", ""}, with(t, db.URL(), `{"plan":"<pro>"}`, false, "docs", "merge", "ann"))
	assert.Equal(t, answer{0, "{\n  \"n\": 1,\n  \"plan\": \"<pro>\"\n}\n", ""}, with(t, db.URL(), "", true, "docs", "merge", "ann", `{"n":1}`))
	assert.Equal(t, 1, with(t, db.URL(), "", false, "docs", "merge", "-if-version", "1", "ann", `{"n":2}`).status)
	assert.Zero(t, with(t, db.URL(), `{"n":2}`, false, "docs", "merge", "-if-version", "2", "ann", "-").status)
	var doc struct{ Version int }
	require.NoError(t, json.Unmarshal([]byte(with(t, db.URL(), "", false, "docs", "get", "-json", "ann").stdout), &doc))
	assert.Equal(t, 3, doc.Version)

	l := newLocker(t, db)
	held, err := l.Lock(t.Context(), lock.Name("metadata", `"lockstore_metadata"."metadata"`, "ann"))
	require.NoError(t, err)
	assert.Zero(t, with(t, db.URL(), "", false, "who", "-doc", "ann").status)
	require.NoError(t, held.Unlock())

	_, err = db.Pool().Exec(t.Context(), `CREATE TABLE users (tenant uuid, id bigint, doc jsonb, PRIMARY KEY (tenant, id)); INSERT INTO users VALUES ('7f3f9a3e-0000-4000-8000-00000000000a', 7, '{}')`)
	require.NoError(t, err)
	users := []string{"-table", "users", "-id-type", "bigint", "-column", "doc", "-scope", "tenant:uuid=7f3f9a3e-0000-4000-8000-00000000000a"}
	assert.Equal(t, answer{0, "{\"a\":1}\n", ""}, with(t, db.URL(), "", false, append(append([]string{"docs", "merge"}, users...), "7", `{"a":1}`)...))
	assert.NotContains(t, with(t, db.URL(), "", false, append([]string{"check"}, users...)...).stdout, "users")

	down := with(t, db.URL(), "", false, "migrate", "down")
	assert.Equal(t, 2, down.status)
	assert.Contains(t, down.stderr, "DROP TABLE IF EXISTS")
	assert.Zero(t, with(t, db.URL(), "", false, "docs", "get", "ann").status, "still there")
	printed := with(t, "", "", false, "migrate", "print", "-down")
	assert.Contains(t, down.stderr, printed.stdout)
	assert.Equal(t, answer{}, with(t, db.URL(), "", false, "migrate", "down", "-yes"))
	_, err = db.Pool().Exec(t.Context(), with(t, "", "", false, "migrate", "print").stdout)
	require.NoError(t, err)
	assert.Equal(t, 3, with(t, db.URL(), "", false, "docs", "get", "ann").status)
}

// Passwords are refused where other users could read them, and never shown.
func TestPasswordsStayHidden(t *testing.T) {
	db := pgtest.New(t)
	_, err := db.Pool().Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	for _, dsn := range []string{
		"postgres://ann:s3cret@127.0.0.1:1/db", "postgres://127.0.0.1:1/db?user=ann&password=s3cret", "postgres://127.0.0.1:1/db?p%61ssword=s3cret",
		"host=127.0.0.1 port=1 user=ann password = s3cret", "host=127.0.0.1 port=1 PassWord='s3cret'", "postgres://ann:s3cr@et@127.0.0.1:1/db",
		"postgres://ann:s3cret@127.0.0.1:port/db", "postgres://127.0.0.1:1/db?sslpassword=s3cret", "postgres://ann:%zzs3cret@127.0.0.1:1/db",
		"postgres://ann:1/s3cret@127.0.0.1:1/db", "postgres://ann:1#s3cret@127.0.0.1:1/db", "postgres://ann:1?s3cret@127.0.0.1:1/db",
	} {
		got := with(t, db.URL(), "", false, "locks", "-dsn", dsn)
		assert.Equal(t, 2, got.status, dsn)
		assert.Contains(t, got.stderr, "has a password")
		file := filepath.Join(t.TempDir(), "dsn")
		require.NoError(t, os.WriteFile(file, []byte(dsn+"\n"), 0o600))
		for _, got := range []answer{got, with(t, dsn, "", false, "locks"), with(t, "", "", false, "locks", "-dsn-file", file), with(t, dsn, "", false, "docs", "get", "a"), with(t, dsn, "", false, "check")} {
			assert.NotZero(t, got.status, dsn)
			assert.NotContains(t, got.stdout+got.stderr, "s3cr", dsn)
			assert.NotContains(t, got.stdout+got.stderr, "et@", dsn)
		}
	}
	u, err := url.Parse(db.URL())
	require.NoError(t, err)
	assert.False(t, hasPassword("host=localhost user=ann"))
	assert.False(t, hasPassword("postgres://ann@localhost/db?passfile=x"))
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	t.Setenv("PGPASSWORD", password)
	assert.Equal(t, answer{}, with(t, "", "", false, "locks", "-dsn", u.String()), "without a password")
}

func TestWrongCallsAreTold(t *testing.T) {
	for _, args := range [][]string{
		{}, {"lock"}, {"docs"}, {"docs", "put", "a"}, {"who"}, {"who", "a", "b"}, {"locks", "x"}, {"locks", "-colour"}, {"who", "#x"}, {"who", "#1x"},
		{"locks", "-dsn", "a", "-dsn-file", "b"}, {"docs", "get", "-id-type", "float", "a"}, {"docs", "get", "-scope", "x", "a"}, {"locks", "-every", "0s"},
	} {
		got := with(t, "host=127.0.0.1 port=1", "", false, args...)
		assert.Equal(t, 2, got.status, "%q: %s", args, got.stderr)
		assert.Contains(t, got.stderr, "Try: lockctl -help")
	}
	assert.Zero(t, with(t, "", "", false, "-help").status)
	for _, c := range commands {
		got := with(t, "", "", false, append(strings.Fields(c.name), "-help")...)
		assert.Zero(t, got.status, c.name)
		assert.Contains(t, got.stderr, "Usage: lockctl "+c.name)
	}
	unreachable := with(t, "host=127.0.0.1 port=1", "", false, "locks")
	assert.Equal(t, 1, unreachable.status)
	assert.Contains(t, unreachable.stderr, "server unavailable")
}

func TestDatabaseIsKeptUntilInterrupted(t *testing.T) {
	for _, flags := range [][]string{{"-migrate"}, {"-migrate", "-tcp"}} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		r, w := io.Pipe()
		c := &call{stdout: w, stderr: io.Discard}
		status := make(chan int, 1)
		go func() { status <- c.run(ctx, append([]string{"db"}, flags...)) }()
		line, err := bufio.NewReader(r).ReadString('\n')
		require.NoError(t, err)
		conn, err := pgx.Connect(t.Context(), strings.TrimSpace(line))
		require.NoError(t, err)
		assert.Equal(t, len(flags) == 2, conn.Config().Host == "127.0.0.1")
		_, err = conn.Exec(t.Context(), "SELECT FROM lockstore_metadata")
		assert.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		interrupt()
		assert.Zero(t, <-status)
		_, err = pgx.Connect(t.Context(), strings.TrimSpace(line))
		assert.Error(t, err)
	}
}

// The examples are there to be copied, also into other modules.
func TestExamplesImportNothingInternal(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	require.NoError(t, err)
	assert.Contains(t, files, "../userapi/main.go")
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range parsed.Imports {
			assert.NotContains(t, i.Path.Value, "/internal/", file)
		}
	}
}
