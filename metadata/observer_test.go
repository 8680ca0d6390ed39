package metadata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A journal writes down what it is told, as an observer of everything.
type journal struct {
	t  testing.TB
	mu sync.Mutex

	operations []metadata.OperationEnd
	commits    []metadata.CommitEnd
	open       int // what has begun, and not ended
	strangers  int // ends without a caller's context
}

type callerKey struct{}

// An entry is what a journal knows by its context of what has begun.
type entry struct {
	what string
	over bool
}

type entryKey struct {
	j  *journal
	of string
}

func (j *journal) begin(ctx context.Context, of, what string) context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open++
	return context.WithValue(ctx, entryKey{j, of}, &entry{what: what})
}

func (j *journal) end(ctx context.Context, of, what string) {
	j.open--
	e, _ := ctx.Value(entryKey{j, of}).(*entry)
	if assert.NotNil(j.t, e, "%s has not begun", what) {
		assert.Equal(j.t, e.what, what)
		assert.False(j.t, e.over, "%s ends twice", what)
		e.over = true
	}
	if ctx.Value(callerKey{}) == nil {
		j.strangers++
	}
}

func (j *journal) OperationStart(ctx context.Context, o metadata.OperationStart) context.Context {
	return j.begin(ctx, "operation", fmt.Sprint(o))
}

func (j *journal) OperationEnd(ctx context.Context, e metadata.OperationEnd) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.operations = append(j.operations, e)
	j.end(ctx, "operation", fmt.Sprint(e.OperationStart))
	assert.Positive(j.t, e.Took)
}

func (j *journal) CommitStart(ctx context.Context, c metadata.CommitStart) context.Context {
	return j.begin(ctx, "commit", fmt.Sprint(c))
}

func (j *journal) CommitEnd(ctx context.Context, e metadata.CommitEnd) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.commits = append(j.commits, e)
	j.end(ctx, "commit", fmt.Sprint(e.CommitStart))
	assert.Positive(j.t, e.Took)
}

// told returns the operations that have ended since it was last called: what, of what, and
// of which error.
func (j *journal) told() (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.operations {
		line := fmt.Sprint(e.Name, " ", e.IDs, " ", metadata.ErrorType(e.Err))
		for _, err := range e.Errs {
			line += "," + metadata.ErrorType(err)
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	assert.Zero(j.t, j.open, "what has begun has ended")
	assert.Zero(j.t, j.strangers)
	j.operations = nil
	return lines
}

// eachObserved runs a test on each driver's Postgres, and on a Memory, of the table guarded.
func eachObserved(t *testing.T, opts func() *metadata.Options, test func(t *testing.T, s full)) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, guarded)
		test(t, d.migrated(t, opts()))
	})
	t.Run("Memory", func(t *testing.T) {
		store, err := metadata.NewMemory(nil, opts())
		require.NoError(t, err)
		test(t, store)
	})
}

