package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// childEnv contains the order of a child process.
const childEnv = "LOCKSTORE_NEMESIS_CHILD"

type order struct {
	URL        string
	SearchPath string // in which others may create objects
	Listen     bool   // for the locks' connections: to what everybody can send
	LibPQ      bool   // has the store go over lib/pq
	Tenancy    bool   // for tenants, whose rights differ
	Elsewhere  string // a database to which connections may lead; empty: none do
	Timeout    time.Duration
	Silence    time.Duration
	Config     workload.Config
}

// The first word of a line of the child's input; a duration follows.
const (
	tenantOrder = "tenant" // serve a hostile tenant, too
	astrayOrder = "astray" // lead the detour astray
	hangOrder   = "hang"   // run callers whose connections hang, too
)

// child works until its input ends, or until it is killed. It writes its events to its output,
// and at the end what it has left behind.
func child() error {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		return err
	}
	out := bufio.NewWriterSize(os.Stdout, 1) // unbuffered: events before a kill must arrive
	if r, w, err := os.Pipe(); err == nil {  // makes the runtime open its own files before they are counted
		_, _ = r.Close(), w.Close()
	}
	goroutines, files := runtime.NumGoroutine(), countFiles()
	if err := work(o, history.NewRecorder(o.Config.Process, history.Write(out))); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	var leaks []string
	if n := runtime.NumGoroutine(); n > goroutines {
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		leaks = append(leaks, fmt.Sprintf("%d goroutines, of %d: %s", n, goroutines, stacks.String()))
	}
	if n := countFiles(); n > files {
		leaks = append(leaks, fmt.Sprintf("%d open files, of %d", n, files))
	}
	if leaks != nil {
		return errors.New(strings.Join(leaks, "; "))
	}
	return nil
}

func work(o order, to *history.Recorder) error {
	ctx, stop := context.WithCancel(context.Background())
	orders := readOrders(stop)
	c, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.openLocker(ctx, o.Silence); err != nil {
		return nil // the work has ended before the server was reached
	}
	var led *detour
	if o.Elsewhere != "" {
		if led, err = newDetour(ctx, c.config, o.Elsewhere, c.options); err != nil {
			return err
		}
		defer led.close()
	}
	var wrong, unopened error
	var group sync.WaitGroup
	group.Go(func() {
		history.Stalls(ctx, func(from, until time.Time) {
			e := to.Begin(history.Event{Kind: history.Stall})
			e.Call, e.Return, e.Outcome = from, until, history.OK
			to.Record(e)
		})
	})
	group.Go(func() {
		for d := range orders[tenantOrder] {
			brief, cancel := context.WithTimeout(ctx, d)
			wrong = errors.Join(wrong, workload.Tenant(brief, c.hosted, fmt.Sprint(o.Config.Process), o.Config.Seed))
			cancel()
		}
	})
	group.Go(func() { workload.Hang(orders[hangOrder], c.hosted, to, o.Config) })
	if o.Tenancy {
		group.Go(func() { unopened = tenancy(ctx, o, c.config, to) })
	}
	if led != nil {
		group.Go(func() {
			for d := range orders[astrayOrder] {
				led.lead(d)
			}
		})
		group.Go(func() { workload.HoldDocuments(ctx, 4, c.locker, led, to, o.Config) })
	}
	workload.Run(ctx, c.locker, c.hosted, to, o.Config)
	group.Wait()
	bounded, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(wrong, unopened, kept(c.locker), c.locker.Close(bounded))
}

// readOrders sends each line of the input to the channel of its order. At the input's end it
// calls stop and closes the channels.
func readOrders(stop func()) map[string]chan time.Duration {
	orders := map[string]chan time.Duration{tenantOrder: make(chan time.Duration), astrayOrder: make(chan time.Duration), hangOrder: make(chan time.Duration)}
	go func() {
		defer stop()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			what, lasts, _ := strings.Cut(lines.Text(), " ")
			if d, err := time.ParseDuration(lasts); err == nil {
				orders[what] <- d
			}
		}
		for _, order := range orders {
			close(order)
		}
	}()
	return orders
}

