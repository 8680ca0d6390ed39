package pgdb

import (
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
)

// Unwrap finds pgx's connection in what [database/sql.Conn.Raw] gives: pgx's own, or one of
// a driver around it, for tracing say, that shows what it wraps. nil: there is none that
// can be seen.
func Unwrap(conn any) *pgx.Conn {
	for range mostWrappers {
		switch c := conn.(type) {
		case interface{ Conn() *pgx.Conn }: // pgx's stdlib
			return c.Conn()
		case interface{ Raw() driver.Conn }: // XSAM/otelsql
			conn = c.Raw()
		case interface{ WrappedConn() driver.Conn }: // Datadog
			conn = c.WrappedConn()
		case interface{ Unwrap() driver.Conn }:
			conn = c.Unwrap()
		case interface{ Conn() driver.Conn }:
			conn = c.Conn()
		default:
			return nil
		}
	}
	return nil
}

// mostWrappers are how deep pgx's connection can lie: a wrapper may show itself.
const mostWrappers = 16
