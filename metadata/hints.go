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

// Hints tell watchers in other processes which documents have changed. They are notifications
// (PostgreSQL documentation, LISTEN and NOTIFY), sent after the commit and apart from it:
// who notifies in the transaction that writes takes a lock of the whole server's for
// the flush of its commit.
//
// A process has one connection for all its hints, those that it sends and those that it
// hears, and only while it watches or is heard. To be found, each that watches holds a
// shared advisory lock there, the table's. Whether somebody does is asked once a second,
// behind a commit and in its round trip, by whoever commits. So where nobody watches, there
// is no connection and nothing is sent, and a process that begins to watch is not hinted at
// for up to a second.
//
//	idle   --the first watcher------------------------> open, listens
//	       --a commit says that others watch elsewhere-> open, tells
//	open   --no watcher here, nor elsewhere-----------> idle
//	       --the connection breaks--------------------> open, by another, and all is compared
//
// A hint names a document by the number of its lock, a hash. It proves nothing: whoever may
// connect to the database can send one, upon which the documents are read, no more often than
// they would be.
type hints struct {
	connect func(context.Context) (*pgx.Conn, error)
	timeout time.Duration
	logger  *slog.Logger
	watched *watching
	guard   lock.Key // whose advisory lock they hold who watch
	asking  string   // whether others do
	channel string

	since time.Time
	asks  atomic.Int64 // when that is asked next, in nanoseconds since then; 0: not yet known
	tells atomic.Bool  // somebody else watches

	mu      sync.Mutex
	watches bool
	runs    bool // the connection is there, or being made
	closed  bool
	end     context.CancelFunc // of what runs
	pending map[int64]bool
	wake    chan struct{}
	running sync.WaitGroup
}

