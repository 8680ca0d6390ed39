package lock

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A simConn is a connection: the client's end of it, and what is on the way.
type simConn struct {
	w       *world
	backend *backend

	// What is on the way. Protected by w.mu.
	up, down []byte // to the server, to the client
	hungUp   bool   // by the client, after up
	message  bool   // down ends with the server's message that the session ends
	over     bool   // at the server, after down
	cut      cut
	said     time.Time // when the server last answered a batch
	heard    time.Time // of that, what the client can know by what it was given
	told     time.Time // when the client was given the message

	// The client's end.
	mu     sync.Mutex
	in     []byte
	err    error // after in
	closed bool
	past   bool // its deadline is
	wake   chan struct{}
	gone   chan struct{} // closed by Close
}

// A cut says how a connection is interrupted. Neither end is told.
type cut struct {
	up, down bool
	full     bool // nothing more can be written
	since    time.Time
}

func newConn(w *world) *simConn {
	return &simConn{w: w, said: time.Now(), heard: time.Now(), wake: make(chan struct{}, 1), gone: make(chan struct{})}
}

// send delivers up to n bytes to the server.
func (c *simConn) send(n int) {
	n = min(n, len(c.up))
	if c.backend.alive {
		c.backend.take(c.up[:n])
	}
	if c.up = c.up[:copy(c.up, c.up[n:])]; len(c.up) == 0 && c.hungUp && c.backend.alive {
		c.hungUp = false
		c.backend.todo = append(c.backend.todo, statement{kind: 'X'}) // seen when the server reads
	}
}

// deliver delivers up to n bytes, or the end of the connection, to the client.
func (c *simConn) deliver(n int) {
	c.heard = c.said
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, len(c.down))
	c.in = append(c.in, c.down[:n]...)
	if c.down = c.down[:copy(c.down, c.down[n:])]; len(c.down) == 0 && c.message {
		c.message, c.told = false, time.Now()
	}
	if len(c.down) == 0 && c.over {
		c.over = false
		c.err = errReset
		if c.w.N(2) == 0 {
			c.err = io.EOF
		}
	}
	c.wakeReader()
}

var errReset = errors.New("connection reset by peer")

func (c *simConn) wakeReader() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Read implements net.Conn.
func (c *simConn) Read(p []byte) (int, error) {
	for {
		n, err := c.read(p)
		if n > 0 || err != nil {
			return n, err
		}
		<-c.wake
	}
}

func (c *simConn) read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		c.wakeReader()
		return 0, net.ErrClosed
	case c.past:
		return 0, os.ErrDeadlineExceeded
	case len(c.in) > 0:
		n := copy(p, c.in)
		c.in = c.in[:copy(c.in, c.in[n:])]
		return n, nil
	case c.err != nil:
		c.wakeReader()
	}
	return 0, c.err
}

// Write implements net.Conn. It blocks when the way is full.
func (c *simConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	closed, err := c.closed, c.err
	c.mu.Unlock()
	switch {
	case closed:
		return 0, net.ErrClosed
	case err != nil && err != io.EOF:
		return 0, err
	}
	c.w.mu.Lock()
	full := c.cut.full
	if !full {
		c.up = append(c.up, p...)
	}
	c.w.mu.Unlock()
	if full {
		c.w.blocked.Add(1)
		<-c.gone
		c.w.blocked.Add(-1)
		return 0, net.ErrClosed
	}
	return len(p), nil
}

// Close implements net.Conn.
func (c *simConn) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	close(c.gone)
	c.wakeReader()
	c.w.mu.Lock()
	c.hungUp = true
	c.w.mu.Unlock()
	return nil
}

// SetReadDeadline knows two deadlines: one that is past, and none.
func (c *simConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past = !t.IsZero()
	c.wakeReader()
	return nil
}

func (c *simConn) SetDeadline(time.Time) error      { return nil }
func (c *simConn) SetWriteDeadline(time.Time) error { return nil }
func (c *simConn) LocalAddr() net.Addr              { return nil }
func (c *simConn) RemoteAddr() net.Addr             { return nil }
