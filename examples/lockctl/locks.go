package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
)

// shown is a key's state as -json prints it.
type shown struct {
	Key     string   `json:"key"`
	ID      int64    `json:"id"`
	Holders []holder `json:"holders"`
	Waiters int      `json:"waiters"` // in all processes

	Waiting    []waiter       `json:"waiting,omitempty"`    // the longest waits of each process
	Unanswered []waiter       `json:"unanswered,omitempty"` // processes that did not answer whether calls wait there
	Cycle      []lock.Backend `json:"cycle,omitempty"`      // processes that wait for each other
}

type waiter struct {
	PID         uint32  `json:"pid"`
	Mode        string  `json:"mode"` // exclusive, shared or writing
	User        string  `json:"user"`
	Application string  `json:"application"`
	Address     string  `json:"address,omitempty"`
	Seconds     float64 `json:"seconds"`        // how long it has waited
	More        int     `json:"more,omitempty"` // in a process's last entry: its other calls, which have waited less
}

type holder struct {
	PID         uint32     `json:"pid"`
	Mode        string     `json:"mode"` // exclusive, shared or writing
	User        string     `json:"user"`
	Application string     `json:"application"`
	Address     string     `json:"address,omitempty"`
	Connected   *time.Time `json:"connected,omitempty"` // start of the session; absent if the role may not see it
}

func show(s lock.Status) shown {
	out := shown{Key: s.Key.String(), ID: s.Key.Int64(), Holders: []holder{}, Waiters: s.Waiters, Cycle: s.Cycle}
	for _, w := range s.Waiting {
		out.Waiting = append(out.Waiting, showWaiter(w))
	}
	for _, w := range s.Unanswered {
		out.Unanswered = append(out.Unanswered, showWaiter(w))
	}
	for _, h := range s.Holders {
		to := holder{PID: h.PID, Mode: mode(h.Writing, h.Shared), User: h.User, Application: h.Application, Address: h.Address}
		if !h.Start.IsZero() {
			to.Connected = &h.Start
		}
		out.Holders = append(out.Holders, to)
	}
	return out
}

func showWaiter(w lock.Waiter) waiter {
	return waiter{w.PID, mode(w.Writing, w.Shared), w.User, w.Application, w.Address, w.Waited.Round(time.Millisecond).Seconds(), w.More}
}

func mode(writing, shared bool) string {
	switch {
	case writing:
		return "writing"
	case shared:
		return "shared"
	}
	return "exclusive"
}

// print writes the state of keys as JSON, as a table, or as fields.
func (c *call) print(all []shown) error {
	if c.json {
		return json.NewEncoder(c.stdout).Encode(all)
	}
	out, end := c.stdout, func() error { return nil }
	if c.terminal {
		table := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "KEY\tMODE\tPID\tUSER\tAPPLICATION\tADDRESS\tCONNECTED\tWAITING")
		out, end = table, table.Flush
	}
	for _, s := range all {
		for _, h := range s.Holders {
			connected := ""
			if h.Connected != nil {
				connected = c.since(*h.Connected)
			}
			c.line(out, s.Key, h.Mode, h.PID, h.User, h.Application, h.Address, connected, s.Waiters)
		}
		if len(s.Holders) == 0 {
			c.line(out, s.Key, "free", "", "", "", "", "", s.Waiters)
		}
		for _, w := range s.Waiting {
			waited := fmt.Sprintf("%.1fs", w.Seconds)
			if w.More > 0 {
				waited += fmt.Sprintf(", %d more", w.More)
			}
			c.line(out, s.Key, "waits "+w.Mode, w.PID, w.User, w.Application, w.Address, "", waited)
		}
		for _, w := range s.Unanswered {
			c.line(out, s.Key, "no answer", w.PID, w.User, w.Application, w.Address, "", "")
		}
		for i, b := range s.Cycle {
			next := s.Cycle[(i+1)%len(s.Cycle)]
			c.line(out, s.Key, "cycle", b.PID, "", "", "", "", fmt.Sprintf("for %d", next.PID))
		}
	}
	return end()
}

