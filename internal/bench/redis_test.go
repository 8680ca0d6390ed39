package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMiniredisStandsInAndSaysSo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	server, err := startRedis(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, server.stop()) }()
	assert.Contains(t, server.name, "miniredis")

	locks, err := redisLock.open(t.Context(), &arena{Redis: server.address}, lockSetup{Keys: 1, Conns: 4})
	require.NoError(t, err)
	defer func() { assert.NoError(t, locks.close()) }()
	g := newGuard(1)
	m, grants := lockLoad{Callers: 4, Keys: 1}.drive(t.Context(), locks, g, pace{Count: 100 * time.Millisecond})
	assert.Positive(t, m.Ops)
	assert.Zero(t, m.Errors, m.Error)
	assert.Zero(t, g.violations(grants))
}
