package lock

import (
	"context"
	"fmt"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// The protocol of a question about waiters. A process is asked which of its calls wait as it
// is asked to give up a key: by the application_name of the session that asks, which has a key
// or a namespace, and a token. All processes that may have something to report check one flag,
// which is locked exclusively for as long as the question stands.
//
// The answer is the text of a statement. So the server decides who can read it: the roles that
// may see what a session does (PostgreSQL documentation, 27.2.3 pg_stat_activity). No other
// role is answered, or can answer for another. One answer is for all who ask at the time, and
// is no longer than what the server shows. It is first a statement of the session itself, and
// stands until its next one; each look for questions repeats it. As a busy session overwrites
// it too soon, an answer that is not read at once is repeated on a connection of the host's
// pool, if there is one, until the question is gone.
//
// A process that may have something to report is recognized by its session's last statement:
// one of a locker's that is not [opRest].
const (
	questionPrefix = "lockstore_who "
	questionFormat = questionPrefix + "%d %d" // key or namespace, token: at most 63 characters
	lockerMark     = "/* lockstore */ "       // precedes the statements of a session that can be asked
	answerMark     = "/* lockstore waits */ SELECT '"
	answerEnd      = "' IS NULL" // so that its result is small

	// answerTime is how long to wait for an answer. standTime is how long an answer stands at
	// least, if the question does, and readTime how long for it to be read on the session.
	answerTime = 500 * time.Millisecond
	standTime  = answerTime / 5
	readTime   = standTime / 5

	// askedAgain is how long a question makes another one likely.
	askedAgain = 10 * time.Second

	mostQuestions = 16
)

const (
	// peersSQL lists the sessions that may have something to report: their statements begin
	// with $1 and are not $2.
	peersSQL = `SELECT a.pid, coalesce(` + startSQL + `, 0), coalesce(a.application_name, ''), coalesce(a.usename, ''),
	coalesce(pg_catalog.host(a.client_addr), ''), coalesce(a.usesysid, 0::pg_catalog.oid)::bigint
FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND pg_catalog.starts_with(a.query, $1::pg_catalog.text)
	AND a.query OPERATOR(pg_catalog.<>) $2::pg_catalog.text
ORDER BY a.backend_start, a.pid`

	questionSQL = asksSQL + "pg_catalog.pg_try_advisory_xact_lock($2::bigint)"

	// A transaction sees other sessions as they were at its first query, unless it says so.
	lookAgainSQL = "SELECT pg_catalog.pg_stat_clear_snapshot()::pg_catalog.text"

	// answersSQL lists the answers that stand, which begin with $1, and the peers ($2).
	answersSQL = `SELECT a.pid, coalesce(a.usesysid, 0::pg_catalog.oid)::bigint, a.query FROM pg_catalog.pg_stat_get_activity(NULL) AS a
WHERE pg_catalog.starts_with(a.query, $1::pg_catalog.text) OR a.pid::bigint OPERATOR(pg_catalog.=) ANY ($2::bigint[])`

	roomSQL = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('track_activity_query_size'))," +
		" pg_catalog.set_config('idle_in_transaction_session_timeout', '2s', true)"
)

// A question asks which calls wait for a key, or for any of a namespace, whose lower bits are
// 0.
type question struct {
	key   int64
	token uint32
}

// means reports whether the question is about a key.
func (q question) means(key int64) bool {
	return q.key == key || uint64(q.key)&^tagMask == 0 && (uint64(q.key)^uint64(key))&tagMask == 0
}

// wake makes the session look for questions, as there is something to report.
func (p *Postgres) wake() {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	p.lookLater()
}

// questioned takes the present questions. One goroutine answers them, on one connection.
func (p *Postgres) questioned(questions []question) {
	if slices.Equal(p.questions, questions) {
		return
	}
	p.questions, p.asked = questions, time.Now()
	select {
	case p.news <- struct{}{}:
	default:
	}
	if !p.answering && len(questions) > 0 && !p.table.closed {
		p.answering = true
		p.work.Go(p.answer)
	}
}

// answer shows the report of this process while there are questions, and for standTime at
// most.
func (p *Postgres) answer() {
	defer func() {
		p.table.mu.Lock()
		defer p.table.mu.Unlock()
		p.answering, p.questions = false, nil // questions that still stand are answered again
	}()
	a, asked := p.sayAll()
	if !asked {
		return
	}
	ctx, cancel := context.WithTimeout(p.life, standTime)
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
			a = p.report(ctx)
			p.say(a)
		case <-end:
			return
		case <-p.life.Done():
			return
		}
	}
}

// sayAll answers on the session itself until no new question has come for readTime. It
// reports whether a question still stands then.
func (p *Postgres) sayAll() (a report, asked bool) {
	for {
		ctx, cancel := context.WithTimeout(p.life, standTime)
		a = p.report(ctx) // may need a connection
		cancel()
		p.say(a)
		select {
		case <-p.news:
			if len(p.present()) == 0 {
				return a, false
			}
		case <-time.After(readTime):
			return a, len(p.present()) > 0
		case <-p.life.Done():
			return a, false
		}
	}
}

// say answers on the session itself.
func (p *Postgres) say(a report) {
	text := lockerMark + a.text(p.present(), usualRoom-len(lockerMark))
	p.table.mu.Lock()
	defer p.table.unlock()
	if s := p.session; s != nil && len(p.questions) > 0 {
		s.mu.Lock()
		s.answer = text
		s.mu.Unlock()
		p.table.submit(s, op{code: opAnswer})
	}
}

// sayAgain repeats the answer behind a look, which has overwritten it.
func (p *Postgres) sayAgain(s *session) {
	s.mu.Lock()
	answers := s.answer != ""
	s.mu.Unlock()
	if answers {
		p.table.submit(s, op{code: opAnswer})
	}
}

// present returns the present questions.
func (p *Postgres) present() []question {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return p.questions
}

// rollback ends a transaction of the host's pool.
func rollback(ctx context.Context, tx pgdb.Transaction) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// A peerSession is a session of another process that may have something to report.
type peerSession struct {
	Waiter
	role int64
}

// reports asks all processes about a key or a namespace. It returns their reports, that of
// this process first, and the processes that did not answer in time.
func (p *Postgres) reports(ctx context.Context, key int64) (all []report, silent []Waiter, err error) {
	all = append(all, p.report(ctx))
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
		if err := p.sleep(ctx, wait); err != nil {
			return nil, nil, err
		}
		var answers []report
		if answers, peers, err = readAnswers(ctx, tx, q, peers); err != nil {
			return nil, nil, err
		}
		all = append(all, answers...)
	}
	seen := map[uint64]bool{}
	for i := range all {
		if seen[all[i].Process] {
			all[i].withoutWriters()
		}
		seen[all[i].Process] = true
	}
	for _, s := range peers {
		silent = append(silent, s.Waiter)
	}
	return all, silent, nil
}

// restSQL is the last statement of a session whose process has nothing to report.
var restSQL = lockerMark + "SELECT " + operations[opRest].sql + ofKey

// readAnswers reads the answers that stand. It returns those of peers, and the other peers that
// still exist and have something to report.
func readAnswers(ctx context.Context, tx pgdb.Transaction, q question, peers []peerSession) (all []report, rest []peerSession, err error) {
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
		a, ok := reportOf(text)
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
