package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/metadata"
)

// A Repeater makes writes once for a token.
type Repeater interface {
	Once(token string) *metadata.Postgres
}

// repeat makes writes, each again and again until it is told what became of it. Some are
// made twice at a time.
func (w *worker) repeat(store Repeater) {
	for w.ctx.Err() == nil {
		w.serial++
		what := []string{`"merge"`, `"update"`}[w.rand.IntN(2)]
		e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Once, Key: w.hot("once"),
			Field: fmt.Sprintf("%d-%d-%d-%d", w.Process, w.Generation, w.n, w.serial), Value: json.RawMessage(what)})
		for told := false; !told; {
			version, err := w.attempt(store, e)
			told = err == nil || errors.Is(err, errTold)
			switch {
			case told:
				e.Return, e.Version, e.Outcome = time.Now(), version, history.OK
				if err != nil {
					e.Outcome, e.Error = history.Failed, err.Error()
				}
				w.to.Record(e)
			case w.ctx.Err() != nil:
				return // somebody else goes on
			default:
				w.rest(err)
			}
		}
	}
}

// errTold says that what was told cannot be.
var errTold = errors.New("one write is told two versions")

// attempt is MakeOnce with little patience, or twice that at a time.
func (w *worker) attempt(store Repeater, e history.Event) (version int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+w.rand.IntN(100))*time.Millisecond)
	defer cancel()
	if w.rand.IntN(4) > 0 {
		return MakeOnce(ctx, store, e)
	}
	var other int64
	var failed error
	wait := background(func() { other, failed = MakeOnce(ctx, store, e) })
	version, err = MakeOnce(ctx, store, e)
	wait()
	switch {
	case err != nil:
		return other, failed
	case failed == nil && other != version:
		return version, fmt.Errorf("%w: %d and %d", errTold, version, other)
	}
	return version, nil
}

// MakeOnce makes the write of an event, unless it is made already, and returns which
// version it has made.
func MakeOnce(ctx context.Context, store Repeater, e history.Event) (version int64, err error) {
	once := store.Once(e.Field)
	var doc metadata.Document
	if string(e.Value) == `"merge"` {
		doc, err = once.Merge(ctx, e.Key, fmt.Appendf(nil, `{"last":%q}`, e.Field))
	} else {
		doc, err = once.Update(ctx, e.Key, func(doc metadata.Document) (json.RawMessage, error) {
			count, err := next(doc)
			return fmt.Appendf(nil, `{"%s":%d}`, history.Counter, count), err
		})
	}
	if doc.Repeated {
		return doc.Made, err
	}
	return doc.Version, err
}
