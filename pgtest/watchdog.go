package pgtest

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

//go:embed watchdog.sql
var watchdogSQL string

// startWatchdog starts a statement in a backend that ends the server when it is no longer
// used. It needs no client, because no test process is left by then.
func startWatchdog(ctx context.Context, cfg *pgx.ConnConfig, linger time.Duration) error {
	keep, err := keepTime()
	if err != nil {
		return err
	}
	cfg = cfg.Copy()
	cfg.RuntimeParams["application_name"] = watchdogName
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("pgtest: start the watchdog: %w", err)
	}
	socket := conn.PgConn().Conn()
	// Close only the socket: the backend goes on with its statement.
	defer socket.Close()
	if deadline, ok := ctx.Deadline(); ok {
		socket.SetDeadline(deadline)
	}
	front := conn.PgConn().Frontend()
	front.SendQuery(&pgproto3.Query{String: strings.NewReplacer(
		"{{linger}}", milliseconds(linger),
		"{{keep}}", milliseconds(max(linger, keep)),
		"{{program}}", endProgram,
	).Replace(watchdogSQL)})
	if err := front.Flush(); err != nil {
		return fmt.Errorf("pgtest: start the watchdog: %w", err)
	}
	for {
		msg, err := front.Receive()
		if err != nil {
			return fmt.Errorf("pgtest: start the watchdog: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.NoticeResponse: // it runs
			return nil
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("pgtest: start the watchdog: %s (SQLSTATE %s)", msg.Message, msg.Code)
		}
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