// Each operation is told by name, with its beginning and its end, its ids and the kind of
// its error, also where it is refused before anything is sent.
func TestObserversAreToldOfEachOperation(t *testing.T) {
	j := new(journal)
	eachObserved(t, func() *metadata.Options {
		o := guardedOptions(false)
		o.Observers, o.Protect, o.MaxPatchBytes = []metadata.Observer{j}, []string{"system"}, 100
		return o
	}, func(t *testing.T, s full) {
		j.t = t
		ctx := context.WithValue(t.Context(), callerKey{}, true)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := s.Merge(ctx, "b", raw(`{"n":1}`))
		require.NoError(t, err)
		j.told()
		merge := func(ctx context.Context, id, patch string) error {
			_, err := s.Merge(ctx, id, raw("%s", patch))
			return err
		}
		update := func(ctx context.Context, id, patch string) error {
			_, err := s.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { return raw("%s", patch), nil })
			return err
		}
		replace := func(ctx context.Context, id, patch string) error {
			_, err := s.Replace(ctx, id, raw("%s", patch))
			return err
		}
		for name, write := range map[string]func(ctx context.Context, id, patch string) error{"Merge": merge, "Update": update, "Replace": replace} {
			for want, err := range map[string]error{
				name + " [a]":           write(ctx, "a", `{"secret":"`+canary+`"}`),
				name + " [a] invalid":   write(ctx, "a", `{"secret":"`+canary),
				name + " [] invalid":    write(ctx, "", `{"a":1}`),
				name + " [a] too_large": write(ctx, "a", `{"a":"`+canary+strings.Repeat("x", 100)+`"}`),
				name + " [a] protected": write(ctx, "a", `{"system":1}`),
				name + " [a] canceled":  write(ended, "a", `{"a":1}`),
			} {
				assert.Equal(t, strings.Contains(want, "] "), err != nil, "%s: %v", want, err)
			}
			assert.ElementsMatch(t, []string{name + " [a]", name + " [a] invalid", name + " [] invalid", name + " [a] too_large", name + " [a] protected", name + " [a] canceled"}, j.told())
		}
		_, err = s.Get(ctx, "a")
		require.NoError(t, err)
		_, err = s.Get(ctx, "nobody")
		require.ErrorIs(t, err, metadata.ErrNotFound)
		require.NoError(t, s.Delete(ctx, "b"))
		require.ErrorIs(t, s.Delete(ctx, "b"), metadata.ErrNotFound)
		_, err = s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return nil, io.EOF })
		require.ErrorIs(t, err, io.EOF)
		assert.Panics(t, func() {
			s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { panic("the host's decide") })
		})
		assert.Equal(t, []string{"Get [a]", "Get [nobody] not_found", "Delete [b]", "Delete [b] not_found", "Update [a] _OTHER", "Update [a] panic"}, j.told())

		switch s := s.(type) {
		case *metadata.Memory:
			require.ErrorIs(t, errorOf(s.IfVersion(99).Merge(ctx, "a", raw(`{}`))), metadata.ErrConflict)
			watchOnce(t, ctx, s, "a")
		case *metadata.Postgres:
			require.ErrorIs(t, errorOf(s.IfVersion(99).Merge(ctx, "a", raw(`{}`))), metadata.ErrConflict)
			watchOnce(t, ctx, s, "a")
			require.ErrorIs(t, errorOf(s.Merge(ctx, "a", raw(`{"bad":%q}`, canary))), metadata.ErrRejected)
			_, err := s.GetMany(ctx, "a", "b")
			require.NoError(t, err)
			_, err = s.MergeMany(ctx, []metadata.Patch{{ID: "b", Patch: raw(`{"n":%q}`, canary)}, {ID: "c", Patch: raw(`{"n":1}`)}})
			require.NoError(t, err)
			_, err = s.MergeMany(ctx, []metadata.Patch{{ID: "b", Patch: raw(`{"n":2}`)}, {ID: "c", Patch: raw(`{"bad":%q}`, canary)}, {ID: "d", Patch: raw(`{`)}})
			require.ErrorIs(t, err, metadata.ErrRejected)
			require.NoError(t, errorOf(find(ctx, s, `{"n":2}`, nil)))
			require.ErrorIs(t, errorOf(find(ctx, s, `{`, nil)), metadata.ErrInvalidFilter)
			assert.Equal(t, []string{"Merge [a] conflict", "Watch [a]", "Merge [a] rejected", "GetMany [a b]", "MergeMany [b c]",
				"MergeMany [b c d] rejected,,rejected,invalid", "Find []", "Find [] invalid"}, j.told())
			return
		}
		assert.Equal(t, []string{"Merge [a] conflict", "Watch [a]"}, j.told())
	})
	assert.NotContains(t, fmt.Sprint(j.commits), canary)
}

func errorOf[T any](_ T, err error) error { return err }

func watchOnce(t *testing.T, ctx context.Context, s interface {
	Watch(context.Context, ...string) iter.Seq2[metadata.Document, error]
}, id string) {
	t.Helper()
	for _, err := range s.Watch(ctx, id) {
		require.NoError(t, err)
		return
	}
	require.Fail(t, "nothing is told")
}

// A host's transaction has operations, and no commit of the store's.
func TestObserversAreToldOfAHostsTransaction(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		j := &journal{t: t}
		ctx := context.WithValue(t.Context(), callerKey{}, true)
		store := d.migrated(t, &metadata.Options{Observers: []metadata.Observer{j}})
		require.NoError(t, d.inTx(ctx, func(tx any) error {
			_, err := store.In(tx).Merge(ctx, "a", raw(`{"n":1}`))
			return errors.Join(err, errorOf(store.In(tx).Get(ctx, "a")))
		}))
		assert.Equal(t, []string{"Merge [a]", "Get [a]"}, j.told())
		assert.Empty(t, j.commits)
	})
}

// Writes that share a commit lead to it, and it says how many they are.
func TestOperationsLeadToTheirCommit(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		j, other := &journal{t: t}, &journal{t: t}
		b := newBlocked(t, d, &metadata.Options{Observers: []metadata.Observer{j, struct{ metadata.CommitObserver }{other}}})
		j.operations, j.commits, j.strangers = nil, nil, 0 // without what newBlocked has made
		ctx := context.WithValue(t.Context(), callerKey{}, true)
		first := begin(func() (metadata.Document, error) { return merging(b.store, `{"first":1}`)(ctx) })
		waitForRow(t, d)
		calls := map[string]pending{"the first": first}
		for i := range 5 {
			calls[fmt.Sprint(i)] = lineUp(ctx, merging(b.store, fmt.Sprintf(`{"n%d":%q}`, i, canary)))
		}
		b.unblock()
		for what, c := range calls {
			require.NoError(t, c.wait(t, what).err)
		}
		commits := map[any]int{}
		for _, e := range j.operations {
			if assert.NotNil(t, e.Commit, e.Name) {
				commits[e.Commit.Value(entryKey{j, "commit"})]++
			}
		}
		shared := 0
		for _, n := range commits {
			shared = max(shared, n)
		}
		assert.Equal(t, 5, shared, "those that waited share a commit")
		writes := map[int]int{}
		for _, e := range append(j.commits, other.commits...) {
			writes[e.Writes]++
			assert.Equal(t, []string{"a"}, e.IDs)
			assert.Equal(t, metadata.DefaultTable, e.Table)
		}
		assert.Zero(t, j.strangers)
		assert.Empty(t, other.operations)
		assert.Equal(t, 2, writes[5], "each of two observers is told of the commit of five: %v", writes)
		assert.EqualValues(t, 5, b.store.Stats().Largest)
		assert.NotContains(t, fmt.Sprint(j.commits), canary)
	})
}

