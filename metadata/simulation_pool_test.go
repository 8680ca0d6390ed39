package metadata

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A pool is a process's connections.
type pool struct {
	at       *process
	prepares bool // a connection for each caller

	// For who has the world's mutex.
	free    int
	waiting []chan struct{}
	used    []*conn
	freed   time.Time // when it was full last
}

var _ pgdb.DB = (*pool)(nil)

// errTerminated is what the server says whose administrator ends a session.
var errTerminated = &pgdb.Error{Code: "57P01", Fatal: true}

// errPool is what a pool says that cannot connect.
var errPool = errors.New("closed pool")

func (p *pool) Full() bool {
	p.at.mu.Lock()
	defer p.at.mu.Unlock()
	return p.free == 0
}

func (p *pool) PreparesForCaller() bool { return p.prepares }

func (p *pool) Acquire(ctx context.Context) (pgdb.Conn, error) {
	w := p.at.world
	op := opOf(ctx)
	op.connecting.Store(true)
	defer op.connecting.Store(false)
	w.foreign(op, "acquire")
	if w.Chance(w.faults / 2) {
		w.strange.Store(true)
		return nil, errPool
	}
	if w.Chance(w.faults/2) && !w.StopUntil("acquire hangs", ctx.Done()) {
		return nil, ctx.Err()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.at.mu.Lock()
	if p.free == 0 {
		c := make(chan struct{})
		p.waiting = append(p.waiting, c)
		p.at.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
		}
		p.at.mu.Lock()
		if i := slices.Index(p.waiting, c); i >= 0 {
			p.waiting = slices.Delete(p.waiting, i, i+1)
			p.at.mu.Unlock()
			return nil, ctx.Err()
		}
	} else {
		p.free--
	}
	c := &conn{link: link{backend: p.at.serverFor(op).connect(), at: p.at}, op: op}
	c.preparedFor = op
	p.used = append(p.used, c)
	p.at.mu.Unlock()
	return c, nil
}

// serverFor is where a connection leads: for who has a hold, which shows there, perhaps
// to an old copy.
func (w *world) serverFor(o *op) *server {
	t := o.hold()
	reads := strings.HasPrefix(o.kind, "get") // which prove no hold of another document
	if t == nil || reads && t != o.ownHold || o.kind == "many" || !w.Chance(w.faults) {
		return w.server
	}
	t.misled = true
	old := newServer(w)
	for _, id := range w.docs {
		old.put(id, newImage([]byte(`{"old":1}`), 1))
	}
	return old
}

func (p *pool) give(c *conn) {
	p.at.mu.Lock()
	defer p.at.mu.Unlock()
	p.used = slices.DeleteFunc(p.used, func(o *conn) bool { return o == c })
	if len(p.waiting) > 0 {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
		return
	}
	if p.free == 0 {
		p.freed = time.Now()
	}
	p.free++
}

// Statements on the pool are those of readers.

func (p *pool) Exec(context.Context, string, ...any) (int64, error) { panic("nobody does this") }

func (p *pool) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	c, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return c.QueryRow(ctx, dest, sql, args...)
}

func (p *pool) Query(ctx context.Context, each func(pgdb.Row) error, sql string, args ...any) error {
	c, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return c.Query(ctx, each, sql, args...)
}

// A conn is a connection in somebody's hands.
type conn struct {
	link
	op       *op // who asked for it
	released bool
}

var _ pgdb.Conn = (*conn)(nil)

func (c *conn) Begin(ctx context.Context) (pgdb.Transaction, error) {
	w := c.at.world
	if w.Chance(w.faults / 4) {
		w.strange.Store(true)
		c.kill(nil)
		return nil, io.ErrUnexpectedEOF
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c.inTx = true
	return transaction{&c.link}, nil
}

// AskAlong is for stores with hints.
func (c *conn) AskAlong(string, func(bool)) {}

func (c *conn) Release() {
	w := c.at.world
	if c.released {
		w.Problem("LEAK", "a connection is released twice")
	}
	c.released = true
	c.kill(nil) // or rather reset it
	defer c.at.pool.give(c)
	w.foreign(c.op, "release")
}
