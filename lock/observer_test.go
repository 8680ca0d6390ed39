package lock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// A journal observes everything and records it.
type journal struct {
	mu    sync.Mutex
	lines []string
	open  int // what has begun, and not ended
	wrong []string
	added chan struct{}
}

func newJournal() *journal { return &journal{added: make(chan struct{}, 1)} }

type (
	callerKey struct{}
	begunKey  struct{ of string }
	begun     struct {
		what  string
		ended bool
	}
)

func (j *journal) begin(ctx context.Context, of string, start any) context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open++
	return context.WithValue(ctx, begunKey{of}, &begun{what: fmt.Sprint(start)})
}

func (j *journal) end(ctx context.Context, of string, start any, line string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open--
	b, _ := ctx.Value(begunKey{of}).(*begun)
	if b == nil || b.what != fmt.Sprint(start) || b.ended {
		j.wrong = append(j.wrong, fmt.Sprintf("%s %v ends, but %+v has begun", of, start, b))
	} else {
		b.ended = true
	}
	if kind := lock.ErrorType(err); kind != "" {
		line += " " + kind
	}
	j.lines = append(j.lines, of+" "+line)
	select {
	case j.added <- struct{}{}:
	default:
	}
}

func (j *journal) AcquireStart(ctx context.Context, a lock.AcquireStart) context.Context {
	return j.begin(ctx, "acquire", a)
}

func (j *journal) AcquireEnd(ctx context.Context, e lock.AcquireEnd) {
	j.end(ctx, "acquire", e.AcquireStart, fmt.Sprint(e.Operation, " ", e.Keys), e.Err)
}

func (j *journal) HoldStart(ctx context.Context, h lock.HoldStart) context.Context {
	return j.begin(ctx, "hold", h)
}

func (j *journal) HoldEnd(ctx context.Context, e lock.HoldEnd) {
	line := fmt.Sprint(e.Keys)
	if e.Shared {
		line += " shared"
	}
	if ctx.Value(callerKey{}) == nil || e.Held < 0 {
		line += " without its caller's context or time"
	}
	j.end(ctx, "hold", e.HoldStart, line, e.Err)
}

func (j *journal) ConnectStart(ctx context.Context, c lock.ConnectStart) context.Context {
	return j.begin(ctx, "connect", c)
}

func (j *journal) ConnectEnd(ctx context.Context, e lock.ConnectEnd) {
	j.end(ctx, "connect", e.ConnectStart, fmt.Sprint(e.Backend.PID != 0, e.Took > 0), e.Err)
}

func (j *journal) SessionStart(ctx context.Context, s lock.SessionStart) context.Context {
	return j.begin(ctx, "session", s)
}

func (j *journal) SessionEnd(ctx context.Context, e lock.SessionEnd) {
	line := fmt.Sprint(e.Locks)
	if e.Err != nil {
		line += " lost"
	}
	if e.Lasted <= 0 {
		line += " without its time"
	}
	j.end(ctx, "session", e.SessionStart, line, nil)
}

func (j *journal) BatchStart(ctx context.Context, b lock.BatchStart) context.Context {
	return j.begin(ctx, "batch", b)
}

func (j *journal) BatchEnd(ctx context.Context, e lock.BatchEnd) {
	j.end(ctx, "batch", e.BatchStart, fmt.Sprint(e.Operations > 0 && e.Took > 0), e.Err)
}

// told returns what has ended of some kinds since it was last called.
func (j *journal) told(of ...string) (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = slices.DeleteFunc(j.lines, func(line string) bool {
		kind, _, _ := strings.Cut(line, " ")
		if !slices.Contains(of, kind) {
			return false
		}
		lines = append(lines, line)
		return true
	})
	return lines
}

// wait waits until something of a kind has ended, and returns it.
func (j *journal) wait(t testing.TB, of string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		if lines := j.told(of); len(lines) > 0 {
			return lines[0]
		}
		select {
		case <-j.added:
		case <-timeout:
			require.Fail(t, "nothing has ended", "of %s", of)
		}
	}
}

