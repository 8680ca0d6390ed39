package lock_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

// waiters starts this many calls that wait in a locker, in the order of their arrival, and
// returns what ends them.
func waiters(t *testing.T, l *lock.Postgres, key lock.Key, n int) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{}, n)
	for range n {
		waiter := locktest.Arriving(ctx)
		go func() {
			if held, err := l.Lock(waiter, key); err == nil {
				assert.NoError(t, held.Unlock())
			}
			left <- struct{}{}
		}()
		await(t, waiter.Arrived(), "waiter")
	}
	return func() {
		cancel()
		for range n {
			<-left
		}
	}
}

// answered returns the status from a process, asked again until only the given number give no
// answer: on a slow machine one may be late.
func answered(t *testing.T, l *lock.Postgres, key lock.Key, unanswered int) (status lock.Status) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		var err error
		status, err = l.Status(t.Context(), key)
		require.NoError(t, err)
		if len(status.Unanswered) <= unanswered || time.Now().After(end) {
			require.Len(t, status.Unanswered, unanswered)
			return status
		}
	}
}

// listed does the same for a namespace.
func listed(t *testing.T, l *lock.Postgres, space lock.Namespace) []lock.Status {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		list, err := l.List(t.Context(), space)
		require.NoError(t, err)
		late := slices.ContainsFunc(list, func(s lock.Status) bool { return len(s.Unanswered) > 0 })
		if !late || time.Now().After(end) {
			require.False(t, late, "%v", list)
			return list
		}
	}
}

// Each call that waits is counted once, wherever it waits: here, in another process, polling
// or in the server's own queue, where sessions of others wait as well.
func TestStatusTellsWhoWaitsInAllProcesses(t *testing.T) {
	db := pgtest.New(t)
	holder, other, polling := newPostgres(t, db.Pool(), nil), newPostgres(t, db.SQLX(), nil), newPostgres(t, db.Pool(), &lock.PostgresOptions{WaitConns: -1})
	asking := newPostgres(t, db.Pool(), nil)
	key := lock.Namespace("shop").Name("cart", "7")
	held := take(t, holder, key)
	for l, n := range map[*lock.Postgres]int{holder: 1, other: 20, polling: 3, asking: 2} {
		defer waiters(t, l, key, n)()
	}
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stranger := make(chan struct{})
	go func() { conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key.Int64()); close(stranger) }()
	defer func() { cancel(); <-stranger }() // before the connection is given back
	awaitServerWaits(t, db, 3)

	status := answered(t, asking, key, 0)
	assert.Equal(t, 1+20+3+1, status.Waiters, "%s", status)
	assert.Equal(t, 2, status.WaitersHere)
	calls := map[uint32]int{}
	for _, w := range status.Waiting {
		calls[w.PID] += 1 + w.More
		assert.Equal(t, w.InThisLocker, w.PID == sessionOf(t, asking))
		assert.NotEmpty(t, w.User)
		assert.NotZero(t, w.Start)
		assert.Less(t, w.Waited, patience)
	}
	assert.Equal(t, map[uint32]int{sessionOf(t, holder): 1, sessionOf(t, other): 20, sessionOf(t, polling): 3, sessionOf(t, asking): 2, conn.Conn().PgConn().PID(): 1}, calls)
	assert.Len(t, status.Waiting, 1+8+3+2+1, "the longest of each")

	list := listed(t, asking, "shop")
	require.Len(t, list, 1)
	assert.Equal(t, 25, list[0].Waiters)
	cancel()
	assert.NoError(t, held.Unlock())
}

// sessionOf returns the process id of a locker's session.
func sessionOf(t *testing.T, l *lock.Postgres) uint32 {
	held := take(t, l, lock.Name("session", fmt.Sprintf("%p", l)))
	b, _ := held.Backend(held.Key())
	require.NoError(t, held.Unlock())
	return b.PID
}

