package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

// Change hints tell watchers in other processes which documents have changed. They are
// notifications (PostgreSQL documentation, LISTEN and NOTIFY). They are sent after the commit
// and apart from it: a transaction that writes and notifies takes a lock of the whole server
// while its commit is flushed.
//
// A process has one connection for hints, the hint connection (hintconn.go), on which it sends and
// receives them. It has it only while it watches, or others watch. Each process that watches
// holds a shared advisory lock there, the table's, so that others can find out. Those that
// commit ask once a second whether another session has that lock, after a commit and in its
// round trip. So where nobody watches there is no connection and nothing is sent; a process
// that begins to watch gets no hints for up to a second.
//
//	idle   --the first watcher here-------------> open, listens
//	       --a commit finds watchers elsewhere--> open, sends
//	open   --no watcher here, nor elsewhere-----> idle
//	       --the connection breaks--------------> open, with another one; all is compared
//
// A hint names a document by the number of its lock, a hash. It proves nothing: every role that
// may connect to the database can send one. The documents are then read, no more often than
// otherwise.
type hints struct {
	connect func(context.Context) (*pgx.Conn, error)
	timeout time.Duration
	logger  *slog.Logger
	watched *watching
	guard   lock.Key // the advisory lock of those who watch
	asking  string   // SQL: whether other sessions have it
	channel string

	since       time.Time
	asks        atomic.Int64 // the next time to ask, in nanoseconds after since; 0: not set
	othersWatch atomic.Bool  // another process watches

	mu      sync.Mutex
	watches bool
	runs    bool // the hint connection is open, or being opened
	closed  bool
	end     context.CancelFunc // ends run
	pending map[int64]bool
	wake    chan struct{}
	running sync.WaitGroup
}

const (
	askEvery    = time.Second     // whether others watch
	sendOn      = 5 * time.Second // send so long after no watcher was found: it may be reconnecting
	pingEvery   = 5 * time.Second // a connection on which nothing is sent
	connectTime = 10 * time.Second
	lastRetry   = 5 * time.Second      // the longest, to connect
	hintPace    = 3 * time.Millisecond // between hints of the same document
	mostPending = 1 << 14              // hints; comparisons find the others
	mostSent    = 450                  // in one notification, which has up to 8000 bytes
)

func newHints(p *postgres, connect func(context.Context) (*pgx.Conn, error)) *hints {
	guard := p.options.Namespace.Name(append([]string{"watch"}, p.options.keyParts...)...)
	return &hints{
		connect: connect, timeout: p.options.Timeout, logger: p.options.Logger, watched: p.watching,
		guard: guard, asking: othersWatchSQL(guard),
		channel: "lockstore_" + strconv.FormatUint(uint64(guard.Int64()), 16),
		since:   time.Now(), wake: make(chan struct{}, 1), pending: map[int64]bool{},
	}
}

// othersWatchSQL asks whether another session has the watchers' lock. The list of locks is
// read only if the lock could not be had, which also happens when two sessions ask at once.
func othersWatchSQL(guard lock.Key) string {
	key := guard.Int64()
	return fmt.Sprintf(catalog.Replace(`SELECT CASE WHEN pg_catalog.pg_try_advisory_xact_lock(%d::bigint) THEN false ELSE EXISTS (
	SELECT FROM pg_catalog.pg_locks AS l
	WHERE l.locktype {=} 'advisory' AND l.mode {=} 'ShareLock' AND l.granted AND l.pid {<>} pg_catalog.pg_backend_pid()
		AND l.database {=} (SELECT oid FROM pg_catalog.pg_database WHERE datname {=} pg_catalog.current_database())
		AND l.classid {=} %d::bigint::{oid} AND l.objid {=} %d::bigint::{oid} AND l.objsubid {=} 1) END`),
		key, uint32(key>>32), uint32(key))
}

// ask has the next commit on a writer's connection ask the server whether others watch, if it
// is time. With a hint connection it is asked there.
func (h *hints) ask(ctx context.Context, conn pgdb.Conn) {
	if h == nil || h.othersWatch.Load() || h.watched.count.Load() > 0 || !h.isTimeToAsk() {
		return
	}
	conn.AskAlong(h.asking, func(others bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if others && !h.closed {
			h.othersWatch.Store(true)
			h.start(ctx)
		}
	})
}

// committed tells watchers about a commit.
func (h *hints) committed(key func() int64) {
	here := h.watched.count.Load() > 0
	send := h.othersWatch.Load() || here && h.isTimeToAsk()
	if !here && !send {
		return
	}
	document := key()
	if here {
		h.watched.changed(document)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if send && h.runs && len(h.pending) < mostPending {
		h.pending[document] = true
		h.notify()
	}
}

// isTimeToAsk reports, to one caller, that it is time to ask whether others watch. The first
// time comes after the store was written to for a while.
func (h *hints) isTimeToAsk() bool {
	now := int64(time.Since(h.since))
	at := h.asks.Load()
	return (at == 0 || now >= at) && h.asks.CompareAndSwap(at, now+int64(askEvery)) && at != 0
}

// setWatched notes whether there are watchers in this process.
func (h *hints) setWatched(some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches = some
	if some && !h.closed {
		h.start(context.Background())
	} else {
		h.notify()
	}
}

// start has a goroutine keep the hint connection. Its caller has mu.
func (h *hints) start(ctx context.Context) {
	if h.runs {
		h.notify()
		return
	}
	ctx, h.end = context.WithCancel(context.WithoutCancel(ctx))
	h.runs = true
	h.running.Go(func() { h.run(ctx) })
}

func (h *hints) notify() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hints) close() {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.closed = true
	if h.end != nil {
		h.end()
	}
	h.mu.Unlock()
	h.running.Wait()
}