// check checks that each end had its start.
func (j *journal) check(t testing.TB, open int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	assert.Empty(t, j.wrong)
	assert.Equal(t, open, j.open, "have begun and not ended")
}

// eachObserved runs a test on every Locker.
func eachObserved(t *testing.T, test func(t *testing.T, j *journal, l lock.AllLocker)) {
	t.Run("pgx", func(t *testing.T) {
		j := newJournal()
		test(t, j, newPostgres(t, pgtest.New(t).Pool(), &lock.PostgresOptions{Observers: []lock.Observer{j}}))
	})
	t.Run("database/sql", func(t *testing.T) {
		j := newJournal()
		test(t, j, newPostgres(t, pgtest.New(t).SQLX(), &lock.PostgresOptions{Observers: []lock.Observer{j}}))
	})
	t.Run("Memory", func(t *testing.T) {
		j := newJournal()
		test(t, j, lock.NewMemory(j))
	})
}

// Each call that asks for a lock is reported by name, with its keys and the kind of its error,
// and each hold from its grant to its release.
func TestObserversAreToldOfLocksAndHolds(t *testing.T) {
	eachObserved(t, func(t *testing.T, j *journal, l lock.AllLocker) {
		ctx := context.WithValue(t.Context(), callerKey{}, true)
		a, b := lock.Name("a"), lock.Name("b")
		got := func(held *lock.Held, err error) *lock.Held {
			t.Helper()
			require.NoError(t, err)
			return held
		}
		failed := func(_ *lock.Held, err error) {
			t.Helper()
			require.Error(t, err)
		}
		unlock := func(held *lock.Held) {
			t.Helper()
			require.NoError(t, held.Unlock())
			require.NoError(t, held.Unlock(), "which is not told again")
		}
		held := got(l.Lock(ctx, a))
		assert.NotNil(t, held.Context().Value(begunKey{"hold"}), "what HoldStart returned is the holder's context")
		assert.Nil(t, held.Context().Value(begunKey{"acquire"}))
		failed(l.TryLock(ctx, a))
		failed(l.TryRLock(ctx, a))
		failed(l.Lock(held.Context(), a))
		brief, cancel := context.WithCancel(ctx)
		go cancel()
		failed(l.Lock(brief, a))
		late, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		failed(l.RLock(late, a))
		failed(l.Lock(ctx, lock.Key{}))
		unlock(held)
		shared := got(l.RLock(ctx, a))
		unlock(got(l.TryRLock(ctx, a)))
		unlock(shared)
		unlock(got(l.TryLock(ctx, b)))
		unlock(got(l.LockAll(ctx, b, a)))
		semaphore, err := lock.NewSemaphore(l, lock.Name("s"), 2)
		require.NoError(t, err)
		unlock(got(semaphore.Acquire(ctx)))
		unlock(got(semaphore.TryAcquire(ctx)))

		assert.Equal(t, []string{
			"acquire Lock [a]", "acquire TryLock [a] busy", "acquire TryRLock [a] busy", "acquire Lock [a] held",
			"acquire Lock [a] canceled", "acquire RLock [a] busy", "acquire Lock [invalid key] invalid",
			"acquire RLock [a]", "acquire TryRLock [a]", "acquire TryLock [b]", "acquire LockAll [b a]",
			"acquire Acquire [s]", "acquire TryAcquire [s]",
		}, j.told("acquire"))
		holds := j.told("hold")
		require.Len(t, holds, 7)
		assert.Equal(t, []string{"hold [a]", "hold [a] shared", "hold [a] shared", "hold [b]"}, holds[:4])
		assert.Contains(t, []string{"hold [a b]", "hold [b a]"}, holds[4])
		for _, permit := range holds[5:] {
			assert.Contains(t, []string{"hold [s#0]", "hold [s#1]"}, permit)
		}
		if p, ok := l.(*lock.Postgres); ok {
			require.NoError(t, p.Close(t.Context()))
			assert.Equal(t, "connect true true", j.wait(t, "connect"))
			assert.Equal(t, "session 0", j.wait(t, "session"))
			assert.Equal(t, "batch true", j.wait(t, "batch"))
		}
		j.check(t, 0)
	})
}

