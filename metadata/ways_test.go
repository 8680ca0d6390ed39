package metadata_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/settings"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

var mergeSteps = flag.Int("steps", 2000, "how many patches TestEveryWayOfMergingAgrees makes up; a tenth of them under the race detector")

// A line is a story of a document of one way's own.
type line struct {
	id string
	story
}

func (l line) raw(i int) json.RawMessage { return json.RawMessage(l.story[i].patch) }

// A way merges the patches of documents, each one's in the order that its line has when
// it returns, and returns what it was answered to each.
type way struct {
	name  string
	merge merger
}

type merger func(lines []line) [][]metadata.Result

// TestEveryWayOfMergingAgrees makes up documents and patches for them. What a patch
// makes of a document, to the byte, and whether that is a change, is what the rules say
// in every way of merging, over every driver and in every query mode. Ways that take a
// statement for each patch share the documents; each of the others has all of them.
func TestEveryWayOfMergingAgrees(t *testing.T) {
	seed := flag.Lookup("seed").Value.(flag.Getter).Get().(uint64)
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	steps := *mergeSteps / jsonbtest.Slowdown
	t.Logf("%d steps, -seed %d", steps, seed)
	r, w := rand.New(rand.NewPCG(seed, 0)), newWays(t)
	for round, left := 0, steps/storySteps; left > 0 && !t.Failed(); round++ {
		stories := make([]story, min(left, 250))
		left -= len(stories)
		for i := range stories {
			stories[i] = newStory(r)
			checkMergePatch(t, seed, stories[i])
		}
		together, apart := w.draw(r)
		ways := append(together, apart...)
		lines, answers := make([][]line, len(ways)), make([][][]metadata.Result, len(ways))
		var group sync.WaitGroup
		for i, way := range ways {
			first, step := 0, 1
			if i >= len(together) {
				first, step = i-len(together), len(apart)
			}
			for n := first; n < len(stories); n += step {
				lines[i] = append(lines[i], line{fmt.Sprint(way.name, " ", round, "/", n), stories[n]})
			}
			group.Go(func() { answers[i] = way.merge(lines[i]) })
		}
		group.Wait()
		for i, way := range ways {
			checkAnswers(t, seed, lines[i], answers[i])
			w.checkStored(seed, way.name, lines[i])
		}
	}
	w.checkWaysTaken()
}

func checkAnswers(t *testing.T, seed uint64, lines []line, answers [][]metadata.Result) {
	for i, l := range lines {
		var before metadata.Result
		for n, s := range l.story {
			answer := answers[i][n]
			if d := s.difference(before, answer); d != "" {
				t.Fatalf("seed %d: DIFFERENT: %s: step %d %s\n%s", seed, l.id, n, d, l.story)
			}
			if answer.Err == nil {
				before = answer
			}
		}
	}
}

// checkMergePatch holds MergePatch, which has no limits and keeps numbers as they are
// written, against the rules.
func checkMergePatch(t *testing.T, seed uint64, s story) {
	before := ""
	for i, step := range s {
		got, err := metadata.MergePatch(json.RawMessage(before), json.RawMessage(step.plain))
		if err != nil || string(got) != step.merged {
			t.Fatalf("seed %d: DIFFERENT: MergePatch: step %d becomes %s, %v\n%s", seed, i, got, err, s)
		}
		before = step.doc
	}
}

// ways are all ways, and what they need.
type ways struct {
	*testing.T
	db     *pgtest.DB
	handle map[string]any // by connections, driver and mode: *pgxpool.Pool or *sql.DB
	stores map[string]*metadata.Postgres
	memory *metadata.Memory
	locker *lock.Postgres
	reader *metadata.Postgres
}

func newWays(t *testing.T) *ways {
	db := pgtest.New(t)
	options := &metadata.Options{MaxDocumentBytes: storyMaxBytes}
	w := &ways{T: t, db: db, handle: map[string]any{}, stores: map[string]*metadata.Postgres{}}
	w.memory = must(metadata.NewMemory(nil, options))
	w.reader = must(metadata.NewPostgres(db.Pool(), options))
	t.Cleanup(w.reader.Close)
	require.NoError(t, w.reader.Migrate(t.Context()))
	w.locker = must(lock.NewPostgres(t.Context(), db.Pool(), nil))
	t.Cleanup(func() { w.locker.Close(context.Background()) })
	return w
}

