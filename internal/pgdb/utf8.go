package pgdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrSession is the error of a session in which text is not UTF-8 from end to end.
var ErrSession = errors.New("unsuitable session")

// UTF8 makes operations of db fail with [ErrSession] if text is not UTF-8 for the server, the
// session or the driver. With pgx this costs no round trip: the server reports its settings
// when a connection begins. db must come from [Open].
func UTF8(db DB) DB {
	db.(*pool).suits = suitable
	return db
}

// TxOf is [Tx] for a transaction of db's database; if [UTF8] applies to db, it applies to the
// transaction. database/sql does not show a transaction's connection: unless a suitable
// connection of db has been seen before, the transaction first runs a query.
func TxOf(db DB, tx any) (Querier, error) {
	q, err := Tx(tx)
	careful, ok := db.(*pool)
	if err != nil || !ok || careful.suits == nil {
		return q, err
	}
	if native, ok := tx.(pgx.Tx); ok {
		return q, careful.suits(native.Conn())
	}
	return askingTx{q, careful}, nil
}

// suitable checks a connection by what the server has reported of it (PostgreSQL
// documentation, 54.2.7 Asynchronous Operations).
func suitable(conn *pgx.Conn) error {
	if conn == nil {
		return nil
	}
	report := conn.PgConn().ParameterStatus
	if err := isUTF8(report("server_encoding"), report("client_encoding")); err != nil {
		return err
	}
	if report("standard_conforming_strings") == "off" && conn.Config().DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return fmt.Errorf("%w: query mode simple_protocol takes standard_conforming_strings = on", ErrSession)
	}
	return nil
}

// sessionSQL queries what pgx knows of a session without asking: see [suitable].
const sessionSQL = "SELECT pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('client_encoding')," +
	" pg_catalog.current_setting('standard_conforming_strings')"

// askSession is [suitable] for connections of database/sql. Another driver than pgx may write
// arguments into the statements and quote them in an unknown way, so it needs
// standard_conforming_strings.
func askSession(ctx context.Context, q Querier, isPgx bool) error {
	var server, client, conforming string
	if err := q.QueryRow(ctx, []any{&server, &client, &conforming}, sessionSQL); err != nil {
		return err
	}
	if conforming == "off" && !isPgx {
		return fmt.Errorf("%w: a driver other than pgx's takes standard_conforming_strings = on", ErrSession)
	}
	return isUTF8(server, client)
}

// isUTF8 accepts an empty encoding, because poolers may not report it.
func isUTF8(server, client string) error {
	switch {
	case server != "UTF8" && server != "":
		return fmt.Errorf("%w: server_encoding is %s; it takes a database with ENCODING 'UTF8'", ErrSession, server)
	case client != "UTF8" && client != "":
		return fmt.Errorf("%w: client_encoding is %s; it takes UTF8", ErrSession, client)
	}
	return nil
}

// askingTx is a transaction of database/sql that is checked before its first statement.
type askingTx struct {
	Querier
	db *pool
}

func (t askingTx) look(ctx context.Context) error {
	if t.db.seen.Load() {
		return nil
	}
	err := askSession(ctx, t.Querier, !t.db.generic)
	if err == nil {
		t.db.seen.Store(true)
	}
	return err
}

func (t askingTx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	if err := t.look(ctx); err != nil {
		return 0, err
	}
	return t.Querier.Exec(ctx, sql, args...)
}

func (t askingTx) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	return t.Querier.QueryRow(ctx, dest, sql, args...)
}

func (t askingTx) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	if err := t.look(ctx); err != nil {
		return err
	}
	return t.Querier.Query(ctx, each, sql, args...)
}
