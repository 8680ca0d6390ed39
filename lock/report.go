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

// This file has the report of its waiters that a process gives when others ask, and its
// encoding: see questionPrefix.

// Limits of a report.
const (
	mostKeys   = 256
	mostWaits  = 8 // of a key, the longest ones
	mostOfName = 100
	mostAnswer = 16 << 10 // bytes of text
	usualRoom  = 1 << 10  // what the server shows of a statement by default
)

// A report is what a process reports of its waiters.
type report struct {
	Tokens  []uint32    `json:"t"`
	PIDs    []uint32    `json:"p"` // of its sessions, the one for its locks first
	Process uint64      `json:"o"` // the same for all Lockers of a process, each of which reports the same writers
	Keys    []keyReport `json:"k"`

	by Waiter // the process itself
}

// A keyReport is the report of one key that is held or waited for.
type keyReport struct {
	ID      int64          `json:"i"`
	Name    string         `json:"n"`
	Calls   int            `json:"c,omitempty"` // number of calls that wait
	Writers int            `json:"o,omitempty"` // number of these that wait without a Locker
	Waits   []reportedWait `json:"w,omitempty"` // the longest of them, longest first
}

type reportedWait struct {
	Millis  int64 `json:"t"`
	Shared  bool  `json:"s,omitempty"`
	Writing bool  `json:"w,omitempty"`
}

// thisProcess identifies this process.
var thisProcess = rand.Uint64()

// withoutWriters removes the writers, which another report of the same process has, too.
func (a *report) withoutWriters() {
	for i := range a.Keys {
		t := &a.Keys[i]
		t.Calls -= t.Writers
		t.Writers, t.Waits = 0, slices.DeleteFunc(t.Waits, func(w reportedWait) bool { return w.Writing })
	}
}

// longest returns the longest wait.
func (t *keyReport) longest() time.Duration {
	if len(t.Waits) == 0 {
		return 0
	}
	return time.Duration(t.Waits[0].Millis) * time.Millisecond
}

func (t *keyReport) wait(since time.Time, shared, writing bool) {
	if t.Calls++; len(t.Waits) < mostWaits {
		t.Waits = append(t.Waits, reportedWait{max(0, time.Since(since).Milliseconds()), shared, writing})
	}
}

// report returns the reports of all keys held or wanted here.
func (t *keyTable) report() (keys []keyReport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.sorted() {
		k := keyReport{ID: e.key.id, Name: e.key.name}
		for r := e.first(); r != nil; r = r.next {
			if !r.try {
				k.wait(r.since, r.mode == shared, false)
			}
		}
		keys = append(keys, k)
	}
	return keys
}

// report adds the calls that wait without a Locker.
func (p *Postgres) report(ctx context.Context) (a report) {
	a.Keys = p.table.report()
	a.by.InThisLocker, a.Process = true, thisProcess
	p.table.mu.Lock()
	var at others.Database
	if p.session != nil {
		a.by.Backend, at = p.session.backend, others.Database{OID: p.session.at.oid, Since: p.session.at.since}
	}
	a.PIDs = append(a.PIDs, a.by.PID)
	for _, s := range p.waitConns.all {
		a.PIDs = append(a.PIDs, s.backend.PID)
	}
	p.table.mu.Unlock()
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
			byID[key.id], a.Keys = i, append(a.Keys, keyReport{ID: key.id, Name: key.name})
		}
		a.Keys[i].Writers++
		a.Keys[i].wait(c.Since, false, true)
	}
	for _, t := range a.Keys {
		slices.SortStableFunc(t.Waits, func(v, w reportedWait) int { return cmp.Compare(w.Millis, v.Millis) })
	}
	return a
}

// text encodes the report as an answer to questions, in less than size bytes. Keys that were
// asked about come first, then those with the longest waits; what does not fit is left out.
func (a report) text(questions []question, size int) string {
	means := func(t *keyReport) (n int) {
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
	a.Keys = slices.DeleteFunc(slices.Clone(a.Keys), func(t keyReport) bool { return t.Calls == 0 && means(&t) == 0 })
	slices.SortStableFunc(a.Keys, func(s, t keyReport) int {
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
		plain, _ := json.Marshal(a) // numbers and strings: no error
		text := answerMark + plainMark + base64.StdEncoding.EncodeToString(plain) + answerEnd
		if len(text) < min(size, mostAnswer) {
			return text // as most are: a compressor takes a megabyte, and longer than all else
		}
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, flate.BestSpeed) // valid level: no error
		_, _ = z.Write(plain)                        // to memory: no error
		_ = z.Close()
		text = answerMark + base64.StdEncoding.EncodeToString(b.Bytes()) + answerEnd
		if len(text) < min(size, mostAnswer) || len(a.Keys) == 0 {
			return text
		}
	}
}

// plainMark stands before a report that is not compressed.
const plainMark = "="

// reportOf decodes an answer.
func reportOf(text string) (a report, ok bool) {
	text, is := strings.CutPrefix(strings.TrimPrefix(text, lockerMark), answerMark)
	text, whole := strings.CutSuffix(text, answerEnd)
	if !is || !whole {
		return a, false
	}
	text, isPlain := strings.CutPrefix(text, plainMark)
	plain, err := base64.StdEncoding.DecodeString(text)
	if err == nil && !isPlain {
		plain, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(plain)), 1<<20))
	}
	return a, err == nil && json.Unmarshal(plain, &a) == nil && len(a.PIDs) > 0
}
