// Package waiting has what waits for keys beside the Lockers of a process, such as the
// writers of a document, told of by a Locker of the same process and database.
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

// A Database is one of a running server.
type Database struct {
	OID   int64
	Since int64 // when the server was started, in microseconds
}

// A Source tells of calls that wait. It is in the list only while there are any.
type Source struct {
	Database func(context.Context) (Database, error) // where they wait
	Calls    func() []Call
}

var (
	mu      sync.Mutex
	sources []*Source
	wakes   []*func()
)

// Enter adds a source to the list, and wakes the Lockers.
func Enter(s *Source) {
	mu.Lock()
	sources = append(sources, s)
	woken := slices.Clone(wakes)
	mu.Unlock()
	for _, wake := range woken {
		(*wake)()
	}
}

// Leave is the end of Enter.
func Leave(s *Source) {
	mu.Lock()
	defer mu.Unlock()
	sources = slices.DeleteFunc(sources, func(other *Source) bool { return other == s })
}

// Wake has f called by each Enter, until stop. It does not block, and calls nothing here
// but Any.
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

// Any reports whether there are calls that wait, in whatever database.
func Any() bool {
	mu.Lock()
	defer mu.Unlock()
	return len(sources) > 0
}

// Calls are those that wait in a database, the longest first. Where that is unknown of some
// by the end of ctx, they are left out.
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