// clients are a child's pools, store and locker.
type clients struct {
	config  *pgxpool.Config // of the locks' pool
	locks   *pgxpool.Pool
	options *metadata.Options
	hosted  workload.Hosted
	locker  *lock.Postgres
	closers []func()
}

// open opens all but the locker.
func open(ctx context.Context, o order) (c *clients, err error) {
	c = &clients{options: &metadata.Options{Table: table, Timeout: o.Timeout, MaxDocumentBytes: 2 << 20, Principal: workload.NobodyInParticular}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.config, err = pgxpool.ParseConfig(o.URL); err != nil {
		return nil, err
	}
	c.config.ConnConfig.User, c.config.ConnConfig.Password = app, app
	c.config.ConnConfig.RuntimeParams["search_path"] = o.SearchPath
	c.config.MaxConns = 6
	c.config.ConnConfig.ConnectTimeout = 10 * time.Second
	c.config.PrepareConn = workload.PrepareHanging
	if c.hosted.Pool, err = c.pool(ctx); err != nil {
		return nil, err
	}
	c.locks = c.hosted.Pool
	if o.Listen {
		c.config = c.config.Copy()
		c.config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "LISTEN jobs")
			return err
		}
		if c.locks, err = c.pool(ctx); err != nil {
			return nil, err
		}
	}
	if o.LibPQ {
		if c.hosted.SQL, err = openLibPQ(o.URL, o.SearchPath, 2*cmp.Or(o.Timeout, 10*time.Second)); err != nil {
			return nil, err
		}
		c.closers = append(c.closers, func() { _ = c.hosted.SQL.Close() })
		c.hosted.Postgres, err = metadata.NewPostgres(c.hosted.SQL, c.options)
	} else {
		c.hosted.Postgres, err = metadata.NewPostgres(c.hosted.Pool, c.options)
	}
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, c.hosted.Postgres.Close)
	return c, nil
}

func (c *clients) pool(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, c.config)
	if err == nil {
		c.closers = append(c.closers, pool.Close)
	}
	return pool, err
}

// openLocker tries until it succeeds, as the server may be down, or until ctx ends.
func (c *clients) openLocker(ctx context.Context, silence time.Duration) (err error) {
	for ctx.Err() == nil {
		if c.locker, err = lock.NewPostgres(ctx, c.locks, &lock.PostgresOptions{Silence: silence, HandOff: 5 * time.Millisecond}); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}

// close closes what was opened last first.
func (c *clients) close() {
	for _, close := range slices.Backward(c.closers) {
		close()
	}
}

// tenancy lets tenants write each other's documents over two connections. In every other process
// only the pool distinguishes them.
func tenancy(ctx context.Context, o order, config *pgxpool.Config, to *history.Recorder) error {
	config = config.Copy()
	config.AfterConnect, config.PrepareConn, config.MaxConns = nil, workload.Prepare, 2
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	options := &metadata.Options{Table: workload.Tenancy, Timeout: o.Timeout}
	options.Table.Schema = app
	if o.Config.Process%2 == 0 {
		options.Principal = workload.TenantOf
	}
	store, err := metadata.NewPostgres(pool, options)
	if err != nil {
		return err
	}
	defer store.Close()
	workload.Rights(ctx, store, to, 8, o.Config)
	return nil
}

// kept describes the keys that a locker keeps without holders or waiters.
func kept(locker *lock.Postgres) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		s := locker.Stats()
		if s.Keys == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d keys, %d holders and %d waiters, when all have unlocked", s.Keys, s.Holders, s.Waiters)
		}
	}
}

func countFiles() int {
	files, _ := os.ReadDir("/proc/self/fd")
	return len(files)
}
