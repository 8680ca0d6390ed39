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

// startWatchdog leaves a backend behind that ends the server when it is no
// longer used. It needs no process of ours: none is left when it matters.
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
	// Only the socket is closed: the backend is in its statement and stays there.
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
