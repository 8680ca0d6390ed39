package metadata

import (
	"context"
	"errors"
	"fmt"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

// Migrate creates what is missing in the database, by the table's DDL ([Table.DDL]) in one
// transaction. It changes nothing that exists, needs no more than the right to create objects
// in the schema, and may run in many processes at once: it waits for other migrations of the
// database, at most until ctx ends.
//
// Without a [Table].Schema it uses the schema in which the search path finds the objects, or
// else the first of the path, and names that schema in all that it creates.
//
// Objects that exist may have been made by another role, so as to run code in the host's name.
// So Migrate checks owners:
//
//   - The schema must belong to the role itself, a role of which it is a member, a superuser,
//     the database's owner or [Table].Owner, unless the host names it for a table of its own.
//   - A table or function in it must belong to one of the same, or to the schema's owner.
//
// Otherwise, or if the search path finds others of the same names first, Migrate creates
// nothing, and the error matches [ErrSchema] and says why.
func (p *Postgres) Migrate(ctx context.Context) error {
	if p.pg.queues.isClosed() {
		return ErrClosed
	}
	conn, err := p.pg.db.Acquire(ctx)
	if err != nil {
		return p.pg.failure(because(ctx, err), false)
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return p.pg.failure(because(ctx, err), false)
	}
	defer func() {
		ctx, cancel := p.pg.bounded(ctx)
		defer cancel()
		_ = tx.Rollback(ctx)
	}()
	if err := p.pg.migrate(ctx, tx); err != nil {
		return p.pg.failure(because(ctx, err), false)
	}
	return p.pg.failure(because(ctx, tx.Commit(ctx)), true)
}

// migrateKey is the lock that keeps two migrations from creating the same object at once, which
// is an error for one of them even with IF NOT EXISTS. It has no namespace, as the objects are
// the database's.
var migrateKey = lock.Namespace("").Name("metadata", "migrate").Int64()

const (
	migrateLockSQL = `SELECT pg_catalog.pg_advisory_xact_lock($1::bigint)`

	// homeSQL returns the schema of a table or else a function, or where they would be made.
	// Temporary tables, with which a session can hide others, do not count.
	homeSQL = `
SELECT coalesce(
	(SELECT n.nspname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
	WHERE c.oid {=} pg_catalog.to_regclass($1::{text}) AND c.relpersistence {<>} 't'),
	(SELECT n.nspname FROM pg_catalog.pg_proc AS f JOIN pg_catalog.pg_namespace AS n ON n.oid {=} f.pronamespace
	WHERE f.oid {=} pg_catalog.to_regprocedure($2::{text})),
	pg_catalog.current_schema())::{text}`

	// foundSQL returns whether a function, and a table if there is to be one, are where the
	// search path finds them.
	foundSQL = `SELECT coalesce(pg_catalog.to_regprocedure($1::{text}) {=} pg_catalog.to_regprocedure($2::{text})
	AND ($3::{text} IS NULL OR pg_catalog.to_regclass($3::{text}) {=} pg_catalog.to_regclass($4::{text})), false)`

	// strangersSQL returns what belongs to a role that is not trusted: of the schema $1 (if
	// $5), and its objects $2 and $3. $4 is Table.Owner. The owner of a schema is trusted with
	// what is in it.
	strangersSQL = `
WITH me AS (SELECT oid, rolsuper FROM pg_catalog.pg_roles WHERE rolname {=} CURRENT_USER),
home AS (SELECT oid, nspowner AS owner FROM pg_catalog.pg_namespace WHERE nspname {=} $1::{text}::{name}),
objects AS (
	SELECT 'schema' AS what, owner, false AS inside FROM home WHERE $5::boolean
	UNION ALL
	SELECT 'table ' {||} $2::{text} {||} ' in schema', c.relowner, true FROM pg_catalog.pg_class AS c JOIN home ON c.relnamespace {=} home.oid
	WHERE c.relname {=} $2::{text}::{name}
	UNION ALL
	SELECT 'function ' {||} $3::{text} {||} ' in schema', f.proowner, true FROM pg_catalog.pg_proc AS f JOIN home ON f.pronamespace {=} home.oid
	WHERE f.proname {=} $3::{text}::{name}
)
SELECT objects.what, r.rolname::{text}
FROM objects JOIN pg_catalog.pg_roles AS r ON r.oid {=} objects.owner, me, home
WHERE NOT (r.rolsuper OR r.oid {=} me.oid OR r.rolname {=} 'pg_database_owner' OR r.rolname {=} $4::{text}::{name}
	OR r.oid {=} (SELECT datdba FROM pg_catalog.pg_database WHERE datname {=} pg_catalog.current_database())
	OR NOT me.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
	OR objects.inside AND r.oid {=} home.owner)`
)

// migrate is Migrate inside its transaction.
func (p *postgres) migrate(ctx context.Context, conn pgdb.Querier) error {
	table := p.options.Table
	if p.defaultTable {
		table = Table{Schema: table.Schema, Tokens: table.Tokens}
	}
	if _, err := conn.Exec(ctx, migrateLockSQL, migrateKey); err != nil {
		return err
	}
	var named any // the table that is made
	if p.defaultTable {
		named = DefaultTable
	}
	byPath, unqualified := table.Schema == "", table.mergeSignature()
	if byPath {
		var home *string
		err := conn.QueryRow(ctx, []any{&home}, catalog.Replace(homeSQL), named, unqualified)
		if err != nil {
			return err
		}
		if home == nil {
			return fmt.Errorf("%w: the search path names no schema to create it in", ErrSchema)
		}
		table.Schema = *home
	}
	up, _, err := table.DDL()
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, up); err != nil {
		return err
	}
	made := []any{named} // or the function alone
	if table.Tokens != "" {
		made = append(made, table.Tokens)
	}
	for _, named := range made {
		if byPath {
			var found bool
			var short any
			name, ok := named.(string)
			if ok {
				short = quoteName(name)
			}
			err := conn.QueryRow(ctx, []any{&found}, catalog.Replace(foundSQL), unqualified, table.mergeSignature(), short, table.qualify(name))
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("%w: the search path finds others of these names before those in schema %q; name it in Table.Schema", ErrSchema, table.Schema)
			}
		}
		// The schema of a host's own table is trusted as that is, if the host names it.
		var what, owner string
		switch err := conn.QueryRow(ctx, []any{&what, &owner}, catalog.Replace(strangersSQL), table.Schema, named, mergeFunction, p.options.Table.Owner, byPath || p.defaultTable); {
		case err == nil:
			return fmt.Errorf("%w: %s %q was there already and belongs to role %q, which could have others' roles run what it likes; drop it, or trust that role by Table.Owner",
				ErrSchema, what, table.Schema, owner)
		case !errors.Is(err, pgdb.ErrNoRows):
			return err
		}
	}
	return nil
}
