// Package waiting lists the calls of this process that wait for keys without a Locker, such as
// writes of a document. The Lockers of the same process and database report them.
package waiting

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Call waits for a key.
type Call struct {
	Key   any // a lock.Key
	Since time.Time
}

// A Database identifies a database of a running server.
type Database struct {
	OID   int64
	Since int64 // the start of the server, in microseconds
}

// A Source reports waiting calls. It is in the list only while there are any.
type Source struct {
	Database func(context.Context) (Database, error) // the database in which they wait
	Calls    func() []Call
}

var (
	mu      sync.Mutex
	sources []*Source
	wakes   []*func()
)

// Enter adds a source to the list and calls the functions that were given to Wake.
func Enter(s *Source) {
	mu.Lock()
	sources = append(sources, s)
	woken := slices.Clone(wakes)
	mu.Unlock()
	for _, wake := range woken {
		(*wake)()
	}
}

// Leave removes a source from the list.
func Leave(s *Source) {
	mu.Lock()
	defer mu.Unlock()
	sources = slices.DeleteFunc(sources, func(other *Source) bool { return other == s })
}

// Wake makes each Enter call f, until stop is called. f must not block, and may call nothing
// in this package but Any.
func Wake(f func()) (stop func()) {
	mu.Lock()
	defer mu.Unlock()
	wakes = append(wakes, &f)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		wakes = slices.DeleteFunc(wakes, func(other *func()) bool { return other == &f })
	}
}

// Any reports whether calls wait in any database.
func Any() bool {
	mu.Lock()
	defer mu.Unlock()
	return len(sources) > 0
}

// Calls returns the calls that wait in a database, the longest wait first. It leaves out
// sources that cannot tell their database before ctx ends.
func Calls(ctx context.Context, at Database) (all []Call) {
	mu.Lock()
	asked := slices.Clone(sources)
	mu.Unlock()
	for _, s := range asked {
		if where, err := s.Database(ctx); err == nil && where == at {
			all = append(all, s.Calls()...)
		}
	}
	slices.SortFunc(all, func(a, b Call) int { return a.Since.Compare(b.Since) })
	return all
}
