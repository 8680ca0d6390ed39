package metadata_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/storetest"
	"example.com/lockstore/pgtest"
)

// pooled starts a PgBouncer in transaction mode in front of a database, and
// returns how to connect to it.
func pooled(t *testing.T, db *pgtest.DB) *pgx.ConnConfig {
	t.Helper()
	program := ""
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Fatal("no pgbouncer in PATH, /usr/sbin or /usr/local/sbin: install it (Debian: apt-get install pgbouncer)")
	}
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listen.Addr().(*net.TCPAddr).Port
	require.NoError(t, listen.Close())

	target, err := pgx.ParseConfig(db.URL())
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "pgbouncer")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	ini := fmt.Sprintf(`[databases]
%s = host=%s port=%d dbname=%s user=%s password=%s pool_size=8
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
`, target.Database, target.Host, target.Port, target.Database, target.User, target.Password, port)
	file := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(file, []byte(ini), 0o644))
	require.NoError(t, os.Chmod(dir, 0o755))

	var log bytes.Buffer
	cmd := exec.Command(program, file)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = unprivileged(t)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})

	through, err := pgx.ParseConfig((&url.URL{
		Scheme: "postgres", User: url.User(target.User), Host: "127.0.0.1:" + strconv.Itoa(port), Path: target.Database, RawQuery: "sslmode=disable",
	}).String())
	require.NoError(t, err)
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := pgx.ConnectConfig(t.Context(), through)
		if err == nil {
			conn.Close(context.Background())
			return through
		}
		require.True(t, time.Now().Before(deadline), "PgBouncer does not answer: %v", err)
	}
}

// unprivileged makes a child of root somebody else, as PgBouncer will not run
// as root.
func unprivileged(t *testing.T) *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
	}
	t.Fatal("no user postgres or nobody to run pgbouncer as")
	return nil
}

func TestPostgresConformsBehindATransactionPooler(t *testing.T) {
	db := pgtest.New(t)
	config := pooled(t, db)
	for name, mode := range map[string]pgx.QueryExecMode{
		"exec": pgx.QueryExecModeExec, "simple protocol": pgx.QueryExecModeSimpleProtocol, "cached descriptions": pgx.QueryExecModeCacheDescribe,
	} {
		pool, err := pgxpool.ParseConfig(config.ConnString())
		require.NoError(t, err)
		pool.ConnConfig.DefaultQueryExecMode = mode
		native, err := pgxpool.NewWithConfig(t.Context(), pool)
		require.NoError(t, err)
		t.Cleanup(native.Close)
		viaSQLX := sqlx.NewDb(stdlib.OpenDB(*pool.ConnConfig), "pgx")
		t.Cleanup(func() { viaSQLX.Close() })
		for driver, open := range map[string]func(*metadata.Options) (*metadata.Postgres, error){
			"pgx":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(native, o) },
			"sqlx": func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(viaSQLX, o) },
		} {
			for kind, inGo := range map[string]bool{"function": false, "merge in Go": true} {
				t.Run(name+"/"+driver+"/"+kind, func(t *testing.T) {
					storetest.Run(t, func(t testing.TB) metadata.MetadataStore {
						store, err := open(&metadata.Options{MergeInGo: inGo})
						require.NoError(t, err)
						t.Cleanup(store.Close)
						require.NoError(t, store.Migrate(t.Context()))
						return store
					})
				})
			}
			t.Run(name+"/"+driver+"/the rest", func(t *testing.T) {
				test := &database{db, open}
				testTheRest(t, test)
			})
		}
	}
	require.Empty(t, db.Locks(t), "nothing is stranded")
}

// testTheRest uses every statement that the conformance suite does not.
func testTheRest(t *testing.T, d *database) {
	ctx, store := t.Context(), d.migrated(t, nil)
	results, err := store.MergeMany(ctx, []metadata.Patch{{"r1", raw(`{"n":1}`)}, {"r2", raw(`{"n":2}`)}})
	require.NoError(t, err)
	require.Len(t, results, 2)
	_, err = store.MergeMany(ctx, []metadata.Patch{{"r1", raw(`{"m":{"a":1}}`)}, {"r2", raw(`{"m":null}`)}})
	require.NoError(t, err)
	docs, err := store.GetMany(ctx, "r1", "r2", "r3")
	require.NoError(t, err)
	require.Len(t, docs, 2)
	n := 0
	for _, err := range store.Find(ctx, raw(`{"n":1}`), &metadata.FindOptions{After: "r0", PageSize: 1}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 1, n)
	_, err = store.IfVersion(docs["r1"].Version).Replace(ctx, "r1", raw(`{}`))
	require.NoError(t, err)
	held, err := newLocker(t, d).Lock(ctx, store.Key("r1"))
	require.NoError(t, err)
	doc, err := store.Merge(held.Context(), "r1", raw(`{"held":1}`))
	require.NoError(t, err)
	require.Equal(t, `{"held": 1}`, string(doc.Metadata))
	require.NoError(t, store.Delete(held.Context(), "r1"))
	require.NoError(t, held.Unlock())
	require.NoError(t, store.Delete(ctx, "r2"))
}
