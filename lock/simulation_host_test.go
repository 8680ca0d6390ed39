package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/lockstore/internal/pgdb"
)

// A simHost is the host's pool. Each of its statements takes a while, and fails
// where the server is down; now and then its answer is lost.
type simHost struct {
	w       *world
	process *process
}

var errRefused = errors.New("connection refused")

// ask does what the server is asked, with the model's mutex.
func (h simHost) ask(ctx context.Context, do func(*simServer)) error {
	h.w.Yield("a host's statement")
	select {
	case <-time.After(time.Duration(h.w.N(2000)) * time.Microsecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.server.down {
		return errRefused
	}
	do(h.w.server)
	if h.w.Chance(h.w.faults) {
		return errReset
	}
	return nil
}

// Acquire is for those who write: see writer.
func (h simHost) Acquire(context.Context) (pgdb.Conn, error) { panic("not simulated") }

// Exec asks to evict.
func (h simHost) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	if sql != notifySQL {
		panic(sql)
	}
	return 1, h.ask(ctx, func(srv *simServer) {
		srv.notify(&pgproto3.NotificationResponse{PID: 1, Channel: evictChannel, Payload: args[0].(string)})
	})
}

// QueryRow terminates a session.
func (h simHost) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	if sql != terminateSQL {
		panic(sql)
	}
	found := false
	err := h.ask(ctx, func(srv *simServer) {
		if b := srv.backend(args[0].(int64)); b != nil && b.start.UnixMicro() == args[1].(int64) {
			srv.w.terminated(h.process, b)
			b.end(told)
			found = true
		}
	})
	*dest[0].(*bool) = found
	if err == nil && !found {
		return pgdb.ErrNoRows
	}
	return err
}

// Query tells a key's status.
func (h simHost) Query(ctx context.Context, each func(pgdb.Row) error, sql string, args ...any) error {
	if sql != keyStatusSQL {
		panic(sql)
	}
	var rows []simRow
	key := args[0].(int64)
	err := h.ask(ctx, func(srv *simServer) {
		if v, ok := ctx.Value(evictionKey{}).(*simEviction); ok && !v.asked {
			v.asked, v.seen = true, srv.w.victims(key)
		}
		l, guard := srv.table.at(place{key: key}), srv.table.at(place{key, true})
		for _, g := range l.holders {
			rows = append(rows, statusRow(key, true, g.n[alone] == 0, false, g.backend))
		}
		for _, b := range l.queue {
			rows = append(rows, statusRow(key, false, b.wait.mode == shared, false, b))
		}
		for _, g := range guard.holders {
			if g.n[alone] > 0 {
				rows = append(rows, statusRow(key, true, false, true, g.backend))
			}
		}
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

type simRow []any

func statusRow(key int64, granted, shared, writing bool, b *backend) simRow {
	return simRow{key, granted, shared, writing, b.pid, b.start.UnixMicro(), "", "", ""}
}

// Scan is that of pgdb.Row.
func (r simRow) Scan(dest ...any) error {
	for i, d := range dest {
		switch d := d.(type) {
		case *int64:
			*d = r[i].(int64)
		case *bool:
			*d = r[i].(bool)
		case *uint32:
			*d = r[i].(uint32)
		case *string:
			*d = r[i].(string)
		default:
			panic(fmt.Sprintf("%T", d))
		}
	}
	return nil
}
