package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A delayLine is a network with a constant delay: it writes what it reads at one end to the
// other after exactly one delay, in order, and in the same pieces. Go's timers are too coarse
// below a millisecond, so a separate thread waits for sockets and for the kernel's timer
// together.
//
// All pieces have the same delay, so one queue of all pieces is in the order in which they are
// due.
type delayLine struct {
	delay atomic.Int64 // nanoseconds, each way

	mu   sync.Mutex
	late *latencies // how late pieces were written

	epoll, timer int
	ends         map[int]*end
	listeners    map[int]route
	due          []piece
	armed        time.Duration
	spare        [][]byte // buffers for pieces
}

// An end is a socket for reading and writing.
type end struct {
	fd     int
	peer   *end
	ended  bool     // all has been read
	unsent [][]byte // due, but the socket had no room
	sent   int      // bytes of the first of these that were sent
	shut   bool     // all has been written
}

// A piece is data in transit.
type piece struct {
	at   time.Duration
	to   *end
	data []byte // empty: the end of the stream
}

// networkRole is the process of a network. Each time it receives a delay, it reports its use.
func networkRole(_ context.Context, j job, coordinator *wire) error {
	d, err := newDelayLine(j.Routes)
	if err != nil {
		return err
	}
	go func() {
		if err := d.run(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: network:", err)
			os.Exit(1)
		}
	}()
	if err := coordinator.send(answer{}); err != nil {
		return err
	}
	used := processorTime()
	for delay := time.Duration(0); coordinator.receive(&delay) == nil; {
		d.delay.Store(int64(delay))
		u := networkUse{newMeasurement(), processorTime() - used}
		used += u.Processor
		d.mu.Lock()
		u.Late.Latency, d.late = d.late, newLatencies()
		d.mu.Unlock()
		if err := coordinator.report(u); err != nil {
			return err
		}
	}
	return nil
}

// newDelayLine listens on the routes' entrances.
func newDelayLine(routes []route) (d *delayLine, err error) {
	d = &delayLine{late: newLatencies(), ends: map[int]*end{}, listeners: map[int]route{}}
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

// watch registers for the events that there is more to read or room to write (edge-triggered).
func (d *delayLine) watch(fd int) error {
	const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: edges, Fd: int32(fd)})
}

// now returns the kernel's clock that the timer uses.
func now() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return time.Duration(t.Nano())
}

// run forwards data until the process ends. It has priority if it is allowed: a real network
// does not wait for a processor.
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
					d.flush(s)
				}
				d.read(s)
				d.forget(s)
			}
		}
		d.deliver()
	}
}

// arm sets the timer to the time when the first piece is due.
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

// read reads pieces and queues them.
func (d *delayLine) read(from *end) {
	for !from.ended {
		buffer := d.take()
		n, err := unix.Read(from.fd, buffer)
		switch {
		case err == unix.EINTR:
			d.give(buffer)
			continue
		case err == unix.EAGAIN:
			d.give(buffer)
			return
		case err != nil || n <= 0:
			from.ended = true
			n = 0
		}
		d.due = append(d.due, piece{now() + time.Duration(d.delay.Load()), from.peer, buffer[:max(n, 0)]})
	}
}

// take and give reuse buffers, so that there is no garbage to collect.
func (d *delayLine) take() []byte {
	last := len(d.spare) - 1
	if last < 0 {
		return make([]byte, 16<<10)
	}
	buffer := d.spare[last]
	d.spare = d.spare[:last]
	return buffer
}

func (d *delayLine) give(buffer []byte) { d.spare = append(d.spare, buffer[:cap(buffer)]) }

// deliver writes the pieces that are due.
func (d *delayLine) deliver() {
	delivered := 0
	for ; delivered < len(d.due); delivered++ {
		p, at := d.due[delivered], now()
		if at < p.at {
			break
		}
		d.mu.Lock()
		d.late.record(at - p.at)
		d.mu.Unlock()
		p.to.unsent = append(p.to.unsent, p.data)
		d.flush(p.to)
		d.forget(p.to)
	}
	d.due = append(d.due[:0], d.due[delivered:]...)
}

// flush writes as much as the socket has room for.
func (d *delayLine) flush(e *end) {
	for len(e.unsent) > 0 {
		data := e.unsent[0]
		if len(data) == 0 {
			e.shut = true
			unix.Shutdown(e.fd, unix.SHUT_WR)
		} else {
			n, err := unix.Write(e.fd, data[e.sent:])
			if err == unix.EAGAIN {
				return
			}
			e.sent += max(n, 0)
			if err == unix.EINTR || err == nil && e.sent < len(data) {
				continue
			} // after any other error, the other side no longer reads
		}
		d.give(data)
		e.unsent, e.sent = slices.Delete(e.unsent, 0, 1), 0
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

// dial connects to a server on this machine, which does not block.
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

// processorTime returns the processor time of this process.
func processorTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
