// Package squatter attacks sessions as a role can that may create objects in a schema of
// their search path. Tests use it to show that the attacks fail.
package squatter

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed squatter.sql
var squatterSQL string

// Paths returns search paths with the squatter's schema and one of the host: the usual one,
// in which PostgreSQL's own objects come first, and one in which they come last.
func Paths(schema string) []string {
	return []string{"squatter, " + schema, "squatter, " + schema + ", pg_catalog"}
}

// Settle creates the schema squatter: copies of PostgreSQL's functions, operators of many
// types, types and views, which record that they are used.
func Settle(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, squatterSQL)
	return err
}

// Caught returns the squatter's object that was used last, or "" if none was used since the
// last call.
func Caught(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var n int64
	var called bool
	err := pool.QueryRow(ctx, "SELECT last_value, is_called FROM squatter.used").Scan(&n, &called)
	if err != nil || !called {
		return "", err
	}
	var what string
	err = pool.QueryRow(ctx, `SELECT coalesce((SELECT what FROM squatter.objects WHERE n = $1), 'something'),
		setval('squatter.used', 1, false)`, n).Scan(&what, nil)
	if err != nil {
		return "", fmt.Errorf("what was used: %w", err)
	}
	return what, nil
}
