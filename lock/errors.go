package lock

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrBusy says that somebody else holds the key. The error that matches
	// it is a [*BusyError].
	ErrBusy = errors.New("lock: busy")

	// ErrLost says that the lock is no longer held, although its holder did
	// not unlock it: the session that held it has ended.
	ErrLost = errors.New("lock: lost")

	// ErrEvicted says that Evict took the lock from its holder. Errors that
	// match it match [ErrLost], too.
	ErrEvicted = errors.New("lock: evicted")

	// ErrNotPermitted says that the database role may not do what was asked.
	ErrNotPermitted = errors.New("lock: not permitted")

	// ErrUnavailable says that there was no connection to the server.
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
// where a context ended the wait, that context's cause.
type BusyError struct {
	Key      Key
	Waited   time.Duration // from the call to its end
	Attempts int           // how often the server was asked on this caller's behalf
	Cause    error         // why the wait ended; nil where there was none
	Status   *Status       // who holds the key, where the options ask for it
}

// Error implements error.
func (e *BusyError) Error() string {
	s := fmt.Sprintf("lock: %s is busy (waited %s, %d attempts)", e.Key, e.Waited.Round(time.Microsecond), e.Attempts)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap gives [ErrBusy] and the cause.
func (e *BusyError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrBusy}
	}
	return []error{ErrBusy, e.Cause}
}
