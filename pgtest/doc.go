// Package pgtest gives each test a fresh database on a real PostgreSQL server,
// which it finds, starts, shares between test processes and takes away again.
//
//	func TestRename(t *testing.T) {
//		db := pgtest.New(t)
//		_, err := db.Pool().Exec(t.Context(), "CREATE TABLE users (name text)")
//		...
//	}
//
// A program uses [Start] and [Server.New] instead.
package pgtest