// open returns a store of a kind over a driver and mode that are drawn, and its pool.
func (w *ways) open(r *rand.Rand, kind string, conns int, o metadata.Options) (*metadata.Postgres, any) {
	driver, mode := pick(r, []string{"pgx", "sql"}), pick(r, settings.QueryModes)
	key := fmt.Sprint(conns, driver, mode)
	if w.handle[key] == nil {
		config := w.db.Pool().Config()
		config.MaxConns = int32(conns)
		config.ConnConfig.DefaultQueryExecMode = mode
		if driver == "pgx" {
			pool := must(pgxpool.NewWithConfig(w.Context(), config))
			w.Cleanup(pool.Close)
			w.handle[key] = pool
		} else {
			db := stdlib.OpenDB(*config.ConnConfig)
			db.SetMaxOpenConns(conns)
			db.SetMaxIdleConns(conns)
			w.Cleanup(func() { db.Close() })
			w.handle[key] = db
		}
	}
	s := w.stores[kind+key]
	if s == nil {
		o.MaxDocumentBytes = storyMaxBytes
		if pool, ok := w.handle[key].(*pgxpool.Pool); ok {
			s = must(metadata.NewPostgres(pool, &o))
		} else {
			s = must(metadata.NewPostgres(w.handle[key].(*sql.DB), &o))
		}
		w.Cleanup(s.Close)
		w.stores[kind+key] = s
	}
	return s, w.handle[key]
}

// draw are the ways, each over a driver and in a mode that is drawn: those that take
// many patches to a statement, and those that do not.
func (w *ways) draw(r *rand.Rand) (together, apart []way) {
	queue, _ := w.open(r, "queue", 4, metadata.Options{})
	shared, _ := w.open(r, "shared", 1, metadata.Options{})
	bulk, _ := w.open(r, "many", 4, metadata.Options{})
	together = []way{
		{"Memory", w.each(1, merges(w.memory.Merge))},
		{"shared commit", atOnce(w.each(4, func(ctx context.Context, l line) []metadata.Result { return inOneCommit(ctx, queue, l) }))},
		{"shared connection", w.each(64, merges(shared.Merge))},
		{"MergeMany", func(lines []line) [][]metadata.Result { return mergeMany(w.Context(), bulk, lines) }},
	}
	lone, _ := w.open(r, "alone", 4, metadata.Options{MaxBatch: 1})
	inGo, _ := w.open(r, "in Go", 4, metadata.Options{MergeInGo: true})
	hosts, pool := w.open(r, "host", 4, metadata.Options{})
	apart = []way{
		{"lone", w.each(4, merges(lone.Merge))},
		{"in Go", w.each(4, merges(inGo.Merge))},
		{"costly", w.each(4, merges(func(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
			return lone.Merge(ctx, id, madeCostly(patch))
		}))},
		{"Update", w.each(4, merges(func(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
			return lone.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { return patch, nil })
		}))},
		{"IfVersion", w.each(4, func(ctx context.Context, l line) []metadata.Result { return ifVersion(ctx, lone, l) })},
		{"hold", w.each(4, func(ctx context.Context, l line) (answers []metadata.Result) {
			assert.NoError(w, lock.Do(ctx, w.locker, lone.Key(l.id), func(ctx context.Context) error {
				answers = merges(lone.Merge)(ctx, l)
				return nil
			}))
			return answers
		})},
		{"transaction", w.each(4, func(ctx context.Context, l line) []metadata.Result {
			if pool, ok := pool.(*pgxpool.Pool); ok {
				tx := must(pool.Begin(ctx))
				defer func() { assert.NoError(w, tx.Commit(ctx)) }()
				return merges(hosts.In(tx).Merge)(ctx, l)
			}
			tx := must(pool.(*sql.DB).BeginTx(ctx, nil))
			defer func() { assert.NoError(w, tx.Commit()) }()
			return merges(hosts.In(tx).Merge)(ctx, l)
		})},
	}
	return together, apart
}

// each plays lines, so many at once.
func (w *ways) each(workers int, play func(context.Context, line) []metadata.Result) merger {
	return func(lines []line) [][]metadata.Result {
		answers := make([][]metadata.Result, len(lines))
		var group sync.WaitGroup
		for worker := range workers {
			group.Go(func() {
				for i := worker; i < len(lines); i += workers {
					answers[i] = play(w.Context(), lines[i])
				}
			})
		}
		group.Wait()
		return answers
	}
}

