package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Without Redis, its subjects fail and are not replaced.
func TestMissingRedisIsSaid(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := startRedis(t.Context(), t.TempDir())
	require.ErrorIs(t, err, errNoRedis)
	_, err = redisLock.open(t.Context(), &arena{}, lockSetup{Keys: 1, Conns: 4})
	assert.ErrorIs(t, err, errNoRedis)
	_, err = redisCounter.open(t.Context(), &arena{}, 1)
	assert.ErrorIs(t, err, errNoRedis)
}

func TestEtcdLocksExclude(t *testing.T) {
	socket, stop, err := startEtcd(t.Context(), t.TempDir())
	require.NoError(t, err)
	defer func() { assert.NoError(t, stop()) }()
	locks, err := etcdLock.open(t.Context(), &arena{Etcd: socket}, lockSetup{Keys: 1})
	require.NoError(t, err)
	defer func() { assert.NoError(t, locks.close()) }()
	g := newGuard(1)
	m, grants := lockLoad{Callers: 4, Keys: 1}.drive(t.Context(), locks, g, pace{Count: time.Second})
	assert.Positive(t, m.Ops)
	assert.Zero(t, m.Errors, m.Error)
	assert.Zero(t, g.violations(grants))
}
