package main

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPlaceKeepsToCoresUntilItIsUndone(t *testing.T) {
	in, err := openArena(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, in.close()) }()
	postmaster, err := in.postmaster(t.Context())
	require.NoError(t, err)
	cores := func(process int) (set unix.CPUSet) {
		require.NoError(t, unix.SchedGetaffinity(process, &set))
		return set
	}
	all, procs := cores(0), runtime.GOMAXPROCS(0)

	undo, err := together(t.Context(), in, pace{})
	require.NoError(t, err)
	own, server := cores(0), cores(postmaster)
	assert.Equal(t, 1, own.Count())
	assert.Equal(t, own, server)
	assert.Equal(t, 1, runtime.GOMAXPROCS(0))
	require.NoError(t, undo())

	undo, err = apart(t.Context(), in, pace{})
	require.NoError(t, err)
	own, server = cores(0), cores(postmaster)
	assert.Equal(t, 1, own.Count())
	assert.Equal(t, 1, server.Count())
	assert.Equal(t, all.Count() == 1, own == server)
	require.NoError(t, undo())

	assert.Equal(t, all, cores(0))
	assert.Equal(t, all, cores(postmaster))
	assert.Equal(t, procs, runtime.GOMAXPROCS(0))
}
