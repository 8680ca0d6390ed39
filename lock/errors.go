package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/internal/pgdb"
)

var (
	// ErrBusy says that somebody else holds the key. The error that matches
	// it is a [*BusyError].
	ErrBusy = errors.New("lock: busy")

	// ErrHeld says that the key is held by whoever asks for it: the context given to Lock,
	// or to one of its kin, carries a hold of it, of this Locker or of another one of the
	// same database. To wait for it could only hang. Where the asking is for somebody else,
	// its context must not carry the hold; where the hold will do, see [Ensure].
	ErrHeld = errors.New("lock: held by the caller itself")

	// ErrLost says that the lock is no longer held, although its holder did
	// not unlock it: the session that held it has ended.
	ErrLost = errors.New("lock: lost")

	// ErrEvicted says that Evict took the lock from its holder. Errors that
	// match it match [ErrLost], too.
	ErrEvicted = errors.New("lock: evicted")

	// ErrNotPermitted says that the database role may not do what was asked.
	ErrNotPermitted = errors.New("lock: not permitted")

	// ErrUnavailable says that the server could not be reached, or ended the
	// connection; in operations on locks also that the Locker has lost its
	// connection, and has no other yet, for whatever reason. Trying again later
	// is right. A password that is refused, say, is no such reason for the
	// operations that use a connection of the host's.
	ErrUnavailable = errors.New("lock: server unavailable")

	// ErrTooMany says that this Locker's budget for keys is spent.
	ErrTooMany = errors.New("lock: too many keys")

	// ErrClosed says that the Locker has been closed.
	ErrClosed = errors.New("lock: closed")

	// ErrReleased is the cause of [Held.Context] after Unlock.
	ErrReleased = errors.New("lock: released")

	// ErrInvalidKey says that a Key was made from bad parts, or from none.
	ErrInvalidKey = errors.New("lock: invalid key")

	// ErrUnsupported says that the database, the server or the transaction
	// given cannot carry locks; the error's text says why and what to do.
	ErrUnsupported = errors.New("lock: unsupported")
)

// BusyError says who was waited for and how long. It matches [ErrBusy] and,
// where a context ended the wait, that context's cause. Where the server could not
// be asked for the key, it matches [ErrUnavailable] instead of ErrBusy.
type BusyError struct {
	Key      Key
	Waited   time.Duration // from the call to its end
	Attempts int           // how often it was looked whether this caller can have the key
	Cause    error         // why the wait ended; nil where there was none
	Status   *Status       // who holds the key, where the options ask for it or where this may be a deadlock: see PostgresOptions.DescribeBusy
}

// Error implements error.
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

// Unwrap gives [ErrBusy], if that is so, and the cause.
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

// ErrorType names the kind of error, for an attribute such as OpenTelemetry's error.type: the
// first of these that it matches, or "_OTHER". It is empty for nil.
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
//	busy                 [ErrBusy], also where a deadline has ended the wait
//	timeout              [context.DeadlineExceeded]
//	panic                what an [Observer] is told of a call that has panicked
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

// errPanicked is what observers are told of a call that has panicked.
var errPanicked = errors.New("lock: panicked")

func lost(why error) error        { return fmt.Errorf("%w: %w", ErrLost, why) }
func unavailable(why error) error { return fmt.Errorf("%w: %w", ErrUnavailable, why) }

// ofServer is an error of a connection to the server, which matches ErrUnavailable if
// it is one of that kind.
func ofServer(err error) error {
	if pgdb.Unavailable(err) {
		return unavailable(err)
	}
	return err
}
