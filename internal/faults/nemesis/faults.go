package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/neighbour"
	"example.com/lockstore/pgtest"
)

// A fault does something to a client, or to the server, and undoes it after d.
type fault struct {
	name string
	do   func(n *nemesis, ctx context.Context, c *client, d time.Duration) error
}

const (
	lockSession = "SELECT pid FROM pg_locks JOIN pg_stat_activity AS a USING (pid) WHERE locktype = 'advisory' AND a.datname = current_database() AND a.usename = '" + app + "' ORDER BY random() LIMIT 1"
	anySession  = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = '" + app + "' ORDER BY random() LIMIT 1"
)

// faults are all faults. The seed selects from them in this order.
var faults = append(attacks(neighbour.Attacks...), []fault{
	{"terminate a lock's session", statement("SELECT pg_terminate_backend(pid) FROM (" + lockSession + ") AS s")},
	{"terminate a session", statement("SELECT pg_terminate_backend(pid) FROM (" + anySession + ") AS s")},
	{"cancel a lock's session", statement("SELECT pg_cancel_backend(pid) FROM (" + lockSession + ") AS s")},
	{"cancel a session", statement("SELECT pg_cancel_backend(pid) FROM (" + anySession + ") AS s")},
	{"kill a backend", killBackend},
	{"crash the server", crashServer},
	{"restart the server", func(n *nemesis, ctx context.Context, _ *client, _ time.Duration) error { return n.server.Restart(ctx) }},
	{"pause the server", pauseServer},
	{"pause a backend", pauseBackend},
	{"kill a process", killProcess},
	{"pause a process", pauseProcess},
	{"pause a process and terminate its sessions", pauseAndTerminate},
	{"reset", func(_ *nemesis, _ context.Context, c *client, _ time.Duration) error { c.proxy.Reset(); return nil }},
	{"cut", network(func(p *pgtest.Proxy) { p.Cut() })},
	{"blackhole", blackhole(pgtest.Both)},
	{"blackhole to the server", network(func(p *pgtest.Proxy) { p.Blackhole(pgtest.ToServer) })},
	{"blackhole to the client", blackhole(pgtest.ToClient)},
	{"lost replies", lostReplies},
	{"latency", network(func(p *pgtest.Proxy) { p.Delay(time.Millisecond, 20*time.Millisecond) })},
	{"slices", network(func(p *pgtest.Proxy) { p.Slice(3) })},
	{"a stranger locks a row", stranger("SELECT FROM " + app + ".lockstore_metadata WHERE id = 'doc0' FOR UPDATE")},
	{"a stranger locks the table", stranger("LOCK TABLE " + app + ".lockstore_metadata IN SHARE MODE")},
	{"no connection left", exhaust},
	tenant,
	astray,
	hang,
}...)

// rage runs one fault after the other, each once before any is repeated. The next fault does not
// always wait until all clients have recovered from the last.
func (n *nemesis) rage(ctx context.Context) {
	var deck []int
	for deadline := time.Now().Add(time.Duration(n.seconds) * time.Second); time.Now().Before(deadline); {
		if len(deck) == 0 {
			deck = n.rand.Perm(len(faults))
		}
		f := faults[deck[0]]
		deck = deck[1:]
		c := n.clients[n.rand.IntN(len(n.clients))]
		lasts := time.Duration(50+n.rand.IntN(1500)) * time.Millisecond
		rest := time.Duration(n.rand.IntN(400)) * time.Millisecond
		if n.only != "" {
			f = faults[slices.IndexFunc(faults, func(f fault) bool { return f.name == n.only })]
		}
		spell := Spell{Fault: f.name, Process: c.process(), From: time.Now()}
		if err := f.do(n, ctx, c, lasts); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", f.name, err)
		} else {
			n.started[f.name]++
		}
		spell.To = latest(time.Now(), spell.From.Add(lasts)) // some continue during the next
		n.spells = append(n.spells, spell)
		if n.rand.IntN(3) > 0 {
			n.recovered(f.name)
		}
		time.Sleep(rest)
	}
}