// isOver reports whether, as far as is known, nobody watches, here or elsewhere. Then run has
// to end.
func (h *hints) isOver() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed && (h.watches || h.othersWatch.Load()) {
		return false
	}
	h.runs = false
	h.othersWatch.Store(false)
	clear(h.pending)
	h.end()
	return true
}

// run keeps the hint connection while it is needed.
func (h *hints) run(ctx context.Context) {
	wait, again := firstRetry, false
	for !h.isOver() {
		w, err := h.open(ctx)
		if err == nil {
			wait = firstRetry
			err = h.serve(ctx, w, again)
			again = true
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if wait == firstRetry {
			h.logger.WarnContext(ctx, "metadata: no connection for hints, watchers are told by comparisons alone", "error", err)
		}
		if errors.Is(err, ErrUnsupported) {
			wait = time.Hour // until the host changes its pool
		}
		if h.pause(ctx, wait) {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// pause waits, and reports whether hints are no longer needed.
func (h *hints) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		case <-h.wake:
			if h.isOver() {
				return true
			}
		}
	}
}

// open opens the hint connection.
func (h *hints) open(ctx context.Context) (*hintConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := h.connect(ctx)
	if errors.Is(err, pgdb.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w; set Options.Connect, to lock.ConnectTo(url) for instance", ErrUnsupported, err)
	}
	if err != nil {
		return nil, pgdb.Clean(err)
	}
	w, err := openHintConn(ctx, conn, h.timeout)
	if err != nil {
		_ = conn.Close(ctx)
	}
	return w, err
}

// serve sends and receives hints until they are no longer needed, which is no error, or the
// connection breaks. again says that this is not the first connection.
func (h *hints) serve(ctx context.Context, w *hintConn, again bool) error {
	h.running.Go(func() { w.receive(h.received) })
	defer func() {
		w.close()
		for range w.answers { // until receive returns
		}
	}()
	listens, lastSent := false, time.Now()
	if h.othersWatch.Load() {
		w.known = lastSent
	}
	beat := time.NewTicker(askEvery)
	defer beat.Stop()
	for {
		h.mu.Lock()
		watches := h.watches
		h.mu.Unlock()
		switch {
		case watches && !listens:
			// The lock first: a process that sees it sends hints. What it has sent before LISTEN
			// is found by the comparison.
			if _, err := w.ask(ctx, fmt.Sprintf("SELECT pg_catalog.pg_advisory_lock_shared(%d); LISTEN %s", h.guard.Int64(), h.channel)); err != nil {
				return err
			}
			listens, lastSent = true, time.Now()
			h.watched.resume(again)
		case !watches && listens: // the lock ends with the connection
			h.othersWatch.Store(false)
			return nil
		case !watches && !h.othersWatch.Load():
			return nil
		}
		sent, err := h.send(ctx, w)
		if err != nil {
			return err
		}
		if sent {
			lastSent = time.Now()
		}
		select {
		case <-h.wake:
		case <-w.rest:
		case <-beat.C:
			if time.Since(lastSent) >= pingEvery {
				if _, err := w.ask(ctx, ""); err != nil {
					return err
				}
				lastSent = time.Now()
			}
		case <-w.answers: // closed, as nothing was asked
			return w.ended
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send sends the pending hints, if others watch. It asks first whether they do, if it is time
// and was last asked a while ago.
func (h *hints) send(ctx context.Context, w *hintConn) (bool, error) {
	keys := h.take(w)
	if time.Since(w.asked) >= askEvery/2 && (len(keys) > 0 || h.othersWatch.Load()) {
		w.asked = time.Now()
		others, err := w.ask(ctx, h.asking)
		if err != nil {
			return false, err
		}
		if others == "t" {
			w.known = w.asked
		}
		h.othersWatch.Store(time.Since(w.known) < sendOn)
	}
	if len(keys) == 0 || !h.othersWatch.Load() {
		return false, nil
	}
	var payload strings.Builder
	for _, key := range keys {
		payload.WriteString(strconv.FormatUint(uint64(key), 16))
		payload.WriteByte(' ')
	}
	_, err := w.ask(ctx, fmt.Sprintf("SELECT pg_catalog.pg_notify('%s', '%s')", h.channel, payload.String()))
	return true, err
}

// take takes pending hints to send, without those of documents that were sent just before.
func (h *hints) take(w *hintConn) (keys []int64) {
	if now := time.Now(); now.Sub(w.paced) >= hintPace {
		w.paced = now
		clear(w.told)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.pending {
		switch {
		case w.told[key]:
		case len(keys) < mostSent:
			keys = append(keys, key)
			delete(h.pending, key)
			w.told[key] = true
		}
	}
	if w.rest = nil; len(h.pending) > 0 {
		w.rest = time.After(hintPace)
	}
	return keys
}

// received takes in a hint of another process.
func (h *hints) received(payload string) {
	for _, name := range strings.Fields(payload) {
		if key, err := strconv.ParseUint(name, 16, 64); err == nil {
			h.watched.changed(int64(key))
		}
	}
}
