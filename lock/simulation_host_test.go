package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A simHost is the host's pool. Each of its statements takes a while, and fails if the server
// is down; now and then its answer is lost.
type simHost struct {
	pgdb.DB // nil: what is not simulated
	w       *world
	process *process
	tx      *simTx // nil: each statement is a transaction of its own
}

// A simTx is a connection of the pool, and a transaction on it.
type simTx struct {
	simHost
	b       *backend // of the server; nil until the first statement
	broken  bool     // the server may take its time to notice
	request *simRequest
}

var errRefused = errors.New("connection refused")

// ask runs do as a statement at the server, with the model's mutex.
func (h simHost) ask(ctx context.Context, do func(*simServer)) (err error) {
	if h.tx != nil {
		defer func() { h.tx.broken = h.tx.broken || err != nil }()
	}
	h.w.Yield("a host's statement")
	select {
	case <-time.After(time.Duration(h.w.N(2000)) * time.Microsecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	switch {
	case h.w.server.down, h.tx != nil && h.tx.broken:
		return errRefused
	case h.tx != nil && h.tx.b == nil:
		h.tx.b = h.w.server.connect(nil, nil)
	case h.tx != nil && !h.tx.b.alive:
		return errReset
	}
	do(h.w.server)
	if h.w.Chance(h.w.faults) {
		return errReset
	}
	return nil
}

// Acquire is used by evictions.
func (h simHost) Acquire(context.Context) (pgdb.Conn, error) {
	t := &simTx{simHost: h}
	t.simHost.tx = t
	return t, nil
}

// Pipeline implements pgdb.Conn. No locker uses it.
func (t *simTx) Pipeline() pgdb.Pipeline { return nil }

// AskAlong implements pgdb.Conn. No locker uses it.
func (t *simTx) AskAlong(string, func(bool)) {}

// Begin implements pgdb.Conn.
func (t *simTx) Begin(context.Context) (pgdb.Transaction, error) { return t, nil }

// Rollback implements pgdb.Transaction.
func (t *simTx) Rollback(ctx context.Context) error {
	if t.b == nil {
		return nil
	}
	return t.ask(ctx, func(*simServer) { t.b.end(told) })
}

// Release implements pgdb.Conn. A broken connection lives at the server until that notices.
func (t *simTx) Release() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	switch {
	case t.b == nil || !t.b.alive:
	case t.w.IsCalm():
		t.b.end(told)
	default:
		t.w.outsiders = append(t.w.outsiders, t.b)
	}
}

// CommitRow and Commit are not used.

func (t *simTx) CommitRow(context.Context, []any, string, ...any) error { panic("not simulated") }
func (t *simTx) Commit(context.Context) error                           { panic("not simulated") }

// QueryRow asks a session to give a key up, or terminates it.
func (h simHost) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	found := false
	err := h.ask(ctx, func(srv *simServer) {
		switch sql {
		case askSQL:
			if h.tx.b.name != args[0].(string) {
				h.tx.b.name = args[0].(string)
				srv.w.Tell("session %d requests: %s", h.tx.b.pid, h.tx.b.name)
				h.tx.request = &simRequest{pid: uint32(args[1].(int64)), key: ctx.Value(evictionKey{}).(*simEviction).key.id}
				srv.w.evictRequests = append(srv.w.evictRequests, h.tx.request)
			}
			found = srv.table.at(args[1].(int64)).try(h.tx.b, shared)
			h.tx.request.raised, h.tx.request.at = found, time.Now()
		case terminateSQL:
			b := srv.backend(args[6].(int64))
			key := args[0].(int64)<<32 | args[1].(int64)
			if found = b != nil && b.start.UnixMicro() == args[7].(int64) && srv.holds(b, key); found {
				srv.w.terminated(ctx.Value(evictionKey{}).(*simEviction), b)
				b.end(told)
			}
		default:
			panic(sql)
		}
	})
	*dest[len(dest)-1].(*bool) = found
	if err == nil && !found && sql == terminateSQL {
		return pgdb.ErrNoRows
	}
	return err
}

// holds reports whether a session has a key or its guard.
func (srv *simServer) holds(b *backend, key int64) bool {
	l, guard := srv.table.at(key), srv.table.at(guardOf(key))
	return l.count(b, alone)+l.count(b, shared)+guard.count(b, alone) > 0
}

// Query returns a key's status.
func (h simHost) Query(ctx context.Context, each func(pgdb.Row) error, sql string, args ...any) error {
	switch sql {
	case keyStatusSQL:
	case peersSQL: // no other process is asked
		return h.ask(ctx, func(*simServer) {})
	default:
		panic(sql)
	}
	var rows []simRow
	key := args[0].(int64)<<32 | args[1].(int64)
	err := h.ask(ctx, func(srv *simServer) {
		if v, ok := ctx.Value(evictionKey{}).(*simEviction); ok && !v.asked {
			v.asked, v.seen = true, srv.w.victims(key)
		}
		l, guard := srv.table.at(key), srv.table.at(guardOf(key))
		for _, g := range l.holders {
			rows = append(rows, statusRow(key, true, g.n[alone] == 0, g.backend))
		}
		for _, b := range l.queue {
			rows = append(rows, statusRow(key, false, b.wait.mode == shared, b))
		}
		for _, g := range guard.holders {
			if g.n[alone] > 0 {
				rows = append(rows, statusRow(guardOf(key), true, false, g.backend))
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

// Write is that of pgdb.Conn.
func (h simHost) Write(ctx context.Context, each func(pgdb.Row) error, sql string, args ...any) error {
	return h.Query(ctx, each, sql, args...)
}

type simRow []any

func statusRow(key int64, granted, shared bool, b *backend) simRow {
	return simRow{high(key), low(key), granted, shared, b.pid, b.start.UnixMicro(), "", "", "", int64(0)}
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
