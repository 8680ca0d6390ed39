// Package waiting has what waits for keys beside the Lockers of a process, such as the
// writers of a document, told of by a Locker of the same process and pool.
package waiting

import (
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// A Call waits for a key.
type Call struct {
	Key   any // a lock.Key
	Since time.Time
}

// A Source tells of the calls that wait. It stands in the list of its pool only while
// there are any.
type Source func() []Call

var (
	mu      sync.Mutex
	sources = map[any][]*Source{}
	wakes   = map[any][]*func(){}
)

// PoolOf is what tells one of the host's pools from others.
func PoolOf(db any) any {
	if x, ok := db.(*sqlx.DB); ok && x != nil {
		return x.DB
	}
	return db
}

// Enter adds a source to the list of a pool, and wakes its Lockers.
func Enter(pool any, s *Source) {
	mu.Lock()
	sources[pool] = append(sources[pool], s)
	woken := slices.Clone(wakes[pool])
	mu.Unlock()
	for _, wake := range woken {
		(*wake)()
	}
}

// Leave is the end of Enter.
func Leave(pool any, s *Source) {
	mu.Lock()
	defer mu.Unlock()
	remove(sources, pool, s)
}

// Wake has f called by each Enter, until stop. It does not block, and calls nothing here.
func Wake(pool any, f func()) (stop func()) {
	mu.Lock()
	defer mu.Unlock()
	wakes[pool] = append(wakes[pool], &f)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		remove(wakes, pool, &f)
	}
}

// Any reports whether there are calls that wait.
func Any(pool any) bool {
	mu.Lock()
	defer mu.Unlock()
	return len(sources[pool]) > 0
}

// Calls are those that wait.
func Calls(pool any) (all []Call) {
	mu.Lock()
	asked := slices.Clone(sources[pool])
	mu.Unlock()
	for _, s := range asked {
		all = append(all, (*s)()...)
	}
	return all
}

func remove[T any](from map[any][]*T, pool any, one *T) {
	from[pool] = slices.DeleteFunc(from[pool], func(other *T) bool { return other == one })
	if len(from[pool]) == 0 {
		delete(from, pool)
	}
}