// A Spell is the time of one fault, and its process, if it has one.
type Spell struct {
	Fault   string    `json:"fault"`
	Process int       `json:"p"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
}

func (s Spell) String() string {
	const clock = "05.000000"
	return fmt.Sprintf("%s, process %d [%s, %s]", s.Fault, s.Process, s.From.Format(clock), s.To.Format(clock))
}

// beside returns the faults during a violation.
func (n *nemesis) beside(v history.Violation) (beside []Spell) {
	for _, s := range n.spells {
		for _, e := range v.Events {
			if s.From.Before(latest(e.Return, e.Until)) && s.To.After(e.Call) {
				beside = append(beside, s)
				break
			}
		}
	}
	return beside
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func statement(sql string) func(*nemesis, context.Context, *client, time.Duration) error {
	return func(n *nemesis, ctx context.Context, _ *client, _ time.Duration) error { return n.ask(ctx, sql) }
}

// network disturbs a client's network for a while.
func network(harm func(*pgtest.Proxy)) func(*nemesis, context.Context, *client, time.Duration) error {
	return func(_ *nemesis, _ context.Context, c *client, d time.Duration) error {
		harm(c.proxy)
		time.Sleep(d)
		c.proxy.Restore()
		return nil
	}
}

// blackhole is a network that loses what the server sends to a client.
func blackhole(d pgtest.Direction) func(*nemesis, context.Context, *client, time.Duration) error {
	lose := network(func(p *pgtest.Proxy) { p.Blackhole(d) })
	return func(n *nemesis, ctx context.Context, c *client, d time.Duration) error {
		black := history.Pause{Process: c.process(), From: time.Now(), Silence: silence}
		defer func() {
			black.To = time.Now()
			n.pause(black)
		}()
		return lose(n, ctx, c, d)
	}
}

// lostReplies loses the server's answers, and then the connections.
func lostReplies(_ *nemesis, _ context.Context, c *client, d time.Duration) error {
	c.proxy.Discard(pgtest.ToClient)
	time.Sleep(d / 20)
	c.proxy.Cut()
	c.proxy.Restore()
	return nil
}

func (n *nemesis) backend(ctx context.Context, sql string) (pid int, err error) {
	conn, err := pgx.Connect(ctx, n.db.URL())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	return pid, conn.QueryRow(ctx, sql).Scan(&pid)
}

func killBackend(n *nemesis, ctx context.Context, _ *client, _ time.Duration) error {
	pid, err := n.backend(ctx, anySession)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

func crashServer(n *nemesis, ctx context.Context, _ *client, d time.Duration) error {
	if err := n.server.Kill(ctx); err != nil {
		return err
	}
	time.Sleep(d / 4)
	return n.server.Restart(ctx)
}

func pauseServer(n *nemesis, ctx context.Context, _ *client, d time.Duration) error {
	if err := n.server.Pause(ctx); err != nil {
		return err
	}
	time.Sleep(d)
	return n.server.Resume()
}

func pauseBackend(n *nemesis, ctx context.Context, _ *client, d time.Duration) error {
	pid, err := n.backend(ctx, lockSession)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(d)
	return syscall.Kill(pid, syscall.SIGCONT)
}

func killProcess(_ *nemesis, _ context.Context, c *client, _ time.Duration) error {
	c.kill()
	return c.start()
}

func pauseProcess(n *nemesis, ctx context.Context, c *client, d time.Duration) error {
	return n.paused(c, func() error { time.Sleep(d); return nil })
}

// paused stops a client meanwhile.
func (n *nemesis) paused(c *client, meanwhile func() error) error {
	pause := history.Pause{Process: c.process(), From: time.Now()}
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	failed := meanwhile()
	pause.To = time.Now()
	n.pause(pause)
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	return failed
}

// pauseAndTerminate stops a client and terminates its sessions: when it continues, others hold
// its locks.
func pauseAndTerminate(n *nemesis, ctx context.Context, c *client, d time.Duration) error {
	return n.paused(c, func() error {
		c.proxy.Reset() // its sessions end; it cannot notice
		time.Sleep(d)
		return nil
	})
}

// stranger makes another session hold a lock of another kind.
func stranger(sql string) func(*nemesis, context.Context, *client, time.Duration) error {
	return func(n *nemesis, ctx context.Context, _ *client, d time.Duration) error {
		conn, err := pgx.Connect(ctx, n.db.URL())
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "BEGIN; "+sql); err != nil {
			return err
		}
		time.Sleep(d)
		_, err = conn.Exec(ctx, "ROLLBACK")
		return err
	}
}

// exhaust takes all free connections of the server, and then those of a client.
func exhaust(n *nemesis, ctx context.Context, c *client, d time.Duration) error {
	var taken []*pgx.Conn
	defer func() {
		for _, conn := range taken {
			_ = conn.Close(ctx)
		}
	}()
	for range 100 {
		conn, err := pgx.Connect(ctx, n.db.URL())
		if err != nil {
			break
		}
		taken = append(taken, conn)
	}
	c.proxy.Reset()
	time.Sleep(d)
	return nil
}
