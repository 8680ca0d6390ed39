package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// updating is an Update of the document a.
func updating(s *metadata.Postgres, decide func(metadata.Document) (json.RawMessage, error)) func(context.Context) (metadata.Document, error) {
	return func(ctx context.Context) (metadata.Document, error) { return s.Update(ctx, "a", decide) }
}

// counting is a decide that counts what the document has counted, and its runs.
func counting(runs *atomic.Int32) func(metadata.Document) (json.RawMessage, error) {
	return func(doc metadata.Document) (json.RawMessage, error) {
		runs.Add(1)
		return increment(doc)
	}
}

// behind has an Update lead that decides when all others are in line, and returns what
// became of them.
func behind(t *testing.T, s *metadata.Postgres, calls ...func(context.Context) (metadata.Document, error)) (answers []answer) {
	t.Helper()
	return behindIn(t.Context(), t, s, calls...)
}

func behindIn(ctx context.Context, t *testing.T, s *metadata.Postgres, calls ...func(context.Context) (metadata.Document, error)) (answers []answer) {
	t.Helper()
	var waiting []pending
	_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
		for _, call := range calls[len(waiting):] {
			waiting = append(waiting, lineUp(ctx, call))
		}
		return nil, nil
	})
	require.NoError(t, err)
	for i, p := range waiting {
		answers = append(answers, p.wait(t, fmt.Sprint("call ", i)))
	}
	return answers
}

func TestUpdatesShareACommit(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		var runs atomic.Int32
		var calls []func(context.Context) (metadata.Document, error)
		for range 20 {
			calls = append(calls, updating(store, counting(&runs)))
		}
		for i, a := range behind(t, store, calls...) {
			require.NoError(t, a.err)
			assert.Equal(t, fmt.Sprintf(`{"N": %d}`, i+1), string(a.doc.Metadata))
			assert.Equal(t, int64(i+1), a.doc.Version)
		}
		assert.GreaterOrEqual(t, runs.Load(), int32(20))
		assert.Less(t, store.Stats().Commits, int64(10))
	})
}

func TestWhoDecidesIsOnItsOwnGoroutine(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		behind(t, store, func(ctx context.Context) (metadata.Document, error) {
			mine := goroutine()
			return store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
				assert.Equal(t, mine, goroutine())
				return nil, nil
			})
		})
	})
}

func goroutine() string {
	stack := make([]byte, 32)
	var id string
	fmt.Sscanf(string(stack[:runtime.Stack(stack, false)]), "goroutine %s", &id)
	return id
}

// Who decides for ever holds up nobody but itself.
func TestSlowDecisionHoldsUpNobody(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		free := make(chan struct{})
		var runs, slow atomic.Int32
		late := make(chan answer, 1)
		answers := behind(t, store, updating(store, counting(&runs)), func(ctx context.Context) (metadata.Document, error) {
			go func() {
				doc, err := store.Update(ctx, "a", func(doc metadata.Document) (json.RawMessage, error) {
					if slow.Load() == 0 {
						<-free
					}
					return counting(&slow)(doc)
				})
				late <- answer{doc: doc, err: err}
			}()
			return metadata.Document{}, nil
		}, updating(store, counting(&runs)), merging(store, `{"m":1}`))
		for _, a := range answers {
			require.NoError(t, a.err)
		}
		close(free)
		a := <-late
		require.NoError(t, a.err)
		assert.Equal(t, `{"N": 3, "m": 1}`, string(a.doc.Metadata), "decided on what there is now")
	})
}

// Who decides for long, and has the document, lets it go when others wait. What it has
// decided counts if the document is the same still.
func TestLeaderThatDecidesForLongHoldsUpNobody(t *testing.T) {
	eachStore(t, nil, func(t *testing.T, view func(bool, ...int64) full) {
		store := view(false)
		for name, c := range map[string]struct {
			other func(context.Context) (metadata.Document, error)
			err   error
			runs  int32
			want  string
		}{
			"others change it":    {merging(store, `{"m":1}`), nil, 2, `{"N": 2, "m": 1}`},
			"others leave it":     {merging(store, `{"N":1}`), nil, 1, `{"N": 2}`},
			"others cannot write": {merging(view(false, 99), `{"m":1}`), metadata.ErrConflict, 1, `{"N": 2}`},
		} {
			_, err := store.Replace(t.Context(), "a", raw(`{"N":1}`))
			require.NoError(t, err)
			var runs atomic.Int32
			doc, err := store.Update(t.Context(), "a", func(doc metadata.Document) (json.RawMessage, error) {
				if runs.Load() == 0 {
					assert.ErrorIs(t, begin(func() (metadata.Document, error) { return c.other(t.Context()) }).wait(t, "other").err, c.err)
				}
				return counting(&runs)(doc)
			})
			require.NoError(t, err)
			assert.Equal(t, c.want, string(doc.Metadata), name)
			assert.Equal(t, c.runs, runs.Load(), name)
		}
	})
}

