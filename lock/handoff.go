package lock

import (
	"slices"
	"time"
)

// This file is the second half of keyTable: how a key that this process has goes from holder
// to holder, and back to the server.

// leave ends a hold. The key goes to the next waiter here, or back to the server, whose answer
// then comes by r.unlock. The error says that the hold had ended before.
func (t *keyTable) leave(r *request) error {
	if r.state != holding {
		return r.err
	}
	t.endHold(r, nil)
	if len(r.entry.holders) == 0 {
		r.unlock.done = r.signal
		if !t.handOff(r.entry, &r.unlock) {
			r.unlock.done = nil
		}
	}
	return nil
}

// endHold makes a holder one no longer. If why is not nil, it first cancels the holder's
// context, before any other can get the key. That is the one foreign call made with the mutex
// held, and contexts do not call back.
func (t *keyTable) endHold(r *request, why error) {
	if why != nil && r.hold.cancel != nil {
		r.hold.cancel(why)
	}
	if why != nil && r.hold.until.IsZero() {
		r.hold.until = time.Now()
	}
	e, last := r.entry, len(r.entry.holders)-1
	e.writing = e.writing || r.hold.writes > 0
	e.holders[r.slot], e.holders[last].slot = e.holders[last], r.slot
	e.holders[last] = nil
	e.holders = e.holders[:last]
	t.holding--
	r.become(ended, why)
}

// handOff passes on a key whose last holder here has left: to the next waiter here if it may
// have it, or else to the server, which answers to r. It reports whether the server gets it.
// If a write under an ended hold may still be under way, the server gets the key, and gives it
// to nobody until that write's transaction has ended.
func (t *keyTable) handOff(e *entry, r *reply) (released bool) {
	t.prune(e)
	if e.waiters.n == 0 {
		t.giveBack(e, r)
		t.forget(e)
		return true
	}
	now := time.Now()
	expired := now.Sub(e.periodStart) >= t.period
	if !expired && !e.writing && e.mode == e.first().mode && e.handOffs < t.limits.of(e) && !t.server.withheld(e) {
		e.handOffs++
		t.counts.HandedOff++
		t.admit(e, now)
		return false
	}
	t.giveBack(e, r)
	if expired && e.waiters.tries == 0 {
		// A process that waits at the server has the key by now. The pause is for processes
		// that only poll.
		e.periodStart = time.Time{}
		t.pause(e, t.period/50)
	} else {
		t.next(e)
	}
	return true
}

func (t *keyTable) giveBack(e *entry, r *reply) {
	t.server.release(e, r)
	e.session, e.writing = nil, false
}

// handOffLimits are how often a key is handed off here before it is offered to those that wait
// at the server. If another process wants it that is a few times only: more would be faster,
// but the other processes would wait many times longer than the callers here. If none was seen
// it costs one round trip to find out.
type handOffLimits struct{ contended, uncontended int }

func (l handOffLimits) of(e *entry) int {
	if e.contended {
		return l.contended
	}
	return l.uncontended
}

// offer gives a key that the server has granted to the first waiter here, or back to the
// server. If the first waiter wants it shared and it was granted exclusively, or the other way
// round, it goes back: other processes can share only what the server knows to be shared.
func (t *keyTable) offer(e *entry, now time.Time) {
	t.prune(e)
	if first := e.first(); first != nil && first.mode == e.mode {
		t.admit(e, now)
		return
	}
	t.giveBack(e, nil)
	t.next(e)
}

// admit makes the first waiter a holder. If that is a shared one, it also admits all shared
// waiters behind it, up to the first exclusive one that is no try; tries between them fail.
func (t *keyTable) admit(e *entry, now time.Time) {
	for first := e.first(); first != nil; first = e.first() {
		if len(e.holders) > 0 && (first.mode == alone || e.holders[0].mode == alone) {
			if !first.try {
				return
			}
			t.end(first, first.busy(nil))
			continue
		}
		t.dequeue(first)
		first.slot, e.holders = len(e.holders), append(e.holders, first)
		t.holding++
		first.session, first.began = e.session, now
		first.become(holding, nil)
		t.counts.Acquired++
		t.counts.WaitTime += max(0, now.Sub(first.since))
	}
}

// evict ends the holds of an entry that did not begin after before, and gives the key back if
// none is left. It returns how many it has ended.
func (t *keyTable) evict(e *entry, before time.Time, why error) (evicted int) {
	for _, r := range slices.Clone(e.holders) {
		if !r.began.After(before) {
			t.endHold(r, why)
			evicted++
		}
	}
	t.counts.Evicted += int64(evicted)
	if len(e.holders) == 0 {
		t.handOff(e, nil)
	}
	return evicted
}

// endAll ends every hold of an entry, and returns their number.
func (t *keyTable) endAll(e *entry, why error) int {
	holders := slices.Clone(e.holders)
	for _, r := range holders {
		t.endHold(r, why)
	}
	return len(holders)
}

// lose ends every hold of a session, and asks again for the waiters of its keys. It returns
// the number of holds.
func (t *keyTable) lose(s *session, why error) (lost int) {
	for _, e := range t.sorted() {
		if e.state == held && e.session == s {
			lost += t.endAll(e, why)
			e.session, e.periodStart, e.writing = nil, time.Time{}, false
			t.next(e)
		}
	}
	t.counts.Lost += int64(lost)
	return lost
}
