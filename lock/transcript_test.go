package lock

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/lockstore/internal/simulate"
)

// TestTranscripts plays what random schedules meet too rarely.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			var s script
			simulate.Transcript(t, file, "call ", s.do)
		})
	}
}

// A script is a world that does what it is told.
type script struct {
	w     *world
	calls []*call
}

// do carries out a command:
//
//	processes <n> [wait connections [hand-off]] begins, with that many wait connections
//	lock <process> <key> [<last key>]  of one key, or of each of several
//	unlock <call>
//	evict <process> <key> <grace>
//	send <session>                     what the client has sent comes to the server
//	work <session> [<SQLSTATE>]        the server does one thing more, or fails to
//	answer <session>                   what the server has sent comes to the client
//	trip <session> ...                 all of these, as long as there is something
//	cancel <session>                   pg_cancel_backend
//	end <session>                      by a reset
//	accept                             the oldest attempt to connect
//	stop <process>, go <process>       in between nothing takes the mutex of its table
//	sleep <time>
//	holders                            prints them
//	finish                             ends every call, and checks that nothing is left
func (s *script) do(schedule *simulate.Schedule, command string, args []string) {
	if command == "processes" {
		s.begin(schedule, args)
		return
	}
	w := s.w
	switch command {
	case "lock":
		s.lock(args)
	case "unlock":
		s.calls[number(args[0])].unlock(false, 1)
	case "evict":
		w.evict(w.processes[number(args[0])], ID(int64(number(args[1]))), duration(args[2]), time.Minute)
	case "stop":
		w.processes[number(args[0])].frozen.Store(true)
	case "go":
		w.processes[number(args[0])].thaw()
		for w.Stopped() > 0 {
			w.Resume(0)
			w.Settle()
		}
	case "sleep":
		w.Sleep(duration(args[0]))
	case "accept":
		w.accept(w.dials[0])
	case "holders":
		s.tellHolders()
	case "finish":
		w.finish()
		w.Forget()
		w.Tell("nothing is left")
		return
	default:
		s.session(command, args)
	}
	w.Settle()
	w.check()
}

// session does something to a session.
func (s *script) session(command string, args []string) {
	b := s.backend(args[0])
	c := b.conn
	switch command {
	case "send":
		c.send(len(c.up))
	case "work":
		if len(args) > 1 {
			b.tx.active = true
			b.fail(args[1], b.todo[1:])
		} else {
			b.step(none)
		}
	case "answer":
		c.deliver(len(c.down))
	case "trip":
		for _, arg := range args {
			for c := s.backend(arg).conn; c.trip(); {
				s.w.Settle()
			}
		}
	case "cancel":
		b.canceled()
	case "end":
		b.end(reset)
	default:
		panic(errors.New("no command: " + command))
	}
}

// backend returns that of a session, open or ended.
func (s *script) backend(pid string) *backend {
	return s.w.server.backends[slices.IndexFunc(s.w.server.backends, func(b *backend) bool { return strconv.Itoa(int(b.pid)) == pid })]
}

func (s *script) begin(schedule *simulate.Schedule, args []string) {
	o := PostgresOptions{WaitConns: -1, Silence: 5 * time.Second, ConnectTimeout: 2 * time.Second, HandOff: 50 * time.Millisecond, MaxKeys: 1000}
	if len(args) > 1 {
		o.WaitConns = number(args[1])
	}
	if len(args) > 2 {
		o.HandOff = duration(args[2])
	}
	s.w = newWorld(schedule, config{options: o, pace: defaultPace, limits: handOffLimits{contended: 20, uncontended: 256}, processes: number(args[0]), keys: []Key{ID(1)}, looks: 100 * time.Millisecond})
	s.w.Settle()
}

func (s *script) lock(args []string) {
	from, to := number(args[1]), number(args[len(args)-1])
	for key := from; key <= to; key++ {
		ctx, cancel := context.WithCancel(context.Background())
		s.calls = append(s.calls, s.w.call(s.w.processes[number(args[0])], "Lock", ctx, cancel, ID(int64(key))))
		s.w.Settle()
	}
}

func (s *script) tellHolders() {
	for _, c := range s.calls {
		if c.held != nil && !c.unlocking && c.held.Context().Err() == nil {
			s.w.Tell("%s holds %s in %s", c, c.held.Key(), c.process)
		}
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return d
}
