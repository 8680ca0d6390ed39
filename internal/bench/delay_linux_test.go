package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// through returns a connection through a network; serve gets its other end.
func through(t *testing.T, oneWay time.Duration, serve func(net.Conn)) *net.UnixConn {
	dir := t.TempDir()
	r := route{filepath.Join(dir, "in"), "unix", filepath.Join(dir, "out")}
	l, err := net.Listen("unix", r.Address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			serve(conn)
		}
	}()
	all, err := startWorkers(context.Background(), 1, job{Role: "network", Routes: []route{r}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, all.stop()) })
	_, err = (&network{worker: all[0], delay: oneWay}).use()
	require.NoError(t, err)
	conn, err := net.Dial("unix", r.Entrance)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UnixConn)
}

func TestNetworkIsNeverShorterThanAskedFor(t *testing.T) {
	const oneWay = 300 * time.Microsecond
	conn := through(t, oneWay, func(c net.Conn) { io.Copy(c, c) })
	answer := make([]byte, 1)
	shortest := time.Hour
	for range 50 {
		start := time.Now()
		_, err := conn.Write(answer)
		require.NoError(t, err)
		_, err = io.ReadFull(conn, answer)
		require.NoError(t, err)
		took := time.Since(start)
		assert.GreaterOrEqual(t, took, 2*oneWay)
		shortest = min(shortest, took)
	}
	assert.Less(t, shortest, 2*oneWay+time.Millisecond, "no clock tick is waited for")
}

// A piece does not wait for earlier ones in transit.
func TestNetworkCarriesManyPiecesAtOnce(t *testing.T) {
	const oneWay, pieces = 200 * time.Millisecond, 20
	conn := through(t, oneWay, func(c net.Conn) { io.Copy(c, c) })
	start := time.Now()
	for n := range pieces {
		_, err := conn.Write([]byte{byte(n)})
		require.NoError(t, err)
	}
	answers := make([]byte, pieces)
	_, err := io.ReadFull(conn, answers)
	require.NoError(t, err)
	assert.Less(t, time.Since(start), pieces*oneWay)
	for n := range pieces {
		assert.EqualValues(t, n, answers[n])
	}
}

func TestNetworkLosesNothingAndEnds(t *testing.T) {
	conn := through(t, time.Millisecond, func(c net.Conn) {
		all, err := io.ReadAll(c) // until the end
		if err == nil {
			c.Write(all)
		}
	})
	sent := make([]byte, 5<<20) // more than sockets hold
	random := rand.NewChaCha8([32]byte{1})
	random.Read(sent)
	_, err := conn.Write(sent)
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got))
}