// A hold that is lost, or evicted, ends with the reason, and lasts until then. The connection
// is reported as lost, and so are the attempts to replace it.
func TestObserversAreToldOfLosses(t *testing.T) {
	db := pgtest.New(t)
	j := newJournal()
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{Observers: []lock.Observer{j}})
	ctx := context.WithValue(t.Context(), callerKey{}, true)

	held, err := locker.Lock(ctx, lock.Name("a"))
	require.NoError(t, err)
	require.NoError(t, locker.Evict(ctx, held.Key(), 10*time.Second))
	<-held.Context().Done()
	require.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
	assert.Equal(t, "hold [a] evicted", j.wait(t, "hold"))

	held, err = locker.Lock(ctx, lock.Name("a"))
	require.NoError(t, err)
	assert.Equal(t, "connect true true", j.wait(t, "connect"))
	backend, _ := held.Backend(held.Key())
	_, err = db.Pool().Exec(ctx, "SELECT pg_terminate_backend($1)", backend.PID)
	require.NoError(t, err)
	<-held.Context().Done()
	assert.Equal(t, "session 1 lost", j.wait(t, "session"))
	assert.Equal(t, "connect true true", j.wait(t, "connect"))
	require.ErrorIs(t, held.Unlock(), lock.ErrLost)
	assert.Equal(t, "hold [a] lost", j.wait(t, "hold"))

	held, err = locker.Lock(ctx, lock.Name("a"))
	require.NoError(t, err)
	require.NoError(t, locker.Close(ctx))
	assert.ErrorIs(t, held.Unlock(), lock.ErrClosed)
	assert.Equal(t, "hold [a] closed", j.wait(t, "hold"))
	assert.Equal(t, "session 0", j.wait(t, "session"))
	j.check(t, 0)
}

// An attempt to connect that fails is reported.
func TestObserversAreToldOfRefusedConnections(t *testing.T) {
	proxy := pgtest.NewProxy(t, pgtest.New(t))
	proxy.Cut()
	j := newJournal()
	_, err := lock.NewPostgres(t.Context(), pgtest.New(t).Pool(), &lock.PostgresOptions{Connect: lock.ConnectTo(proxy.URL()), Observers: []lock.Observer{j}})
	require.Error(t, err)
	assert.Contains(t, j.wait(t, "connect"), "connect false true ")
	j.check(t, 0)
}

// A wait connection is reported as one.
func TestObserversAreToldOfWaitConnections(t *testing.T) {
	db := pgtest.New(t)
	var waits waiting
	mine, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), &lock.PostgresOptions{Observers: []lock.Observer{&waits}})
	held := take(t, mine, lock.Name("k"))
	got := make(chan *lock.Held, 1)
	go func() { got <- take(t, other, lock.Name("k")) }()
	require.Eventually(t, func() bool { return waits.load() > 0 }, patience, time.Millisecond)
	assert.Equal(t, 2, other.Stats().Connections)
	require.NoError(t, held.Unlock())
	require.NoError(t, (<-got).Unlock())
}

// waiting counts the batches of wait connections.
type waiting struct {
	mu sync.Mutex
	n  int
}

func (w *waiting) load() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

func (w *waiting) BatchStart(ctx context.Context, b lock.BatchStart) context.Context {
	if b.Waits {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.n++
	}
	return ctx
}

func (w *waiting) BatchEnd(context.Context, lock.BatchEnd) {}

// Panics of observers of the connection do no harm, and are logged.
func TestObserversThatPanicAreLogged(t *testing.T) {
	var log lockedBuffer
	locker := newPostgres(t, pgtest.New(t).Pool(), &lock.PostgresOptions{
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Observers: []lock.Observer{panics{}},
	})
	require.NoError(t, take(t, locker, lock.Name("k")).Unlock())
	require.NoError(t, locker.Close(t.Context()))
	for _, of := range []string{"connects", "batch begins", "batch ends"} {
		assert.Contains(t, log.String(), of)
	}
}

