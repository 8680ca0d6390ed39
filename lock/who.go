package lock

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
	others "example.com/lockstore/internal/waiting"
)

// A process is asked who waits there as it is asked to give up a key: by the
// application_name of the session that asks, which names a key, or a namespace, and a
// token. All that may have something to tell look at one flag, which is locked alone for
// as long as the question stands.
//
// The answer is the text of a statement. So the server itself sees to it who reads it: the
// roles that are shown what a session does (PostgreSQL documentation, 27.2.3
// pg_stat_activity). None else is answered, or can answer for another role. One answer is
// for all who ask at the time, and is no longer than the server shows. It is the session's
// own statement, which stands there until the next one; as that may be too soon to be read,
// it is then repeated on a connection of the host's pool, if there is one, until the
// question is gone.
//
// Who may have something to tell is seen by its session's last statement: one of a
// locker's that is not [opRest].
const (
	questionPrefix = "lockstore_who "
	questionFormat = questionPrefix + "%d %d" // key or namespace, token: at most 63 characters
	lockerMark     = "/* lockstore */ "       // before the statements of a session that is asked
	answerMark     = "/* lockstore waits */ SELECT '"
	answerEnd      = "' IS NULL" // so that it has no answer to speak of

	// answerTime is how long an answer is waited for, and standTime how long one stands at
	// least, if the question does.
	answerTime = 500 * time.Millisecond
	standTime  = answerTime / 5

	// askedAgain is how long a question makes another one likely.
	askedAgain = 10 * time.Second

	mostQuestions = 16
)

// Whatever it has to tell, a process tells of no more than that.
const (
	mostKeys   = 256
	mostWaits  = 8 // for a key, the longest ones
	mostOfName = 100
	mostAnswer = 16 << 10 // bytes of text
	usualRoom  = 1 << 10  // that the server shows, unless it is configured otherwise
)

const (
	// peersSQL are the sessions that may have something to tell, whose statements begin
	// with $1 and are not $2.
	peersSQL = `SELECT a.pid, coalesce(` + startSQL + `, 0), coalesce(a.application_name, ''), coalesce(a.usename, ''),
	coalesce(pg_catalog.host(a.client_addr), ''), coalesce(a.usesysid, 0::pg_catalog.oid)::bigint
FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND pg_catalog.starts_with(a.query, $1::pg_catalog.text)
	AND a.query OPERATOR(pg_catalog.<>) $2::pg_catalog.text
ORDER BY a.backend_start, a.pid`

	questionSQL = asksSQL + "pg_catalog.pg_try_advisory_xact_lock($2::bigint)"

	// A transaction sees others as they were when it looked first, unless it says so.
	lookAgainSQL = "SELECT pg_catalog.pg_stat_clear_snapshot()::pg_catalog.text"

	// answersSQL are the answers that stand, which begin with $1, and the peers ($2).
	answersSQL = `SELECT a.pid, coalesce(a.usesysid, 0::pg_catalog.oid)::bigint, a.query FROM pg_catalog.pg_stat_get_activity(NULL) AS a
WHERE pg_catalog.starts_with(a.query, $1::pg_catalog.text) OR a.pid::bigint OPERATOR(pg_catalog.=) ANY ($2::bigint[])`

	roomSQL = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('track_activity_query_size'))," +
		" pg_catalog.set_config('idle_in_transaction_session_timeout', '2s', true)"
)

// A question is who waits for a key, or for any of a namespace, whose lower bits are 0.
type question struct {
	key   int64
	token uint32
}

// means reports whether the question is about a key.
func (q question) means(key int64) bool {
	return q.key == key || uint64(q.key)&^tagMask == 0 && (uint64(q.key)^uint64(key))&tagMask == 0
}

// An account is what a process tells.
type account struct {
	Tokens []uint32     `json:"t"`
	PIDs   []uint32     `json:"p"` // of its sessions, the one for its locks first
	Whole  uint64       `json:"o"` // the same for all Lockers of a process, each of which tells of the same writers
	Keys   []keyAccount `json:"k"`

	by Waiter // the process itself
}

