package metadata

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/simulate"
)

// A link is a client's end of a session.
type link struct {
	*backend
	at   *process
	sent *request // under way
	ids  []string // of the documents that the statements are about
}

func (l *link) Exec(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = l.send(ctx, l.at.dialect.request(ctx, nil, nil, &n, sql, args))
	return n, err
}

func (l *link) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	l.at.judgeCompany(sql, args)
	return l.send(ctx, l.at.dialect.request(ctx, dest, nil, nil, sql, args))
}

func (l *link) Query(ctx context.Context, each func(pgdb.Row) error, sql string, args ...any) error {
	l.at.judgeCompany(sql, args)
	q := l.at.dialect.request(ctx, nil, each, nil, sql, args)
	q.locks = simulate.One(l.at.Schedule, 100, 100, 100, 1, 2)
	return l.send(ctx, q)
}

// kill ends the session, as far as the client knows.
func (l *link) kill(why error) {
	l.at.mu.Lock()
	defer l.at.mu.Unlock()
	l.hangUp(why)
}

// hangUp is kill for who has the world's mutex.
func (l *link) hangUp(why error) {
	if l.idle != nil {
		l.idle.Stop()
	}
	l.end(why)
}

// errUnsent is an error of something that was not sent.
type errUnsent struct{}

func (errUnsent) Error() string     { return "not sent" }
func (errUnsent) SafeToRetry() bool { return true }
func (errUnsent) Unwrap() error     { return io.ErrUnexpectedEOF }

// send is a statement's way to the server and back.
func (l *link) send(ctx context.Context, q *request) error {
	w := l.at.world
	w.mu.Lock()
	if !l.inTx && !q.reads {
		q.commits = true
	}
	l.sent = q
	if len(q.ids) > 0 {
		l.ids = q.ids
	}
	w.mu.Unlock()
	defer w.model(func() { l.sent = nil })
	if q.what != "ROLLBACK TO SAVEPOINT" || q.op == nil || q.op.host == nil { // a host that stops these has what it asks for
		w.hooks(q.op, q.what)
	}
	if l.idle != nil {
		l.idle.Stop()
	}
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), errUnsent{})
	}
	if !w.StopUntil(q.what, ctx.Done()) {
		l.forsake(q)
		return ctx.Err()
	}
	fault := -1
	if w.Chance(w.faults) {
		fault = w.N(8)
		w.strange.Store(true)
	}
	if fault >= 0 {
		w.Tell("session %d: fault %d", l.pid, fault)
	}
	switch fault {
	case 0:
		l.kill(nil)
		return io.ErrUnexpectedEOF
	case 1:
		l.kill(nil)
		return errUnsent{}
	case 2:
		l.kill(nil)
		return errTerminated
	case 3, 4:
		q.op.undone()
		return l.refuse(&pgdb.Error{Code: []string{"40001", "40P01"}[fault-3]})
	case 5:
		w.StopUntil("hangs", ctx.Done())
		if ctx.Err() != nil {
			l.forsake(q)
			return ctx.Err()
		}
	}
	err := l.perform(ctx, q)
	if err != nil && err == ctx.Err() {
		return err
	}
	switch {
	case fault == 6:
		l.kill(nil)
		return io.ErrUnexpectedEOF
	case fault == 7:
		l.kill(nil)
		return errTerminated
	case q.commits && w.Chance(w.faults) && !w.StopUntil("answer", ctx.Done()):
		w.strange.Store(true)
		l.kill(nil)
		return ctx.Err()
	}
	switch pgdb.Code(err) {
	case "40P01", "40001":
		q.op.undone()
	case pgdb.LockNotAvailable:
		w.model(q.lost)
	}
	w.Tell("session %d: %s of %v: %v", l.pid, q.what, q.ids, err)
	w.hooks(q.op, "answer")
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.inTx && l.limit > 0 {
		l.idle.Reset(l.limit)
	}
	return err
}

// refuse is the server's no, which the transaction does not survive.
func (l *link) refuse(err error) error {
	l.at.mu.Lock()
	defer l.at.mu.Unlock()
	return l.backend.refuse(err)
}

