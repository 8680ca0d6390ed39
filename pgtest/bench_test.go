package pgtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// fiftyTables is a schema as large as that of a grown application.
var fiftyTables = pgtest.Template("fifty tables, 1", func(ctx context.Context, pool *pgxpool.Pool) error {
	for n := range 50 {
		_, err := pool.Exec(ctx, fmt.Sprintf(`CREATE TABLE t%d (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, body jsonb, at timestamptz DEFAULT now())`, n))
		if err != nil {
			return err
		}
	}
	return nil
})

// use connects to a database and queries one of its tables.
func use(b *testing.B, db *pgtest.DB) {
	conn, err := pgx.Connect(b.Context(), db.URL())
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), "TABLE t49")
	require.NoError(b, err)
	require.NoError(b, conn.Close(b.Context()))
}

// BenchmarkColdBoot starts a server from the cached data directory, until it takes connections.
func BenchmarkColdBoot(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s, err := pgtest.Start(b.Context(), pgtest.Dedicated())
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}

// BenchmarkJoin measures how long a process takes to join a running server.
func BenchmarkJoin(b *testing.B) {
	pgtest.New(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := pgtest.Start(b.Context())
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}

// BenchmarkFresh creates the first database of a process, with fifty tables.
func BenchmarkFresh(b *testing.B) {
	pgtest.New(b, fiftyTables)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s, err := pgtest.Start(b.Context())
		require.NoError(b, err)
		b.StartTimer()
		db, err := s.New(b.Context(), fiftyTables)
		require.NoError(b, err)
		use(b, db)
		b.StopTimer()
		s.Settle()
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}

// BenchmarkAhead takes a database with fifty tables that was created ahead.
func BenchmarkAhead(b *testing.B) {
	pgtest.New(b, fiftyTables)
	s := pgtest.New(b, fiftyTables).Server()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s.Settle()
		b.StartTimer()
		db, err := s.New(b.Context(), fiftyTables)
		require.NoError(b, err)
		use(b, db)
		b.StopTimer()
		require.NoError(b, db.Close())
		b.StartTimer()
	}
}

// BenchmarkBackToBack creates, uses and closes databases as fast as possible.
func BenchmarkBackToBack(b *testing.B) {
	s := pgtest.New(b, fiftyTables).Server()
	b.ReportAllocs()
	for b.Loop() {
		db, err := s.New(b.Context(), fiftyTables)
		require.NoError(b, err)
		use(b, db)
		require.NoError(b, db.Close())
	}
	s.Settle()
}

// BenchmarkTeardown measures how long the end of a test takes, after its pool was used.
func BenchmarkTeardown(b *testing.B) {
	s := pgtest.New(b, fiftyTables).Server()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s.Settle()
		db, err := s.New(b.Context(), fiftyTables)
		require.NoError(b, err)
		require.NoError(b, db.Pool().Ping(b.Context()))
		b.StartTimer()
		require.NoError(b, db.Close())
	}
}
