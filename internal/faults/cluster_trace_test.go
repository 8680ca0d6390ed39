package faults_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// leastTraced is the minimum duration of a wait that counts as a reason for delay.
const leastTraced = 50 * time.Millisecond

// A trace records what the connections of a client waited for: a place in the pool, a host, the
// answer to a statement.
type trace struct {
	mu    sync.Mutex
	waits map[*wait]struct{} // those in progress, and the long ones
}

type wait struct {
	what     string
	from, to time.Time // zero: not yet
	err      error
}

// begin records the begin of a wait; the function that it returns ends it.
func (t *trace) begin(what string) (end func(error)) {
	w := &wait{what: what, from: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waits == nil {
		t.waits = map[*wait]struct{}{}
	}
	t.waits[w] = struct{}{}
	return func(err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.to, w.err = time.Now(), err; w.to.Sub(w.from) < leastTraced {
			delete(t.waits, w)
		}
	}
}

// between returns the waits between two moments, ordered by their begin.
func (t *trace) between(from, to time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines strings.Builder
	for _, w := range slices.SortedFunc(maps.Keys(t.waits), func(a, b *wait) int { return a.from.Compare(b.from) }) {
		if w.from.After(to) || !w.to.IsZero() && w.to.Before(from) {
			continue
		}
		end, err := "", ""
		if !w.to.IsZero() {
			end = fmt.Sprintf("%+d", w.to.Sub(from).Milliseconds())
		}
		if w.err != nil {
			err = ": " + strings.ReplaceAll(w.err.Error(), "\n", "; ")
		}
		fmt.Fprintf(&lines, "    %+6d  %6s  %s%s\n", w.from.Sub(from).Milliseconds(), end, w.what, err)
	}
	return lines.String()
}

// of traces what the connections of a pool wait for, under a name.
func (t *trace) of(name string) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) {
		config.ConnConfig.Tracer = tracer{t, name}
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			end := t.begin(name + ": dial " + address)
			conn, err := dial(ctx, network, address)
			end(err)
			return conn, err
		}
	}
}

// tracer is the tracer of one pool.
type tracer struct {
	*trace
	name string
}

type traced struct{}

func (t tracer) start(ctx context.Context, what string) context.Context {
	return context.WithValue(ctx, traced{}, t.begin(t.name+": "+what))
}

func (t tracer) end(ctx context.Context, err error) {
	if end, ok := ctx.Value(traced{}).(func(error)); ok {
		end(err)
	}
}

func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return t.start(ctx, "statement "+strings.Join(strings.Fields(d.SQL[:min(len(d.SQL), 60)]), " "))
}

func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	t.end(ctx, d.Err)
}

func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	return t.start(ctx, "batch")
}

func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (t tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	t.end(ctx, d.Err)
}

func (t tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return t.start(ctx, "connect")
}

func (t tracer) TraceConnectEnd(ctx context.Context, d pgx.TraceConnectEndData) {
	t.end(ctx, d.Err)
}

func (t tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return t.start(ctx, "place in the pool")
}

func (t tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, d pgxpool.TraceAcquireEndData) {
	t.end(ctx, d.Err)
}