// A keyAccount is an account of a key that is held or waited for.
type keyAccount struct {
	ID      int64      `json:"i"`
	Name    string     `json:"n"`
	Calls   int        `json:"c,omitempty"` // that wait
	Writers int        `json:"o,omitempty"` // of these, without a Locker
	Waits   []toldWait `json:"w,omitempty"` // of these, the longest, which come first
}

type toldWait struct {
	Millis  int64 `json:"t"`
	Shared  bool  `json:"s,omitempty"`
	Writing bool  `json:"w,omitempty"`
}

// thisProcess tells this process from others.
var thisProcess = rand.Uint64()

// withoutWriters takes out what another account tells, too.
func (a *account) withoutWriters() {
	for i := range a.Keys {
		t := &a.Keys[i]
		t.Calls -= t.Writers
		t.Writers, t.Waits = 0, slices.DeleteFunc(t.Waits, func(w toldWait) bool { return w.Writing })
	}
}

// longest is how long somebody has waited.
func (t *keyAccount) longest() time.Duration {
	if len(t.Waits) == 0 {
		return 0
	}
	return time.Duration(t.Waits[0].Millis) * time.Millisecond
}

func (t *keyAccount) wait(since time.Time, shared, writing bool) {
	if t.Calls++; len(t.Waits) < mostWaits {
		t.Waits = append(t.Waits, toldWait{max(0, time.Since(since).Milliseconds()), shared, writing})
	}
}

// account is what this process has to tell.
func (q *queue) account() (keys []keyAccount) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.sorted() {
		t := keyAccount{ID: e.key.id, Name: e.key.name}
		for c := e.first(); c != nil; c = c.next {
			if !c.try {
				t.wait(c.since, c.mode == shared, false)
			}
		}
		keys = append(keys, t)
	}
	return keys
}

// account adds who waits beside the Locker.
func (p *Postgres) account(ctx context.Context) (a account) {
	a.Keys = p.queue.account()
	a.by.InThisLocker, a.Whole = true, thisProcess
	p.queue.mu.Lock()
	var at others.Database
	if p.session != nil {
		a.by.Backend, at = p.session.backend, others.Database{OID: p.session.at.oid, Since: p.session.at.since}
	}
	a.PIDs = append(a.PIDs, a.by.PID)
	for _, s := range p.parking.all {
		a.PIDs = append(a.PIDs, s.backend.PID)
	}
	p.queue.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, standTime)
	defer cancel()
	byID := make(map[int64]int)
	for i, t := range a.Keys {
		byID[t.ID] = i
	}
	for _, c := range others.Calls(ctx, at) {
		key := c.Key.(Key)
		i, known := byID[key.id]
		if !known {
			i = len(a.Keys)
			byID[key.id], a.Keys = i, append(a.Keys, keyAccount{ID: key.id, Name: key.name})
		}
		a.Keys[i].Writers++
		a.Keys[i].wait(c.Since, false, true)
	}
	for _, t := range a.Keys {
		slices.SortStableFunc(t.Waits, func(v, w toldWait) int { return cmp.Compare(w.Millis, v.Millis) })
	}
	return a
}