// A panic, or runtime.Goexit, of one that has let the document go ends that one alone.
func TestLeaderThatDoesNotReturnHoldsUpNobody(t *testing.T) {
	eachStore(t, nil, func(t *testing.T, view func(bool, ...int64) full) {
		store := view(false)
		for want, end := range map[any]func(){"the host's": func() { panic("the host's") }, nil: runtime.Goexit} {
			first := begin(func() (metadata.Document, error) {
				return store.Update(t.Context(), "a", func(metadata.Document) (json.RawMessage, error) {
					require.NoError(t, begin(func() (metadata.Document, error) { return merging(store, `{"m":1}`)(t.Context()) }).wait(t, "merge").err)
					end()
					return nil, nil
				})
			})
			assert.Equal(t, answer{panicked: want}, first.wait(t, "first"))
			_, err := store.Merge(t.Context(), "a", raw(`{"m":2}`))
			require.NoError(t, err)
		}
	})
}

// A panic, or runtime.Goexit, of one that decides ends that one alone.
func TestDecisionThatDoesNotReturnFailsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		var runs atomic.Int32
		answers := behind(t, store, updating(store, counting(&runs)),
			updating(store, func(metadata.Document) (json.RawMessage, error) { panic("the host's") }),
			updating(store, func(metadata.Document) (json.RawMessage, error) { runtime.Goexit(); return nil, nil }),
			updating(store, counting(&runs)))
		assert.Equal(t, "the host's", answers[1].panicked)
		for _, i := range []int{0, 3} {
			require.NoError(t, answers[i].err)
		}
		assert.Equal(t, `{"N": 2}`, string(answers[3].doc.Metadata))
		closeInTime(t, store)
	})
}

// What was decided on top of what the database rejects is decided anew.
func TestRejectedUpdateFailsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, guarded)
		store := d.migrated(t, guardedOptions(false))
		_, err := store.Merge(t.Context(), "a", raw(`{"N":0}`))
		require.NoError(t, err)
		var runs atomic.Int32
		answers := behind(t, store, updating(store, counting(&runs)),
			updating(store, func(metadata.Document) (json.RawMessage, error) { return raw(`{"bad":1,"N":100}`), nil }),
			updating(store, counting(&runs)), updating(store, counting(&runs)))
		assert.ErrorIs(t, answers[1].err, metadata.ErrRejected)
		for i, n := range map[int]int{0: 1, 2: 2, 3: 3} {
			require.NoError(t, answers[i].err)
			assert.Equal(t, fmt.Sprintf(`{"N": %d}`, n), string(answers[i].doc.Metadata))
		}
	})
}

// With a commit for each write, decide runs once, however long.
func TestDecideRunsOnceWhereNothingIsShared(t *testing.T) {
	eachStore(t, &metadata.Options{MaxBatch: 1}, func(t *testing.T, view func(bool, ...int64) full) {
		store := view(false)
		var runs atomic.Int32
		var calls []pending
		for i := range 8 {
			calls = append(calls, begin(func() (metadata.Document, error) {
				return store.Update(t.Context(), "a", func(doc metadata.Document) (json.RawMessage, error) {
					if i == 0 {
						time.Sleep(400 * time.Millisecond) // longer than a leader has whose commits are shared
					}
					return counting(&runs)(doc)
				})
			}))
		}
		for _, call := range calls {
			require.NoError(t, call.wait(t, "call").err)
		}
		assert.Equal(t, int32(8), runs.Load())
	})
}

// What is told of a document as it was before any change of a commit has the version of
// that, whatever version a trigger gives to what the commit stores.
func TestVersionsThatATriggerGives(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		before, err := store.Merge(t.Context(), "a", raw(`{"n":0}`))
		require.NoError(t, err)
		d.exec(t, `CREATE FUNCTION leap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.version := OLD.version + 100; RETURN NEW; END $$;
			CREATE TRIGGER leap BEFORE UPDATE ON lockstore_metadata FOR EACH ROW EXECUTE FUNCTION leap()`)
		answers := behind(t, store, merging(store.IfVersion(9), `{"n":9}`), merging(store, `{"n":0}`), merging(store, `{"n":1}`), merging(store.IfVersion(9), `{"n":9}`))
		var conflict *metadata.VersionError
		require.ErrorAs(t, answers[0].err, &conflict)
		assert.Equal(t, before.Version, conflict.Have)
		assert.Equal(t, before, answers[0].doc)
		require.NoError(t, answers[1].err)
		assert.Equal(t, before, answers[1].doc)
		require.NoError(t, answers[2].err)
		assert.Equal(t, int64(101), answers[2].doc.Version)
		require.ErrorAs(t, answers[3].err, &conflict)
		assert.Equal(t, int64(101), conflict.Have)
		assert.Equal(t, answers[2].doc, answers[3].doc)
	})
}

