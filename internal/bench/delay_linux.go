package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A delayLine is a network that is always as far: what is read at one end is
// written at the other after exactly one delay, in order, and in the pieces in
// which it came. Go's own timers are too coarse below a millisecond, so a thread
// of its own waits for sockets and for the kernel's timer at once.
//
// As every piece is delayed for as long, one queue of all pieces is in the order
// in which they are due.
type delayLine struct {
	delay time.Duration

	mu   sync.Mutex
	late *latencies // how much after it was due a piece was written

	epoll, timer int
	ends         map[int]*end
	listeners    map[int]route
	due          []piece
	armed        time.Duration
	buffer       []byte
}

// An end is a socket, to read from and to write to.
type end struct {
	fd          int
	peer        *end
	unsent      [][]byte // what did not fit into the socket
	ended       bool     // all has been read
	shut        bool     // all has been written
	endsWritten bool     // nothing follows what is unsent
}

// A piece is what is on its way.
type piece struct {
	at   time.Duration
	to   *end
	data []byte // nil: the end of the stream
}

// networkRole is the process of a network: it tells what it did as often as it is
// asked.
func networkRole(_ context.Context, j job, boss *wire) error {
	d, err := newDelayLine(j.Delay, j.Routes)
	if err != nil {
		return err
	}
	go func() {
		if err := d.run(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: network:", err)
			os.Exit(1)
		}
	}()
	if err := boss.send(answer{}); err != nil {
		return err
	}
	for used := processorTime(); boss.receive(new(string)) == nil; {
		u := networkUse{newMeasurement(), processorTime() - used}
		used += u.Processor
		d.mu.Lock()
		u.Late.latency, d.late = d.late, newLatencies()
		d.mu.Unlock()
		if err := boss.report(u); err != nil {
			return err
		}
	}
	return nil
}

// newDelayLine listens on the routes' entrances.
func newDelayLine(delay time.Duration, routes []route) (d *delayLine, err error) {
	d = &delayLine{delay: delay, late: newLatencies(), ends: map[int]*end{}, listeners: map[int]route{}, buffer: make([]byte, 1<<20)}
	if d.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if d.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, err
	}
	if err := d.watch(d.timer); err != nil {
		return nil, err
	}
	for _, r := range routes {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: r.Entrance}), unix.Listen(fd, 1024), d.watch(fd)); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", r.Entrance, err)
		}
		d.listeners[fd] = r
	}
	return d, nil
}

// watch asks to be told, once each time, that there is more to read or room to write.
func (d *delayLine) watch(fd int) error {
	const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: edges, Fd: int32(fd)})
}

// now is the kernel's clock, which the timer goes by.
func now() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return time.Duration(t.Nano())
}

// run carries what comes, for as long as the process lives. It goes first wherever
// it is let: a network does not wait for a processor.
func (d *delayLine) run() error {
	runtime.LockOSThread()
	goFirst()
	events := make([]unix.EpollEvent, 256)
	for {
		if err := d.arm(); err != nil {
			return err
		}
		n, err := unix.EpollWait(d.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if r, listens := d.listeners[fd]; listens {
				d.accept(fd, r)
			} else if s := d.ends[fd]; s != nil {
				if e.Events&unix.EPOLLOUT != 0 {
					s.flush()
				}
				d.read(s)
				d.forget(s)
			}
		}
		d.deliver()
	}
}

// arm sets the timer to when the first piece is due.
func (d *delayLine) arm() error {
	if len(d.due) == 0 || d.armed == d.due[0].at {
		return nil
	}
	d.armed = d.due[0].at
	return unix.TimerfdSettime(d.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d.armed))}, nil)
}

func (d *delayLine) accept(listener int, r route) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		server, err := dial(r)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: network: %s: %v\n", r.Address, err)
			unix.Close(fd)
			continue
		}
		a, b := &end{fd: fd}, &end{fd: server}
		a.peer, b.peer = b, a
		d.ends[fd], d.ends[server] = a, b
		if err := errors.Join(d.watch(fd), d.watch(server)); err != nil {
			fmt.Fprintln(os.Stderr, "bench: network:", err)
		}
	}
}

// read puts what has come on its way.
func (d *delayLine) read(from *end) {
	for !from.ended {
		n, err := unix.Read(from.fd, d.buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil || n <= 0:
			from.ended = true
			d.due = append(d.due, piece{now() + d.delay, from.peer, nil})
		default:
			d.due = append(d.due, piece{now() + d.delay, from.peer, append([]byte(nil), d.buffer[:n]...)})
		}
	}
}

// deliver writes what is due.
func (d *delayLine) deliver() {
	for len(d.due) > 0 {
		p, at := d.due[0], now()
		if at < p.at {
			return
		}
		d.due[0] = piece{}
		d.due = d.due[1:]
		d.mu.Lock()
		d.late.record(at - p.at)
		d.mu.Unlock()
		if p.data == nil {
			p.to.endsWritten = true
		} else {
			p.to.unsent = append(p.to.unsent, p.data)
		}
		p.to.flush()
		d.forget(p.to)
	}
}

// flush writes what the socket has room for.
func (e *end) flush() {
	for len(e.unsent) > 0 {
		n, err := unix.Write(e.fd, e.unsent[0])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil: // nobody reads it any more
			e.unsent = nil
		case n < len(e.unsent[0]):
			e.unsent[0] = e.unsent[0][n:]
		default:
			e.unsent[0] = nil
			e.unsent = e.unsent[1:]
		}
	}
	if e.endsWritten && !e.shut {
		e.shut = true
		unix.Shutdown(e.fd, unix.SHUT_WR)
	}
}

// forget closes both ends of a connection when both streams have ended.
func (d *delayLine) forget(e *end) {
	if !e.shut || !e.peer.shut || d.ends[e.fd] != e {
		return
	}
	for _, s := range []*end{e, e.peer} {
		delete(d.ends, s.fd)
		unix.Close(s.fd)
	}
}

// dial connects with a server of this machine, which takes no time.
func dial(r route) (fd int, err error) {
	family, to := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: r.Address})
	if r.Network == "tcp" {
		address, err := net.ResolveTCPAddr("tcp4", r.Address)
		if err != nil {
			return -1, err
		}
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
	}
	if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	err = errors.Join(unix.Connect(fd, to), unix.SetNonblock(fd, true))
	if r.Network == "tcp" {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// goFirst asks the kernel to run this thread before others, if it may.
func goFirst() {
	first := unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1}
	if unix.SchedSetAttr(0, &first, 0) != nil {
		unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
