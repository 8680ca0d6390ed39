package metadata

import (
	"context"
	"errors"
	"io"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A pipe is a [pgdb.Pipeline]. The server carries out what was sent in order, whether
// somebody reads the answers or not; also when the client has left, now and then.
type pipe struct {
	*conn
	server *link         // its end, which outlives the client's
	last   chan struct{} // that what was sent last was carried out
	gone   bool          // the client

	unread, queued int
	sends, reads   int
}

// Pipeline implements [pgdb.Conn].
func (c *conn) Pipeline() pgdb.Pipeline {
	if !c.at.pipelines {
		return nil
	}
	return &pipe{conn: c, server: &link{backend: c.backend, at: c.at}}
}

func (p *pipe) Send(ctx context.Context, sql string, args ...any) (pgdb.Receive, error) {
	w := p.at.world
	var open, done bool
	var version int64
	var updated *int64
	var altered []byte
	q := p.at.dialect.request(ctx, []any{&open, &done, &version, &updated, &altered}, nil, nil, sql, args)
	w.model(func() { p.link.sent, p.ids = q, q.ids })
	defer w.model(func() {
		if p.unread == 0 { // a hook has panicked, or it was not sent
			p.link.sent = nil
		}
	})
	w.hooks(q.op, q.what)
	fault := -1
	if w.Chance(w.faults) {
		fault = w.N(2)
		w.strange.Store(true)
	}
	switch {
	case ctx.Err() != nil, fault == 0:
		return nil, errors.Join(ctx.Err(), errUnsent{})
	case fault == 1:
		p.leave()
		return nil, io.ErrUnexpectedEOF
	}
	w.model(func() {
		p.unread++
		p.sends++
		p.queued++
		w.Tell("session %d: %d statements under way", p.pid, p.unread)
	})
	var failed error
	number, before, carried, sent := p.sends, p.last, make(chan struct{}), time.Now()
	p.last = carried
	go func() {
		defer close(carried)
		if before != nil {
			<-before
		}
		failed = p.serve(q)
	}()
	return func(ctx context.Context, dest []any) (a pgdb.Answer, err error) {
		w.model(func() {
			if p.reads != number-1 {
				w.Problem("PIPELINE", "answer %d is read after %d", number, p.reads)
			}
		})
		defer w.model(func() {
			p.reads++
			if p.unread--; p.unread == 0 {
				p.link.sent = nil
			}
		})
		select {
		case <-carried:
			err = failed
		case <-ctx.Done():
			err = ctx.Err()
			p.leave()
		}
		if p.gone {
			err = errors.Join(err, io.ErrUnexpectedEOF)
		}
		w.Tell("session %d: answer to %s of %v: %v", p.pid, q.what, q.ids, err)
		w.hooks(q.op, "answer")
		*dest[0].(*bool), *dest[1].(*bool), *dest[2].(*int64), *dest[3].(**int64), *dest[4].(*[]byte) = open, done, version, updated, altered
		return pgdb.Answer{Began: sent.Add(time.Since(sent) / 2), Noticed: err == nil && w.N(20) == 0}, err
	}, nil
}

// serve is the server's part.
func (p *pipe) serve(q *request) (err error) {
	w, s := p.at.world, p.server
	w.Stop(q.what)
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.queued--; p.gone && p.queued == 0 {
			s.hangUp(nil)
		}
	}()
	fault := -1
	if w.Chance(w.faults) {
		fault = w.N(5)
		w.strange.Store(true)
		w.Tell("session %d: fault %d", s.pid, fault)
	}
	switch fault {
	case 0:
		s.kill(nil)
		return io.ErrUnexpectedEOF
	case 1, 2:
		q.op.undone()
		return s.refuse(&pgdb.Error{Code: []string{"40001", "40P01"}[fault-1]})
	}
	err = s.perform(context.Background(), q)
	switch code := pgdb.Code(err); {
	case fault == 3:
		s.kill(nil)
		return io.ErrUnexpectedEOF
	case fault == 4:
		s.kill(nil)
		return errTerminated
	case code == "40P01", code == "40001":
		q.op.undone()
	case code == pgdb.LockNotAvailable:
		w.model(q.lost)
	}
	w.Tell("session %d: %s of %v: %v", s.pid, q.what, q.ids, err)
	return err
}

// leave ends the client's end.
func (p *pipe) leave() {
	w := p.at.world
	w.strange.Store(true)
	ends := w.N(2) == 0
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.gone = true; ends || p.queued == 0 {
		p.server.hangUp(nil)
	}
	p.link.backend = &backend{server: p.link.server, ended: true, killed: make(chan struct{})}
}

func (p *pipe) Confirm(context.Context) error {
	w := p.at.world
	if p.unread > 0 {
		w.Problem("PIPELINE", "a commit is confirmed before %d answers", p.unread)
	}
	if w.Chance(w.faults) {
		w.strange.Store(true)
		return io.ErrUnexpectedEOF
	}
	return nil
}
