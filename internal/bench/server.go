package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	etcd "go.etcd.io/etcd/client/v3"

	"example.com/lockstore/pgtest"
)

// maxConnections is the server's setting, enough for every subject.
const maxConnections = 400

// An arena has the servers of the runs. Its exported fields are for other processes.
type arena struct {
	DSN   string // of a database that only this program uses
	Redis string // address of the Redis server; empty if there is none
	Etcd  string // address of the etcd server

	Database string // "PostgreSQL 15.4"

	monitor *pgxpool.Pool // two connections for observing
	redis   *redisServer  // nil if there is none
	etcd    *etcd.Client  // for observing
	undo    []func() error

	dialed func(net.Conn) net.Conn // wraps the connections of pgx's pools; nil: does not

	near    *arena   // the same servers without the distance, if there is one
	network *network // nil: there is none
}

// overTheSocket returns the arena without a distance.
func (in *arena) overTheSocket() *arena {
	if in.near != nil {
		return in.near
	}
	return in
}

// openArena starts the servers. Commits are as durable as with PostgreSQL's own defaults.
func openArena(ctx context.Context) (in *arena, err error) {
	in = &arena{}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	server, err := pgtest.Start(ctx, pgtest.Durable(), pgtest.Setting("max_connections", fmt.Sprint(maxConnections)))
	if err != nil {
		return in, err
	}
	in.undo = append(in.undo, server.Close)
	db, err := server.New(ctx)
	if err != nil {
		return in, err
	}
	in.DSN = db.URL()
	config, err := pgxpool.ParseConfig(in.DSN)
	if err != nil {
		return in, err
	}
	config.MaxConns = 2
	config.ConnConfig.RuntimeParams["application_name"] = "monitor"
	in.monitor, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return in, err
	}
	in.undo = append(in.undo, func() error { in.monitor.Close(); return nil })
	if err := in.monitor.QueryRow(ctx, "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)").Scan(&in.Database); err != nil {
		return in, err
	}
	// Next to PostgreSQL's files, so that all servers store on the same disk.
	dir, err := os.MkdirTemp(onDisk(), "bench-*")
	if err != nil {
		return in, err
	}
	in.undo = append(in.undo, func() error { return os.RemoveAll(dir) })
	in.redis, err = startRedis(ctx, dir)
	switch {
	case err == nil:
		in.undo = append(in.undo, in.redis.stop)
		in.Redis = in.redis.socket
	case !errors.Is(err, errNoRedis): // reported by its subjects
		return in, err
	}
	var stop func() error
	if in.Etcd, stop, err = startEtcd(ctx, dir); err != nil {
		return in, err
	}
	in.undo = append(in.undo, stop)
	if in.etcd, err = dialEtcd(context.WithoutCancel(ctx), in.Etcd); err != nil {
		return in, err
	}
	in.undo = append(in.undo, in.etcd.Close)
	return in, nil
}

// onDisk is where durable servers of pgtest have their files, too.
func onDisk() string {
	if info, err := os.Stat("/var/tmp"); err == nil && info.IsDir() {
		return "/var/tmp"
	}
	return ""
}

// close ends the servers, in reverse order.
func (in *arena) close() error {
	var errs []error
	for len(in.undo) > 0 {
		last := len(in.undo) - 1
		errs = append(errs, in.undo[last]())
		in.undo = in.undo[:last]
	}
	return errors.Join(errs...)
}

// pool opens a pgx pool of at most conns connections, as an application does.
func (in *arena) pool(ctx context.Context, conns int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(in.DSN)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(conns)
	if dial := config.ConnConfig.DialFunc; in.dialed != nil {
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return in.dialed(conn), nil
		}
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// sql opens a database/sql handle of at most conns connections on pgx's driver,
// which keeps them while they are idle.
func (in *arena) sql(conns int) (*sql.DB, error) {
	config, err := pgx.ParseConfig(in.DSN)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func (in *arena) sqlx(conns int) (*sqlx.DB, error) {
	db, err := in.sql(conns)
	if err != nil {
		return nil, err
	}
	return sqlx.NewDb(db, "pgx"), nil
}

const (
	// The monitor's own sessions do not count.
	connectionsSQL = `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'monitor'`

	// Left by an abandoned run, which may wait forever.
	terminateSQL = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'monitor'`

	// The tables of cirello's and goose's lockers.
	dropLocksSQL = "SET client_min_messages = error; DROP TABLE IF EXISTS locks, goose_lock; RESET client_min_messages"

	// Advisory locks of this database, in both key spaces: none may be left.
	leftLocksSQL = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
)

// watch counts the connections to the servers until stop, which returns the maximum.
func (in *arena) watch(ctx context.Context) (stop func() int) {
	done, most := make(chan struct{}), make(chan int, 1)
	go func() {
		top := 0
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for running := true; running; {
			select {
			case <-tick.C:
			case <-done:
				running = false
			}
			top = max(top, in.connections(ctx))
		}
		most <- top
	}()
	return func() int {
		close(done)
		return <-most
	}
}

// connections returns the number of connections to the servers besides our own, 0 if it is
// unknown.
func (in *arena) connections(ctx context.Context) (n int) {
	in.monitor.QueryRow(ctx, connectionsSQL).Scan(&n)
	return n + in.redis.connections(ctx) + etcdConnections(in.overTheSocket().Etcd)
}

// backends returns the server processes of sessions other than the monitor's.
func (in *arena) backends(ctx context.Context) (pids []int, err error) {
	rows, err := in.monitor.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// settle ends every session but the monitor's, waits until none is left, and removes every
// lock, so that no run affects another.
func (in *arena) settle(ctx context.Context) error {
	for n := -1; n != 0; time.Sleep(2 * time.Millisecond) {
		if err := in.monitor.QueryRow(ctx, terminateSQL).Scan(&n); err != nil {
			return err
		}
	}
	_, err := in.monitor.Exec(ctx, dropLocksSQL)
	_, forgotten := in.etcd.Delete(ctx, "\x00", etcd.WithFromKey())
	return errors.Join(err, forgotten, in.redis.forget(ctx))
}

func (in *arena) leftLocks(ctx context.Context) (n int64, err error) {
	err = in.monitor.QueryRow(ctx, leftLocksSQL).Scan(&n)
	return n, err
}
