package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/neighbour"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/internal/squatter"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// Rules in addition to those of package history, and their limits.
const (
	squatted = "squatted" // no object that others have created in the search path is used
	liveness = "liveness" // processes without a fault make progress within soon
	soon     = 20 * time.Second
	late     = 500 * time.Millisecond // for a holder to learn that it has lost a lock
	silence  = time.Second            // after which a client considers its locks lost
)

// app is the clients' role, its password, and the schema of their documents.
const app = "app"

// table is the table of the clients' documents.
var table = metadata.Table{Schema: app, Tokens: metadata.DefaultTokens}

// A nemesis is a server, the processes that use it, and the faults of both.
type nemesis struct {
	seed      uint64
	workers   int
	hasty     int
	watchers  int
	repeaters int
	seconds   int
	only      string
	peaceful  bool   // no faults but the neighbour's attacks
	keep      string // file for the history; empty: none
	rand      *rand.Rand
	server    *pgtest.Server
	db        *pgtest.DB
	elsewhere *pgtest.DB // with an old copy of the clients' table
	neighbour *neighbour.Neighbour
	attacks   sync.WaitGroup
	clients   []*client
	log       history.Log
	cleanup   []func()

	started  map[string]int
	spells   []Spell
	phases   []phase
	recovery time.Duration
	leaks    []string
	found    []history.Violation

	mu     sync.Mutex
	pauses []history.Pause
}

// pause records a time in which processes could not learn of anything.
func (n *nemesis) pause(p history.Pause) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pauses = append(n.pauses, p)
}

func (n *nemesis) run(ctx context.Context, processes int) (r Report, err error) {
	n.rand = rand.New(rand.NewPCG(n.seed, 0))
	defer func() {
		for i := len(n.cleanup) - 1; i >= 0; i-- {
			n.cleanup[i]()
		}
	}()
	if n.server, err = pgtest.Start(ctx, pgtest.Dedicated(), pgtest.Setting("max_connections", "80")); err != nil {
		return r, err
	}
	n.cleanup = append(n.cleanup, func() { n.server.Close() })
	if n.db, err = n.server.New(ctx); err != nil {
		return r, err
	}
	if n.elsewhere, err = n.server.New(ctx); err != nil {
		return r, err
	}
	if err := n.settle(ctx); err != nil {
		return r, err
	}
	for slot := range processes {
		c := &client{n: n, slot: slot, proxy: pgtest.NewProxy(n, n.db)}
		n.clients = append(n.clients, c)
		if err := c.start(); err != nil {
			return r, err
		}
	}
	watched, watchedEnough := context.WithCancel(ctx)
	defer watchedEnough()
	go history.Stalls(watched, func(from, to time.Time) { // this process runs all proxies
		n.pause(history.Pause{Process: history.Everybody, From: from, To: to})
	})
	n.recovered("the beginning")
	if n.peaceful {
		err = n.alternate(ctx)
	} else {
		n.rage(ctx)
	}
	n.attacks.Wait()
	n.recovered("the end")
	for _, c := range n.clients {
		c.stop()
	}
	if err != nil {
		return r, err
	}
	if err := n.repeat(ctx); err != nil {
		return r, err
	}
	n.left(ctx)
	if err := errors.Join(n.caught(ctx), n.trespassed(ctx)); err != nil {
		return r, err
	}
	return n.judge(ctx)
}