// A process answers even if its host has no connection to spare, as is likely while calls
// wait. It is not asked when it has nothing to report.
func TestProcessWithoutAConnectionToSpareAnswers(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.MaxConns = 1
	pool := newPool(t, config)
	asking, other := newPostgres(t, db.Pool(), nil), newPostgres(t, pool, nil)
	held := take(t, asking, lock.Name("k"))
	leave := waiters(t, other, held.Key(), 3)
	awaitServerWaits(t, db, 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	for range 5 {
		status := answered(t, asking, held.Key(), 0)
		assert.Equal(t, 3, status.Waiters, "%s", status)
	}
	conn.Release()
	leave()
	operations := func() int64 { return other.Stats().Operations }
	require.Eventually(t, func() bool { // it rests
		before := operations()
		status, err := asking.Status(t.Context(), held.Key())
		require.NoError(t, err)
		return status.Waiters == 0 && operations() == before
	}, patience, time.Millisecond)
	assert.NoError(t, held.Unlock())
}

// Names of keys and waiters are shown only to roles that may see what the sessions do that
// wait: the server keeps them from others.
func TestOnlyWhoMaySeeSessionsIsToldWhoWaits(t *testing.T) {
	db := pgtest.New(t)
	as := roles(t, db, "app", "stranger", "monitor IN ROLE pg_read_all_stats")
	owner, secret := as("app"), lock.Namespace("shop").Name("secret")
	held := take(t, owner, secret)
	leave := waiters(t, owner, secret, 2)
	for role, may := range map[string]bool{"app": true, "monitor": true, "stranger": false} {
		l := as(role)
		require.Eventually(t, func() bool {
			list := listed(t, l, "shop")
			require.Len(t, list, 1)
			assert.Equal(t, may, list[0].Key == secret, role)
			return may == (list[0].Waiters == 2)
		}, patience, time.Millisecond, role)
	}
	leave()
	assert.NoError(t, held.Unlock())
}

// A role that can connect can pretend to be a session that is asked, or ask, or answer for
// others. That delays a question by half a second at most, and no role learns anything by it.
func TestForgedAnswersToAQuestionAreNotBelieved(t *testing.T) {
	db := pgtest.New(t)
	asking, other, connect := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil), connector(t, db)
	held := take(t, other, lock.Name("k"))
	session, _ := held.Backend(held.Key())
	answer, ask, forger := connect(), connect(), connect()
	_, err := ask.Exec(t.Context(), "SELECT set_config('application_name', 'lockstore_who 0 1', false), pg_advisory_lock(7715110665030991872)")
	require.NoError(t, err)
	for _, text := range []string{"x", "", "AAAA", "=", "=AAAA", "=" + base64.StdEncoding.EncodeToString(forgedReport(session.PID)), packed(t, forgedReport(session.PID))} {
		_, err = answer.Exec(t.Context(), "/* lockstore waits */ SELECT '"+text+"' IS NULL")
		require.NoError(t, err)
		_, err = forger.Exec(t.Context(), "/* lockstore */ SELECT 1")
		require.NoError(t, err)
		status := answered(t, asking, held.Key(), 1)
		start := time.Now()
		_, err = asking.Status(t.Context(), held.Key())
		require.NoError(t, err)
		assert.Less(t, time.Since(start), patience/4)
		assert.Zero(t, status.Waiters)
		assert.Equal(t, forger.PgConn().PID(), status.Unanswered[0].PID)
	}
	assert.NoError(t, held.Unlock())
}

// forgedReport is an answer to every question, with a process and its waiters.
func forgedReport(pid uint32) []byte {
	tokens := strings.Repeat("1,", 9) + "1"
	return fmt.Appendf(nil, `{"t":[%s],"p":[%d],"k":[{"i":%d,"n":"k","c":9}]}`, tokens, pid, lock.Name("k").Int64())
}