// line writes fields, with "-" for empty ones on a terminal.
func (c *call) line(out io.Writer, fields ...any) {
	texts := make([]string, len(fields))
	for i, f := range fields {
		texts[i] = printable(fmt.Sprint(f))
		if c.terminal {
			texts[i] = cmp.Or(texts[i], "-")
		}
	}
	fmt.Fprintln(out, strings.Join(texts, "\t"))
}

// printable quotes text that is not visible as it is. It could do something to a terminal: other
// users choose the names of roles, keys and applications.
func printable(text string) string {
	hidden := func(r rune) bool { return !strconv.IsPrint(r) }
	if strings.ContainsFunc(text, hidden) || !utf8.ValidString(text) {
		return strconv.Quote(text)
	}
	return text
}

// since returns the time elapsed on a terminal, and otherwise the time.
func (c *call) since(at time.Time) string {
	if c.terminal {
		return max(time.Since(at), 0).Round(time.Second).String() + " ago"
	}
	return at.UTC().Format(time.RFC3339)
}

func (c *call) locks() func(context.Context, []string) error {
	c.reaching()
	c.flags.BoolVar(&c.json, "json", false, "print JSON, an array each time")
	watch := c.flags.Bool("watch", false, "repeat until interrupted")
	every := c.flags.Duration("every", time.Second, "the interval of -watch")
	return func(ctx context.Context, _ []string) error {
		if *every <= 0 {
			return wrong("-every %s: want a longer time", *every)
		}
		return c.withLocker(ctx, func(ctx context.Context, _ *pgxpool.Pool, l *lock.Postgres) error {
			for tick := time.Tick(*every); ; {
				err := c.look(ctx, l, *watch)
				if err != nil || !*watch {
					return err
				}
				select {
				case <-ctx.Done():
					return nil // interrupted: the normal end of -watch
				case <-tick:
				}
			}
		})
	}
}

// look prints the current state of all keys.
func (c *call) look(ctx context.Context, l *lock.Postgres, again bool) error {
	asking, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := l.List(asking, lock.Namespace(c.namespace))
	switch {
	case err != nil && again && ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case again && c.terminal && !c.json:
		fmt.Fprintf(c.stdout, "\x1b[H\x1b[2J%s, %d keys\n", time.Now().Format(time.TimeOnly), len(found))
	}
	all := []shown{}
	for _, s := range found {
		all = append(all, show(s))
	}
	return c.print(all)
}

func (c *call) who() func(context.Context, []string) error {
	c.flags.BoolVar(&c.json, "json", false, "print JSON")
	return c.onKey(func(ctx context.Context, l *lock.Postgres, key lock.Key) error {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		status, err := l.Status(ctx, key)
		if err != nil {
			return err
		}
		if err := c.print([]shown{show(status)}); err != nil {
			return err
		}
		if len(status.Holders) == 0 {
			return errNo
		}
		return nil
	})
}

func (c *call) evict() func(context.Context, []string) error {
	grace := c.flags.Duration("grace", 5*time.Second, "how long the holder has to release it, before its session is ended")
	return c.onKey(func(ctx context.Context, l *lock.Postgres, key lock.Key) error {
		ctx, cancel := context.WithTimeout(ctx, c.timeout+2*max(*grace, 0))
		defer cancel()
		status, err := l.Status(ctx, key)
		if err != nil {
			return err
		}
		if len(status.Holders) == 0 {
			fmt.Fprintf(c.stderr, "%s is free\n", key)
			return errNo
		}
		if err := l.Evict(ctx, key, *grace); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "%s has been freed from:\n", key)
		return c.print([]shown{show(status)})
	})
}

// onKey adds the flags of a command for one key. It returns a function that calls do with the
// key of the arguments.
func (c *call) onKey(do func(context.Context, *lock.Postgres, lock.Key) error) func(context.Context, []string) error {
	c.reaching()
	c.storing()
	doc := c.flags.Bool("doc", false, "KEY is the id of a document")
	return func(ctx context.Context, args []string) error {
		key, err := c.key(ctx, args[0], *doc)
		if err != nil {
			return err
		}
		return c.withLocker(ctx, func(ctx context.Context, _ *pgxpool.Pool, l *lock.Postgres) error { return do(ctx, l, key) })
	}
}
