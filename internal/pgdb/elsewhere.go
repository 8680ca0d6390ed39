package pgdb

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrElsewhere is the error of a statement that found itself on the wrong server. The
// statement has done nothing.
var ErrElsewhere = errors.New("the connection leads elsewhere")

// Here is the destination of a boolean column that says whether the statement runs on the
// right server. Otherwise the statement fails with [ErrElsewhere].
type Here struct{}

// Scan returns [ErrElsewhere] unless value is true. It implements [database/sql.Scanner].
func (Here) Scan(value any) error {
	if here, _ := value.(bool); !here {
		return ErrElsewhere
	}
	return nil
}

// IsStandby reports whether err is that of a connection to a standby.
func IsStandby(err error) bool {
	var m wrongServer
	return errors.As(err, &m) && m.standby
}

// wrongServer is the error of a statement that reached the wrong server. It has done nothing,
// so that it can be sent on another connection; this one was closed.
type wrongServer struct {
	error
	standby bool
}

func (wrongServer) SafeToRetry() bool { return true }
func (m wrongServer) Unwrap() error   { return m.error }

// closeIfWrong closes a connection if err shows that it leads to the wrong server, so that
// the pool does not use it again. Other errors are returned unchanged.
func closeIfWrong(conn *pgx.Conn, err error) error {
	if !isElsewhere(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
	return wrongServer{err, conn.PgConn().ParameterStatus("in_hot_standby") == "on"}
}

func isElsewhere(err error) bool { return errors.Is(err, ErrElsewhere) || Code(err) == ReadOnly }

// closeTimeout limits closing a connection whose server has just answered.
const closeTimeout = 100 * time.Millisecond