// Whatever they do, writes of one document share commits, and are answered as one after
// the other.
func TestEveryWriteSharesCommits(t *testing.T) {
	type calls = []func(context.Context) (metadata.Document, error)
	all := func(view func(privileged bool, version ...int64) full) calls {
		store := view(false)
		updating := func(s full, decide func(metadata.Document) (json.RawMessage, error)) func(context.Context) (metadata.Document, error) {
			return func(ctx context.Context) (metadata.Document, error) { return s.Update(ctx, "a", decide) }
		}
		nothing := func(metadata.Document) (json.RawMessage, error) { return nil, nil }
		update := updating(store, increment)
		replace := func(s full, text string) func(context.Context) (metadata.Document, error) {
			return func(ctx context.Context) (metadata.Document, error) { return s.Replace(ctx, "a", raw("%s", text)) }
		}
		remove := func(ctx context.Context) (metadata.Document, error) {
			return metadata.Document{}, store.Delete(ctx, "a")
		}
		return calls{
			remove, merging(store, `{"a":1}`), update, update, replace(store, `{"r":1}`), merging(view(false, 9), `{"never":1}`), replace(view(false, 4), `{"r":2}`),
			merging(store, `{"a":2}`), updating(view(false, 9), increment), updating(store, nothing), updating(view(false, 6), increment),
			replace(view(false, 4), `{"never":1}`), remove, remove, replace(view(false, 0), `{"r":3}`), update, remove, update, merging(view(false, 1), `{"b":1}`),
		}
	}
	eachDriver(t, func(t *testing.T, d *database) {
		for name, c := range map[string]struct {
			inGo, held bool
		}{"with the function": {}, "merged in Go": {inGo: true}, "under a hold": {held: true}} {
			t.Run(name, func(t *testing.T) {
				store, ctx := d.migrated(t, &metadata.Options{MergeInGo: c.inGo}), t.Context()
				memory, err := metadata.NewMemory(nil, nil)
				require.NoError(t, err)
				if c.held {
					held, err := newLocker(t, d.Pool()).Lock(ctx, store.Key("a"))
					require.NoError(t, err)
					defer held.Unlock()
					ctx = held.Context()
				}
				answers := behindIn(ctx, t, store, all(viewsOf(store))...)
				for i, call := range all(viewsOf(memory)) {
					want, err := call(t.Context())
					got := answers[i]
					assert.Equal(t, fmt.Sprint(err), fmt.Sprint(got.err), "call %d", i)
					got.doc.UpdatedAt, want.UpdatedAt = time.Time{}, time.Time{}
					assert.Equal(t, want, got.doc, "call %d", i)
				}
				stored, err := store.Get(ctx, "a")
				require.NoError(t, err)
				assert.Equal(t, `{"N": 1, "b": 1}`, string(stored.Metadata))
				assert.Equal(t, int64(2), stored.Version)
				assert.LessOrEqual(t, store.Stats().Commits, int64(3))
				require.NoError(t, store.Delete(ctx, "a"))
			})
		}
	})
}

// The database sees also what the next write of the same commit covers.
func TestRejectedWriteThatIsCoveredFailsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, guarded)
		store := d.migrated(t, guardedOptions(false))
		replacing := func(text string) func(context.Context) (metadata.Document, error) {
			return func(ctx context.Context) (metadata.Document, error) { return store.Replace(ctx, "a", raw("%s", text)) }
		}
		answers := behind(t, store, merging(store, `{"bad":1}`), replacing(`{"n":1}`), replacing(`{"bad":1}`), replacing(`{"n":2}`), merging(store, `{"m":1}`))
		for i, want := range []string{"", `{"n": 1}`, "", `{"n": 2}`, `{"m": 1, "n": 2}`} {
			if want == "" {
				assert.ErrorIs(t, answers[i].err, metadata.ErrRejected)
			} else {
				assert.NoError(t, answers[i].err)
				assert.Equal(t, want, string(answers[i].doc.Metadata))
			}
		}
	})
}