// Attempts that find the document's lock taken are told, as commits of nothing.
func TestObserversAreToldOfAttempts(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		j := &journal{t: t}
		store := d.migrated(t, &metadata.Options{Observers: []metadata.Observer{j}})
		locker := newLocker(t, d.Pool())
		held, err := locker.Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		brief, cancel := context.WithTimeout(context.WithValue(t.Context(), callerKey{}, true), time.Second)
		defer cancel()
		require.ErrorIs(t, errorOf(store.Merge(brief, "a", raw(`{}`))), lock.ErrBusy)
		require.NoError(t, held.Unlock())
		assert.Equal(t, []string{"Merge [a] busy"}, j.told())
		require.NotEmpty(t, j.commits)
		for _, e := range j.commits {
			assert.Equal(t, "0 busy", fmt.Sprint(e.Writes, " ", metadata.ErrorType(e.Err)))
		}
	})
}

func TestObserverOfNothingIsRefused(t *testing.T) {
	for _, o := range []metadata.Observer{nil, 7, time.Now()} {
		_, err := metadata.NewMemory(nil, &metadata.Options{Observers: []metadata.Observer{new(journal), o}})
		assert.ErrorIs(t, err, metadata.ErrInvalidOptions, "%T", o)
	}
}

func TestStatsAndLogOfWrites(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, guarded)
		ctx := t.Context()
		var log bytes.Buffer
		opts := guardedOptions(false)
		opts.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		store := d.migrated(t, opts)
		require.NoError(t, errorOf(store.Merge(ctx, "a", raw(`{"secret":%q}`, canary))))
		require.ErrorIs(t, errorOf(store.Merge(ctx, "a", raw(`{"bad":%q}`, canary))), metadata.ErrRejected)
		require.ErrorIs(t, errorOf(store.Merge(ctx, "a", raw(`{`))), metadata.ErrMalformed)
		require.NoError(t, errorOf(store.MergeMany(ctx, []metadata.Patch{{ID: "b", Patch: raw(`{"n":%q}`, canary)}, {ID: "c", Patch: raw(`{"n":1}`)}})))
		require.NoError(t, store.Delete(ctx, "c"))
		stats := store.Stats()
		assert.Equal(t, int64(4), stats.Writes)
		assert.Equal(t, int64(2), stats.Failures)
		assert.Equal(t, int64(1), stats.Rejected)
		assert.Equal(t, int64(2), stats.Largest)
		assert.Positive(t, stats.Bytes)
		assert.Positive(t, stats.WriteTime)
		assert.NotContains(t, log.String(), canary)
	})
}

func TestErrorTypes(t *testing.T) {
	for want, errs := range map[string][]error{
		"":                {nil},
		"_OTHER":          {io.EOF},
		"unknown_outcome": {metadata.ErrUnknownOutcome, errors.Join(metadata.ErrUnavailable, metadata.ErrUnknownOutcome)},
		"unavailable":     {metadata.ErrUnavailable, lock.ErrUnavailable, errors.Join(context.Canceled, metadata.ErrUnavailable)},
		"wrong_server":    {metadata.ErrStandby, metadata.ErrReadOnly, metadata.ErrUnknownHold},
		"stale":           {&metadata.StaleError{}},
		"too_large":       {&metadata.DocumentSizeError{}},
		"invalid":         {&metadata.PatchError{}, metadata.ErrMalformed, metadata.ErrInvalidID, metadata.ErrInvalidToken, metadata.ErrInvalidOptions, lock.ErrInvalidKey},
		"token_reused":    {&metadata.TokenError{}},
		"protected":       {&metadata.ProtectedError{}},
		"rejected":        {&metadata.RejectedError{Cause: io.EOF}},
		"not_found":       {metadata.ErrNotFound},
		"conflict":        {&metadata.VersionError{}},
		"schema":          {metadata.ErrSchema},
		"unsupported":     {metadata.ErrUnsupported, metadata.ErrSharedHold, lock.ErrUnsupported},
		"closed":          {metadata.ErrClosed, lock.ErrClosed},
		"lost":            {lock.ErrLost, errors.Join(context.Canceled, lock.ErrLost)},
		"evicted":         {errors.Join(lock.ErrLost, lock.ErrEvicted)},
		"busy":            {&lock.BusyError{}, &lock.BusyError{Cause: context.DeadlineExceeded}},
		"canceled":        {context.Canceled, &lock.BusyError{Cause: context.Canceled}},
		"timeout":         {context.DeadlineExceeded},
	} {
		for _, err := range errs {
			assert.Equal(t, want, metadata.ErrorType(err), "%v", err)
		}
	}
}
