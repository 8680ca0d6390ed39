package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// canary is a value in every document and patch below.
const canary = "canary-7d21f0"

// A witness records everything that the library reports to the program.
type witness struct{ syncBuffer }

func (w *witness) say(what ...any) {
	for _, v := range what {
		fmt.Fprintf(w, "%v\n%+v\n%#v\n", v, v, v)
		switch v := v.(type) {
		case interface{ Unwrap() error }:
			w.say(v.Unwrap())
		case interface{ Unwrap() []error }:
			for _, err := range v.Unwrap() {
				w.say(err)
			}
		}
	}
}

func (w *witness) OperationStart(ctx context.Context, o metadata.OperationStart) context.Context {
	w.say(o)
	return ctx
}

func (w *witness) OperationEnd(_ context.Context, e metadata.OperationEnd) {
	w.say(e.OperationStart, e.Took, e.Err, metadata.ErrorType(e.Err))
	for _, err := range e.Errs {
		w.say(err)
	}
}

func (w *witness) CommitStart(ctx context.Context, c metadata.CommitStart) context.Context {
	w.say(c)
	return ctx
}

func (w *witness) CommitEnd(_ context.Context, e metadata.CommitEnd) { w.say(e, e.Err) }

func (w *witness) AcquireStart(ctx context.Context, a lock.AcquireStart) context.Context {
	w.say(a)
	return ctx
}

func (w *witness) AcquireEnd(_ context.Context, e lock.AcquireEnd) { w.say(e, e.Err) }

func (w *witness) HoldStart(ctx context.Context, h lock.HoldStart) context.Context {
	w.say(h)
	return ctx
}

func (w *witness) HoldEnd(_ context.Context, e lock.HoldEnd) { w.say(e, e.Err) }

func (w *witness) SessionStart(ctx context.Context, s lock.SessionStart) context.Context {
	w.say(s)
	return ctx
}

func (w *witness) SessionEnd(_ context.Context, e lock.SessionEnd) { w.say(e, e.Err) }

