package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/simulate"
)

// A call is one call of Lock, TryLock, RLock, TryRLock or LockAll, and what follows from it.
type call struct {
	id      int
	process *process
	method  string
	keys    []Key
	ctx     context.Context
	carried *Held // that ctx carries
	cancel  context.CancelFunc
	began   time.Time
	ended   time.Time // seen waiting since, with a context that has ended
	step    int

	// Protected by world.mu.
	done      bool
	held      *Held
	floor     []int64         // of the fence of each key, in the order of held.keys
	watched   context.Context // the Held's, once asked for
	over      time.Time       // noticed that the hold was
	unlocking bool
	unlocked  bool
	busy      int // goroutines that do something with held
}

// outcomes are what the calls of a process returned, in sum.
type outcomes struct {
	calls, granted, busy, lost, evicted, panics int64
	waited                                      time.Duration
}

func (c *call) String() string { return fmt.Sprintf("call %d", c.id) }

func (c *call) tries() bool { return c.method == "TryLock" || c.method == "TryRLock" }

// call starts a call for keys.
func (w *world) call(p *process, method string, ctx context.Context, cancel context.CancelFunc, keys ...Key) *call {
	c := &call{id: w.numbered, process: p, method: method, keys: keys, ctx: ctx, cancel: cancel, began: time.Now(), step: w.Step()}
	if carried, ok := ctx.(*holdContext); ok && carried.held.hold.(*hold).endErr() == nil {
		c.carried = carried.held
	}
	w.numbered++
	w.mu.Lock()
	w.calls = append(w.calls, c)
	p.outcomes.calls++
	w.mu.Unlock()
	w.Tell("%s: %s of %s in %s", c, method, keys, p)
	go c.run()
	return c
}

// callAny starts a random call.
func (w *world) callAny() {
	p := simulate.One(w.Schedule, w.processes...)
	if len(w.calls) > 14 || p.frozen.Load() {
		return
	}
	method := simulate.One(w.Schedule, "Lock", "Lock", "Lock", "TryLock", "RLock", "RLock", "TryRLock")
	keys := []Key{simulate.One(w.Schedule, w.keys...)}
	if w.all && w.N(6) == 0 {
		method = "LockAll"
		for range w.N(3) {
			keys = append(keys, simulate.One(w.Schedule, w.keys...))
		}
	}
	if len(w.keys) > 1 && w.N(6) == 0 {
		method, keys = "one of", w.keys[w.N(len(w.keys)-1):]
	}
	ctx, cancel := context.WithCancel(context.Background())
	if w.N(4) == 0 {
		ctx, cancel = context.WithTimeout(context.Background(), simulate.One(w.Schedule, 0, time.Millisecond, 20*time.Millisecond, 500*time.Millisecond))
	}
	if w.N(4) == 0 {
		w.mu.Lock()
		holders := w.holders()
		w.mu.Unlock()
		if len(holders) > 0 {
			ctx = &holdContext{ctx, simulate.One(w.Schedule, holders...).held}
		}
	}
	w.call(p, method, ctx, cancel, keys...)
}