const (
	askEvery    = time.Second     // whether somebody watches
	tellsOn     = 5 * time.Second // when nobody is found, as who watches may just be connecting anew
	pingEvery   = 5 * time.Second // a connection on which there is nothing to say
	connectTime = 10 * time.Second
	lastRetry   = 5 * time.Second      // to connect
	hintPace    = 3 * time.Millisecond // of hints at the same document
	mostPending = 1 << 14              // hints; the others are left to the comparison
	mostTold    = 450                  // in one notification, which has up to 8000 bytes
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

// othersWatchSQL asks whether another session has the lock of those who watch. The list of
// locks is looked at only if it could not be had, as that also happens where two ask at once.
func othersWatchSQL(guard lock.Key) string {
	key := guard.Int64()
	return fmt.Sprintf(catalog.Replace(`SELECT CASE WHEN pg_catalog.pg_try_advisory_xact_lock(%d::bigint) THEN false ELSE EXISTS (
	SELECT FROM pg_catalog.pg_locks AS l
	WHERE l.locktype {=} 'advisory' AND l.mode {=} 'ShareLock' AND l.granted AND l.pid {<>} pg_catalog.pg_backend_pid()
		AND l.database {=} (SELECT oid FROM pg_catalog.pg_database WHERE datname {=} pg_catalog.current_database())
		AND l.classid {=} %d::bigint::{oid} AND l.objid {=} %d::bigint::{oid} AND l.objsubid {=} 1) END`),
		key, uint32(key>>32), uint32(key))
}

// ask has the next commit on a writer's connection bring with it whether others watch, if
// it is time. Where there is a connection for hints it is asked there.
func (h *hints) ask(ctx context.Context, conn pgdb.Conn) {
	if h == nil || h.tells.Load() || h.watched.count.Load() > 0 || !h.isTimeToAsk() {
		return
	}
	conn.AskAlong(h.asking, func(others bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if others && !h.closed {
			h.tells.Store(true)
			h.start(ctx)
		}
	})
}

// committed tells who watches of a commit.
func (h *hints) committed(key func() int64) {
	here := h.watched.count.Load() > 0
	tells := h.tells.Load() || here && h.isTimeToAsk()
	if !here && !tells {
		return
	}
	document := key()
	if here {
		h.watched.changed(document)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if tells && h.runs && len(h.pending) < mostPending {
		h.pending[document] = true
		h.rouse()
	}
}

// isTimeToAsk reports, to one caller, that it is time to ask whether somebody watches. The
// first time is not before the store has been written to for a while.
func (h *hints) isTimeToAsk() bool {
	now := int64(time.Since(h.since))
	at := h.asks.Load()
	return (at == 0 || now >= at) && h.asks.CompareAndSwap(at, now+int64(askEvery)) && at != 0
}

// attended is told whether there are watchers here.
func (h *hints) attended(some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches = some
	if some && !h.closed {
		h.start(context.Background())
	} else {
		h.rouse()
	}
}

// start has the connection kept, by another goroutine. Its caller has mu.
func (h *hints) start(ctx context.Context) {
	if h.runs {
		h.rouse()
		return
	}
	ctx, h.end = context.WithCancel(context.WithoutCancel(ctx))
	h.runs = true
	h.running.Go(func() { h.run(ctx) })
}

func (h *hints) rouse() {
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

// isOver reports whether nobody watches, here or elsewhere, as far as is known. Then what
// runs has to end.
func (h *hints) isOver() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed && (h.watches || h.tells.Load()) {
		return false
	}
	h.runs = false
	h.tells.Store(false)
	clear(h.pending)
	h.end()
	return true
}

// run keeps the connection for as long as it is of use.
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
			wait = time.Hour // which a host's change of its pool would take
		}
		if h.pause(ctx, wait) {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// pause waits, and reports whether it is over.
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

// open connects.
func (h *hints) open(ctx context.Context) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := h.connect(ctx)
	if errors.Is(err, pgdb.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w; set Options.Connect, to lock.ConnectTo(url) for instance", ErrUnsupported, err)
	}
	if err != nil {
		return nil, pgdb.Clean(err)
	}
	w, err := openWire(ctx, conn, h.timeout)
	if err != nil {
		_ = conn.Close(ctx)
	}
	return w, err
}

// serve sends and hears hints until nobody needs it, which is no error, or it breaks. again
// says that there was a connection before.
func (h *hints) serve(ctx context.Context, w *wire, again bool) error {
	gone := make(chan error, 1)
	h.running.Go(func() { gone <- w.receive(h.heard) })
	defer func() {
		w.close()
		if gone != nil {
			<-gone
		}
	}()
	listens, said := false, time.Now()
	if h.tells.Load() {
		w.known = said
	}
	beat := time.NewTicker(askEvery)
	defer beat.Stop()
	for {
		h.mu.Lock()
		watches := h.watches
		h.mu.Unlock()
		switch {
		case watches && !listens:
			// The lock first: whoever sees it has its hints wait for who listens, or else
			// the comparison finds what they would have told.
			if _, err := w.ask(ctx, fmt.Sprintf("SELECT pg_catalog.pg_advisory_lock_shared(%d); LISTEN %s", h.guard.Int64(), h.channel)); err != nil {
				return err
			}
			listens, said = true, time.Now()
			h.watched.resume(again)
		case !watches && listens: // the lock goes with the connection
			h.tells.Store(false)
			return nil
		case !watches && !h.tells.Load():
			return nil
		}
		told, err := h.tell(ctx, w)
		if err != nil {
			return err
		}
		if told {
			said = time.Now()
		}
		select {
		case <-h.wake:
		case <-w.rest:
		case <-beat.C:
			if time.Since(said) >= pingEvery {
				if _, err := w.ask(ctx, ""); err != nil {
					return err
				}
				said = time.Now()
			}
		case err := <-gone:
			gone = nil
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell sends the hints that there are, if somebody else watches. It asks for that first if
// it is time, and if it was known to be so for the last time a while ago.
func (h *hints) tell(ctx context.Context, w *wire) (bool, error) {
	keys := h.take(w)
	if time.Since(w.asked) >= askEvery/2 && (len(keys) > 0 || h.tells.Load()) {
		w.asked = time.Now()
		others, err := w.ask(ctx, h.asking)
		if err != nil {
			return false, err
		}
		if others == "t" {
			w.known = w.asked
		}
		h.tells.Store(time.Since(w.known) < tellsOn)
	}
	if len(keys) == 0 || !h.tells.Load() {
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

// take takes hints to tell, but those at documents that others have just been hinted at.
func (h *hints) take(w *wire) (keys []int64) {
	if now := time.Now(); now.Sub(w.paced) >= hintPace {
		w.paced = now
		clear(w.told)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.pending {
		switch {
		case w.told[key]:
		case len(keys) < mostTold:
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

// heard takes a hint of another process.
func (h *hints) heard(payload string) {
	for _, name := range strings.Fields(payload) {
		if key, err := strconv.ParseUint(name, 16, 64); err == nil {
			h.watched.changed(int64(key))
		}
	}
}
