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

// The names by which processes and the watchdog know each other in pg_stat_activity.
const (
	leasePrefix  = "pgtest lease "
	watchdogName = "pgtest watchdog"
	closingName  = "pgtest closing"
)

//go:embed watchdog.sql
var watchdogSQL string

// startWatchdog leaves a backend behind that ends the server when it is no
// longer used. It needs no process of ours: none is left when it matters.
func startWatchdog(ctx context.Context, cfg *pgx.ConnConfig, linger time.Duration) error {
	cfg = cfg.Copy()
	cfg.RuntimeParams["application_name"] = watchdogName
	watching := false
	cfg.OnNotice = nil
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("pgtest: start the watchdog: %w", err)
	}
	// Only the socket is closed: a Terminate message would wait behind the
	// statement, and the server does not look for one while it runs.
	defer conn.PgConn().Conn().Close()

	sql := strings.NewReplacer(
		"{{linger}}", fmt.Sprintf("%d ms", linger.Milliseconds()),
		"{{program}}", endProgram).Replace(watchdogSQL)
	front := conn.PgConn().Frontend()
	front.SendQuery(&pgproto3.Query{String: sql})
	if err := front.Flush(); err != nil {
		return fmt.Errorf("pgtest: start the watchdog: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.PgConn().Conn().SetReadDeadline(deadline)
	}
	for !watching {
		msg, err := front.Receive()
		if err != nil {
			return fmt.Errorf("pgtest: start the watchdog: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.NoticeResponse:
			watching = true
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("pgtest: start the watchdog: %s (SQLSTATE %s)", msg.Message, msg.Code)
		}
	}
	return nil
}