func packed(t *testing.T, report []byte) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(report)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// A look for questions is a statement, too, and overwrites the answer. So each look repeats it:
// it can be read whenever the asker comes.
func TestAnswerStandsWhileTheQuestionDoes(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	held := take(t, other, lock.Name("k"))
	session, _ := held.Backend(held.Key())
	ask, err := pgx.ConnectConfig(t.Context(), db.Pool().Config().ConnConfig)
	require.NoError(t, err)
	defer ask.Close(context.Background())
	_, err = ask.Exec(t.Context(), "SELECT set_config('application_name', 'lockstore_who 0 1', false), pg_advisory_lock(7715110665030991872)")
	require.NoError(t, err)
	answers := map[time.Time]bool{}
	require.Eventually(t, func() bool {
		var text string
		var start time.Time
		err := db.Pool().QueryRow(t.Context(), "SELECT query, query_start FROM pg_stat_activity WHERE pid = $1", session.PID).Scan(&text, &start)
		require.NoError(t, err)
		if strings.HasPrefix(text, "/* lockstore */ /* lockstore waits */") {
			answers[start] = true
		}
		return len(answers) > 3
	}, patience, time.Millisecond)
	assert.NoError(t, held.Unlock())
}

// The size of a process's answer is bounded. What was asked about comes first.
func TestAnswersAreBounded(t *testing.T) {
	db := pgtest.New(t)
	asking, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	space := lock.Namespace("many")
	var all []*lock.Held
	for i := range 300 {
		all = append(all, take(t, other, space.Name("a rather long name of a key, as hosts have them", strings.Repeat("x", 200), fmt.Sprint(i))))
	}
	last := all[len(all)-1].Key()
	leave := waiters(t, other, last, 1)
	status := answered(t, asking, last, 0)
	assert.Equal(t, 1, status.Waiters, "%s", status)
	list := listed(t, asking, space)
	require.Len(t, list, len(all))
	named, waiting := 0, 0
	for _, s := range list {
		waiting += s.Waiters
		if !strings.HasPrefix(s.Key.String(), "#") {
			named++
			assert.Less(t, len(s.Key.String()), 120)
		}
	}
	assert.Equal(t, 1, waiting)
	assert.Positive(t, named)
	leave()
	for _, held := range all {
		assert.NoError(t, held.Unlock())
	}
}

// Two processes that wait for each other are named, whichever is asked about, and by the error
// of the wait even if the options do not ask for it.
func TestProcessesThatWaitForEachOtherAreTold(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	a, b, asking := newPostgres(t, db.Pool(), nil), newPostgres(t, db.SQLX(), nil), newPostgres(t, db.Pool(), nil)
	x, y := take(t, a, lock.Name("x")), take(t, b, lock.Name("y"))
	b.DescribeWithin(patience) // which a slow machine may need
	of := func(h *lock.Held) lock.Backend { b, _ := h.Backend(h.Key()); return b }
	failed, seen := make(chan error, 2), make(chan struct{})
	go func() { _, err := a.Lock(x.Context(), y.Key()); failed <- err }()
	go func() { // again while it is looked at, and where an answer is late
		for end := time.Now().Add(patience); ; {
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			_, err := b.Lock(ctx, x.Key())
			cancel()
			var busy *lock.BusyError
			told := errors.As(err, &busy) && busy.Status != nil && len(busy.Status.Cycle) > 0
			select {
			case <-seen:
			default:
				continue
			}
			if told || time.Now().After(end) {
				failed <- err
				return
			}
		}
	}()
	for key, want := range map[lock.Key][]lock.Backend{x.Key(): {of(x), of(y)}, y.Key(): {of(y), of(x)}} {
		var status lock.Status
		require.Eventually(t, func() bool {
			var err error
			status, err = asking.Status(t.Context(), key)
			return err == nil && len(status.Cycle) > 0
		}, patience, 10*time.Millisecond)
		require.Len(t, status.Cycle, 2)
		for i := range want {
			assert.Equal(t, want[i].PID, status.Cycle[i].PID)
		}
	}
	close(seen)
	err := <-failed
	var busy *lock.BusyError
	require.ErrorAs(t, err, &busy)
	require.NotNil(t, busy.Status)
	assert.Len(t, busy.Status.Cycle, 2, "%s", err)
	for _, h := range []*lock.Held{x, y} {
		assert.ErrorContains(t, err, fmt.Sprint(of(h)))
	}
	assert.NoError(t, y.Unlock())
	assert.NoError(t, <-failed)
	assert.NoError(t, x.Unlock())
}
