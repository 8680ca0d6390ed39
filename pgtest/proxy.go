package pgtest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Direction selects one direction through a [Proxy], or both.
type Direction int

const (
	ToServer Direction = 1 << iota // what clients send
	ToClient                       // what the server sends
	Both     = ToServer | ToClient
)

// Proxy is a bad network in front of a database. It listens on a loopback TCP port,
// forwards connections to the database, and injects faults. A fault applies to open and
// new connections, until [Proxy.Restore]. Methods may be called concurrently.
type Proxy struct {
	url     string
	target  string
	network string
	dial    pgconn.DialFunc
	listen  net.Listener
	done    sync.WaitGroup

	mu     sync.Mutex
	faults faults
	change chan struct{} // closed when the faults change
	links  map[*link]struct{}
	closed bool
}

// faults are the injected faults; the zero value is a good network.
type faults struct {
	refuse        bool
	hold, discard Direction
	delay, jitter time.Duration
	slice         int
}

// NewProxy starts a proxy in front of the database. It ends with the test. If it cannot
// listen, the test fails.
func NewProxy(tb TB, db *DB) *Proxy {
	tb.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("pgtest: proxy: %v", err)
		return nil
	}
	p := &Proxy{
		url:    atAddress(db.url, listen.Addr().(*net.TCPAddr)),
		dial:   db.cfg.ConnConfig.DialFunc,
		listen: listen,
		change: make(chan struct{}),
		links:  map[*link]struct{}{},
	}
	p.network, p.target = pgconn.NetworkAddress(db.cfg.ConnConfig.Host, db.cfg.ConnConfig.Port)
	p.done.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// URL returns the database's address through the proxy, with the password.
func (p *Proxy) URL() string { return p.url }

// Restore ends all faults. What [Proxy.Blackhole] held back is delivered now; after
// [Proxy.Cut], connections are accepted again.
func (p *Proxy) Restore() { p.set(func(f *faults) { *f = faults{} }) }

// Blackhole holds back all that is sent in the direction, including the ends of
// connections, like a network that loses every packet. Neither side gets an error.
func (p *Proxy) Blackhole(d Direction) { p.set(func(f *faults) { f.hold = d }) }

// Discard throws away what is sent in the direction. To lose the reply to a statement:
// let it wait for a row that another session locks, discard [ToClient], free the row, wait
// until it has run, and [Proxy.Cut]. A statement that is sent later may wait for an earlier
// reply: a pool asks a connection that was idle for a second whether it lives.
func (p *Proxy) Discard(d Direction) { p.set(func(f *faults) { f.discard = d }) }

// Delay delivers everything later, in both directions, by between d and d+jitter.
func (p *Proxy) Delay(d, jitter time.Duration) {
	p.set(func(f *faults) { f.delay, f.jitter = d, jitter })
}

// Slice delivers everything in pieces of at most n bytes, 0 for no limit.
func (p *Proxy) Slice(n int) { p.set(func(f *faults) { f.slice = n }) }

// Cut closes all connections in the orderly way (FIN), and new ones at once, until
// [Proxy.Restore]. It returns when the open connections are closed.
func (p *Proxy) Cut() {
	p.set(func(f *faults) { f.refuse = true })
	p.end(false)
}

// Reset breaks all connections (RST) and returns when they are closed. New connections
// are accepted.
func (p *Proxy) Reset() { p.end(true) }

func (p *Proxy) set(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
	close(p.change)
	p.change = make(chan struct{})
}

// now returns the current faults, and a channel that is closed when they change.
func (p *Proxy) now() (faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.change
}

func (p *Proxy) end(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close(reset)
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listen.Close()
	p.end(false)
	p.done.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return // closed
		}
		p.done.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	if f, _ := p.now(); f.refuse { // before dialing: the server must not see this connection
		client.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	server, err := p.dial(ctx, p.network, p.target)
	if err != nil {
		reset(client)
		return
	}
	l := &link{proxy: p, client: client, server: server, ended: make(chan struct{})}
	p.mu.Lock()
	refused := p.faults.refuse || p.closed
	if !refused {
		p.links[l] = struct{}{}
	}
	p.mu.Unlock()
	if refused {
		l.close(false)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pass(server, client, ToServer) })
	both.Go(func() { l.pass(client, server, ToClient) })
	both.Wait()
	l.close(false)
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// link is one connection through the proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	once           sync.Once
	ended          chan struct{}
}

func (l *link) close(rst bool) {
	l.once.Do(func() {
		close(l.ended)
		if rst {
			reset(l.client)
			reset(l.server)
			return
		}
		l.client.Close()
		l.server.Close()
	})
}

// reset closes a connection with RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// packet is the result of one read, and the time to deliver it.
type packet struct {
	data []byte
	err  error // io.EOF, or what broke the connection
	due  time.Time
}

// pass forwards what from sends to to, and then its end.
func (l *link) pass(to, from net.Conn, d Direction) {
	inFlight := make(chan packet, 1024)
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			data := make([]byte, 1<<14)
			n, err := from.Read(data)
			f, _ := l.proxy.now()
			late := f.delay
			if f.jitter > 0 {
				late += rand.N(f.jitter)
			}
			select {
			case inFlight <- packet{data[:n], err, time.Now().Add(late)}:
			case <-l.ended:
				return
			}
			if err != nil {
				return
			}
		}
	})
	defer reading.Wait()
	for {
		select {
		case p := <-inFlight:
			if !l.deliver(to, p, d) {
				return
			}
		case <-l.ended:
			return
		}
	}
}

// deliver writes a packet when it is due and no longer held back. It returns false if
// nothing more can follow.
func (l *link) deliver(to net.Conn, p packet, d Direction) bool {
	if wait := time.Until(p.due); wait > 0 {
		select {
		case <-time.After(wait):
		case <-l.ended:
			return false
		}
	}
	f, changed := l.proxy.now()
	for f.hold&d != 0 {
		select {
		case <-changed:
			f, changed = l.proxy.now()
		case <-l.ended:
			return false
		}
	}
	for data := p.data; len(data) > 0 && f.discard&d == 0; {
		n := len(data)
		if f.slice > 0 {
			n = min(n, f.slice)
		}
		if _, err := to.Write(data[:n]); err != nil {
			l.close(true)
			return false
		}
		data = data[n:]
		if f.slice > 0 {
			f, _ = l.proxy.now() // they may change before the next piece
		}
	}
	switch {
	case p.err == nil:
		return true
	case errors.Is(p.err, io.EOF):
		to.(interface{ CloseWrite() error }).CloseWrite()
	default:
		l.close(true)
	}
	return false
}