func (c *call) run() {
	w := c.process.w
	defer c.cancel()
	defer func() {
		if r := recover(); r != nil {
			c.panicked(r)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.over(c)
		}
	}()
	held, err := c.do()
	w.Tell("%s: %v", c, err)
	c.judge(held, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.done, c.held = true, held
	o := &c.process.outcomes
	o.waited += time.Since(c.began)
	switch {
	case err == nil:
		o.granted++
		c.floor = w.fences.floor(held)
		w.lateWrites(c)
	case errors.Is(err, ErrBusy):
		o.busy++
	}
	if held == nil {
		w.over(c)
	}
}

func (c *call) do() (*Held, error) {
	l := c.process.locker
	switch c.method {
	case "Lock":
		return l.Lock(c.ctx, c.keys[0])
	case "TryLock":
		return l.TryLock(c.ctx, c.keys[0])
	case "RLock":
		return l.RLock(c.ctx, c.keys[0])
	case "TryRLock":
		return l.TryRLock(c.ctx, c.keys[0])
	case "one of":
		return (&Semaphore{c.process.table, ID(99), c.keys}).Acquire(c.ctx)
	}
	return l.LockAll(c.ctx, c.keys...)
}

// over takes c off the list. Its caller holds w.mu.
func (w *world) over(c *call) {
	if i := slices.Index(w.calls, c); i >= 0 {
		w.calls = slices.Delete(w.calls, i, i+1)
	}
}

// judge says what is wrong with a call's outcome by itself.
func (c *call) judge(held *Held, err error) {
	w := c.process.w
	if (held == nil) == (err == nil) {
		w.Problem("ANSWER", "%s has %v and %v", c, held, err)
	}
	if err == nil {
		return
	}
	w.mu.Lock()
	closing, calm := c.process.closing, w.IsCalm()
	w.mu.Unlock()
	ended := c.ctx.Err() != nil
	exhausted := errors.Is(err, backoff.ErrExhausted)
	var told *BusyError
	switch {
	case errors.Is(err, ErrHeld):
		if c.carried == nil || !slices.ContainsFunc(c.keys, func(k Key) bool { return slices.Contains(c.carried.keys, k) }) {
			w.Problem("SELF", "%s: %v", c, err)
		}
	case errors.Is(err, ErrReleased):
		w.Problem("ERROR", "%s: %v", c, err)
	case errors.Is(err, ErrClosed):
		if !closing {
			w.Problem("ERROR", "%s: %v, but is not", c, err)
		}
	case errors.Is(err, ErrTooMany):
		if w.options.MaxKeys >= len(w.keys) {
			w.Problem("ERROR", "%s: %v", c, err)
		}
	case exhausted:
		errors.As(err, &told)
		c.judgePatience(told, err)
	case c.tries() && errors.As(err, &told):
		if !calm && !ended {
			w.model(func() { w.refused = append(w.refused, c) })
		}
	case ended:
		if !errors.Is(err, c.ctx.Err()) && !errors.Is(err, ErrUnavailable) && !isSimulated(err) {
			w.Problem("ERROR", "%s: %v, and its context has ended", c, err)
		}
	case isSimulated(err), c.tries() && errors.Is(err, ErrUnavailable):
	default:
		w.Problem("ERROR", "%s: %v", c, err)
	}
}

// judgePatience checks that a call whose policy gave up has waited for all of it.
func (c *call) judgePatience(told *BusyError, err error) {
	w := c.process.w
	switch {
	case c.tries(), w.attempts == 0 && w.within == 0:
		w.Problem("PATIENCE", "%s: %v, but the policy never does", c, err)
	case told == nil: // unavailable
	case w.attempts > 0 && (told.Attempts < w.attempts || c.method != "LockAll" && c.method != "one of" && told.Attempts > w.attempts+1):
		w.Problem("PATIENCE", "%s gave up after %d attempts, not %d", c, told.Attempts, w.attempts)
	case w.within > 0 && told.Waited < w.within:
		w.Problem("PATIENCE", "%s gave up after %s, not %s", c, told.Waited, w.within)
	}
}

// holders returns the calls that hold, of processes that are not stopped. Its caller holds
// w.mu.
func (w *world) holders() (holders []*call) {
	for _, c := range w.calls {
		if c.held != nil && !c.unlocking && !c.process.frozen.Load() {
			holders = append(holders, c)
		}
	}
	return holders
}

// with does something with the Held of c, on a goroutine.
func (c *call) with(do func()) {
	w := c.process.w
	w.mu.Lock()
	c.busy++
	w.mu.Unlock()
	go func() {
		do()
		w.mu.Lock()
		defer w.mu.Unlock()
		if c.busy--; c.busy == 0 && c.unlocked {
			w.over(c)
		}
	}()
}

// unlock calls Unlock once or several times at once, or drops the Held.
func (c *call) unlock(dropped bool, times int) {
	w := c.process.w
	w.Tell("%s: unlock", c)
	w.mu.Lock()
	c.unlocking = true
	w.mu.Unlock()
	if dropped {
		c.held.hold.(*hold).drop()
		w.Settle()
	}
	for range times {
		c.with(func() { c.judgeUnlock(c.unlockOnce()) })
	}
}

// unlockOnce survives an observer's panic, of which the second call knows nothing.
func (c *call) unlockOnce() (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.panicked(r)
			err = c.held.Unlock()
		}
	}()
	return c.held.Unlock()
}

func (c *call) judgeUnlock(err error) {
	w := c.process.w
	w.Tell("%s: unlocked: %v", c, err)
	if err != nil && !errors.Is(err, ErrLost) && !errors.Is(err, ErrClosed) {
		w.Problem("ERROR", "%s: Unlock: %v", c, err)
	}
	if ctx := c.held.Context(); ctx.Err() == nil {
		w.Problem("TOLD LATE", "%s is unlocked, and its context lives", c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.unlocked {
		return
	}
	c.unlocked = true
	switch {
	case errors.Is(err, ErrEvicted):
		c.process.outcomes.evicted++
		w.judgeEvicted(c)
	case errors.Is(err, ErrLost):
		c.process.outcomes.lost++
	}
}

// watch makes the holder ask for its context.
func (c *call) watch() {
	c.with(func() {
		ctx := c.held.Context()
		c.process.w.mu.Lock()
		c.watched = ctx
		c.process.w.mu.Unlock()
	})
}

// isSimulated reports whether err is a failure that the model made.
func isSimulated(err error) bool {
	code := codeOf(err)
	return code == outOfMemory || code == queryCanceled || code == internal
}
