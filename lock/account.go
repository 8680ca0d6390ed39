package lock

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	others "example.com/lockstore/internal/waiting"
)

// What follows is what a process tells of its waiters where others ask, and how that is
// written: see questionPrefix.

// Whatever it has to tell, a process tells of no more than that.
const (
	mostKeys   = 256
	mostWaits  = 8 // for a key, the longest ones
	mostOfName = 100
	mostAnswer = 16 << 10 // bytes of text
	usualRoom  = 1 << 10  // that the server shows, unless it is configured otherwise
)

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
		return cmp.Or(means(&t)-means(&s), cmp.Compare(t.longest(), s.longest()))
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