// judge checks what has been recorded, and the documents as they are in the end.
func (n *nemesis) judge(ctx context.Context) (r Report, err error) {
	events := n.log.Events()
	if n.keep != "" {
		if err := history.Save(n.keep, events); err != nil {
			return r, err
		}
	}
	final, err := n.final(ctx)
	if err != nil {
		return r, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	v := history.Check(events, final, n.pauses, late)
	if n.peaceful {
		v.Violations = append(v.Violations, history.CheckUnharmed(events, late)...)
	}
	r = Report{
		Seed: n.seed, Seconds: n.seconds, Faults: n.started, FaultKinds: len(n.started),
		Recovery: ms(n.recovery), Overlap: ms(v.Overlap), Windows: v.Windows,
		Violations: append(append([]history.Violation{}, v.Violations...), n.found...), Leaks: append([]string{}, n.leaks...),
	}
	for i := range r.Violations {
		r.Beside = append(r.Beside, n.beside(r.Violations[i]))
	}
	r.count(events)
	r.Rates = n.rates(events)
	return r, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// settle creates the databases and the role of the clients, and the neighbour.
func (n *nemesis) settle(ctx context.Context) (err error) {
	if n.neighbour, err = neighbour.MoveIn(ctx, n.db.Pool()); err != nil {
		return err
	}
	if err := n.ask(ctx, "CREATE ROLE "+app+" LOGIN PASSWORD '"+app+"'"); err != nil {
		return err
	}
	if err := n.migrate(ctx, n.db); err != nil {
		return err
	}
	if err := n.migrate(ctx, n.elsewhere, "doc0", "doc1"); err != nil { // the other documents do not exist there
		return err
	}
	return n.ask(ctx, workload.Settle(app, app))
}

// migrate creates the clients' table in a database, with the first versions of documents.
func (n *nemesis) migrate(ctx context.Context, db *pgtest.DB, ids ...string) error {
	if _, err := db.Pool().Exec(ctx, "CREATE SCHEMA "+app+" AUTHORIZATION "+app); err != nil {
		return err
	}
	config := db.Pool().Config()
	config.ConnConfig.User, config.ConnConfig.Password = app, app
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := metadata.NewPostgres(pool, &metadata.Options{Table: table})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := store.Merge(ctx, id, json.RawMessage(`{"`+history.Counter+`":1}`)); err != nil {
			return err
		}
	}
	return nil
}

// caught reports objects of the squatter that the clients have used.
func (n *nemesis) caught(ctx context.Context) error {
	what, err := squatter.Caught(ctx, n.db.Pool())
	if what != "" {
		n.found = append(n.found, history.Violation{Rule: squatted, Key: what, Reason: "it was used", Events: []history.Event{}})
	}
	return err
}

// trespassed reports values that tenants have written into documents of others.
func (n *nemesis) trespassed(ctx context.Context) error {
	var fields int
	err := n.db.Pool().QueryRow(ctx, workload.Trespasses(app)).Scan(&fields)
	if fields > 0 {
		n.found = append(n.found, history.Violation{Rule: history.Rights, Key: workload.Tenancy.Name, Reason: fmt.Sprintf("it has %d members of other tenants", fields), Events: []history.Event{}})
	}
	return err
}

func (n *nemesis) final(ctx context.Context) (map[string]history.Final, error) {
	store, err := metadata.NewPostgres(n.db.Pool(), &metadata.Options{Table: metadata.Table{Schema: app}})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	final := map[string]history.Final{}
	for doc, err := range store.Find(ctx, json.RawMessage(`{}`), nil) {
		if err != nil {
			return nil, err
		}
		final[doc.ID] = history.Final{Version: doc.Version, Document: doc.Metadata}
	}
	return final, nil
}

// repeat repeats the writes with tokens whose clients were killed or stopped before they knew
// the outcome.
func (n *nemesis) repeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*soon)
	defer cancel()
	store, err := metadata.NewPostgres(n.db.Pool(), &metadata.Options{Table: table})
	if err != nil {
		return err
	}
	defer store.Close()
	for _, e := range n.log.Events() {
		if e.Kind != history.Once || e.Outcome != history.Unknown {
			continue
		}
		if e.Version, err = workload.MakeOnce(ctx, store, e); err != nil {
			return err
		}
		e.Return, e.Outcome = time.Now(), history.OK
		n.log.Add(e)
	}
	return nil
}

// recovered waits until a call of every client has succeeded again.
func (n *nemesis) recovered(what string) {
	healed := time.Now()
	for _, c := range n.clients {
		for !c.workedAfter(healed) {
			if c.ended() {
				n.violated(c, fmt.Sprintf("it has ended by itself, before %s was over", what))
				c.kill()
				if err := c.start(); err != nil {
					n.Errorf("process %d: %v", c.process(), err)
					return
				}
			}
			if time.Since(healed) > soon {
				n.violated(c, fmt.Sprintf("no call succeeded within %v of %s", soon, what))
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	n.recovery = max(n.recovery, time.Since(healed))
}

func (n *nemesis) violated(c *client, reason string) {
	n.found = append(n.found, history.Violation{Rule: liveness, Key: fmt.Sprint("process ", c.process()), Reason: reason, Events: []history.Event{}})
}

// left reports what the clients have left in the server.
func (n *nemesis) left(ctx context.Context) {
	const sql = `SELECT count(*) FILTER (WHERE l.pid IS NOT NULL), count(DISTINCT a.pid) FROM pg_stat_activity AS a
		LEFT JOIN pg_locks AS l ON l.pid = a.pid AND l.locktype = 'advisory'
		WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()`
	n.db.Pool().Reset()
	var locks, sessions int
	for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		err := n.db.Pool().QueryRow(ctx, sql).Scan(&locks, &sessions)
		if err == nil && locks+sessions == 0 {
			return
		}
		if time.Now().After(deadline) {
			n.leaks = append(n.leaks, fmt.Sprintf("the server has %d advisory locks and %d sessions: %v", locks, sessions, err))
			return
		}
	}
}

// ask runs a statement of the nemesis itself.
func (n *nemesis) ask(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, n.db.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// The methods of pgtest.TB.

func (n *nemesis) Helper()                           {}
func (n *nemesis) Name() string                      { return "nemesis" }
func (n *nemesis) Cleanup(f func())                  { n.cleanup = append(n.cleanup, f) }
func (n *nemesis) Failed() bool                      { return false }
func (n *nemesis) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (n *nemesis) Errorf(format string, args ...any) { n.Logf(format, args...) }
func (n *nemesis) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
