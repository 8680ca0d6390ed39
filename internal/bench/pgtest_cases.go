package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/pgtest"
)

func pgtestCases() []testCase {
	playground := &databases{}
	return []testCase{{
		name: "pgtest/cold-boot",
		asks: "how long until a new server takes connections?",
		by:   byMedian,
		subjects: []subject{
			{"lockstore pgtest", "pgtest.Start with Dedicated", coldBoot},
			{"embedded-postgres", "github.com/fergusstrange/embedded-postgres: Start, on this machine's programs, in memory, without fsync; not as root, as which it fails", bootEmbedded},
		},
	}, {
		name:  "pgtest/join",
		asks:  "what does a process pay for a server that runs?",
		floor: "floor: pgx.Connect", by: byMedian,
		subjects: []subject{
			{"lockstore pgtest", "pgtest.Start", joining(join)},
			{"floor: pgx.Connect", "one connection to the same server", joining(connect)},
		},
	}, {
		name:  "pgtest/fresh",
		asks:  "how long until a new database with fifty tables has answered a query?",
		floor: "floor: CREATE DATABASE", by: byMedian,
		prepare: playground.open,
		subjects: []subject{
			{"lockstore pgtest", "Server.New with a Template, when tests have time to spare: made ahead", playground.made(50*time.Millisecond, true)},
			{"lockstore back to back", "Server.New with a Template, one after the other", playground.made(0, true)},
			{"floor: CREATE DATABASE", "CREATE DATABASE … TEMPLATE on an open connection, connect, query", playground.bare(true)},
			{"pgtestdb", "github.com/peterldowns/pgtestdb: New, on the same server", playground.pgtestdb(true)},
		},
	}, {
		name:  "pgtest/teardown",
		asks:  "how long does the end of a test wait for its database to go, with a connection that was used?",
		floor: "floor: DROP DATABASE", by: byMedian,
		prepare: playground.open,
		subjects: []subject{
			{"lockstore pgtest", "DB.Close", playground.made(50*time.Millisecond, false)},
			{"floor: DROP DATABASE", "close the connection, DROP DATABASE … WITH (FORCE) on an open one", playground.bare(false)},
			{"pgtestdb", "its cleanup, ForceTerminateConnections", playground.pgtestdb(false)},
		},
	}}
}

// timed makes a measurement of the durations that do returns, at least two.
func timed(ctx context.Context, p pace, do func() (time.Duration, error)) *measurement {
	m := newMeasurement()
	for start := time.Now(); ctx.Err() == nil && (m.Ops+m.Errors < 2 || time.Since(start) < p.Warm+p.Count); {
		took, err := do()
		if err != nil {
			m.fail(err)
			continue
		}
		m.Ops++
		m.Took += took
		m.Latency.record(took)
	}
	return m
}

// opening measures how long opening something takes, and closes it.
func opening(ctx context.Context, p pace, open func() (closed func() error, err error)) *measurement {
	return timed(ctx, p, func() (time.Duration, error) {
		start := time.Now()
		closed, err := open()
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		return took, closed()
	})
}

func coldBoot(ctx context.Context, _ *arena, p pace) (*measurement, error) {
	return opening(ctx, p, func() (func() error, error) {
		s, err := pgtest.Start(ctx, pgtest.Dedicated())
		if err != nil {
			return nil, err
		}
		return s.Close, nil
	}), nil
}

// joining is opening on a running server.
func joining(open func(ctx context.Context, running *pgtest.Server) (closed func() error, err error)) runFunc {
	return func(ctx context.Context, _ *arena, p pace) (m *measurement, err error) {
		running, err := pgtest.Start(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, running.Close()) }()
		return opening(ctx, p, func() (func() error, error) { return open(ctx, running) }), nil
	}
}

func join(ctx context.Context, _ *pgtest.Server) (func() error, error) {
	s, err := pgtest.Start(ctx)
	if err != nil {
		return nil, err
	}
	return s.Close, nil
}

func connect(ctx context.Context, running *pgtest.Server) (func() error, error) {
	conn, err := pgx.Connect(ctx, running.URL())
	if err != nil {
		return nil, err
	}
	return func() error { return conn.Close(ctx) }, nil
}

// databases is the server on which the cases create and drop databases.
type databases struct{ server *pgtest.Server }

// open starts the server once, because pgtestdb remembers what it created.
func (d *databases) open(ctx context.Context, in *arena, _ pace) (undo func() error, err error) {
	if d.server != nil {
		return func() error { return nil }, nil
	}
	d.server, err = pgtest.Start(ctx, pgtest.Dedicated())
	if err != nil {
		return nil, err
	}
	in.undo = append(in.undo, d.server.Close)
	return func() error { return nil }, d.makeTemplate(ctx)
}

const (
	templateName = "bench_template"
	schemaSQL    = `DO $$ BEGIN FOR n IN 0..49 LOOP EXECUTE format('CREATE TABLE t%s (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, body jsonb, at timestamptz DEFAULT now())', n);
		END LOOP; END $$`
	useSQL = "SELECT count(*) FROM t49"
)

// makeTemplate creates the floor's template.
func (d *databases) makeTemplate(ctx context.Context) error {
	if err := d.execute(ctx, "", "CREATE DATABASE "+templateName); err != nil {
		return err
	}
	return d.execute(ctx, templateName, schemaSQL)
}

func (d *databases) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(d.server.URL())
	if err != nil {
		return nil, err
	}
	if database != "" {
		config.Database = database
	}
	return pgx.ConnectConfig(ctx, config)
}

func (d *databases) execute(ctx context.Context, database, sql string) error {
	conn, err := d.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// made measures pgtest: creating a database, or closing it.
func (d *databases) made(pause time.Duration, making bool) runFunc {
	template := pgtest.Template("bench 1", func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, schemaSQL)
		return err
	})
	return func(ctx context.Context, _ *arena, p pace) (*measurement, error) {
		first, err := d.server.New(ctx, template) // builds the template
		if err != nil {
			return nil, err
		}
		if err := first.Close(); err != nil {
			return nil, err
		}
		return timed(ctx, p, func() (took time.Duration, err error) {
			time.Sleep(pause)
			start := time.Now()
			db, err := d.server.New(ctx, template)
			if err != nil {
				return 0, err
			}
			pool := db.Pool()
			if _, err := pool.Exec(ctx, useSQL); err != nil {
				return 0, err
			}
			made := time.Since(start)
			start = time.Now()
			err = db.Close()
			if making {
				return made, err
			}
			return time.Since(start), err
		}), nil
	}
}

// bare measures PostgreSQL itself.
func (d *databases) bare(making bool) runFunc {
	return func(ctx context.Context, _ *arena, p pace) (*measurement, error) {
		admin, err := d.connect(ctx, "")
		if err != nil {
			return nil, err
		}
		defer admin.Close(ctx)
		n := 0
		return timed(ctx, p, func() (took time.Duration, err error) {
			n++
			name := fmt.Sprint("bench_bare_", n)
			start := time.Now()
			if _, err := admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+templateName); err != nil {
				return 0, err
			}
			conn, err := d.connect(ctx, name)
			if err != nil {
				return 0, err
			}
			if _, err := conn.Exec(ctx, useSQL); err != nil {
				return 0, err
			}
			made := time.Since(start)
			start = time.Now()
			err = conn.Close(ctx)
			_, dropErr := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			err = errors.Join(err, dropErr)
			if making {
				return made, err
			}
			return time.Since(start), err
		}), nil
	}
}
