package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/lockstore/metadata"
)

// watchCases measure how soon a change is delivered, and what that costs writers. Separate
// stores, each with its own pool, represent processes.
func watchCases() []testCase {
	load := mergeLoad{Writers: 256, Documents: 1, Bytes: 1500, Conns: mergeConns, Long: true}
	told := testCase{
		name: "watch/told",
		asks: "8 writers in one process update 100 documents, 400 times a second in all: how long after a commit has a watcher in another the document?",
		by:   byMedian,
	}
	for _, k := range []watchKind{watchByStore, watchByTrigger, watchByPolling} {
		told.subjects = append(told.subjects, subject{name: k.name, how: k.how, run: k.told})
	}
	return []testCase{told, {
		name:  "watch/hot",
		asks:  "256 writers merge into one document of 1.5 KB, which 100 watch: how much does that hold up the writers?",
		floor: storeUnhinted.name, by: byRate,
		subjects: mergeSubjects(load, storeUnhinted, unwatched, watchedHere, watchedElsewhere,
			watchByTrigger.besideMerges(100, false), watchByPolling.besideMerges(100, false)),
	}, {
		name:     "watch/10000",
		asks:     "10 000 documents of 1 KB are watched, and nothing changes: what does that take?",
		by:       byMedian,
		subjects: []subject{{name: "lockstore (pgx)", how: watchByStore.how + "; connections are those beside the pool, of which one is in use now and then", run: watchMany}},
	}}
}

var unwatched = mergeKind{name: "nobody watches", how: storePgx.how, total: storePgx.total, open: storePgx.open}

var watchedHere, watchedElsewhere = watchByStore.besideMerges(100, true), watchByStore.besideMerges(100, false)

// storeUnhinted does nothing for watchers, like a store without Watch.
var storeUnhinted = mergeKind{
	name: "floor: no hints", how: "the same with Options.NoHints", total: storePgx.total,
	open: func(ctx context.Context, in *arena, conns int) (merger, error) {
		return openStore(ctx, in, conns, &metadata.Options{NoHints: true})
	},
}

// watchMany measures the cost of watching many documents that do not change.
func watchMany(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
	documents := 10_000
	if p.Quick {
		documents = 100
	}
	if err := in.fill(ctx, documents, 1000); err != nil {
		return nil, err
	}
	pool, err := in.pool(ctx, mergeConns)
	if err != nil {
		return nil, err
	}
	s, err := newStore(pool, nil, closing(pool))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	ids := make([]string, documents)
	for i := range ids {
		ids[i] = documentID(i)
	}
	m, rec := newMeasurement(), newRecorder()
	before, begun, told := heap(), time.Now(), make(chan struct{}, documents)
	f := watchByStore.start(ctx, in, s.Postgres, ids, 1, nil, func(metadata.Document) {
		rec.record(0, time.Since(begun))
		told <- struct{}{}
	})
	defer func() { _, ended := f.end(); err = errors.Join(err, ended) }()
	for range documents {
		select {
		case <-told:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	m.Extra["until all are told, ms"] = time.Since(begun).Seconds() * 1000
	m.Extra["heap of each, B"] = max(0, heap()-before) / float64(documents)
	connections := in.watch(ctx)
	time.Sleep(2 * p.Count) // all documents are compared more than once
	m.Conns = connections() - int(pool.Stat().TotalConns())
	backends, err := in.backends(ctx)
	if err != nil {
		return nil, err
	}
	own, server := usedBy(os.Getpid()), usedBy(backends...)
	begun = time.Now()
	time.Sleep(10 * p.Count)
	m.Took, m.Ops = time.Since(begun), int64(documents)
	if now := usedBy(os.Getpid()); now > 0 {
		m.Extra["of a core, here, %"] = 100 * (now - own) / m.Took.Seconds()
		m.Extra["of a core, at the server, %"] = 100 * (usedBy(backends...) - server) / m.Took.Seconds()
	}
	m.Latency = rec.sum()
	return m, nil
}

// usedBy returns the processor time of processes in seconds, on Linux (proc_pid_stat(5));
// elsewhere, 0.
func usedBy(pids ...int) (seconds float64) {
	const ticks = 100 // per second
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		for _, field := range fields[11:13] {
			n, _ := strconv.Atoi(field)
			seconds += float64(n) / ticks
		}
	}
	return seconds
}

// told measures how long a change takes to be delivered.
func (k watchKind) told(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
	const documents, writers, pause = 100, 8, 20 * time.Millisecond
	if err := in.fill(ctx, documents, 200); err != nil {
		return nil, err
	}
	if _, err := in.monitor.Exec(ctx, k.prepare); err != nil {
		return nil, err
	}
	defer func() {
		_, undone := in.monitor.Exec(context.WithoutCancel(ctx), k.undo)
		err = errors.Join(err, undone)
	}()
	var stores [2]*store
	for i := range stores {
		if stores[i], err = openStore(ctx, in, mergeConns, nil); err != nil {
			return nil, err
		}
		defer stores[i].close()
	}
	ids := make([]string, documents)
	for i := range ids {
		ids[i] = documentID(i)
	}
	type state struct {
		id      string
		version int64
	}
	var acknowledged sync.Map
	rec := newRecorder()
	m = newMeasurement()
	// A writing process finds watchers within a second.
	from := time.Now().Add(max(p.Warm, 1500*time.Millisecond))
	until := from.Add(p.Count)
	var mu sync.Mutex
	f := k.start(ctx, in, stores[0].Postgres, ids, 1, miscounts, func(doc metadata.Document) {
		now := time.Now()
		if now.Before(from) || now.After(until) || doc.Version <= 1 {
			return
		}
		took := time.Duration(0) // delivered before the writer had its own answer
		if at, ok := acknowledged.Load(state{doc.ID, doc.Version}); ok {
			took = now.Sub(at.(time.Time))
		}
		rec.record(0, took)
		mu.Lock()
		m.Ops++
		mu.Unlock()
	})
	connections := in.watch(ctx)
	err = inParallel(writers, func(int) error {
		for ctx.Err() == nil && time.Now().Before(until) {
			doc, err := stores[1].Update(ctx, ids[rand.IntN(documents)], countVersion)
			if err != nil {
				return err
			}
			acknowledged.Store(state{doc.ID, doc.Version}, time.Now())
			time.Sleep(pause/2 + rand.N(pause))
		}
		return nil
	})
	m.Conns = connections()
	docs, failed := stores[1].GetMany(ctx, ids...)
	for id, doc := range docs {
		if !f.reach(ctx, id, doc.Version) {
			m.Violations++
		}
	}
	wrong, ended := f.end()
	m.Violations += wrong
	m.Took, m.Latency = p.Count, rec.sum()
	return m, errors.Join(err, failed, ended)
}

// miscounts reports whether a document's count differs from its version.
func miscounts(doc metadata.Document) bool {
	var counts struct{ N int64 }
	err := json.Unmarshal(doc.Metadata, &counts)
	return err != nil || counts.N != 0 && counts.N != doc.Version
}

// countVersion sets a document to {"n": version}.
func countVersion(doc metadata.Document) (json.RawMessage, error) {
	return fmt.Appendf(nil, `{"n":%d}`, doc.Version+1), nil
}
