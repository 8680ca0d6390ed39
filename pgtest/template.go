package pgtest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// template fills a database; the zero value leaves it empty.
type template struct {
	key   string
	build func(context.Context, *pgxpool.Pool) error
}

// Template fills the database with build, which runs once per server and version. All
// tests that ask for this version, also in other processes, wait for build and get copies
// of its result. Change the version whenever build changes: use a hash of the migration
// files, for example.
//
// The copies also have what build did to the database itself: its owner, settings (ALTER
// DATABASE and ALTER ROLE IN DATABASE … SET), privileges, connection limit and comment.
//
// If build returns an error, the test fails, and the next test runs build again. The pool
// is closed when build returns.
func Template(version string, build func(context.Context, *pgxpool.Pool) error) Option {
	return func(o *options) { o.template = template{version, build} }
}

// database returns the name of the template's database: a hash, because names are limited
// to 63 bytes.
func (t template) database() string {
	if t.build == nil {
		return "template0" // unlike template1, it accepts no connections, which would prevent copying
	}
	sum := sha256.Sum256([]byte(t.key))
	return fmt.Sprintf("pgtest_template_%x", sum[:12])
}

// lockKey returns the key of the advisory lock that is held while the template is built.
func (t template) lockKey() int64 {
	sum := sha256.Sum256([]byte(t.database()))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// clone returns the name of a new database, which may have been created ahead.
func (s *Server) clone(ctx context.Context, t template) (string, error) {
	if name, ok := s.fromStock(t); ok {
		return name, nil
	}
	if t.build != nil {
		if err := s.ensure(ctx, t); err != nil {
			return "", fmt.Errorf("pgtest: template %q: %w", t.key, err)
		}
	}
	name, err := s.copyOf(ctx, t)
	if err != nil {
		return "", err
	}
	s.restock(t)
	return name, nil
}

//go:embed template.sql
var copySQL string

func (s *Server) copyOf(ctx context.Context, t template) (string, error) {
	name := s.newName()
	sql := "CREATE DATABASE " + name + " TEMPLATE " + t.database()
	if s.in != nil && !s.in.Durable {
		// This costs two checkpoints, which are cheap without fsync, and saves the 10 ms of
		// wal_log.
		sql += " STRATEGY file_copy"
	}
	if err := s.exec(ctx, sql); err != nil {
		return "", fmt.Errorf("pgtest: make a database: %w", err)
	}
	if t.build != nil {
		sql := strings.NewReplacer("{{template}}", t.database(), "{{copy}}", name).Replace(copySQL)
		if err := s.exec(ctx, sql); err != nil {
			s.dropLater(name)
			return "", fmt.Errorf("pgtest: copy what template %q says of the database itself: %w", t.key, err)
		}
	}
	return name, nil
}

// ensure builds the template unless it exists. An advisory lock lets one process build
// while the others wait; if that process dies, the server releases it.
func (s *Server) ensure(ctx context.Context, t template) error {
	conn, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.put(conn)
	const exists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	var found bool
	if err := conn.QueryRow(ctx, exists, t.database()).Scan(&found); err != nil || found {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", t.lockKey()); err != nil {
		return err
	}
	defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", t.lockKey()) // fails only with the connection
	if err := conn.QueryRow(ctx, exists, t.database()).Scan(&found); err != nil || found {
		return err
	}
	return s.build(ctx, conn, t)
}

// build fills a database under a temporary name and then renames it, so that no process
// sees an incomplete template.
func (s *Server) build(ctx context.Context, conn *pgx.Conn, t template) (err error) {
	name := s.newName()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.dropLater(name)
		}
	}()
	db := s.database(name)
	err = t.build(ctx, db.Pool())
	if err := errors.Join(err, db.disconnect()); err != nil {
		return err
	}
	if err := awaitUnused(ctx, conn, name); err != nil {
		return err
	}
	for _, sql := range []string{
		"ALTER DATABASE " + name + " WITH ALLOW_CONNECTIONS false IS_TEMPLATE true", // connections would prevent copying
		"ALTER DATABASE " + name + " RENAME TO " + t.database(),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
