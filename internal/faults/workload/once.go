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

// A Repeater executes writes once per token.
type Repeater interface {
	Once(token string) *metadata.Postgres
}

// repeat makes writes, and repeats each until its outcome is known. Some are made twice
// concurrently.
func (w *worker) repeat(store Repeater) {
	for w.ctx.Err() == nil {
		w.serial++
		what := []string{`"merge"`, history.Increments}[w.rand.IntN(2)]
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
				return // nemesis continues with it
			default:
				w.rest(err)
			}
		}
	}
}

// errTold is the error of an answer that is impossible.
var errTold = errors.New("one write is told two versions")

// attempt is MakeOnce with a short time limit, once or twice concurrently.
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

// MakeOnce makes the write of an event, unless it has been made before, and returns its version.
func MakeOnce(ctx context.Context, store Repeater, e history.Event) (version int64, err error) {
	once := store.Once(e.Field)
	var doc metadata.Document
	if string(e.Value) == history.Increments {
		doc, err = once.Update(ctx, e.Key, func(doc metadata.Document) (json.RawMessage, error) {
			count, err := next(doc)
			return fmt.Appendf(nil, `{"%s":%d}`, history.Counter, count), err
		})
	} else {
		doc, err = once.Merge(ctx, e.Key, fmt.Appendf(nil, `{"last":%q}`, e.Field))
	}
	if doc.Repeated {
		return doc.Made, err
	}
	return doc.Version, err
}