// The database below quotes the data wherever it can: in messages, details and hints. No
// error, log line or event may contain it.
func TestNoValueIsShown(t *testing.T) {
	for _, inGo := range []bool{false, true} {
		t.Run(fmt.Sprintf("MergeInGo=%v", inGo), func(t *testing.T) {
			w := newWorld(t)
			w.exec(`
				CREATE TABLE shy (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}', version bigint NOT NULL DEFAULT 0,
					CONSTRAINT short CHECK (length(metadata->>'long') < 10));
				CREATE UNIQUE INDEX ON shy ((metadata->>'unique'));
				CREATE INDEX ON shy (((metadata->>'number')::int));
				CREATE FUNCTION talkative() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF NEW.metadata ? 'raise' THEN
						RAISE EXCEPTION 'no %', NEW.metadata USING DETAIL = NEW.metadata::text, HINT = NEW.metadata::text;
					END IF;
					RETURN NEW;
				END $$;
				CREATE TRIGGER talkative BEFORE INSERT OR UPDATE ON shy FOR EACH ROW EXECUTE FUNCTION talkative()`)
			proxy := pgtest.NewProxy(t, w.db)
			var heard witness
			logger := slog.New(slog.NewTextHandler(&heard, &slog.HandlerOptions{Level: slog.LevelDebug}))
			pool := w.pool(proxy.URL(), 4)
			store := w.store(pool, &metadata.Options{
				Table:     metadata.Table{Name: "shy", Version: "version", Create: true},
				MergeInGo: inGo, Observers: []metadata.Observer{&heard}, Logger: logger, Timeout: time.Second, MaxPatchBytes: 10_000, Protect: []string{"system"},
			})
			require.NoError(t, store.Migrate(w.ctx))
			locker := w.locker(pool, &lock.PostgresOptions{Observers: []lock.Observer{&heard}, Logger: logger, DescribeBusy: true, Silence: silence})
			failed := 0
			hear := func(doc metadata.Document, err error) {
				heard.say(err)
				if err != nil {
					failed++
				}
			}
			for _, patch := range []string{
				`{"secret":"CANARY"}`, `{"unique":"CANARY"}`, `{"long":"CANARY"}`, `{"raise":"CANARY"}`, `{"number":"CANARY"}`, `{"system":"CANARY"}`,
				`"CANARY"`, `["CANARY"]`, `{"a":CANARY}`, `{"a":"CANARY`, `{"a":"CANARY\u0000"}`, `{"a":"CANARY\ud800"}`, "{\"a\":\"CANARY\xff\"}",
				`{"a":{"b":"CANARY","b":"CANARY"}}`, `{"a":["CANARY",1e999999]}`, `{"a":"CANARY` + strings.Repeat("x", 10_000) + `"}`,
				`{"a":"CANARY"` + strings.Repeat(`,"b":[`, 100) + strings.Repeat("]", 100) + `}`, `{"a":"CANARY"} "CANARY"`, `{"a":'CANARY'}`, `{"a":"\CANARY"}`,
			} {
				patch := json.RawMessage(strings.ReplaceAll(patch, "CANARY", canary))
				for _, id := range []string{"a", "b"} {
					hear(store.Merge(w.ctx, id, patch))
					hear(store.Replace(w.ctx, id, patch))
					hear(store.Update(w.ctx, id, func(metadata.Document) (json.RawMessage, error) { return patch, nil }))
				}
				many, err := store.MergeMany(w.ctx, []metadata.Patch{{ID: "c", Patch: patch}, {ID: "d", Patch: patch}})
				hear(metadata.Document{}, err)
				for _, r := range many {
					heard.say(r.Err)
				}
				tx, err := pool.Begin(w.ctx)
				require.NoError(t, err)
				hear(store.In(tx).Merge(w.ctx, "e", patch))
				require.NoError(t, tx.Rollback(w.ctx))
				_, err = metadata.MergePatch(json.RawMessage(`{"x":"`+canary+`"}`), patch)
				heard.say(err)
				_, err = metadata.MergePatch(patch, json.RawMessage(`{}`))
				heard.say(err)
				for _, err := range store.Find(w.ctx, patch, nil) {
					heard.say(err)
				}
			}
			doc, err := store.Get(w.ctx, "a")
			require.NoError(t, err)
			require.Contains(t, string(doc.Metadata), canary, "it is there to be shown")
			_, err = metadata.Decode[struct{ Secret int }](doc)
			hear(doc, err)
			_, err = metadata.Decode[struct{ Secret time.Time }](doc)
			hear(doc, err)
			hear(store.IfVersion(999).Merge(w.ctx, "a", raw(`{"x":%q}`, canary)))

			// While the document's lock is held, and the network is gone.
			held := w.lock(locker, store.Key("a"))
			brief, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
			hear(store.Merge(brief, "a", raw(`{"x":%q}`, canary)))
			_, err = locker.TryLock(w.ctx, store.Key("a"))
			hear(doc, err)
			cancel()
			proxy.Discard(pgtest.ToClient)
			hear(store.Merge(w.ctx, "b", raw(`{"x":%q}`, canary)))
			proxy.Cut()
			w.lost(held)
			hear(doc, held.Unlock())
			proxy.Restore()
			w.soon(func() bool { _, err := store.Get(w.ctx, "a"); return err == nil }, "the store to be served")

			func() {
				defer func() { heard.say(recover()) }()
				hear(store.Update(w.ctx, "a", func(metadata.Document) (json.RawMessage, error) { panic("a panic of the host's own") }))
			}()
			heard.say(store, store.Stats(), locker.Stats(), held)
			assert.Greater(t, failed, 50)
			for line := range strings.SplitSeq(heard.String(), "\n") {
				assert.NotContains(t, line, canary)
			}
		})
	}
}