type panics struct{}

func (panics) ConnectStart(context.Context, lock.ConnectStart) context.Context { panic("connects") }
func (panics) ConnectEnd(context.Context, lock.ConnectEnd)                     {}
func (panics) BatchStart(context.Context, lock.BatchStart) context.Context     { panic("batch begins") }
func (panics) BatchEnd(context.Context, lock.BatchEnd)                         { panic("batch ends") }

// A panic of an observer of a caller leaves nothing held.
func TestNothingIsHeldAfterAnObserversPanic(t *testing.T) {
	var at string
	l := lock.NewMemory(panicsAt{&at})
	for _, at = range []string{"AcquireStart", "AcquireEnd", "HoldStart"} {
		assert.PanicsWithValue(t, at, func() { l.Lock(t.Context(), lock.Name("k")) })
		assert.Zero(t, l.Stats().Holders, at)
	}
	at = "HoldEnd"
	held := take(t, l, lock.Name("k"))
	assert.PanicsWithValue(t, at, func() { held.Unlock() })
	assert.Zero(t, l.Stats().Holders)
	assert.NoError(t, held.Unlock())
}

type panicsAt struct{ at *string }

func (p panicsAt) here(method string) {
	if *p.at == method {
		panic(method)
	}
}

func (p panicsAt) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context {
	p.here("AcquireStart")
	return ctx
}
func (p panicsAt) AcquireEnd(context.Context, lock.AcquireEnd) { p.here("AcquireEnd") }
func (p panicsAt) HoldStart(ctx context.Context, _ lock.HoldStart) context.Context {
	p.here("HoldStart")
	return ctx
}
func (p panicsAt) HoldEnd(context.Context, lock.HoldEnd) { p.here("HoldEnd") }

// A Held that was dropped ends for observers, too.
func TestObserversAreToldOfDroppedHolds(t *testing.T) {
	j := newJournal()
	l := lock.NewMemory(j)
	ctx := context.WithValue(t.Context(), callerKey{}, true)
	_, err := l.Lock(ctx, lock.Name("k"))
	require.NoError(t, err)
	for l.Stats().Holders > 0 {
		runtime.GC()
		runtime.Gosched()
	}
	assert.Equal(t, "hold [k]", j.wait(t, "hold"))
}

func TestObserverOfNothingIsRefused(t *testing.T) {
	for _, o := range []lock.Observer{nil, 7, io.EOF} {
		_, err := lock.NewPostgres(t.Context(), pgtest.New(t).Pool(), &lock.PostgresOptions{Observers: []lock.Observer{newJournal(), o}})
		assert.ErrorContains(t, err, "has the methods of no Observer")
	}
}

func TestErrorTypes(t *testing.T) {
	for want, errs := range map[string][]error{
		"":              {nil},
		"_OTHER":        {io.EOF},
		"lost":          {lock.ErrLost, &lock.BusyError{Cause: lock.ErrLost}},
		"evicted":       {errors.Join(lock.ErrLost, lock.ErrEvicted)},
		"held":          {&lock.BusyError{Cause: lock.ErrHeld}},
		"busy":          {&lock.BusyError{}, &lock.BusyError{Cause: context.DeadlineExceeded}},
		"canceled":      {&lock.BusyError{Cause: context.Canceled}, context.Canceled},
		"timeout":       {context.DeadlineExceeded},
		"unavailable":   {&lock.BusyError{Cause: errors.Join(context.Canceled, lock.ErrUnavailable)}},
		"closed":        {lock.ErrClosed},
		"released":      {lock.ErrReleased},
		"too_many":      {lock.ErrTooMany},
		"invalid":       {lock.ErrInvalidKey},
		"unsupported":   {lock.ErrUnsupported},
		"not_permitted": {lock.ErrNotPermitted},
	} {
		for _, err := range errs {
			assert.Equal(t, want, lock.ErrorType(err), "%v", err)
		}
	}
}
