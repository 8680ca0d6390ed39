package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/metadata"
)

// A watchKind is a way to receive changes of another process.
type watchKind struct {
	name, how string

	// follow delivers the states of documents to n followers until ctx ends.
	follow func(ctx context.Context, in *arena, s *metadata.Postgres, ids []string, n int, told func(follower int, doc metadata.Document)) error

	prepare, undo string // SQL
}

var watchByStore = watchKind{
	name: "lockstore (pgx)", how: "Watch on a store",
	follow: func(ctx context.Context, _ *arena, s *metadata.Postgres, ids []string, n int, told func(int, metadata.Document)) error {
		return inParallel(n, func(i int) error {
			for doc, err := range s.Watch(ctx, ids...) {
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				told(i, doc)
			}
			return nil
		})
	},
}

var watchByTrigger = watchKind{
	name: "trigger with NOTIFY", how: "a trigger that notifies with the id; LISTEN on one connection, and GetMany of what was notified for all followers",
	prepare: `CREATE OR REPLACE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('bench', NEW.id); RETURN NULL; END $$;
		CREATE OR REPLACE TRIGGER bench_notify AFTER INSERT OR UPDATE ON lockstore_metadata FOR EACH ROW EXECUTE FUNCTION bench_notify()`,
	undo: `DROP TRIGGER bench_notify ON lockstore_metadata; DROP FUNCTION bench_notify`,
	follow: func(ctx context.Context, in *arena, s *metadata.Postgres, ids []string, n int, told func(int, metadata.Document)) error {
		conn, err := pgx.Connect(ctx, in.DSN)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "LISTEN bench"); err != nil {
			return err
		}
		seen := map[string]int64{}
		for err = readAndTell(ctx, s, ids, n, seen, told); err == nil; {
			notified, failed := conn.WaitForNotification(ctx)
			if failed != nil {
				err = failed
				break
			}
			err = readAndTell(ctx, s, []string{notified.Payload}, n, seen, told)
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	},
}

var watchByPolling = watchKind{
	name: "polling", how: "GetMany each 100 ms, for all followers",
	follow: func(ctx context.Context, _ *arena, s *metadata.Postgres, ids []string, n int, told func(int, metadata.Document)) error {
		seen := map[string]int64{}
		for {
			if err := readAndTell(ctx, s, ids, n, seen, told); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
	},
}

// readAndTell reads documents once, and delivers those that have changed to followers.
func readAndTell(ctx context.Context, s *metadata.Postgres, ids []string, n int, seen map[string]int64, told func(int, metadata.Document)) error {
	docs, err := s.GetMany(ctx, ids...)
	if err != nil {
		return err
	}
	for id, doc := range docs {
		if doc.Version > seen[id] {
			seen[id] = doc.Version
			for i := range n {
				told(i, doc)
			}
		}
	}
	return nil
}

// A following has followers of documents, and checks what they receive: no state older than
// before, only states that existed, and the last one.
type following struct {
	stop  context.CancelFunc
	ended chan error

	mu    sync.Mutex
	last  []map[string]int64 // versions by document, of each follower
	wrong int64
}

// start starts n followers of documents. isWrong, if not nil, reports states that did not
// exist; each is called with every state that is delivered.
func (k watchKind) start(ctx context.Context, in *arena, s *metadata.Postgres, ids []string, n int, isWrong func(metadata.Document) bool, each func(metadata.Document)) *following {
	ctx, stop := context.WithCancel(ctx)
	f := &following{stop: stop, ended: make(chan error, 1), last: make([]map[string]int64, n)}
	for i := range f.last {
		f.last[i] = map[string]int64{}
	}
	go func() {
		f.ended <- k.follow(ctx, in, s, ids, n, func(i int, doc metadata.Document) {
			f.mu.Lock()
			before, told := f.last[i][doc.ID]
			if told && doc.Version <= before || isWrong != nil && isWrong(doc) {
				f.wrong++
			}
			f.last[i][doc.ID] = doc.Version
			f.mu.Unlock()
			each(doc)
		})
	}()
	return f
}

// reach waits until all followers have received a version of a document, and reports whether
// they did in time.
func (f *following) reach(ctx context.Context, id string, version int64) bool {
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(time.Millisecond) {
		behind := false
		f.mu.Lock()
		for _, last := range f.last {
			behind = behind || last[id] < version
		}
		f.mu.Unlock()
		if !behind || ctx.Err() != nil || time.Now().After(deadline) {
			return !behind
		}
	}
}

// end stops the followers, and returns what was wrong.
func (f *following) end() (wrong int64, err error) {
	f.stop()
	err = <-f.ended
	return f.wrong, err
}

// inParallel runs a function n times at once.
func inParallel(n int, f func(int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// besideMerges returns merges by a store with n followers of the first document, in another
// process or in the same.
func (k watchKind) besideMerges(n int, same bool) mergeKind {
	where := "another process watches it"
	if same {
		where = "the same process watches it"
	}
	open := func(ctx context.Context, in *arena, conns int) (merger, error) {
		if _, err := in.monitor.Exec(ctx, k.prepare); err != nil {
			return nil, err
		}
		writer, err := openStore(ctx, in, conns, nil)
		if err != nil {
			return nil, err
		}
		watcher := writer
		if !same {
			if watcher, err = openStore(ctx, in, 4, nil); err != nil {
				return nil, errors.Join(err, writer.close())
			}
		}
		f := k.start(ctx, in, watcher.Postgres, []string{documentID(0)}, n, nil, func(metadata.Document) {})
		return opened{write: writer.merge, end: func() error {
			doc, err := writer.Get(ctx, documentID(0))
			if err == nil && !f.reach(ctx, doc.ID, doc.Version) {
				err = errors.New("not all were told the last state")
			}
			wrong, failed := f.end()
			if wrong > 0 {
				failed = errors.Join(failed, fmt.Errorf("%d states were told that were not so, or out of order", wrong))
			}
			if !same {
				failed = errors.Join(failed, watcher.close())
			}
			_, undone := in.monitor.Exec(context.WithoutCancel(ctx), k.undo)
			return errors.Join(err, failed, undone, writer.close())
		}}, nil
	}
	return mergeKind{name: fmt.Sprintf("%d × %s, %s", n, k.name, where), how: k.how, total: versions, open: open}
}
