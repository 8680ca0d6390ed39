package pgdb

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrElsewhere says that a statement found that it had not been sent where it should
// have been. The statement has done nothing.
var ErrElsewhere = errors.New("the connection leads elsewhere")

// Here is where a boolean column goes that says whether the statement has been sent
// where it should be. False fails it with [ErrElsewhere].
type Here struct{}

// Scan implements [database/sql.Scanner].
func (Here) Scan(value any) error {
	if here, _ := value.(bool); !here {
		return ErrElsewhere
	}
	return nil
}

// ReadOnly is the SQLSTATE of a write on a standby, or in a read-only transaction.
const ReadOnly = "25006"

// IsStandby reports whether err is of a connection that led to a standby.
func IsStandby(err error) bool {
	var m misled
	return errors.As(err, &m) && m.standby
}

// misled is an error of a connection that led to the wrong server, and was closed for
// it. The statement has done nothing, so that it can be sent on another connection.
type misled struct {
	error
	standby bool
}

func (misled) SafeToRetry() bool { return true }
func (m misled) Unwrap() error   { return m.error }

// closeMisled closes a connection that err shows to lead to the wrong server, lest the
// pool hands it out again. Any other error passes unchanged.
func closeMisled(conn *pgx.Conn, err error) error {
	if !isElsewhere(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = conn.Close(ctx)
	return misled{err, conn.PgConn().ParameterStatus("in_hot_standby") == "on"}
}

func isElsewhere(err error) bool { return errors.Is(err, ErrElsewhere) || Code(err) == ReadOnly }

// farewell bounds the end of a connection whose server has just answered.
const farewell = 100 * time.Millisecond