// text is the account as an answer to questions, in so many bytes: what they are about
// comes first, then who has waited longest.
func (a account) text(questions []question, size int) string {
	means := func(t *keyAccount) (n int) {
		for _, q := range questions {
			switch {
			case q.key == t.ID:
				return 2
			case q.means(t.ID):
				n = 1
			}
		}
		return n
	}
	for _, q := range questions {
		a.Tokens = append(a.Tokens, q.token)
	}
	a.Keys = slices.DeleteFunc(slices.Clone(a.Keys), func(t keyAccount) bool { return t.Calls == 0 && means(&t) == 0 })
	slices.SortStableFunc(a.Keys, func(s, t keyAccount) int {
		if m, n := means(&s), means(&t); m != n {
			return n - m
		}
		return int(t.longest() - s.longest())
	})
	for i := range a.Keys {
		if name := a.Keys[i].Name; len(name) > mostOfName {
			a.Keys[i].Name = strings.ToValidUTF8(name[:mostOfName], "") + "…"
		}
	}
	for keys, waits := mostKeys, mostWaits; ; keys, waits = keys/2, max(waits/2, 1) {
		a.Keys = a.Keys[:min(len(a.Keys), keys)]
		for i := range a.Keys {
			a.Keys[i].Waits = a.Keys[i].Waits[:min(len(a.Keys[i].Waits), waits)]
		}
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, flate.BestSpeed) // which takes that level
		plain, _ := json.Marshal(a)                  // of numbers and strings
		_, _ = z.Write(plain)                        // to memory
		_ = z.Close()
		text := answerMark + base64.StdEncoding.EncodeToString(b.Bytes()) + answerEnd
		if len(text) < min(size, mostAnswer) || len(a.Keys) == 0 {
			return text
		}
	}
}

// accountOf reads an answer.
func accountOf(text string) (a account, ok bool) {
	text, is := strings.CutPrefix(strings.TrimPrefix(text, lockerMark), answerMark)
	text, whole := strings.CutSuffix(text, answerEnd)
	if !is || !whole {
		return a, false
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return a, false
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), 1<<20))
	return a, err == nil && json.Unmarshal(plain, &a) == nil && len(a.PIDs) > 0
}

// wake has the session look whether somebody asks, as there is something to tell.
func (p *Postgres) wake() {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.lookLater()
}

// questioned takes the questions that there are. They are answered by one goroutine, on one
// connection.
func (p *Postgres) questioned(questions []question) {
	if slices.Equal(p.questions, questions) {
		return
	}
	p.questions, p.asked = questions, time.Now()
	select {
	case p.news <- struct{}{}:
	default:
	}
	if !p.answering && len(questions) > 0 && !p.queue.closed {
		p.answering = true
		p.work.Go(p.answer)
	}
}

// answer shows what this process has to tell, while there are questions, and for no longer
// than an answer stands.
func (p *Postgres) answer() {
	defer func() {
		p.queue.mu.Lock()
		defer p.queue.mu.Unlock()
		p.answering, p.questions = false, nil // those that still stand are answered again
	}()
	ctx, cancel := context.WithTimeout(p.life, standTime)
	a := p.account(ctx) // for which a connection may be needed
	p.say(a)
	conn, err := p.db.Acquire(ctx)
	cancel()
	if err != nil {
		return
	}
	defer conn.Release()
	tx, err := conn.Begin(p.life)
	if err != nil {
		return
	}
	defer rollback(p.life, tx)
	ctx, cancel = context.WithTimeout(p.life, tryTimeout)
	defer cancel()
	var room int64
	if err := tx.QueryRow(ctx, []any{&room, new(string)}, roomSQL); err != nil {
		return
	}
	for end := time.After(standTime); ; {
		questions := p.present()
		if len(questions) == 0 {
			return
		}
		if _, err := tx.Exec(ctx, a.text(questions, int(room))); err != nil {
			return
		}
		select {
		case <-p.news:
			a = p.account(ctx)
			p.say(a)
		case <-end:
			return
		case <-p.life.Done():
			return
		}
	}
}

// say answers on the session itself.
func (p *Postgres) say(a account) {
	text := lockerMark + a.text(p.present(), usualRoom-len(lockerMark))
	p.queue.mu.Lock()
	defer p.queue.unlock()
	if s := p.session; s != nil && len(p.questions) > 0 {
		s.mu.Lock()
		s.answer = text
		s.mu.Unlock()
		p.queue.request(s, op{code: opAnswer})
	}
}