// merges has one merge after the other.
func merges(merge func(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error)) func(context.Context, line) []metadata.Result {
	return func(ctx context.Context, l line) (answers []metadata.Result) {
		for i := range l.story {
			doc, err := merge(ctx, l.id, l.raw(i))
			answers = append(answers, metadata.Result{Document: doc, Err: err})
		}
		return answers
	}
}

// ifVersion has each merge depend on the version before it.
func ifVersion(ctx context.Context, s *metadata.Postgres, l line) (answers []metadata.Result) {
	version := int64(0)
	for i, step := range l.story {
		doc, err := s.IfVersion(version).Merge(ctx, l.id, l.raw(i))
		answers = append(answers, metadata.Result{Document: doc, Err: err})
		version = step.version
	}
	return answers
}

// atOnce is for a merger whose calls overlap: one whose connection is late is overtaken
// by those behind it.
func atOnce(merge merger) merger {
	return func(lines []line) [][]metadata.Result {
		answers := merge(lines)
		for i := range lines {
			lines[i].story, answers[i] = lines[i].story.atOnce(answers[i])
		}
		return answers
	}
}

// inOneCommit has all merges wait, in their order, for somebody who decides.
func inOneCommit(ctx context.Context, s *metadata.Postgres, l line) []metadata.Result {
	answers := make([]metadata.Result, len(l.story))
	var calls []pending
	s.Update(ctx, l.id, func(metadata.Document) (json.RawMessage, error) {
		for i := len(calls); i < len(l.story); i++ {
			calls = append(calls, lineUp(ctx, func(ctx context.Context) (metadata.Document, error) { return s.Merge(ctx, l.id, l.raw(i)) }))
		}
		return nil, nil
	})
	for i, call := range calls {
		a := <-call
		answers[i] = metadata.Result{Document: a.doc, Err: a.err}
	}
	return answers
}

// mergeMany has all patches of all lines in one call, some of them costly.
func mergeMany(ctx context.Context, s *metadata.Postgres, lines []line) [][]metadata.Result {
	var patches []metadata.Patch
	for i := range storySteps {
		for n, l := range lines {
			patch := l.raw(i)
			if (n+i)%50 == 0 {
				patch = madeCostly(patch)
			}
			patches = append(patches, metadata.Patch{ID: l.id, Patch: patch})
		}
	}
	results, _ := s.MergeMany(ctx, patches)
	answers := make([][]metadata.Result, len(lines))
	for i, result := range results {
		answers[i%len(lines)] = append(answers[i%len(lines)], result)
	}
	return answers
}

// madeCostly is the same patch with nulls that remove nothing.
func madeCostly(patch json.RawMessage) json.RawMessage {
	nulls := strings.TrimPrefix(many(65, "null"), "{")
	if inner := strings.TrimPrefix(string(patch), "{"); inner != "}" {
		return raw("{%s,%s", strings.TrimSuffix(inner, "}"), nulls)
	}
	return raw("{%s", nulls)
}

// checkStored reads what a way has stored.
func (w *ways) checkStored(seed uint64, name string, lines []line) {
	ids := make([]string, len(lines))
	for i, l := range lines {
		ids[i] = l.id
	}
	found := map[string]metadata.Document{}
	if name == "Memory" {
		for _, id := range ids {
			found[id], _ = w.memory.Get(w.Context(), id)
		}
	} else {
		var err error
		found, err = w.reader.GetMany(w.Context(), ids...)
		require.NoError(w, err)
	}
	for _, l := range lines {
		if last := l.story[len(l.story)-1]; string(found[l.id].Metadata) != last.doc || found[l.id].Version != last.version {
			w.Fatalf("seed %d: DIFFERENT: %s is stored as %.500s in version %d\n%s", seed, l.id, found[l.id].Metadata, found[l.id].Version, l.story)
		}
	}
}

// checkWaysTaken checks that what was to be shared was.
func (w *ways) checkWaysTaken() {
	for key, s := range w.stores {
		stats := s.Stats()
		switch {
		case strings.HasPrefix(key, "queue"), strings.HasPrefix(key, "shared"), strings.HasPrefix(key, "many"):
			require.Less(w, stats.Commits, stats.Writes/2, key)
		case strings.HasPrefix(key, "alone"):
			require.LessOrEqual(w, stats.Largest, int64(1), key)
		}
	}
}
