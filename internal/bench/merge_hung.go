package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// hungCase measures other callers while callers without a deadline hang.
func hungCase() testCase {
	const hung = mergeConns / 2
	return testCase{
		name:  fmt.Sprintf("merge/hung/%d", hung),
		asks:  fmt.Sprintf("64 writers merge into 10 000 documents of 1.5 KB, while %d callers without a deadline hang on connections gone silent, of the pool's %d", hung, mergeConns),
		floor: concat.name, by: byRate,
		subjects: mergeSubjects(mergeLoad{Writers: 64, Documents: 10_000, Bytes: 1500, Conns: mergeConns},
			beside(hung, storePgx), beside(hung, concat)),
	}
}

// beside returns a kind in which some of its own callers hang, each on a connection.
func beside(hung int, k mergeKind) mergeKind {
	open := k.open
	k.open = func(ctx context.Context, in *arena, conns int) (merger, error) {
		s := silence{begun: make(chan struct{}, hung)}
		silenced := *in
		silenced.dialed = s.around
		opened, err := open(ctx, &silenced, conns)
		if err != nil {
			return nil, err
		}
		b := besideHung{merger: opened, silence: &s}
		for n := range hung { // one by one: otherwise some would share a connection
			ended := make(chan error, 1)
			b.callers.Go(func() {
				ended <- opened.merge(context.WithoutCancel(ctx), fmt.Sprint(hungID, n), json.RawMessage(`{"seen":0}`))
			})
			select {
			case <-s.begun:
			case err := <-ended:
				return nil, errors.Join(fmt.Errorf("a caller does not hang: %w", err), b.close())
			case <-ctx.Done():
				return nil, errors.Join(ctx.Err(), b.close())
			}
		}
		return &b, nil
	}
	return k
}

type besideHung struct {
	merger
	silence *silence
	callers sync.WaitGroup
}

func (b *besideHung) close() error {
	b.silence.end()
	b.callers.Wait()
	return b.merger.close()
}

// hungID begins the ids of documents whose merges silence a connection.
const hungID = "hung-"

// A silence makes connections fall silent that carry a merge of such a document: neither that
// nor anything later arrives, and there is no error.
type silence struct {
	begun chan struct{} // receives a value for each

	mu    sync.Mutex
	conns []net.Conn
}

// around wraps a connection so that it can fall silent.
func (s *silence) around(conn net.Conn) net.Conn { return &silentConn{Conn: conn, in: s} }

// end breaks the connections.
func (s *silence) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

type silentConn struct {
	net.Conn
	in     *silence
	silent atomic.Bool
}

func (c *silentConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(hungID)) && c.silent.CompareAndSwap(false, true) {
		c.in.mu.Lock()
		c.in.conns = append(c.in.conns, c.Conn)
		c.in.mu.Unlock()
		c.in.begun <- struct{}{}
	}
	if c.silent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// SyscallConn returns that of the wrapped connection.
func (c *silentConn) SyscallConn() (syscall.RawConn, error) {
	return c.Conn.(syscall.Conn).SyscallConn()
}
