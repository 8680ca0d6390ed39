package lock

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

const queryCanceled = "57014"

func sqlstate(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func cleaned(err error) error { return err }
