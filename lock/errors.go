package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/internal/pgdb"
)

var (
	// ErrBusy means that another holder has the key, or that the context ended before the call
	// had it. An error that matches it is a [*BusyError].
	ErrBusy = errors.New("lock: busy")

	// ErrHeld means that the caller itself holds the key: its context carries a hold of it, of
	// this Locker or of another one of the same database, so waiting would hang. If the call
	// is on behalf of another caller, its context must not carry the hold. If the hold is
	// enough, use [Ensure].
	ErrHeld = errors.New("lock: held by the caller itself")

	// ErrLost means that the lock is no longer held although its holder did not unlock it: the
	// session that held it has ended, or Evict took it ([ErrEvicted]).
	ErrLost = errors.New("lock: lost")

	// ErrEvicted means that Evict took the lock from its holder. An error that matches it
	// matches [ErrLost], too.
	ErrEvicted = errors.New("lock: evicted")

	// ErrNotPermitted means that the database role may not do what was asked.
	ErrNotPermitted = errors.New("lock: not permitted")

	// ErrUnavailable means that the server could not be reached, or ended the connection.
	// Trying again later is right. Operations on locks return it also while the Locker has
	// lost its connection and has no other yet, for whatever reason. Operations that use a
	// connection of the host's pool do not return it for other reasons, such as a refused
	// password.
	ErrUnavailable = errors.New("lock: server unavailable")

	// ErrTooMany means that this Locker has reached PostgresOptions.MaxKeys.
	ErrTooMany = errors.New("lock: too many keys")

	// ErrClosed means that the Locker has been closed.
	ErrClosed = errors.New("lock: closed")

	// ErrReleased is the cause of [Held.Context] after Unlock.
	ErrReleased = errors.New("lock: released")

	// ErrInvalidKey means that a Key was made from invalid parts or from none, or that none
	// was given.
	ErrInvalidKey = errors.New("lock: invalid key")

	// ErrUnsupported means that the database, the server, the driver, the transaction or the
	// Locker given cannot carry such a lock. The error's text says why and what to do.
	ErrUnsupported = errors.New("lock: unsupported")
)

// BusyError says for which key a call waited, for how long, and who holds it. It matches
// [ErrBusy], or, if the server could not be asked for the key, [ErrUnavailable] instead. If a
// context ended the wait, it matches that context's cause, too.
type BusyError struct {
	Key      Key
	Waited   time.Duration // from the call to its end
	Attempts int           // how often it was checked whether this call can have the key; not each check asks the server
	Cause    error         // why the wait ended, or nil
	Status   *Status       // who holds the key, or nil: see PostgresOptions.DescribeBusy
}

// Error returns the key, the time waited, the attempts, the cause and the status as one line.
func (e *BusyError) Error() string {
	what := "is busy"
	if !e.isBusy() {
		what = "was not acquired"
	}
	s := fmt.Sprintf("lock: %s %s (waited %s, %d attempts)", e.Key, what, e.Waited.Round(time.Microsecond), e.Attempts)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Status != nil {
		s += "; " + e.Status.String()
	}
	return s
}

// Unwrap returns [ErrBusy], unless the server could not be asked, and the cause if there is
// one.
func (e *BusyError) Unwrap() (all []error) {
	if e.isBusy() {
		all = append(all, ErrBusy)
	}
	if e.Cause != nil {
		all = append(all, e.Cause)
	}
	return all
}

func (e *BusyError) isBusy() bool { return !errors.Is(e.Cause, ErrUnavailable) }

// ErrorType returns the kind of error, for an attribute such as OpenTelemetry's error.type:
// the first of these that err matches, "_OTHER" if there is none, and "" for nil.
//
//	evicted, lost        [ErrEvicted], [ErrLost]
//	closed, released     [ErrClosed], [ErrReleased]
//	held                 [ErrHeld]
//	invalid              [ErrInvalidKey]
//	too_many             [ErrTooMany]
//	not_permitted        [ErrNotPermitted]
//	unsupported          [ErrUnsupported]
//	unavailable          [ErrUnavailable]
//	canceled             [context.Canceled]
//	busy                 [ErrBusy], also if a deadline ended the wait
//	timeout              [context.DeadlineExceeded]
//	panic                the error that an [Observer] gets for a call that panicked
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.of) {
			return t.name
		}
	}
	return "_OTHER"
}

var errorTypes = []struct {
	of   error
	name string
}{
	{ErrEvicted, "evicted"},
	{ErrLost, "lost"},
	{ErrClosed, "closed"},
	{ErrReleased, "released"},
	{ErrHeld, "held"},
	{ErrInvalidKey, "invalid"},
	{ErrTooMany, "too_many"},
	{ErrNotPermitted, "not_permitted"},
	{ErrUnsupported, "unsupported"},
	{ErrUnavailable, "unavailable"},
	{context.Canceled, "canceled"},
	{ErrBusy, "busy"},
	{context.DeadlineExceeded, "timeout"},
	{errPanicked, "panic"},
}

// errPanicked is the error that observers get for a call that panicked.
var errPanicked = errors.New("lock: panicked")

func lost(why error) error        { return fmt.Errorf("%w: %w", ErrLost, why) }
func unavailable(why error) error { return fmt.Errorf("%w: %w", ErrUnavailable, why) }

// ofServer makes an error of a connection match ErrUnavailable if it is of that kind.
func ofServer(err error) error {
	if pgdb.Unavailable(err) {
		return unavailable(err)
	}
	return err
}