// present are the questions that there are.
func (p *Postgres) present() []question {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	return p.questions
}

// rollback ends a transaction of the host's pool.
func rollback(ctx context.Context, tx pgdb.Transaction) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// A peerSession is a session of another process that may have something to tell.
type peerSession struct {
	Waiter
	role int64
}

// accounts asks all processes about a key or a namespace, and returns what they tell, the
// own account first, and those that have not answered in time.
func (p *Postgres) accounts(ctx context.Context, key int64) (all []account, silent []Waiter, err error) {
	all = append(all, p.account(ctx))
	var peers []peerSession
	err = p.db.Query(ctx, func(row pgdb.Row) error {
		var s peerSession
		var started int64
		if err := row.Scan(&s.PID, &started, &s.Application, &s.User, &s.Address, &s.role); err != nil {
			return err
		}
		s.Start = startOf(started)
		if own := &all[0].by; s.PID == own.PID {
			own.Application, own.User, own.Address = s.Application, s.User, s.Address
		} else {
			peers = append(peers, s)
		}
		return nil
	}, peersSQL, lockerMark, restSQL)
	if err != nil || len(peers) == 0 {
		return all, nil, err
	}
	conn, err := p.db.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Release() // which closes the connection if it is in a transaction
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer rollback(ctx, tx)
	q := question{key, p.chance.token()}
	raised, end := false, time.Now().Add(answerTime)
	for wait := time.Millisecond; len(peers) > 0 && time.Now().Before(end); wait = min(2*wait, 4*time.Millisecond) {
		if !raised {
			if err := tx.QueryRow(ctx, []any{new(string), new(string), new(int64), &raised}, questionSQL,
				fmt.Sprintf(questionFormat, q.key, q.token), int64(flags)); err != nil {
				return nil, nil, err
			}
		}
		select {
		case <-p.life.Done():
			return nil, nil, ErrClosed
		case <-ctx.Done():
			return nil, nil, causeOf(ctx)
		case <-time.After(wait):
		}
		var answers []account
		if answers, peers, err = answered(ctx, tx, q, peers); err != nil {
			return nil, nil, err
		}
		all = append(all, answers...)
	}
	seen := map[uint64]bool{}
	for i := range all {
		if seen[all[i].Whole] {
			all[i].withoutWriters()
		}
		seen[all[i].Whole] = true
	}
	for _, s := range peers {
		silent = append(silent, s.Waiter)
	}
	return all, silent, nil
}

// restSQL is the last statement of a session whose process has nothing to tell.
var restSQL = lockerMark + "SELECT " + operations[opRest].sql + ofKey

// answered reads the answers that stand, and returns those of peers, and the other peers
// that are there and have something to tell.
func answered(ctx context.Context, tx pgdb.Transaction, q question, peers []peerSession) (all []account, rest []peerSession, err error) {
	if err := tx.QueryRow(ctx, []any{new(string)}, lookAgainSQL); err != nil {
		return nil, nil, err
	}
	pids, there := make([]int64, len(peers)), map[uint32]bool{}
	for i, s := range peers {
		pids[i] = int64(s.PID)
	}
	err = tx.Query(ctx, func(row pgdb.Row) error {
		var pid uint32
		var role int64
		var text string
		if err := row.Scan(&pid, &role, &text); err != nil {
			return err
		}
		there[pid] = text != restSQL
		a, ok := accountOf(text)
		if !ok || !slices.Contains(a.Tokens, q.token) {
			return nil
		}
		i := slices.IndexFunc(peers, func(s peerSession) bool { return s.PID == a.PIDs[0] && s.role == role })
		if i >= 0 {
			a.by = peers[i].Waiter
			all, peers = append(all, a), slices.Delete(peers, i, i+1)
		}
		return nil
	}, answersSQL, answerMark, pids)
	return all, slices.DeleteFunc(peers, func(s peerSession) bool { return !there[s.PID] }), err
}
