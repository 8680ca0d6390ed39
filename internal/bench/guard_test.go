package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everyone is a locker that grants every request.
type everyone struct{}

func (everyone) lock(context.Context, int) (func() error, error) {
	return func() error { return nil }, nil
}
func (everyone) close() error { return nil }

// mutex is a locker that excludes.
type mutex struct{ sync.Mutex }

func (m *mutex) lock(context.Context, int) (func() error, error) {
	m.Lock()
	return func() error { m.Unlock(); return nil }, nil
}
func (m *mutex) close() error { return nil }

var short = pace{Count: 200 * time.Millisecond} // also on a busy machine

func TestGuardSeesOverlaps(t *testing.T) {
	load := lockLoad{Callers: 4, Keys: 1, Section: time.Millisecond}
	g := newGuard(1)
	_, grants := load.drive(t.Context(), everyone{}, g, short)
	assert.Positive(t, g.violations(grants))
}

func TestGuardSeesNoneWhereThereIsNone(t *testing.T) {
	load := lockLoad{Callers: 4, Keys: 1, Waits: true}
	g := newGuard(1)
	m, grants := load.drive(t.Context(), &mutex{}, g, short)
	assert.Zero(t, g.violations(grants))
	assert.Positive(t, m.Ops)
	assert.GreaterOrEqual(t, grants, m.Ops)
}

func TestGuardSeesLostIncrements(t *testing.T) {
	g := newGuard(1)
	first := g.enter(0)
	g.leave(0, first)
	g.leave(0, first) // like a holder that entered at the same time as the first
	assert.EqualValues(t, 1, g.violations(2))
}

func TestGuardIsSharedThroughItsFile(t *testing.T) {
	g, file, err := createGuard(3)
	require.NoError(t, err)
	other, err := openGuard(file, 3)
	require.NoError(t, err)
	g.enter(2)
	other.enter(2)
	assert.EqualValues(t, 1, g.violations(0))
	require.NoError(t, other.close())
	require.NoError(t, g.close())
	assert.NoFileExists(t, file)
}

// The guard must detect that the lock of zep does not exclude.
func TestZepLockIsFoundWrong(t *testing.T) {
	in, err := openArena(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, in.close()) }()
	load := lockLoad{Callers: 64, Keys: 1, Conns: 16, Section: 5 * time.Millisecond, Waits: true}
	p := pace{Count: 500 * time.Millisecond, Limit: time.Minute}
	m, err := load.run(zep25)(t.Context(), in, p)
	require.NoError(t, err)
	assert.Positive(t, m.Violations)
	m, err = load.run(lockstorePgx)(t.Context(), in, p)
	require.NoError(t, err)
	assert.Zero(t, m.Violations)

	merges := mergeLoad{Writers: 64, Documents: 1, Bytes: 200, Conns: 4}
	m, err = merges.run(zepMerge25)(t.Context(), in, p)
	require.NoError(t, err)
	assert.Positive(t, m.Violations)
	m, err = merges.run(storeSQLX)(t.Context(), in, p)
	require.NoError(t, err)
	assert.Zero(t, m.Violations)
}