func (s *backend) refuse(err error) error {
	if s.inTx {
		s.failed = true
	} else {
		s.rollback()
	}
	return err
}

// forsake is a client's leaving before it has the answer. The server may do what
// it was asked nevertheless, whenever it comes to it.
func (l *link) forsake(q *request) {
	w := l.at.world
	w.strange.Store(true)
	if w.N(2) == 0 {
		l.kill(nil)
		return
	}
	if l.idle != nil {
		l.idle.Stop()
	}
	// The client's end of it is closed.
	ghost := &link{backend: l.backend, at: l.at}
	w.model(func() { l.backend = &backend{server: l.server, ended: true, killed: make(chan struct{})} })
	go func() {
		w.Stop("ghost")
		err := ghost.perform(context.Background(), q)
		w.Tell("session %d, forsaken: %s: %v", ghost.pid, q.what, err)
		ghost.kill(nil)
	}()
}

// perform is the server's part. An error that is ctx's says that the client is gone.
func (l *link) perform(ctx context.Context, q *request) error {
	world, s := l.at.world, l.backend
	world.mu.Lock()
	defer world.mu.Unlock()
	for {
		switch {
		case s.ended && s.why != nil:
			return s.why
		case s.ended:
			return io.ErrUnexpectedEOF
		case s.failed && q.what != "ROLLBACK TO SAVEPOINT":
			return &pgdb.Error{Code: "25P02"}
		}
		err := q.run(s)
		var waits errWaits
		switch {
		case errors.As(err, &waits):
		case err == nil, err == pgdb.ErrNoRows:
			if q.commits {
				s.commit()
			}
			return err
		default:
			return s.refuse(err)
		}
		w := s.enqueue(waits.row)
		world.Tell("session %d: %s waits for row %s", s.pid, q.what, waits.row.id)
		if ring := s.ring(); len(slices.Compact(ring)) == 1 {
			world.Problem("DEADLOCK", "of writers of %s", ring[0])
		}
		world.mu.Unlock()
		err = l.wait(ctx, w, q.most)
		world.mu.Lock()
		got := s.leave(waits.row, w)
		switch {
		case s.ended:
			s.back(0)
		case got || err == nil:
		case err == ctx.Err():
			world.mu.Unlock()
			l.forsake(q)
			world.mu.Lock()
			return err
		default:
			return s.refuse(err)
		}
	}
}

// wait is a session's in a row's queue, for so long at most, unless that is 0.
func (l *link) wait(ctx context.Context, w *waiter, most time.Duration) error {
	s := w.session
	var timeout <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		timeout = timer.C
	}
	detect := time.NewTimer(time.Second) // deadlock_timeout
	defer detect.Stop()
	for {
		select {
		case <-w.granted:
			return nil
		case <-s.killed:
			return nil
		case <-timeout:
			return &pgdb.Error{Code: pgdb.LockNotAvailable}
		case <-ctx.Done():
			return ctx.Err()
		case <-detect.C:
			deadlock := false
			l.at.model(func() { deadlock = s.deadlocked() })
			if deadlock {
				return &pgdb.Error{Code: "40P01"}
			}
		}
	}
}

// A transaction is one of the store's own.
type transaction struct{ *link }

var _ pgdb.Transaction = transaction{}

func (t transaction) CommitRow(ctx context.Context, dest []any, sql string, args ...any) error {
	q := t.at.dialect.request(ctx, dest, nil, nil, sql, args)
	q.commits = true
	return t.send(ctx, q)
}

func (t transaction) Commit(ctx context.Context) error {
	return t.send(ctx, &request{what: "COMMIT", op: opOf(ctx), commits: true, run: func(*backend) error { return nil }})
}

func (t transaction) Rollback(ctx context.Context) error {
	begun := false
	t.at.model(func() { begun = !t.ended && t.inTx })
	if !begun {
		return nil
	}
	return t.send(ctx, &request{what: "ROLLBACK TO SAVEPOINT", op: opOf(ctx), run: func(s *backend) error { s.rollback(); return nil }})
}

// Write implements [pgdb.Conn].
func (l *link) Write(ctx context.Context, each func(pgdb.Row) error, sql string, args ...any) error {
	return l.Query(ctx, each, sql, args...)
}
